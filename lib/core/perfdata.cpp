// Writing performance data so that nothing in it can be taken for something else.
#include "core/perfdata.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "core/printable.hpp"
#include "core/quantity.hpp"

namespace django_session {
namespace {

std::string quoted_label(std::string_view label) {
  std::string clean = without_controls(label, '_');
  std::replace(clean.begin(), clean.end(), '|', '_');
  if (!clean.empty() && clean.find_first_of(" '=;") == std::string::npos) return clean;
  std::string quoted = "'";
  for (const char c : clean) {
    if (c == '\'') quoted += c;
    quoted += c;
  }
  return quoted + "'";
}

/// A range as perfdata_range writes it, or nothing.
std::string_view range_only(std::string_view text) {
  const bool plain = text.find_first_not_of("@~:-.0123456789") == std::string_view::npos;
  return plain ? text : std::string_view();
}

std::string entry(std::string_view label, double value, Unit unit,
                  std::initializer_list<std::string_view> fields) {
  std::string text = quoted_label(label) + "=" + plain_number(value, unit);
  if (std::isfinite(value)) text += info(unit).perfdata;
  std::string separators;
  for (const std::string_view field : fields) {
    separators += ';';
    if (field.empty()) continue;
    text += separators;
    text += field;
    separators.clear();
  }
  return text;
}

/// There is room for one: the first that the value is outside of, else the first.
std::string range_to_show(const std::vector<Threshold>& thresholds, const MetricInfo& metric,
                          State severity, double value) {
  const Threshold* shown = nullptr;
  for (const Threshold& threshold : thresholds) {
    if (threshold.metric != metric.metric || threshold.severity != severity) continue;
    const bool decides = threshold.range.alerts(value);
    if (shown == nullptr || decides) shown = &threshold;
    if (decides) break;
  }
  return shown == nullptr ? "" : perfdata_range(shown->range, metric.unit);
}

}  // namespace

std::string perfdata(const MetricValues& values, const std::vector<Threshold>& thresholds) {
  std::string text;
  for (const MetricInfo& metric : all_metrics()) {
    const auto& value = values[metric.metric].number;
    if (!value || !std::isfinite(*value)) continue;
    if (!text.empty()) text += ' ';
    text += entry(metric.name, *value, metric.unit,
                  {range_to_show(thresholds, metric, State::warning, *value),
                   range_to_show(thresholds, metric, State::critical, *value), "0",
                   metric.unit == Unit::percent ? "100" : ""});
  }
  return text;
}

std::string perfdata_entry(std::string_view label, double value, Unit unit, std::string_view warn,
                           std::string_view crit) {
  return entry(label, value, unit, {range_only(warn), range_only(crit)});
}

}  // namespace django_session
