// The first half of the methods "delete" and "full": expired sessions go in small batches.
#pragma once

#include <string>

#include "core/cleanup.hpp"
#include "pg/connection.hpp"
#include "sessions/cleanup_target.hpp"

namespace django_session::sessions {

/// Deletes the sessions that expired before `cutoff` (a timestamptz as text). Needs DELETE on the
/// table and SELECT on expire_date and ctid alone. Row locks on expired rows, for a batch of 100 to
/// 250 ms; a session that is renewed meanwhile survives. Adds to result.rows_deleted as it goes.
/// Throws Stopped or pg::Error; what is deleted by then stays deleted.
void delete_expired(pg::Connection& connection, const CleanupTarget& target,
                    const CleanupOptions& options, const std::string& cutoff, pg::Deadline run_end,
                    CleanupObserver& observer, CleanupResult& result);

}  // namespace django_session::sessions
