// How a running cleanup learns that the daemon wants to end.
#pragma once

#include <atomic>
#include <chrono>

namespace django_session::plugin {

/// Given once, by any thread, and seen by all.
class StopSignal {
 public:
  using Clock = std::chrono::steady_clock;

  StopSignal();  ///< throws std::system_error
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  /// `give_up`: when nobody waits any longer for the cleanup's end. The first request counts.
  void request(Clock::time_point give_up);

  bool requested() const { return requested_.load(std::memory_order_acquire); }
  Clock::time_point give_up() const { return give_up_.load(std::memory_order_acquire); }

  /// For poll(): readable from the request on.
  int descriptor() const { return descriptor_; }

 private:
  int descriptor_;
  std::atomic<bool> claimed_ = false, requested_ = false;
  std::atomic<Clock::time_point> give_up_ = Clock::time_point::max();
};

}  // namespace django_session::plugin
