// Thresholds on metrics, and the state they give: data in, judgement out.
#pragma once

#include <string_view>
#include <vector>

#include "core/metric.hpp"
#include "core/range.hpp"

namespace django_session {

/// Nagios' states; the numbers are the exit codes.
enum class State { ok = 0, warning = 1, critical = 2, unknown = 3 };

std::string_view state_name(State state);  ///< "OK", "WARNING", "CRITICAL", "UNKNOWN"

/// A threshold as written after -w and -c, or after a write hook's Trigger: `[METRIC=]RANGE`.
struct Threshold {
  Metric metric = Metric::total;
  Range range;
  State severity = State::warning;  ///< warning or critical
};

/// Reads `[METRIC=]RANGE`; without `METRIC=` it is `total`.
/// Throws ConfigError; an unknown metric's message lists the metrics there are.
Threshold parse_threshold(std::string_view text, State severity);

/// `-w overdue=2d -w reclaimable=1GB -c reclaimable=10GB`: what is judged when nothing was asked
/// for.
std::vector<Threshold> default_thresholds();

struct Judgement {
  State state = State::ok;
  /// Metrics whose thresholds gave that state, each once, in the order of the thresholds; none for
  /// OK.
  std::vector<Metric> deciding;
};

/// CRITICAL before WARNING before UNKNOWN before OK. A value that is unknown or not finite makes a
/// threshold on it UNKNOWN.
Judgement judge(const MetricValues& values, const std::vector<Threshold>& thresholds);

}  // namespace django_session
