// The one vocabulary: what is measured, its unit, its name in thresholds and perfdata, and its
// place in collectd.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace django_session {

enum class Unit { bytes, rows, percent, seconds };

/// In the order in which they are shown.
enum class Metric {
  database,
  table,
  toast,
  indexes,
  total,
  reclaimable,
  live,
  expired,
  dead,
  expired_percent,
  database_percent,
  overdue,
};
inline constexpr std::size_t kMetricCount = 12;

struct MetricInfo {
  Metric metric;
  std::string_view name;  ///< in thresholds, perfdata and text: "reclaimable"
  Unit unit;
  const char* collectd_type;           ///< a type of collectd's own types.db: "bytes"
  const char* collectd_type_instance;  ///< "reclaimable", or "" for none
  std::string_view meaning;            ///< one line for --help
};

const std::array<MetricInfo, kMetricCount>& all_metrics();
const MetricInfo& info(Metric metric);
std::optional<Metric> find_metric(std::string_view name);

/// How well a value is known.
enum class Certainty {
  exact,      ///< counted or read off the files
  estimated,  ///< from the planner's statistics; shown with "~"
  at_least,   ///< a lower bound: the rest can't be seen from here; shown with "at least"
};

/// A metric's value, or why there is none. An unknown value is never 0.
struct MetricValue {
  std::optional<double> number;  ///< in the metric's unit
  Certainty certainty = Certainty::exact;
  std::string reason;  ///< why it is unknown; empty when it is known

  static MetricValue unknown(std::string why) {
    return {std::nullopt, Certainty::exact, std::move(why)};
  }
};

class MetricValues {
 public:
  MetricValue& operator[](Metric metric) { return values_[static_cast<std::size_t>(metric)]; }
  const MetricValue& operator[](Metric metric) const {
    return values_[static_cast<std::size_t>(metric)];
  }

 private:
  std::array<MetricValue, kMetricCount> values_;
};

}  // namespace django_session
