// How long each step of a cleanup takes. Pure.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace django_session::sessions {

class StepTimes {
 public:
  using Moment = std::chrono::steady_clock::time_point;

  /// The step before it ends. One that comes again counts as the same.
  void begin(const std::string& step, Moment now);

  /// "copying 1.2 s, building indexes 0.3 s", in the order in which they began.
  std::string text(Moment now) const;

 private:
  struct Step {
    std::string name;
    std::chrono::steady_clock::duration took{0};
  };

  std::vector<Step> steps_;
  std::string current_;
  Moment since_{};
};

}  // namespace django_session::sessions
