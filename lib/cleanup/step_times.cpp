// How long each step of a cleanup takes.
#include "cleanup/step_times.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace django_session::sessions {

void StepTimes::begin(const std::string& step, Moment now) {
  if (step == current_) return;
  const auto find = [this](const std::string& name) {
    return std::find_if(steps_.begin(), steps_.end(),
                        [&](const Step& s) { return s.name == name; });
  };
  if (const auto last = find(current_); last != steps_.end()) last->took += now - since_;
  if (find(step) == steps_.end()) steps_.push_back({step});
  current_ = step;
  since_ = now;
}

std::string StepTimes::text(Moment now) const {
  std::string all;
  for (const Step& step : steps_) {
    const auto took = step.took + (step.name == current_ ? now - since_ : Moment::duration(0));
    all += fmt::format("{}{} {:.1f} s", all.empty() ? "" : ", ", step.name,
                       std::chrono::duration<double>(took).count());
  }
  return all;
}

}  // namespace django_session::sessions
