// Before anything is changed: what the table is, which methods are possible, and what speaks
// against the others.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/cleanup.hpp"
#include "core/measurement.hpp"
#include "core/table_name.hpp"
#include "pg/connection.hpp"
#include "sessions/cleanup_target.hpp"
#include "sessions/leftovers.hpp"

namespace django_session::sessions {

struct Preflight {
  CleanupTarget target;
  std::vector<Refusal> refusals;   ///< of all methods
  std::vector<std::string> notes;  ///< who or what will slow a cleanup down
  Leftovers leftovers;
};

/// Reads catalogues and statistics views; takes no lock on the table. Throws pg::Error; a table
/// that is gone has refusals alone.
Preflight look(pg::Connection& connection, const TableName& table, pg::Deadline deadline);

/// Refusals of the swap alone; asked again before the exchange.
std::vector<Refusal> swap_refusals(pg::Connection& connection, const std::string& oid,
                                   pg::Deadline deadline);

/// "view public.v depends on the table"
std::string describe(const Refusal& refusal);

/// Where a swap pays: at least so much to gain, and at most this share of the sessions to copy.
inline constexpr double kSwapWorthBytes = 256.0 * 1024 * 1024;
inline constexpr double kSwapMostLive = 0.4;

/// Pure: the method, with its reason, and what it will cost.
CleanupPlan decide(const Preflight& preflight, const Findings& findings,
                   const CleanupOptions& options);

}  // namespace django_session::sessions
