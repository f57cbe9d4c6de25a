// REINDEX CONCURRENTLY, of indexes that are worth it, and what an interrupted one leaves.
#pragma once

#include <optional>

#include "cleanup/reclaim.hpp"
#include "cleanup/run.hpp"
#include "core/index_bloat.hpp"

namespace django_session::sessions {

/// Rebuilds the run's table's indexes that are at least a third empty, smallest first. What is not
/// rebuilt, and why, is said in a note and in the result's message. `version`: server_version_num.
void rebuild_bloated_indexes(Run& run, int version, const LookAround& look_around);

/// A row of sql/index_sizes.sql; nothing where a width or the number of rows isn't known.
std::optional<IndexBloat> read_index_bloat(const pg::Row& row);

/// Of an index of the run's table; `name`: not quoted.
std::string sql_of_reindex(Run& run, const std::string& name);

/// Drops the invalid indexes (..._ccnew, ..._ccold) that an interrupted REINDEX CONCURRENTLY left
/// on the run's table. What can't be dropped now is said in a note; it is left, silently, by a role
/// that isn't the owner. Returns how many are gone.
int remove_reindex_leftovers(Run& run);

}  // namespace django_session::sessions
