// Deleting expired sessions: one transaction a batch, each with its own limits.
//
// A batch first waits for the rows that others hold, as a DELETE does; where that was in vain, the
// batches after it pass over what is held (which costs a second record of WAL for each row). What
// was left is tried again at the end, by its addresses.
#include "cleanup/batch_delete.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <optional>

#include "cleanup/as_owner.hpp"
#include "cleanup/delete_sql.hpp"
#include "cleanup/living_swap.hpp"
#include "cleanup/swap.hpp"
#include "cleanup/throttle.hpp"
#include "core/batch_size.hpp"

namespace django_session::sessions {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kBetweenLockTries{500};
constexpr milliseconds kLockPatience{60 * 1000};
// Batches are short, and looking at replicas, slots and other cleanups costs as much as a small
// one.
constexpr milliseconds kBetweenLooks{200};
constexpr int kMostFruitlessBatches = 5;
constexpr int kLastTries = 3;
// After so many batches without a row that somebody holds, they wait for such rows again.
constexpr int kPatientAfter = 20;
// Somebody holds all that we come by (another job that deletes, say).
constexpr std::size_t kMostLockedInARow = 10'000;
// Addresses of what was left; beyond, sessions are counted alone.
constexpr std::size_t kMostRemembered = 50'000;
constexpr double kFewLocked = 1000, kFewOfAHundred = 1;

bool is_row_lock_trouble(const pg::Error& error) {
  constexpr std::string_view kDeadlock = "40P01";
  return error.lock_not_available() || error.sqlstate() == kDeadlock;
}

void append(std::vector<std::string>& all, const std::vector<std::string>& more) {
  all.insert(all.end(), more.begin(), more.end());
}

/// Of class 42, something isn't found: then it may be our search_path that keeps a trigger from it.
std::string what_failed(const DeleteAccess& access, const pg::Error& error) {
  const bool not_found = error.sqlstate().starts_with("42") && !error.insufficient_privilege();
  if (!not_found || access.triggers.empty()) return error.what();
  return fmt::format("{}; {}", error.what(), access.about_triggers());
}

class BatchDelete {
 public:
  BatchDelete(pg::Connection& connection, const CleanupTarget& target, const DeleteAccess& access,
              const CleanupOptions& options, const DeleteOrder& order, pg::Deadline run_end,
              CleanupObserver& observer, CleanupResult& result)
      : connection_(connection),
        target_(target),
        access_(access),
        options_(options),
        order_(order),
        run_end_(run_end),
        observer_(observer),
        result_(result) {}

  Undeleted run() {
    for (const auto& obstacle : access_.obstacles)
      throw pg::Error(pg::Error::Kind::statement, obstacle.object + " " + obstacle.reason);
    say_what_hinders();
    progress_.rows_total = order_.rows_expected.value_or(0);
    while (delete_next()) continue;
    try_what_was_left();
    if (undeleted_.kept > 0 && deleted_ == 0) throw_that_nothing_goes();
    if (undeleted_.locked > 0)
      undeleted_.lockers = row_lock_holders(connection_, target_.oid, lockers_, soon());
    return undeleted_;
  }

 private:
  struct Batch {
    BatchReport report;
    milliseconds took{0};
  };

  pg::Deadline soon() const { return pg::Deadline::after(options_.answer_timeout); }

  void say_what_hinders() {
    for (const std::string& holder : long_transactions(connection_, soon()))
      observer_.on_note("as long as it lasts, the space of what is deleted can't be reused: " +
                        holder);
    for (const std::string& note : what_hides_from_us(connection_, soon())) observer_.on_note(note);
    const std::string standby = missing_synchronous_standby(connection_, soon());
    if (!standby.empty()) observer_.on_note(standby);
  }

  /// False when nothing is left to delete.
  bool delete_next() {
    const BatchOrder order{order_.cutoff, moment_, pace_.rows(), passed_over_, {}, skip_locked_};
    const auto batch = try_batch(order);
    if (!batch) return true;
    const BatchReport& report = batch->report;
    if (report.seen == 0) return false;
    if (report.seen >= pace_.rows()) pace_.took(batch->took, report.wal_bytes);
    account_for(report);
    remember(report);
    pause_for(DeletePace::pause_after(batch->took), run_end_, observer_);
    return true;
  }

  void account_for(const BatchReport& report) {
    deleted_ += report.deleted;
    result_.rows_deleted = result_.rows_deleted.value_or(0) + report.deleted;
    if (report.free > 0) fruitless_ = report.deleted > 0 ? 0 : fruitless_ + 1;
    if (fruitless_ >= kMostFruitlessBatches) throw_that_nothing_goes();
    progress_.rows += report.deleted;
    progress_.bytes = progress_.rows * order_.bytes_per_row.value_or(0);
    progress_.rows_total = std::max(progress_.rows, progress_.rows_total);
    observer_.on_progress(progress_);
  }

  [[noreturn]] void throw_that_nothing_goes() const {
    throw std::runtime_error(fmt::format(
        "the expired sessions of {} are still there after their DELETE: a trigger or a rule must "
        "have prevented it",
        target_.sql_name));
  }

  /// The next batch begins where this one ended: from the index' left end it would walk over all
  /// that was deleted before, as long as VACUUM hasn't removed it.
  void remember(const BatchReport& report) {
    if (report.moment != moment_) passed_over_.clear();
    moment_ = report.moment;
    append(passed_over_, report.left_last);
    for (const std::string& address : report.left_over) {
      if (left_.size() < kMostRemembered)
        left_.push_back(address);
      else
        undeleted_.locked += 1;
    }
    if (!report.lockers.empty()) lockers_ = report.lockers;
    in_a_row_ = report.deleted > 0 ? 0 : in_a_row_ + report.left_over.size();
    if (in_a_row_ >= kMostLockedInARow || passed_over_.size() >= kMostLockedInARow)
      throw Stopped("thousands of expired sessions in a row are locked by " +
                    row_lock_holders(connection_, target_.oid, lockers_, soon()));
    batches_without_locks_ = report.left_over.empty() ? batches_without_locks_ + 1 : 0;
    if (batches_without_locks_ >= kPatientAfter) skip_locked_ = false;
  }

  /// Most locks are held for moments.
  void try_what_was_left() {
    skip_locked_ = true;
    for (int tries = 0; !left_.empty() && tries < kLastTries; ++tries) {
      if (tries > 0 && held_ == 0) break;
      if (tries > 0) pause_for(kBetweenLockTries, run_end_, observer_);
      try_once_more();
    }
    undeleted_.locked += held_;
  }

  void try_once_more() {
    std::vector<std::string> still_left;
    held_ = undeleted_.kept = 0;
    for (std::size_t i = 0; i < left_.size();) {
      const std::size_t end = std::min(left_.size(), i + static_cast<std::size_t>(pace_.rows()));
      const auto at = [&](std::size_t place) {
        return left_.begin() + static_cast<std::ptrdiff_t>(place);
      };
      const auto batch =
          try_batch({order_.cutoff, moment_, pace_.rows(), {}, {at(i), at(end)}, true});
      if (!batch) continue;
      const BatchReport& report = batch->report;
      account_for(report);
      append(still_left, report.left_over);
      held_ += report.seen - report.free;
      undeleted_.kept += report.free - report.deleted;
      if (!report.lockers.empty()) lockers_ = report.lockers;
      pause_for(DeletePace::pause_after(batch->took), run_end_, observer_);
      i = end;
    }
    left_ = still_left;
  }

  /// Nothing when a lock or the time limit was in the way, and another try is due.
  std::optional<Batch> try_batch(const BatchOrder& order) {
    stop_if_wanted(observer_, run_end_);
    look_around();
    bool table_is_locked = false;
    try {
      const Batch batch = run_batch(order, table_is_locked);
      if (!batch.report.is_locked) {
        locked_out_since_.reset();
        return batch;
      }
      wait_for_table();
    } catch (const pg::Error& error) {
      if (error.kind() != pg::Error::Kind::statement) throw;
      connection_.finish(soon());
      if (error.sqlstate() == kOtherTable)
        throw Stopped(access_.way == DeleteAccess::Way::function
                          ? "the table or its owner's function was replaced meanwhile, or has "
                            "another owner now"
                          : "the table was replaced meanwhile, or has another owner now");
      if (access_.way == DeleteAccess::Way::as_owner && error.insufficient_privilege())
        throw pg::Error(pg::Error::Kind::statement,
                        fmt::format("{}; clean up as {}", error.what(), access_.owner));
      if (!table_is_locked && error.lock_not_available())
        wait_for_table();
      else if (is_row_lock_trouble(error) || error.statement_timed_out())
        give_way(error);
      else
        throw pg::Error(error.kind(), what_failed(access_, error), error.sqlstate());
    }
    return std::nullopt;
  }

  void look_around() {
    if (Clock::now() - looked_ < kBetweenLooks) return;
    wait_for_calm(connection_, options_, run_end_, observer_);
    stop_if_a_swap_lives(connection_, target_, access_, options_);
    looked_ = Clock::now();
  }

  Batch run_batch(const BatchOrder& order, bool& table_is_locked) {
    const auto deadline = pg::Deadline::after(options_.answer_timeout + milliseconds(1000));
    const auto start = Clock::now();
    connection_.take_infos();
    connection_.send(batch_sql(connection_, target_, access_, order,
                               {options_.lock_timeout, options_.answer_timeout}, name_),
                     deadline);
    table_is_locked = access_.way == DeleteAccess::Way::function;  // it tells by itself
    double wal_before = 0;
    pg::Row last;
    while (const auto rows =
               connection_.next_rows(deadline)) {  // COMMIT may fail: no finish() here
      if (rows->empty()) continue;
      last = rows->front();
      if (!last.has("table_is_locked")) continue;
      table_is_locked = true;
      wal_before = last.number("wal_before").value_or(0);
    }
    if (access_.way == DeleteAccess::Way::as_owner) last = report_of(connection_);
    if (!last.has("seen"))
      throw pg::Error(pg::Error::Kind::connection, "the answer ended too early");
    BatchReport report = read_batch_report(last);
    report.wal_bytes = std::max(0.0, report.wal_bytes - wal_before);
    if (report.swap_lives) throw LeftToAnother("a swap of this table is under way");
    if (!report.is_locked && !report.is_ours)
      throw LeftToAnother("another cleanup of this table is at work: its lock is held by " +
                          cleanup_lock_holder(connection_, target_.oid, soon()));
    return {report, std::chrono::duration_cast<milliseconds>(Clock::now() - start)};
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

  /// Somebody holds an expired row, or the server is slow.
  void give_way(const pg::Error& error) {
    if (error.statement_timed_out()) {
      if (!pace_.was_too_much()) throw error;
      return pause_for(kBetweenLockTries, run_end_, observer_);
    }
    batches_without_locks_ = 0;
    if (!skip_locked_) {
      skip_locked_ = true;
      return;
    }
    pause_for(kBetweenLockTries, run_end_, observer_);  // a deadlock with what a trigger does
  }

  pg::Connection& connection_;
  const CleanupTarget& target_;
  const DeleteAccess& access_;
  const CleanupOptions& options_;
  const DeleteOrder& order_;
  pg::Deadline run_end_;
  CleanupObserver& observer_;
  CleanupResult& result_;

  const std::string name_ = "djs_" + new_run_id() + "_delete";
  std::string moment_ = "-infinity";
  std::vector<std::string> passed_over_;  ///< addresses of what is left of that moment
  std::vector<std::string> left_;         ///< of all that is left
  std::vector<std::string> lockers_;      ///< ids of transactions
  bool skip_locked_ = false;
  int batches_without_locks_ = 0, fruitless_ = 0;
  std::size_t in_a_row_ = 0;
  double deleted_ = 0, held_ = 0;
  Undeleted undeleted_;
  DeletePace pace_;
  CleanupProgress progress_{"deleting", 0, 0, 0};
  Clock::time_point looked_{};
  std::optional<Clock::time_point> locked_out_since_;
};

std::string sessions(double count) {
  return count == 1 ? "1 expired session is" : fmt::format("{:.0f} expired sessions are", count);
}

/// Whatever ends a trial that says nothing about the table.
bool says_nothing(const pg::Error& error) {
  return is_row_lock_trouble(error) || error.statement_timed_out() ||
         error.sqlstate() == kOtherTable;
}

}  // namespace

std::string why_a_delete_would_fail(pg::Connection& connection, const CleanupTarget& target,
                                    const DeleteAccess& access, const CleanupOptions& options,
                                    const std::string& cutoff) try {
  const auto deadline = pg::Deadline::after(options.answer_timeout);
  BatchOrder order{cutoff, "-infinity", 1, {}, {}, true};
  order.trial = true;
  const BatchLimits limits{options.lock_timeout, options.answer_timeout / 2};
  connection.send(
      batch_sql(connection, target, access, order, limits, "djs_" + new_run_id() + "_trial"),
      deadline);
  while (connection.next_rows(deadline)) continue;
  connection.take_infos();
  return "";
} catch (const pg::Error& error) {
  if (error.kind() != pg::Error::Kind::statement) throw;
  connection.finish(pg::Deadline::after(options.answer_timeout));
  if (says_nothing(error)) return "";
  // A message of a trigger's own may quote the row.
  return error.sqlstate().starts_with("42") ? what_failed(access, error)
                                            : "it fails with SQLSTATE " + error.sqlstate();
}

std::string Undeleted::text() const {
  std::string text;
  if (locked > 0) text = fmt::format("{} locked by {}", sessions(locked), lockers);
  if (kept > 0)
    text += fmt::format("{}{} still there after the DELETE: a trigger must have prevented it",
                        text.empty() ? "" : "; ", sessions(kept));
  return text;
}

bool Undeleted::few(double deleted) const {
  const double left = locked + kept;
  return left < kFewLocked && left * 100 <= (left + deleted) * kFewOfAHundred;
}

Undeleted delete_expired(pg::Connection& connection, const CleanupTarget& target,
                         const DeleteAccess& access, const CleanupOptions& options,
                         const DeleteOrder& order, pg::Deadline run_end, CleanupObserver& observer,
                         CleanupResult& result) {
  return BatchDelete(connection, target, access, options, order, run_end, observer, result).run();
}

}  // namespace django_session::sessions
