// The second half of the method "full".
#pragma once

#include "cleanup/reclaim.hpp"
#include "cleanup/run.hpp"

namespace django_session::sessions {

/// VACUUM (FULL, ANALYZE): locks all others out while it rewrites the table. Its lock is tried for
/// at most --lock-timeout at a time. Sets the result's longest_lock.
void vacuum_full(Run& run, const LookAround& look_around);

std::string sql_of_vacuum_full(const Run& run, int version);

}  // namespace django_session::sessions
