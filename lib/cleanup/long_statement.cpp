// Waiting in slices, and the settings that only a direct connection can have.
#include "cleanup/long_statement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace django_session::sessions {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kSlice{100};
constexpr milliseconds kLongest{24 * 3600 * 1000};  // for a statement of a run without an end
constexpr milliseconds kOurselvesFirst{5000};       // before the server's own limit ends it

// Of the session: these statements can't be in a transaction, so SET LOCAL can't reach them.
// synchronous_commit: no wait for a standby that may be gone.
// statement_timeout ends what we can't cancel any more because we were killed.
constexpr const char* kSettings = R"(
SET search_path = pg_catalog, pg_temp;
SET exit_on_error = off;
SET jit = off;
SET lock_timeout = {0};
SET statement_timeout = {1};
SET vacuum_cost_delay = 2;
SET vacuum_cost_limit = 2000;
SET synchronous_commit = local;
SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings
WHERE name = 'transaction_timeout';  -- from PostgreSQL 17 on
)";

void apply_settings(pg::Connection& connection, milliseconds lock_timeout,
                    const CleanupOptions& options, pg::Deadline run_end) {
  const auto deadline = pg::Deadline::after(options.answer_timeout);
  if (is_pooled(connection, deadline)) return;
  const auto longest = std::min(run_end.remaining(), kLongest) + kOurselvesFirst;
  connection.send(fmt::format(kSettings, lock_timeout.count(), longest.count()), deadline);
  while (connection.next_rows(deadline)) continue;
}

/// Whether anything is heard of the server: asked, and waited for, half of the time limit each, so
/// that one that hangs costs one.
class Pulse {
 public:
  explicit Pulse(milliseconds limit) : half_(limit / 2), next_(pg::Deadline::after(half_)) {}

  void check(pg::Connection& connection) {
    if (!next_.passed()) return;
    const bool beats = connection.server_answers(pg::Deadline::after(half_)) ||
                       connection.answered_by(pg::Deadline::after(milliseconds(0)));
    next_ = pg::Deadline::after(half_);
    if (beats) return;
    connection.close();
    throw pg::Error(pg::Error::Kind::timeout, "the server does not answer any more");
  }

 private:
  milliseconds half_;
  pg::Deadline next_;
};

/// Whether the cancel request or the statement's end came first makes no difference here.
void cancel(pg::Connection& connection, const CleanupOptions& options) {
  const auto deadline = pg::Deadline::after(options.answer_timeout);
  connection.cancel(deadline);
  connection.finish(deadline);
}

}  // namespace

bool is_pooled(pg::Connection& connection, pg::Deadline deadline) {
  connection.send("SELECT pg_catalog.pg_backend_pid() AS pid", deadline);
  const pg::Rows rows = connection.next_rows(deadline).value_or(pg::Rows());
  connection.finish(deadline);
  return rows.empty() || rows.front().text("pid") != std::to_string(connection.backend_pid());
}

pg::Rows run_long(pg::Connection& connection, const std::string& statement,
                  milliseconds lock_timeout, const CleanupOptions& options, pg::Deadline run_end,
                  CleanupObserver& observer) {
  stop_if_wanted(observer, run_end);
  apply_settings(connection, lock_timeout, options, run_end);
  connection.send(statement, pg::Deadline::after(options.answer_timeout));
  const auto give_up = pg::Deadline::after(kLongest);
  Pulse pulse(options.answer_timeout);
  pg::Rows all;
  for (;;) {  // a message of several statements may be answered in several parts
    while (!connection.answered_by(pg::Deadline::after(kSlice))) {
      try {
        stop_if_wanted(observer, run_end);
        if (give_up.passed()) throw Stopped("no answer within a day");
      } catch (const Stopped&) {
        cancel(connection, options);
        throw;
      }
      pulse.check(connection);
    }
    auto rows = connection.next_rows(pg::Deadline::after(options.answer_timeout));
    if (!rows) return all;
    std::move(rows->begin(), rows->end(), std::back_inserter(all));
  }
}

}  // namespace django_session::sessions
