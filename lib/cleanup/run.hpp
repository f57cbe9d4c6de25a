// What every step of a cleanup has and may do.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "cleanup/cleanup_target.hpp"
#include "core/cleanup.hpp"
#include "core/work_progress.hpp"
#include "pg/connection.hpp"

namespace django_session::sessions {

/// A name for a run, unlike any other's: 32 hexadecimal digits.
std::string new_run_id();

/// One call of plan_cleanup(), run_cleanup() or abort_cleanup(): handed from step to step. It has
/// verbs alone: what is done, when, and how often it is tried is each step's own. Throws pg::Error,
/// and Stopped from whatever may wait.
class Run {
 public:
  Run(const pg::Parameters& parameters, const CleanupOptions& options, CleanupObserver& observer);

  // What it has

  const std::string& id() const { return id_; }
  const pg::Parameters& parameters() const { return parameters_; }
  const CleanupOptions& options() const { return options_; }
  CleanupObserver& observer() { return observer_; }
  pg::Deadline end() const { return end_; }  ///< max-duration
  /// For what should be quick.
  pg::Deadline soon() const { return pg::Deadline::after(options_.answer_timeout); }

  /// Its table, as the pre-flight found it last. A reference to it stays good.
  const CleanupTarget& target() const { return target_; }
  void work_on(CleanupTarget target) { target_ = std::move(target); }

  /// What expired before it goes: decided once, by a clock that could be trusted then, however
  /// often the work is begun again. A timestamp in UTC as text; "": not decided yet.
  const std::string& cutoff() const { return cutoff_; }
  void decide_cutoff(std::string cutoff) { cutoff_ = std::move(cutoff); }
  /// Such a text as SQL: a timestamptz.
  std::string moment(const std::string& utc);

  CleanupResult& result() { return result_; }
  /// For result().longest_lock.
  void had_locked_for(std::chrono::milliseconds time);

  // The connection. A reference to it stays good until the next connect().

  void connect();
  pg::Connection& connection();
  bool is_connected() const { return connection_ && connection_->usable(); }
  /// After a timeout: ends the server process that was left behind, which code of the table's owner
  /// may keep from ever ending by itself (it can catch a cancel request and a time limit, but not
  /// this). Its process id; nothing if there was none, or behind a pooler, where it isn't known, or
  /// where another server answers now.
  std::optional<int> end_what_was_left_behind();
  /// For a Probe, which has another to give back where this one turns out to be dead.
  pg::Connection lend_connection();
  void take_back(std::optional<pg::Connection> connection);

  // What it may do

  /// The rows of one SELECT from the catalogue or a statistics view: see ask_catalog().
  pg::Rows ask(const std::string& query);
  /// All rows of a message: one transaction of its own, see Transaction.
  pg::Rows send(const std::string& message, pg::Deadline deadline);
  /// A statement, or a message, that takes long: until end(). Each lock is waited for at most
  /// `lock_timeout`: see long_statement.hpp. `phase`: shown from the moment the server tells how far
  /// it is; "": the phase that is shown.
  pg::Rows run_long(const std::string& message, std::chrono::milliseconds lock_timeout,
                    const std::string& phase = "");

  /// Throws Paused when the observer wants the end or the run's time is over. Asked between all
  /// steps.
  void check() const { check(end_); }
  void check(pg::Deadline end) const;
  void rest(std::chrono::milliseconds duration) const;

  void note(const std::string& line) { observer_.on_note(line); }
  /// The server's warnings since the last call.
  void note_warnings();
  /// What is to be done, of which all that is shown from now on is a part.
  void work_begins(const CleanupPlan& plan) { work_ = WorkProgress(work_steps(plan)); }
  void show(const CleanupProgress& progress);
  void show(const std::string& phase) { show(CleanupProgress{phase, 0, 0, 0}); }
  /// The phase that is shown is so far, 0 to 1.
  void show_share(double share);

 private:
  struct Backend {
    int pid = 0;
    std::string identity;  ///< as no other's on any server; "": unknown
  };
  std::string backend_identity();

  const pg::Parameters& parameters_;
  const CleanupOptions& options_;
  CleanupObserver& observer_;
  WorkProgress work_;
  CleanupProgress progress_;  ///< as shown last
  const pg::Deadline end_;
  const std::string id_ = new_run_id();
  pg::Connector connector_;
  std::optional<pg::Connection> connection_;
  Backend backend_;  ///< of the connection made last
  CleanupTarget target_;
  std::string cutoff_;
  CleanupResult result_;
};

}  // namespace django_session::sessions
