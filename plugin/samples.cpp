// Types and instances of the vocabulary come from core/metric; the rest is named here.
#include "plugin/samples.hpp"

namespace django_session::plugin {
namespace {

bool needs_database_size(Metric metric) {
  return metric == Metric::database || metric == Metric::database_percent;
}

void add_metrics(const Findings& findings, bool of_database, Samples& samples) {
  for (const MetricInfo& metric : all_metrics()) {
    const auto& number = findings.values[metric.metric].number;
    if (number && needs_database_size(metric.metric) == of_database)
      samples.push_back({metric.collectd_type, metric.collectd_type_instance, *number});
  }
}

}  // namespace

Samples samples_of(const Measurement& measurement, const Findings& findings) {
  Samples samples;
  add_metrics(findings, false, samples);
  if (measurement.sizes_unknown.empty()) {
    for (const Index& index : measurement.indexes)
      samples.push_back({"bytes", "index_" + index.name, index.bytes});
  }
  samples.push_back({"pg_n_tup_c", "ins", measurement.rows_inserted, true});
  samples.push_back({"pg_n_tup_c", "upd", measurement.rows_updated, true});
  samples.push_back({"pg_n_tup_c", "del", measurement.rows_deleted, true});
  samples.push_back({"bool", "locked", measurement.locked ? 1.0 : 0.0});
  return samples;
}

Samples database_samples_of(const Findings& findings) {
  Samples samples;
  add_metrics(findings, true, samples);
  return samples;
}

}  // namespace django_session::plugin
