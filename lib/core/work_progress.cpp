// Weights of the steps, and an estimate by the time that has passed.
#include "core/work_progress.hpp"

#include <algorithm>
#include <cmath>

#include "core/quantity.hpp"

namespace django_session {
namespace {

constexpr double kGigabyte = 1024.0 * 1024 * 1024;
// With less an estimate would be a guess.
constexpr double kEnoughDone = 0.05, kEnoughSeconds = 2;

bool belongs_to(const std::string& phase, const WorkStep& step) {
  return phase == step.phase || phase.starts_with(step.phase + " ");
}

}  // namespace

/// The figures: seconds for a GB, on PostgreSQL 15, two cores, sessions of 100 bytes, half of them
/// or nearly all expired.
std::vector<WorkStep> work_steps(const CleanupPlan& plan) {
  const double rows = plan.live_rows.value_or(0) + plan.expired_rows.value_or(0);
  if (!plan.bytes_before || !plan.bytes_after || !plan.live_rows || rows <= 0) return {};
  const double all = *plan.bytes_before / kGigabyte, afresh = *plan.bytes_after / kGigabyte;
  const double live = all * *plan.live_rows / rows, expired = all - live;
  switch (plan.method) {
    case Method::swap:
      return {{"copying", 20 * afresh},
              {"building indexes", 16 * afresh},
              {"vacuuming", 2 * afresh},
              {"comparing", 2.5 * afresh + all}};
    case Method::full:
      return {{"deleting", 50 * expired}, {"rewriting the table", 15 * afresh + all}};
    default:
      break;
  }
  std::vector<WorkStep> steps = {{"deleting", 50 * expired}, {"vacuuming", 7 * expired}};
  // A deletion gives nothing back but what rebuilt indexes do.
  if (afresh < all) steps.push_back({"rebuilding index", 20 * live + all});
  return steps;
}

double WorkProgress::seconds_before(std::size_t step) const {
  double sum = 0;
  for (std::size_t i = 0; i < step; ++i) sum += steps_[i].seconds;
  return sum;
}

std::optional<double> WorkProgress::done(const CleanupProgress& progress) {
  const double all = seconds_before(steps_.size());
  const auto found = std::find_if(steps_.begin(), steps_.end(), [&](const WorkStep& step) {
    return belongs_to(progress.phase, step);
  });
  if (found == steps_.end())
    return ended_ == 0 || all <= 0 ? std::nullopt : std::optional(seconds_before(ended_) / all);
  const auto step = static_cast<std::size_t>(found - steps_.begin());
  ended_ = step + 1;
  if (all <= 0) return std::nullopt;
  const double share =
      (progress.part - 1 + share_of_phase(progress).value_or(0)) / std::max(progress.parts, 1);
  return (seconds_before(step) + found->seconds * std::clamp(share, 0.0, 1.0)) / all;
}

void TimeLeft::reached(double done, double now) {
  if (!first_ || done < done_) {
    first_ = done;
    began_ = now;
  }
  done_ = done;
}

std::optional<double> TimeLeft::seconds(double now) const {
  const double passed = now - began_;
  if (!first_ || passed < kEnoughSeconds || done_ - *first_ < kEnoughDone) return std::nullopt;
  return std::max(1.0, passed * (1 - done_) / (done_ - *first_));
}

std::string time_left_text(double seconds) {
  const double step = seconds <= 60 ? 5 : seconds <= 3600 ? 60 : 600;
  const double rounded = std::max(1.0, std::ceil(seconds / step)) * step;
  return "about " + format_quantity(rounded, Unit::seconds) + " left";
}

}  // namespace django_session
