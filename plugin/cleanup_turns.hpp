// How many cleanups one collectd runs at once, and whose turn is next.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>

#include "core/mutex.hpp"
#include "plugin/stop_signal.hpp"

namespace django_session::plugin {

/// Shared by all hooks of a daemon, in their cleanups' threads: first come, first served.
class CleanupTurns : public std::enable_shared_from_this<CleanupTurns> {
 public:
  /// Given back when the last copy is gone. It keeps the turns alive.
  using Turn = std::shared_ptr<void>;

  std::size_t at_once() const;
  void set_at_once(std::size_t cleanups);  ///< at least 1

  /// Waits for a turn. `on_wait` is called before, if it isn't there at once. Nothing if the daemon
  /// stops; then wake() has to be called, too.
  Turn take(const StopSignal& stop, const std::function<void()>& on_wait);

  /// A waiting hook looks at its StopSignal.
  void wake();

 private:
  using Ticket = std::size_t;

  bool is_next(Ticket ticket) const REQUIRES(mutex_) {
    return queue_.front() == ticket && running_ < at_once_;
  }
  void wait_for_turn(Ticket ticket, const StopSignal& stop, const std::function<void()>& on_wait)
      REQUIRES(mutex_);
  void leave_queue(Ticket ticket) REQUIRES(mutex_);
  void give_back();

  mutable Mutex mutex_;
  Condition changed_;
  std::size_t at_once_ GUARDED_BY(mutex_) = 1, running_ GUARDED_BY(mutex_) = 0;
  Ticket next_ticket_ GUARDED_BY(mutex_) = 0;
  std::deque<Ticket> queue_ GUARDED_BY(mutex_);  ///< of those who wait
};

}  // namespace django_session::plugin
