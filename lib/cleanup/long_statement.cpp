// Waiting in slices, and the settings that only a direct connection can have.
//
// A server process that hangs (a frozen one, or one whose disk doesn't answer) while the server
// runs on answers nothing, and reacts neither to a cancel request nor to its own time limits. What
// a second connection sees of it then stays the same: that is the sign.
#include "cleanup/long_statement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <optional>

#include "cleanup/cleanup_target.hpp"
#include "cleanup/patience.hpp"
#include "core/quantity.hpp"
#include "core/statement_progress.hpp"
#include "measure/catalog_query.hpp"
#include "measure/transaction.hpp"

namespace django_session::sessions {
namespace {

using std::chrono::milliseconds;

// Of the session: these statements can't be in a transaction, so SET LOCAL can't reach them.
// synchronous_commit: no wait for a standby that may be gone. statement_timeout ends what we can no
// longer cancel because we were killed.
constexpr const char* kSettings = R"(
SET search_path = pg_catalog, pg_temp;
SET exit_on_error = off;
SET jit = off;
SET lock_timeout = {0};
SET statement_timeout = {1};
SET vacuum_cost_delay = 2;
SET vacuum_cost_limit = 2000;
SET synchronous_commit = local;
{2})";

// {0} the process id of the backend. What changes while it and its parallel workers work; who keeps
// it waiting; and how far its statement is.
constexpr const char* kSigns = R"(
SELECT string_agg(concat_ws(' ', a.pid, a.wait_event_type, a.wait_event, a.state, a.backend_xid,
    a.backend_xmin, a.query_start, to_jsonb(v), to_jsonb(i), to_jsonb(c)), ';' ORDER BY a.pid) AS signs,
  bool_or(a.wait_event IS NOT NULL) AS waits,
  coalesce(max(CASE WHEN a.pid = {0} AND a.wait_event_type = 'Lock'
    THEN nullif(pg_blocking_pids(a.pid)::text, '{{}}') END), '') AS blocked_by,
  max(coalesce(v.phase, i.phase, c.phase)) AS phase, bool_or(i.command LIKE '%CONCURRENTLY') AS concurrently,
  max(coalesce(v.heap_blks_scanned::float8 / nullif(v.heap_blks_total, 0),
    i.blocks_done::float8 / nullif(i.blocks_total, 0),
    c.heap_blks_scanned::float8 / nullif(c.heap_blks_total, 0))) AS read,
  max(coalesce(v.heap_blks_vacuumed::float8 / nullif(v.heap_blks_total, 0),
    i.tuples_done::float8 / nullif(i.tuples_total, 0),
    c.index_rebuild_count::float8 / nullif((SELECT count(*) FROM pg_index x WHERE x.indrelid = c.relid), 0)
    )) AS made
FROM pg_stat_activity a LEFT JOIN pg_stat_progress_vacuum v ON v.pid = a.pid
LEFT JOIN pg_stat_progress_create_index i ON i.pid = a.pid
LEFT JOIN pg_stat_progress_cluster c ON c.pid = a.pid
WHERE a.pid = {0} OR a.leader_pid = {0};
)";

/// False behind a pooler, where they can't be applied.
bool apply_settings(pg::Connection& connection, const LongLimits& limits) {
  const auto deadline = pg::Deadline::after(limits.answer);
  if (connection.is_pooled(deadline)) return false;
  const auto longest = std::min<milliseconds>(limits.end.remaining(), patience::kLongestStatement) +
                       patience::kOurselvesFirst;
  connection.run(fmt::format(kSettings, limits.lock.count(), longest.count(),
                             lift_transaction_timeout(Lasts::as_long_as_the_session)),
                 deadline);
  return true;
}

/// Whether anything is heard of the server: asked, and waited for, half of the time limit each, so
/// that one that hangs costs one. And whether the process that runs our statement gets on.
class Pulse {
 public:
  /// `pid`: of that process; nothing behind a pooler, where it isn't known.
  Pulse(const LongLimits& limits, std::optional<int> pid, const LongWatch& watch)
      : watch_(watch),
        limit_(limits.answer),
        lock_timeout_(limits.lock),
        pid_(pid),
        next_(pg::Deadline::after(limit_ / 2)) {}

  void check(pg::Connection& connection) {
    if (!next_.passed()) return;
    if (!beats(connection)) {
      connection.close();
      throw pg::Error(pg::Error::Kind::timeout, "the server no longer answers");
    }
    next_ = pg::Deadline::after(
        second_ ? std::min<milliseconds>(patience::kBetweenSigns, limit_ / 2) : limit_ / 2);
  }

  /// For how long the process has shown no sign of life, if that is too long.
  std::optional<milliseconds> standstill() const {
    const auto still = std::chrono::duration_cast<milliseconds>(seen_ - changed_);
    if (still < lock_timeout_ + limit_ * (waits_ ? patience::kWithoutSignsWaiting
                                                 : patience::kWithoutSignsComputing))
      return std::nullopt;
    return still;
  }

  /// Who keeps the process waiting for a lock right now, see Stopped; "" for nobody, or where it
  /// can't be seen.
  std::string blocked_by(pg::Connection& connection) {
    blocked_by_.clear();
    if (!second_ && pid_) second_ = connection.another(pg::Deadline::after(patience::kLastLook));
    if (second_) look_by_second(patience::kLastLook);
    return blocked_by_;
  }

 private:
  using Clock = std::chrono::steady_clock;

  bool beats(pg::Connection& connection) {
    if (second_ && look_by_second(limit_ / 2)) return true;
    second_.reset();
    if (pid_) second_ = connection.another(pg::Deadline::after(limit_ / 2));
    if (second_) return true;
    return connection.server_answers(pg::Deadline::after(limit_ / 2)) ||
           connection.answered_by(pg::Deadline::after(milliseconds(0)));
  }

  bool look_by_second(milliseconds time) try {
    const std::string query = fmt::format(kSigns, *pid_);
    const pg::Rows rows = ask_catalog(*second_, query, pg::Deadline::after(time));
    if (!rows.empty()) tell(rows.front());
    const std::string signs = rows.empty() ? "" : rows.front().text("signs");
    seen_ = Clock::now();
    waits_ = !rows.empty() && rows.front().flag("waits");
    blocked_by_ = rows.empty() ? "" : rows.front().text("blocked_by");
    if (signs.empty() || signs != signs_) changed_ = seen_;
    signs_ = signs;
    return true;
  } catch (const pg::Error&) {
    changed_ = seen_ = Clock::now();
    return false;
  }

  void tell(const pg::Row& row) const {
    const auto share = share_of_statement(
        {row.text("phase"), row.flag("concurrently"), row.number("read"), row.number("made")});
    if (share) watch_.got_on(*share);
  }

  const LongWatch& watch_;
  const milliseconds limit_, lock_timeout_;
  const std::optional<int> pid_;
  pg::Deadline next_;
  std::optional<pg::Connection> second_;
  std::string signs_, blocked_by_;
  bool waits_ = false;
  Clock::time_point seen_ = Clock::now(), changed_ = seen_;
};

/// Whether the cancel request or the statement's end came first makes no difference here. `why` is
/// a message's beginning.
void cancel(pg::Connection& connection, milliseconds answer_timeout, const std::string& why) {
  const int pid = connection.backend_pid();
  try {
    connection.cancel(pg::Deadline::after(answer_timeout));
  } catch (const pg::Error& error) {
    if (error.kind() != pg::Error::Kind::timeout) throw;
    throw pg::Error(error.kind(),
                    fmt::format("{}, and the statement can't be cancelled: the server process (pid "
                                "{}) hangs, and keeps its locks until it resumes or is killed",
                                why, pid));
  }
}

std::string standstill_text(milliseconds still) {
  return fmt::format("no progress for {}",
                     format_quantity(static_cast<double>(still.count()) / 1000, Unit::seconds));
}

}  // namespace

pg::Rows run_long(pg::Connection& connection, const std::string& statement,
                  const LongLimits& limits, const LongWatch& watch) {
  watch.check();
  const bool direct = apply_settings(connection, limits);
  connection.send(statement, pg::Deadline::after(limits.answer));
  const auto give_up = pg::Deadline::after(patience::kLongestStatement);
  Pulse pulse(limits, direct ? std::optional(connection.backend_pid()) : std::nullopt, watch);
  pg::Rows all;
  for (;;) {  // a message of several statements may be answered in several parts
    while (!connection.answered_by(pg::Deadline::after(patience::kBetweenSlices))) {
      try {
        watch.check();
        if (give_up.passed()) throw Stopped("no answer within a day");
        if (const auto still = pulse.standstill()) throw Stopped(standstill_text(*still));
      } catch (Stopped& stopped) {
        stopped.blocked_by = pulse.blocked_by(connection);
        const std::string_view why = stopped.what();  // without the advice
        cancel(connection, limits.answer, std::string(why.substr(0, why.find(';'))));
        throw;
      }
      pulse.check(connection);
    }
    auto rows = connection.next_rows(pg::Deadline::after(limits.answer));
    if (!rows) return all;
    std::move(rows->begin(), rows->end(), std::back_inserter(all));
  }
}

}  // namespace django_session::sessions
