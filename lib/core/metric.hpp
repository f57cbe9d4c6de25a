// The one vocabulary: what is measured or counted, its unit, its name in thresholds and perfdata,
// and its place in collectd.
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

/// What the plugin sends besides the metrics. In the order in which they are explained.
enum class PluginValue {
  index,
  created,
  changed,
  deleted,
  up,
  locked,
  reading_time,
  cleanups,
  cleanups_failed,
  rows_deleted,
  bytes_reclaimed,
  cleanup_time,
  cleanup_lock,
  cleaning,
};
inline constexpr std::size_t kPluginValueCount = 14;

struct PluginValueInfo {
  PluginValue value;
  std::string_view unit;  ///< for people: "seconds", "0/1"
  const char* collectd_type;
  const char* collectd_type_instance;  ///< of `index` the beginning: the index's name follows
  std::string_view meaning;
  bool is_counter = false;  ///< collectd makes a rate of it
};

const std::array<PluginValueInfo, kPluginValueCount>& all_plugin_values();
const PluginValueInfo& info(PluginValue value);

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
