// The vocabulary's table.
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
     "expired of live + expired"},
    {Metric::database_percent, "database_percent", Unit::percent, "percent", "database",
     "total of database"},
    {Metric::overdue, "overdue", Unit::seconds, "duration", "overdue",
     "how long the oldest expired session has been expired; 0 if none"},
}};

constexpr bool is_in_enum_order() {
  for (std::size_t i = 0; i < kMetrics.size(); ++i)
    if (kMetrics[i].metric != static_cast<Metric>(i)) return false;
  return true;
}
static_assert(is_in_enum_order(), "info() indexes the table by the enum");

}  // namespace

const std::array<MetricInfo, kMetricCount>& all_metrics() { return kMetrics; }

const MetricInfo& info(Metric metric) { return kMetrics[static_cast<std::size_t>(metric)]; }

std::optional<Metric> find_metric(std::string_view name) {
  const auto* const found = std::find_if(kMetrics.begin(), kMetrics.end(),
                                         [&](const MetricInfo& m) { return m.name == name; });
  if (found == kMetrics.end()) return std::nullopt;
  return found->metric;
}

}  // namespace django_session
