// A point in time by which an operation must have ended, whatever it is made of.
#pragma once

#include <algorithm>
#include <chrono>

namespace django_session::pg {

class Deadline {
 public:
  using Clock = std::chrono::steady_clock;

  static Deadline after(std::chrono::milliseconds budget) {
    return Deadline(Clock::now() + budget);
  }

  Clock::time_point time() const { return time_; }

  /// Time left, rounded up so that waiting for it never wakes early; 0 once it has passed.
  std::chrono::milliseconds remaining() const {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(time_ - Clock::now());
    return std::max(left, std::chrono::milliseconds::zero());
  }

  bool passed() const { return Clock::now() >= time_; }

 private:
  explicit Deadline(Clock::time_point time) : time_(time) {}
  Clock::time_point time_;
};

}  // namespace django_session::pg
