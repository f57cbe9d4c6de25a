// The vocabulary's tables.
#include "core/metric.hpp"

#include <algorithm>

namespace django_session {
namespace {

constexpr std::array<MetricInfo, kMetricCount> kMetrics = {{
    {Metric::database, "database", Unit::bytes, "pg_db_size", "", "the whole database"},
    {Metric::table, "table", Unit::bytes, "bytes", "table",
     "the heap with its free-space and visibility maps, without TOAST"},
    {Metric::toast, "toast", Unit::bytes, "bytes", "toast", "the TOAST table and its index"},
    {Metric::indexes, "indexes", Unit::bytes, "bytes", "indexes", "all indexes together"},
    {Metric::total, "total", Unit::bytes, "bytes", "total", "table + toast + indexes"},
    {Metric::reclaimable, "reclaimable", Unit::bytes, "bytes", "reclaimable",
     "what the disk would get back from a complete cleanup now"},
    {Metric::live, "live", Unit::rows, "pg_n_tup_g", "live", "sessions that have not expired"},
    {Metric::expired, "expired", Unit::rows, "pg_n_tup_g", "expired",
     "sessions whose expire_date has passed"},
    {Metric::dead, "dead", Unit::rows, "pg_n_tup_g", "dead",
     "deleted or replaced row versions not yet vacuumed"},
    {Metric::expired_percent, "expired_percent", Unit::percent, "percent", "expired",
     "how much of live + expired has expired"},
    {Metric::database_percent, "database_percent", Unit::percent, "percent", "database",
     "how much of the database total takes"},
    {Metric::overdue, "overdue", Unit::seconds, "duration", "overdue",
     "how long the oldest expired session has been expired; 0 if none"},
}};

constexpr std::array<PluginValueInfo, kPluginValueCount> kPluginValues = {{
    {PluginValue::index, "bytes", "bytes", "index_", "each index"},
    {PluginValue::created, "rows/s", "pg_n_tup_c", "ins", "sessions created", true},
    {PluginValue::changed, "rows/s", "pg_n_tup_c", "upd", "sessions changed", true},
    {PluginValue::deleted, "rows/s", "pg_n_tup_c", "del", "sessions deleted", true},
    {PluginValue::up, "0/1", "bool", "up", "the database answered"},
    {PluginValue::locked, "0/1", "bool", "locked", "another session has locked the table"},
    {PluginValue::reading_time, "seconds", "response_time", "read", "how long the reading took"},
    {PluginValue::cleanups, "counter", "total_operations", "cleanup", "cleanups run", true},
    {PluginValue::cleanups_failed, "counter", "total_operations", "cleanup_failed",
     "cleanups failed or refused", true},
    {PluginValue::rows_deleted, "counter", "total_objects", "deleted",
     "sessions deleted by cleanups", true},
    {PluginValue::bytes_reclaimed, "counter", "total_bytes", "reclaimed",
     "bytes given back by cleanups", true},
    {PluginValue::cleanup_time, "seconds", "duration", "cleanup", "how long the last cleanup took"},
    {PluginValue::cleanup_lock, "seconds", "duration", "cleanup_lock",
     "the last cleanup's longest exclusive lock"},
    {PluginValue::cleaning, "0/1", "bool", "cleaning", "a cleanup is running"},
}};

constexpr bool are_in_enum_order() {
  for (std::size_t i = 0; i < kMetrics.size(); ++i)
    if (kMetrics[i].metric != static_cast<Metric>(i)) return false;
  for (std::size_t i = 0; i < kPluginValues.size(); ++i)
    if (kPluginValues[i].value != static_cast<PluginValue>(i)) return false;
  return true;
}
static_assert(are_in_enum_order(), "info() indexes the tables by their enums");

}  // namespace

const std::array<MetricInfo, kMetricCount>& all_metrics() { return kMetrics; }

const MetricInfo& info(Metric metric) { return kMetrics[static_cast<std::size_t>(metric)]; }

const std::array<PluginValueInfo, kPluginValueCount>& all_plugin_values() { return kPluginValues; }

const PluginValueInfo& info(PluginValue value) {
  return kPluginValues[static_cast<std::size_t>(value)];
}

std::optional<Metric> find_metric(std::string_view name) {
  const auto* const found = std::find_if(kMetrics.begin(), kMetrics.end(),
                                         [&](const MetricInfo& m) { return m.name == name; });
  if (found == kMetrics.end()) return std::nullopt;
  return found->metric;
}

}  // namespace django_session
