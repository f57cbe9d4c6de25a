// Reading thresholds and judging values by them.
#include "core/threshold.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "core/config_error.hpp"
#include "core/quantity.hpp"

namespace django_session {
namespace {

ConfigError no_such_metric(std::string_view text, std::string_view name) {
  std::vector<std::string_view> names;
  for (const MetricInfo& metric : all_metrics()) names.push_back(metric.name);
  const std::string wrong = name.empty() ? "the metric before '=' is missing" : "no such metric";
  return unreadable(text, 0, "a threshold",
                    fmt::format("{}; the metrics are {}", wrong, fmt::join(names, ", ")),
                    "reclaimable=10GB");
}

Range range_for(const MetricInfo& metric, std::string_view text) {
  try {
    return parse_range(text, metric.unit);
  } catch (const ConfigError& error) {
    throw ConfigError(
        fmt::format("{} (in {}): {}", metric.name, info(metric.unit).name, error.what()));
  }
}

State state_of(const MetricValue& value, const Threshold& threshold) {
  if (!value.number || !std::isfinite(*value.number)) return State::unknown;
  return threshold.range.alerts(*value.number) ? threshold.severity : State::ok;
}

int urgency(State state) {
  switch (state) {
    case State::critical:
      return 3;
    case State::warning:
      return 2;
    case State::unknown:
      return 1;
    case State::ok:
      break;
  }
  return 0;
}

void add_once(std::vector<Metric>& metrics, Metric metric) {
  if (std::find(metrics.begin(), metrics.end(), metric) == metrics.end()) metrics.push_back(metric);
}

}  // namespace

std::string_view state_name(State state) {
  switch (state) {
    case State::ok:
      return "OK";
    case State::warning:
      return "WARNING";
    case State::critical:
      return "CRITICAL";
    case State::unknown:
      break;
  }
  return "UNKNOWN";
}

Threshold parse_threshold(std::string_view text, State severity) {
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos)
    return {Metric::total, range_for(info(Metric::total), text), severity};
  const std::string_view name = text.substr(0, equals);
  const std::optional<Metric> metric = find_metric(name);
  if (!metric) throw no_such_metric(text, name);
  return {*metric, range_for(info(*metric), text.substr(equals + 1)), severity};
}

std::vector<Threshold> default_thresholds() {
  return {parse_threshold("overdue=2d", State::warning),
          parse_threshold("reclaimable=1GB", State::warning),
          parse_threshold("reclaimable=10GB", State::critical)};
}

Judgement judge(const MetricValues& values, const std::vector<Threshold>& thresholds) {
  Judgement judgement;
  for (const Threshold& threshold : thresholds) {
    const State state = state_of(values[threshold.metric], threshold);
    if (urgency(state) < urgency(judgement.state) || state == State::ok) continue;
    if (state != judgement.state) judgement = {state, {}};
    add_once(judgement.deciding, threshold.metric);
  }
  return judgement;
}

}  // namespace django_session
