// Locks that keep clients waiting: how a swap comes by them.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "cleanup/bystanders.hpp"
#include "cleanup/swap_run.hpp"

namespace django_session::sessions {

class SwapLock {
 public:
  explicit SwapLock(SwapRun& swap) : swap_(swap) {}

  /// Tries until the lock is granted, not more often than every 100 ms, and not while a session is
  /// there that won't be gone soon: the next ones in the lock's queue wait behind us. At such a
  /// moment something else is done instead: `while_hopeless`. `doing`: "to exchange the tables".
  /// Throws Paused where it is never granted.
  void with(const std::string& doing, TableLock lock, const std::function<void()>& attempt,
            const std::function<void()>& while_hopeless = {});

  /// How many times what was meant to be enough may be done under the lock: it grows where that was
  /// too little.
  double more_keys() const { return more_keys_; }

  /// After a step that is one transaction wasn't granted a lock: waits a little, for the step to be
  /// tried again. To be called where `error` is caught; throws it on where that has been so for too
  /// long.
  void wait_for_table(const pg::Error& error);
  void got_further() { locked_out_.reset(); }

  std::string who_holds() const;

 private:
  using Clock = std::chrono::steady_clock;

  struct Tries {
    std::chrono::milliseconds pause;
    std::string refused = "not tried, because of a long transaction";
    bool too_slow = false;  ///< it was granted, but not for as long as the work under it took
    int grants = 0;
  };

  bool succeeds(const std::function<void()>& attempt, bool hopeless, Tries& tries);
  bool was_refused(const pg::Error& error, bool hopeless, Tries& tries);
  std::string our_tables() const;

  SwapRun& swap_;
  std::optional<Clock::time_point> locked_out_;  ///< since when the table is locked
  Clock::time_point noted_;                      ///< when that was last said
  double more_keys_ = 1;
};

}  // namespace django_session::sessions
