// How much of a cleanup's work is done, and how long the rest may take. Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "core/cleanup.hpp"

namespace django_session {

/// A step that takes time: the phase that shows it, or how the phases begin that do, and the
/// seconds that it would take on the machine that the methods were measured on. Only how these
/// compare counts.
struct WorkStep {
  std::string phase;
  double seconds;
};

/// Of the plan's method, in their order; none where the plan's figures aren't known.
std::vector<WorkStep> work_steps(const CleanupPlan& plan);

/// Follows a run through its steps.
class WorkProgress {
 public:
  WorkProgress() = default;
  explicit WorkProgress(std::vector<WorkStep> steps) : steps_(std::move(steps)) {}

  /// How much of all steps is done, 0 to 1, at least; nothing before the first. A phase that is no
  /// step comes after the step before it.
  std::optional<double> done(const CleanupProgress& progress);

 private:
  double seconds_before(std::size_t step) const;

  std::vector<WorkStep> steps_;
  std::size_t ended_ = 0;  ///< so many, once another phase is shown
};

/// The rest of the work, by what has been done in how long. Seconds, of any clock.
class TimeLeft {
 public:
  /// So much is done, 0 to 1. Less than before: the work was begun again.
  void reached(double done, double now);

  /// More than 0; nothing while too little is done to go by.
  std::optional<double> seconds(double now) const;

 private:
  std::optional<double> first_;  ///< what was done at the beginning, by another run, say
  double began_ = 0, done_ = 0;
};

/// "about 3 min left": rounded up, never to nothing.
std::string time_left_text(double seconds);

}  // namespace django_session
