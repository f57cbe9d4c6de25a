// What the parts of a swap share: what is known of it, and how its messages are sent.
#pragma once

#include <chrono>
#include <string>

#include "cleanup/run.hpp"
#include "cleanup/step_times.hpp"
#include "cleanup/swap_phase.hpp"
#include "cleanup/swap_sql.hpp"
#include "pg/connection.hpp"

namespace django_session::sessions {

/// Of the run's table.
SwapNames swap_names(Run& run);

class SwapRun {
 public:
  /// `shadow_oid`: of which the caller must know, whatever becomes of the run.
  SwapRun(Run& run, Oid& shadow_oid);

  Run& run;

  // What is known, of which the state's row has most, too

  SwapNames names;  ///< from the exchange on those of the table that has the name then
  Oid& shadow;      ///< OID of the shadow, and so of the table that will have the name
  Phase phase = Phase::none;
  bool ours = false;       ///< the state's row is
  bool disabled = false;   ///< its triggers were, by a run that gave up
  double rows_before = 0;  ///< kUnknownRows: not known
  double bytes_before = 0, copied = 0;
  double log_bytes = 0;  ///< of the log, when last looked at
  static constexpr double kUnknownRows = -1;

  // Messages

  /// Makes all waits end well before the server's deadlock_timeout, so that a session that waits for
  /// us, and we for it, is never the one that is cancelled.
  void limit_waits();
  std::chrono::milliseconds lock_timeout() const { return lock_timeout_; }

  TransactionLimits quick() const;      ///< for our own helpers, which nobody else uses
  TransactionLimits on_table() const;   ///< where clients may wait for us
  TransactionLimits unhurried() const;  ///< until the run's end

  pg::Rows send(const std::string& message, TransactionLimits limits);
  /// What the message's work has reported.
  pg::Row report(const std::string& message, TransactionLimits limits);
  pg::Rows send_long(const std::string& message) { return send_long(message, run.end()); }
  pg::Rows send_long(const std::string& message, pg::Deadline end);
  pg::Row report_long(const std::string& message);
  /// A message with the rows asked and ended; the time in between is how long others may have
  /// waited for us.
  void timed(const std::string& message);

  /// To be called while the run waits: does it where it is due.
  void renew_lease();

  /// Shows progress: what is being done.
  void show(const std::string& doing);
  const std::string& doing() const { return doing_; }
  /// What is sent next is what is shown, and so many statements of which the server tells how far
  /// they are.
  void statements_follow(int count) {
    statements_ = count;
    statement_ = 0;
    share_ = 0;
  }
  void expect_rows(double rows) { rows_expected_ = rows; }
  /// How long each step has taken, named as they are shown.
  const StepTimes& times() const { return times_; }

 private:
  using Clock = std::chrono::steady_clock;

  TransactionLimits limits(std::chrono::milliseconds lock) const;
  void show_share(double share);

  std::chrono::milliseconds own_lock_, lock_timeout_;
  Clock::time_point renewed_;  ///< when the lease was, by itself
  std::string doing_;
  double rows_expected_ = 0;  ///< to be copied
  StepTimes times_;
  int statements_ = 0, statement_ = 0;  ///< of the phase, and how many of them have ended
  double share_ = 0;                    ///< of the one that runs
};

}  // namespace django_session::sessions
