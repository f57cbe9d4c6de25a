// Deleting expired sessions: one transaction a batch, each with its own limits.
//
// A batch first waits for the rows that others hold, as a DELETE does; where that didn't help, the
// batches after it pass over what is held (which costs a second record of WAL for each row). What
// was left is tried again at the end, by its addresses.
#include "cleanup/batch_delete.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "cleanup/bystanders.hpp"
#include "cleanup/delete_sql.hpp"
#include "cleanup/living_swap.hpp"
#include "cleanup/lock_wait.hpp"
#include "cleanup/patience.hpp"
#include "cleanup/replicas.hpp"
#include "core/batch_size.hpp"
#include "core/quantity.hpp"

namespace django_session::sessions {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr const char* kEarliest = "-infinity";
constexpr int kMostFruitlessBatches = 5;
constexpr int kLastTries = 3;
// After so many batches without a row that another session holds, they wait for such rows again.
constexpr int kPatientAfter = 20;
// Other sessions hold all that we come by (another job that deletes, say).
constexpr std::size_t kMostLockedInARow = 10'000;
// Addresses of what was left; beyond, sessions are counted alone.
constexpr std::size_t kMostRemembered = 50'000;
// In a full page of a table: a row's header and its line pointer.
constexpr double kLeastBytesOfARow = 28, kAnyTable = 10'000;
constexpr double kFewLocked = 1000, kFewOfAHundred = 1;

void append(std::vector<std::string>& all, const std::vector<std::string>& more) {
  all.insert(all.end(), more.begin(), more.end());
}

/// A wait for a lock ends as one, before the statement's limit does.
TransactionLimits limits_of_batch(const Run& run) {
  const milliseconds lock = run.options().lock_timeout;
  return {lock, lock + run.options().answer_timeout};
}

class BatchDelete {
 public:
  BatchDelete(Run& run, const DeleteAccess& access, const DeleteOrder& order)
      : run_(run), access_(access), order_(order) {}

  Undeleted delete_all() {
    for (const auto& obstacle : access_.obstacles)
      throw pg::Error(pg::Error::Kind::statement, obstacle.object + " " + obstacle.reason);
    say_what_hinders();
    progress_.rows_total = order_.rows_expected.value_or(0);
    while (delete_next()) continue;
    try_what_was_left();
    if (undeleted_.kept > 0 && run_.result().rows_deleted.value_or(0) == 0)
      throw_that_nothing_goes();
    if (undeleted_.locked > 0) undeleted_.lockers = row_lock_holders(run_, lockers_);
    return undeleted_;
  }

 private:
  struct Batch {
    BatchReport report;
    milliseconds took{0};
  };

  void say_what_hinders() {
    for (const std::string& holder : long_transactions(run_))
      run_.note("the space of what is deleted can't be reused until this ends: " + holder);
    for (const std::string& note : what_hides_from_us(run_)) run_.note(note);
    const std::string standby = missing_synchronous_standby(run_);
    if (!standby.empty()) run_.note(standby);
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
    run_.rest(DeletePace::pause_after(batch->took));
    return true;
  }

  void account_for(const BatchReport& report) {
    deleted_ += report.deleted;
    auto& rows_deleted = run_.result().rows_deleted;
    rows_deleted = rows_deleted.value_or(0) + report.deleted;
    if (report.free > 0) fruitless_ = report.deleted > 0 ? 0 : fruitless_ + 1;
    if (fruitless_ >= kMostFruitlessBatches) throw_that_nothing_goes();
    if (deleted_ > run_.target().bytes_before / kLeastBytesOfARow + kAnyTable)
      throw_that_they_come_back();
    progress_.rows += report.deleted;
    progress_.bytes = progress_.rows * order_.bytes_per_row.value_or(0);
    progress_.rows_total = std::max(progress_.rows, progress_.rows_total);
    run_.show(progress_);
  }

  [[noreturn]] void throw_that_they_come_back() const {
    throw std::runtime_error(fmt::format(
        "{} expired sessions of {} were deleted, more than it had room for: a trigger, or another "
        "session, puts expired ones back",
        format_quantity(static_cast<double>(deleted_), Unit::rows), run_.target().sql_name));
  }

  [[noreturn]] void throw_that_nothing_goes() const {
    throw std::runtime_error(fmt::format(
        "the expired sessions of {} are still there after their DELETE: a trigger or a rule must "
        "have prevented it",
        run_.target().sql_name));
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
                    row_lock_holders(run_, lockers_));
    batches_without_locks_ = report.left_over.empty() ? batches_without_locks_ + 1 : 0;
    if (batches_without_locks_ >= kPatientAfter) skip_locked_ = false;
  }

  /// Most locks are held for moments.
  void try_what_was_left() {
    skip_locked_ = true;
    for (int tries = 0; !left_.empty() && tries < kLastTries; ++tries) {
      if (tries > 0 && held_ == 0) break;
      if (tries > 0) run_.rest(patience::kBetweenDeletesLocks);
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
      run_.rest(DeletePace::pause_after(batch->took));
      i = end;
    }
    left_ = still_left;
  }

  /// Nothing when a lock or the time limit was in the way, and another try is due.
  std::optional<Batch> try_batch(const BatchOrder& order) {
    run_.check();
    look_around();
    const TransactionLimits limits = limits_of_batch(run_);
    // The table's lock is a statement of its own.
    const auto deadline =
        pg::Deadline::after(limits.lock + limits.statement + patience::kDeletesWay);
    const auto start = Clock::now();
    run_.connection().send(batch_sql(run_, access_, order, limits), deadline);
    if (second_) see_who_blocks(pg::Deadline::after(limits.lock));
    const pg::Answer answer = run_.connection().rest_of_answer(deadline);
    if (answer.refusal) {
      was_refused(answer);
      return std::nullopt;
    }
    const BatchReport report = report_of_batch(answer.rows);
    if (report.is_locked) {
      wait_for_table();
      return std::nullopt;
    }
    table_lock_.was_granted();
    further_lock_.was_granted();
    second_.reset();
    return Batch{report, std::chrono::duration_cast<milliseconds>(Clock::now() - start)};
  }

  void look_around() {
    if (Clock::now() - looked_ < patience::kBetweenLooksAround) return;
    wait_for_replicas(run_);
    stop_if_a_swap_lives(run_, access_);
    looked_ = Clock::now();
  }

  BatchReport report_of_batch(const pg::Rows& rows) {
    const pg::Row last = row_of_batch(run_, access_, rows);
    if (!last.has("seen")) throw pg::Error(pg::Error::Kind::statement, "the answer was incomplete");
    BatchReport report = read_batch_report(last);
    for (const pg::Row& row : rows)
      if (row.has("table_is_locked")) report.wal_bytes -= row.number("wal_before").value_or(0);
    report.wal_bytes = std::max(0.0, report.wal_bytes);
    if (report.swap_lives) throw LeftToAnother("a swap of this table is running");
    if (!report.is_locked && !report.is_ours)
      throw LeftToAnother("another cleanup of this table is running: its lock is held by " +
                          cleanup_lock_holder(run_));
    return report;
  }

  void was_refused(const pg::Answer& answer) {
    const pg::Error& error = *answer.refusal;
    if (is_of_another_table(run_, access_, answer))
      throw Stopped(access_.way == DeleteAccess::Way::function
                        ? "the table or its owner's function was replaced meanwhile, or has "
                          "another owner now"
                        : "the table was replaced meanwhile, or has another owner now");
    if (access_.way == DeleteAccess::Way::as_owner && error.insufficient_privilege())
      throw pg::Error(error.kind(), fmt::format("{}; clean up as {}", error.what(), access_.owner));
    if (error.lock_not_available() && !had_the_table(answer.rows))
      wait_for_table();
    else if (error.lock_not_available() || error.deadlock() || error.statement_timed_out())
      give_way(error);
    else
      throw pg::Error(error.kind(), access_.why_it_failed(error), error.sqlstate());
  }

  /// Else it was the table's lock that wasn't granted, which the function tells by itself.
  bool had_the_table(const pg::Rows& rows) const {
    return access_.way == DeleteAccess::Way::function ||
           std::any_of(rows.begin(), rows.end(),
                       [](const pg::Row& row) { return row.has("table_is_locked"); });
  }

  /// Another session rewrites or alters the table.
  void wait_for_table() {
    table_lock_.was_refused();
    if (table_lock_.is_given_up()) throw Stopped(table_lock_.never_granted());
    run_.rest(patience::kBetweenDeletesLocks);
  }

  /// While a batch waits: only then does the server know for whom.
  void see_who_blocks(pg::Deadline end) {
    const auto slice = std::max(run_.options().lock_timeout / 5, milliseconds(1));
    while (!end.passed() && !run_.connection().answered_by(pg::Deadline::after(slice))) {
      const std::string blockers = blockers_of_us();
      if (blockers.empty()) continue;
      blockers_ = blockers;
      return;
    }
  }

  std::string blockers_of_us() try {
    return second_ ? blockers_of_cleanup(run_, *second_) : "";
  } catch (const pg::Error&) {
    second_.reset();
    return "";
  }

  /// Another session holds an expired row, or what a trigger or a foreign key needs, or the server is
  /// slow.
  void give_way(const pg::Error& error) {
    if (error.statement_timed_out()) {
      if (!pace_.was_too_much()) throw error;
      return run_.rest(patience::kBetweenDeletesLocks);
    }
    batches_without_locks_ = 0;
    if (!skip_locked_) {
      skip_locked_ = true;
      return;
    }
    // Locked sessions are passed over: it is what a trigger or a foreign key does.
    if (!further_lock_.is_refused()) second_ = run_.connection().another(run_.soon());
    further_lock_.was_refused();
    if (further_lock_.is_given_up()) throw Stopped(further_lock_.never_granted());
    run_.rest(patience::kBetweenDeletesLocks);
  }

  Run& run_;
  const DeleteAccess& access_;
  const DeleteOrder& order_;

  std::string moment_ = kEarliest;
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
  LockWait table_lock_{run_,
                       {"the table's lock", [this] { return lock_holders(run_); },
                        patience::kForDeletesLock, milliseconds(0), std::nullopt}};
  std::optional<pg::Connection> second_;  ///< while a further lock is waited for
  std::string blockers_ = "a session that could not be looked up";
  LockWait further_lock_{
      run_,
      {"the lock that a trigger or a foreign key needs", [this] { return blockers_; },
       patience::kForDeletesLock, patience::kFirstLockNote, patience::kBetweenLockNotes}};
};

std::string sessions(double count) {
  return count == 1 ? "1 expired session is" : fmt::format("{:.0f} expired sessions are", count);
}

}  // namespace

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

Undeleted delete_expired(Run& run, const DeleteAccess& access, const DeleteOrder& order) {
  return BatchDelete(run, access, order).delete_all();
}

std::string sql_of_first_batch(Run& run, const DeleteAccess& access, const std::string& cutoff) {
  const BatchOrder first{cutoff, kEarliest, DeletePace().rows(), {}, {}, false};
  return batch_sql(run, access, first, limits_of_batch(run));
}

}  // namespace django_session::sessions
