// What becomes of an error that ends a cleanup or its plan: the words for people.
#pragma once

#include <string>

#include "cleanup/run.hpp"
#include "core/table_name.hpp"

namespace django_session::sessions {

struct Failure {
  bool is_locked = false;  ///< nothing failed: another session has the table locked
  std::string message;     ///< with who has it, or whose time limit it was
};

/// Asks the server about it, where it is still there. `table`: as it was given; it may have been
/// locked when it was looked up.
Failure explain(Run& run, const TableName& table, const pg::Error& error);

}  // namespace django_session::sessions
