// VACUUM and REINDEX CONCURRENTLY: statements that take long, can't be in a transaction, and must
// still be stoppable.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "pg/connection.hpp"

namespace django_session::sessions {

/// Who is told while a statement runs.
struct LongWatch {
  std::function<void()> check;         ///< between two slices; throws Stopped when it wants the end
  std::function<void(double)> got_on;  ///< its share that is done, 0 to 1, where the server tells
};

struct LongLimits {
  std::chrono::milliseconds lock;    ///< for each lock
  std::chrono::milliseconds answer;  ///< of a server that lives: --timeout
  pg::Deadline end;                  ///< when the server itself ends it, should we have been killed
};

/// Runs one statement, or message, in slices. When the watch wants the end, the statement is
/// cancelled (VACUUM and REINDEX CONCURRENTLY leave no damage). On a direct connection each lock is
/// waited for at most `limits.lock`, and VACUUM pauses as autovacuum does, ten times less; behind a
/// pooler neither can be set. Where a second connection no longer sees progress it is cancelled too;
/// if it doesn't end then: pg::Error of Kind::timeout.
/// Returns its rows. Throws pg::Error for what the server refuses. The server's warnings are left
/// for take_warnings().
pg::Rows run_long(pg::Connection& connection, const std::string& statement,
                  const LongLimits& limits, const LongWatch& watch);

}  // namespace django_session::sessions
