// Before anything is changed: what the table is, which methods are possible, and what speaks
// against the others.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cleanup/cleanup_target.hpp"
#include "core/cleanup.hpp"
#include "core/cleanup_plan.hpp"
#include "core/table_name.hpp"
#include "measure/leftovers.hpp"
#include "pg/connection.hpp"

namespace django_session::sessions {

struct Preflight {
  CleanupTarget target;
  std::vector<Refusal> refusals;   ///< of all methods
  std::vector<std::string> notes;  ///< who or what will slow a cleanup down
  Leftovers leftovers;
  ServerRoom room;
  SortSpace sorting;
  std::vector<std::string> standbys;  ///< and whoever else replays or receives the WAL
};

/// Reads catalogues and statistics views; takes no lock on the table. Throws pg::Error; a table
/// that is gone has refusals alone.
Preflight look(pg::Connection& connection, const TableName& table, pg::Deadline deadline);

/// Refusals of the swap alone; asked again before the exchange.
std::vector<Refusal> swap_refusals(pg::Connection& connection, const std::string& oid,
                                   pg::Deadline deadline);

}  // namespace django_session::sessions
