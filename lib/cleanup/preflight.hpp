// Before anything is changed: what the table is, which methods are possible, and what speaks
// against the others.
#pragma once

#include <string>
#include <vector>

#include "cleanup/run.hpp"
#include "core/cleanup.hpp"
#include "core/cleanup_plan.hpp"
#include "core/table_name.hpp"
#include "measure/leftovers.hpp"

namespace django_session::sessions {

struct Preflight {
  std::vector<Refusal> refusals;   ///< of all methods
  std::vector<std::string> notes;  ///< who or what will slow a cleanup down
  Leftovers leftovers;
  ServerRoom room;
  SortSpace sorting;
  std::vector<std::string> standbys;  ///< and others that replay or receive the WAL
};

/// Has the run work on the table. Reads catalogues and statistics views; takes no lock on the
/// table. Throws pg::Error, or NoSuchTable.
Preflight look(Run& run, const TableName& table);

/// Of the row with the table and the server's settings.
SortSpace read_sort_space(const pg::Row& row);

/// What is there of a swap, now.
Leftovers look_for_leftovers(Run& run);

}  // namespace django_session::sessions
