// VACUUM and REINDEX CONCURRENTLY: statements that take long, can't be in a transaction, and must
// still be stoppable.
#pragma once

#include <chrono>
#include <string>

#include "cleanup/cleanup_target.hpp"
#include "core/cleanup.hpp"
#include "pg/connection.hpp"

namespace django_session::sessions {

/// Is a pooler in between? Its clients share backends, so that SET would reach somebody else's
/// statements and miss ours.
bool is_pooled(pg::Connection& connection, pg::Deadline deadline);

/// Runs one statement in slices: when the observer wants the end, or the run's time is over, it is
/// cancelled (VACUUM and REINDEX CONCURRENTLY leave no damage) and Stopped is thrown. On a direct
/// connection each lock is waited for at most `lock_timeout`, and VACUUM pauses as autovacuum does,
/// ten times less; behind a pooler neither can be set. Where a second connection sees no progress
/// any more it is cancelled too; if it doesn't end then: pg::Error of Kind::timeout.
/// Returns its rows. Throws pg::Error for what the server refuses. The server's warnings are left
/// for take_warnings().
pg::Rows run_long(pg::Connection& connection, const std::string& statement,
                  std::chrono::milliseconds lock_timeout, const CleanupOptions& options,
                  pg::Deadline run_end, CleanupObserver& observer);

}  // namespace django_session::sessions
