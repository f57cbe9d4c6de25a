// Waiting in slices, and the settings that only a direct connection can have.
//
// A server process that hangs (a frozen one, or one whose disk doesn't answer) while the server
// goes on answers nothing, and reacts neither to a cancel request nor to its own time limits. What
// a second connection sees of it then stays the same: that is what tells.
#include "cleanup/long_statement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <optional>

#include "core/quantity.hpp"
#include "measure/catalog_query.hpp"

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

// {0} the process id of the backend. What changes while it and its parallel workers work.
constexpr const char* kSigns = R"(
SELECT string_agg(concat_ws(' ', a.pid, a.wait_event_type, a.wait_event, a.state, a.backend_xid,
    a.backend_xmin, a.query_start, to_jsonb(v), to_jsonb(i), to_jsonb(c)), ';' ORDER BY a.pid) AS signs,
  bool_or(a.wait_event IS NOT NULL) AS waits
FROM pg_stat_activity a LEFT JOIN pg_stat_progress_vacuum v ON v.pid = a.pid
LEFT JOIN pg_stat_progress_create_index i ON i.pid = a.pid
LEFT JOIN pg_stat_progress_cluster c ON c.pid = a.pid
WHERE a.pid = {0} OR a.leader_pid = {0};
)";
constexpr milliseconds kBetweenSigns{1000};
// Times the limit for an answer, after a lock's own limit. What waits (for a disk, its own pauses)
// shows something else within seconds; what computes may show nothing for minutes.
constexpr int kWaitsFor = 30, kComputesFor = 180;

/// False behind a pooler, where they can't be applied.
bool apply_settings(pg::Connection& connection, milliseconds lock_timeout,
                    const CleanupOptions& options, pg::Deadline run_end) {
  const auto deadline = pg::Deadline::after(options.answer_timeout);
  if (is_pooled(connection, deadline)) return false;
  const auto longest = std::min(run_end.remaining(), kLongest) + kOurselvesFirst;
  connection.send(fmt::format(kSettings, lock_timeout.count(), longest.count()), deadline);
  while (connection.next_rows(deadline)) continue;
  return true;
}

/// Whether anything is heard of the server: asked, and waited for, half of the time limit each, so
/// that one that hangs costs one. And whether the process that runs our statement gets on.
class Pulse {
 public:
  /// `pid`: of that process; nothing behind a pooler, where it isn't known.
  Pulse(milliseconds limit, milliseconds lock_timeout, std::optional<int> pid)
      : limit_(limit),
        lock_timeout_(lock_timeout),
        pid_(pid),
        next_(pg::Deadline::after(limit / 2)) {}

  void check(pg::Connection& connection) {
    if (!next_.passed()) return;
    if (!beats(connection)) {
      connection.close();
      throw pg::Error(pg::Error::Kind::timeout, "the server does not answer any more");
    }
    next_ = pg::Deadline::after(second_ ? std::min(kBetweenSigns, limit_ / 2) : limit_ / 2);
  }

  /// For how long the process has shown no sign of life, if that is too long.
  std::optional<milliseconds> standstill() const {
    const auto still = std::chrono::duration_cast<milliseconds>(seen_ - changed_);
    if (still < lock_timeout_ + limit_ * (waits_ ? kWaitsFor : kComputesFor)) return std::nullopt;
    return still;
  }

 private:
  using Clock = std::chrono::steady_clock;

  bool beats(pg::Connection& connection) {
    if (second_ && look_by_second()) return true;
    second_.reset();
    if (pid_) second_ = connection.another(pg::Deadline::after(limit_ / 2));
    if (second_) return true;
    return connection.server_answers(pg::Deadline::after(limit_ / 2)) ||
           connection.answered_by(pg::Deadline::after(milliseconds(0)));
  }

  bool look_by_second() try {
    const std::string query = fmt::format(kSigns, *pid_);
    const pg::Rows rows = ask_catalog(*second_, query, pg::Deadline::after(limit_ / 2));
    const std::string signs = rows.empty() ? "" : rows.front().text("signs");
    seen_ = Clock::now();
    waits_ = !rows.empty() && rows.front().flag("waits");
    if (signs.empty() || signs != signs_) changed_ = seen_;
    signs_ = signs;
    return true;
  } catch (const pg::Error&) {
    changed_ = seen_ = Clock::now();
    return false;
  }

  const milliseconds limit_, lock_timeout_;
  const std::optional<int> pid_;
  pg::Deadline next_;
  std::optional<pg::Connection> second_;
  std::string signs_;
  bool waits_ = false;
  Clock::time_point seen_ = Clock::now(), changed_ = seen_;
};

/// Whether the cancel request or the statement's end came first makes no difference here. `why` is
/// a message's beginning.
void cancel(pg::Connection& connection, const CleanupOptions& options, const std::string& why) {
  const auto deadline = pg::Deadline::after(options.answer_timeout);
  const int pid = connection.backend_pid();
  connection.cancel(deadline);
  try {
    connection.finish(deadline);
  } catch (const pg::Error& error) {
    if (error.kind() != pg::Error::Kind::timeout) throw;
    throw pg::Error(error.kind(),
                    fmt::format("{}, and the statement can't be cancelled: the server process (pid "
                                "{}) hangs, and keeps its locks until it continues or is killed",
                                why, pid));
  }
}

std::string standstill_text(milliseconds still) {
  return fmt::format("no progress for {}",
                     format_quantity(static_cast<double>(still.count()) / 1000, Unit::seconds));
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
  const bool direct = apply_settings(connection, lock_timeout, options, run_end);
  connection.send(statement, pg::Deadline::after(options.answer_timeout));
  const auto give_up = pg::Deadline::after(kLongest);
  Pulse pulse(options.answer_timeout, lock_timeout,
              direct ? std::optional(connection.backend_pid()) : std::nullopt);
  pg::Rows all;
  for (;;) {  // a message of several statements may be answered in several parts
    while (!connection.answered_by(pg::Deadline::after(kSlice))) {
      try {
        stop_if_wanted(observer, run_end);
        if (give_up.passed()) throw Stopped("no answer within a day");
        if (const auto still = pulse.standstill()) throw Stopped(standstill_text(*still));
      } catch (const Stopped& stopped) {
        const std::string_view why = stopped.what();  // without the advice
        cancel(connection, options, std::string(why.substr(0, why.find(';'))));
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
