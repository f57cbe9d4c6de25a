// Deleting expired sessions: one transaction a batch, each with its own limits.
#include "sessions/batch_delete.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "core/batch_size.hpp"
#include "core/quantity.hpp"
#include "sessions/throttle.hpp"

namespace django_session::sessions {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kBetweenLockTries{500};
constexpr milliseconds kLockPatience{60 * 1000};
constexpr int kMostSkippedRows = 1000;
constexpr int kMostFruitlessBatches = 5;

// Every statement on the table runs in this. A crash may bring some expired sessions back, which
// the next run deletes; so no COMMIT has to wait for the disk, or for a standby. SET LOCAL, because
// behind a pooler the next transaction on this backend is somebody else's. The planner must take
// the index on expire_date, whatever it believes about the number of expired rows: a wrong guess
// would read the whole table in each batch.
constexpr const char* kTransaction = R"(
BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL lock_timeout = {0};
SET LOCAL statement_timeout = {1};
SET LOCAL datestyle = 'ISO';
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SET LOCAL max_parallel_workers_per_gather = 0;
SET LOCAL jit = off;
SET LOCAL synchronous_commit = off;
{2}
COMMIT;
)";

// {0} table, {1} watermark, {2} cutoff, {3} rows, {4} keys of the advisory lock.
// The table's lock comes in a statement of its own, so that a lock on the table and a lock on a row
// can be told apart when one of them isn't granted.
// The watermark: each batch begins where the last one ended. From the index' left end it would walk
// over all that was deleted before, as long as VACUUM hasn't removed it.
// The cutoff is repeated in the DELETE: it is checked again on the newest version of a row that
// somebody has changed since the snapshot. A session renewed in that moment stays.
// The advisory lock: of two cleanups of the same table one stops.
constexpr const char* kBatch = R"(
LOCK TABLE ONLY {0} IN ROW EXCLUSIVE MODE;
SELECT true AS table_is_locked;
WITH turn AS MATERIALIZED (
  SELECT pg_try_advisory_xact_lock({4}) AS is_ours
), batch AS MATERIALIZED (
  SELECT s.ctid AS address, s.expire_date
  FROM ONLY {0} s
  WHERE (SELECT is_ours FROM turn) AND s.expire_date >= {1} AND s.expire_date < {2}
  ORDER BY s.expire_date
  LIMIT {3}
), deleted AS (
  DELETE FROM ONLY {0} s
  WHERE s.ctid = ANY (ARRAY(SELECT address FROM batch)) AND s.expire_date < {2}
  RETURNING true
)
SELECT (SELECT is_ours FROM turn) AS is_ours, (SELECT count(*) FROM batch) AS found,
  (SELECT count(*) FROM deleted) AS deleted,
  (SELECT max(expire_date)::timestamptz FROM batch) AS watermark;
)";

// {0} table, {1} watermark, {2} cutoff. The first moment after the oldest session that is left.
constexpr const char* kBeyondNext = R"(
SELECT (min(s.expire_date) + interval '1 microsecond')::timestamptz AS watermark
FROM ONLY {0} s WHERE s.expire_date >= {1} AND s.expire_date < {2};
)";

// {0} table, {1} cutoff, {2} the table's OID. A plan and two numbers of the catalogue: nothing is
// read.
constexpr const char* kForecast = R"(
SELECT reltuples AS rows FROM pg_class WHERE oid = {2};
EXPLAIN (FORMAT JSON) SELECT FROM ONLY {0} s WHERE s.expire_date < {1};
)";

struct Batch {
  double found = 0, deleted = 0;
  std::string watermark;
  milliseconds took{0};
};

/// "Plan Rows" of the topmost node; 0 if it isn't there.
double planned_rows(const std::string& plan) {
  constexpr std::string_view kKey = "\"Plan Rows\": ";
  const auto at = plan.find(kKey);
  return at == std::string::npos ? 0 : std::strtod(plan.c_str() + at + kKey.size(), nullptr);
}

bool is_row_lock_trouble(const pg::Error& error) {
  constexpr std::string_view kDeadlock = "40P01";
  return error.lock_not_available() || error.sqlstate() == kDeadlock;
}

class BatchDelete {
 public:
  BatchDelete(pg::Connection& connection, const CleanupTarget& target,
              const CleanupOptions& options, const std::string& cutoff, pg::Deadline run_end,
              CleanupObserver& observer, CleanupResult& result)
      : connection_(connection),
        target_(target),
        options_(options),
        run_end_(run_end),
        observer_(observer),
        result_(result),
        cutoff_(timestamp(cutoff)) {}

  void run() {
    say_what_hinders();
    forecast();
    while (delete_next()) continue;
    if (skipped_ > 0)
      observer_.on_note(
          fmt::format("{} expired sessions are locked by others and were left", skipped_));
  }

 private:
  std::string timestamp(const std::string& text) const {
    return connection_.literal(text) + "::timestamptz";
  }

  pg::Deadline soon() const { return pg::Deadline::after(options_.answer_timeout); }

  std::string in_transaction(const std::string& statements) const {
    return fmt::format(kTransaction, options_.lock_timeout.count(), options_.answer_timeout.count(),
                       statements);
  }

  void say_what_hinders() {
    for (const std::string& holder : long_transactions(connection_, soon()))
      observer_.on_note("as long as it lasts, the space of what is deleted can't be reused: " +
                        holder);
    for (const std::string& note : what_hides_from_us(connection_, soon())) observer_.on_note(note);
    const std::string standby = missing_synchronous_standby(connection_, soon());
    if (!standby.empty()) observer_.on_note(standby);
  }

  void forecast() {
    connection_.send(in_transaction(fmt::format(kForecast, target_.sql_name, cutoff_, target_.oid)),
                     soon());
    const auto table = connection_.next_rows(soon()), plan = connection_.next_rows(soon());
    connection_.finish(soon());
    if (!table || table->empty() || !plan || plan->empty()) return;
    progress_.rows_total = planned_rows(plan->front().text("QUERY PLAN"));
    const double rows = table->front().number("rows").value_or(0);
    if (rows > 0) bytes_per_row_ = target_.bytes_before / rows;
  }

  /// False when nothing is left to delete.
  bool delete_next() {
    stop_if_wanted(observer_, run_end_);
    wait_for_calm(connection_, options_, run_end_, observer_);
    const auto batch = try_batch();
    if (!batch) return true;
    if (batch->found == 0) return false;
    watermark_ = timestamp(batch->watermark);
    account_for(*batch);
    pause_for(pause_after(batch->took), run_end_, observer_);
    return true;
  }

  void account_for(const Batch& batch) {
    if (batch.found >= size_.rows()) size_.took(batch.took);
    result_.rows_deleted = result_.rows_deleted.value_or(0) + batch.deleted;
    fruitless_ = batch.deleted > 0 ? 0 : fruitless_ + 1;
    if (fruitless_ >= kMostFruitlessBatches)
      throw std::runtime_error(fmt::format(
          "the expired sessions of {} are still there after their DELETE: a trigger or a rule must "
          "have prevented it",
          target_.sql_name));
    progress_.rows += batch.deleted;
    progress_.bytes = progress_.rows * bytes_per_row_;
    progress_.rows_total = std::max(progress_.rows, progress_.rows_total);
    observer_.on_progress(progress_);
  }

  /// Nothing when a lock or the time limit was in the way, and another try is due.
  std::optional<Batch> try_batch() {
    bool table_is_locked = false;
    try {
      const Batch batch = run_batch(table_is_locked);
      locked_out_since_.reset();
      return batch;
    } catch (const pg::Error& error) {
      if (error.kind() != pg::Error::Kind::statement) throw;
      connection_.finish(soon());
      if (!table_is_locked && error.lock_not_available())
        wait_for_table();
      else if (is_row_lock_trouble(error) || error.statement_timed_out())
        take_less(error);
      else
        throw;
    }
    return std::nullopt;
  }

  Batch run_batch(bool& table_is_locked) {
    const auto deadline = pg::Deadline::after(options_.answer_timeout + milliseconds(1000));
    const auto start = Clock::now();
    connection_.send(in_transaction(fmt::format(kBatch, target_.sql_name, watermark_, cutoff_,
                                                size_.rows(), cleanup_lock(target_.oid))),
                     deadline);
    connection_.next_rows(deadline);
    table_is_locked = true;
    const pg::Rows rows = connection_.next_rows(deadline).value_or(pg::Rows());
    while (connection_.next_rows(deadline)) continue;  // COMMIT may still fail: no finish() here
    if (rows.empty()) throw pg::Error(pg::Error::Kind::connection, "the answer ended too early");
    const pg::Row& row = rows.front();
    if (!row.flag("is_ours")) throw LeftToAnother("another cleanup of this table is at work");
    return {row.number("found").value_or(0), row.number("deleted").value_or(0),
            row.text("watermark"), std::chrono::duration_cast<milliseconds>(Clock::now() - start)};
  }

  /// Somebody rewrites or alters the table.
  void wait_for_table() {
    if (!locked_out_since_) {
      locked_out_since_ = Clock::now();
      observer_.on_note("waiting for the table's lock: " +
                        lock_holders(connection_, target_.oid, soon()));
    }
    if (Clock::now() - *locked_out_since_ > kLockPatience)
      throw Stopped("the table's lock was never granted: " +
                    lock_holders(connection_, target_.oid, soon()));
    pause_for(kBetweenLockTries, run_end_, observer_);
  }

  /// Somebody holds an expired row (or the server is slow): smaller batches pass beside it, and a
  /// row that stays locked on its own is left for the next run.
  void take_less(const pg::Error& error) {
    if (size_.was_too_much()) return pause_for(kBetweenLockTries, run_end_, observer_);
    if (error.statement_timed_out()) throw error;
    if (++skipped_ > kMostSkippedRows)
      throw Stopped("too many expired sessions are locked: " +
                    lock_holders(connection_, target_.oid, soon()));
    connection_.send(
        in_transaction(fmt::format(kBeyondNext, target_.sql_name, watermark_, cutoff_)), soon());
    const pg::Rows rows = connection_.next_rows(soon()).value_or(pg::Rows());
    connection_.finish(soon());
    if (!rows.empty() && rows.front().optional_text("watermark"))
      watermark_ = timestamp(rows.front().text("watermark"));
  }

  pg::Connection& connection_;
  const CleanupTarget& target_;
  const CleanupOptions& options_;
  pg::Deadline run_end_;
  CleanupObserver& observer_;
  CleanupResult& result_;

  const std::string cutoff_;                            // as SQL
  std::string watermark_ = "'-infinity'::timestamptz";  // as SQL
  BatchSize size_;
  CleanupProgress progress_{"deleting", 0, 0, 0};
  double bytes_per_row_ = 0;
  int fruitless_ = 0, skipped_ = 0;
  std::optional<Clock::time_point> locked_out_since_;
};

}  // namespace

void delete_expired(pg::Connection& connection, const CleanupTarget& target,
                    const CleanupOptions& options, const std::string& cutoff, pg::Deadline run_end,
                    CleanupObserver& observer, CleanupResult& result) {
  BatchDelete(connection, target, options, cutoff, run_end, observer, result).run();
}

}  // namespace django_session::sessions
