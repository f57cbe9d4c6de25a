// Types and instances come from the vocabulary in core/metric.
#include "plugin/samples.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "core/printable.hpp"

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

// DATA_MAX_NAME_LEN is 128, with the zero byte.
constexpr std::size_t kLongestName = 127;

/// As collectd has it in an identifier, cut to `most` bytes.
std::string in_identifier(const std::string& name, std::size_t most) {
  std::string text = without_controls(name, '?');
  std::replace(text.begin(), text.end(), '/', '_');
  return std::string(cut_to_bytes(text, most));
}

/// FNV-1a: the same in every run and on every machine, as the names of values must be.
std::uint32_t hash_of(std::string_view text) {
  std::uint32_t hash = 2166136261U;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
  return hash;
}

/// Two indexes must not share an identifier. A name that collectd takes as it is stays so; of those
/// that become equal to another one the others get a mark that follows from the name alone.
std::string instance_of(const Index& index, const std::vector<Index>& all) {
  const std::string beginning = info(PluginValue::index).collectd_type_instance;
  const std::string name = beginning + index.name;
  std::string instance = in_identifier(name, kLongestName);
  const bool is_taken = std::any_of(all.begin(), all.end(), [&](const Index& other) {
    return other.name != index.name &&
           in_identifier(beginning + other.name, kLongestName) == instance;
  });
  if (instance == name || !is_taken) return instance;
  const std::string mark = fmt::format("~{:08x}", hash_of(index.name));
  return in_identifier(name, kLongestName - mark.size()) + mark;
}

/// A standby's counters are its own, and stand at 0.
bool counts_changes(const Measurement& m) {
  return !m.facts.standby && m.facts.counters.stand_still.empty();
}

}  // namespace

Sample sample_of(PluginValue value, double number) {
  const PluginValueInfo& known = info(value);
  return {known.collectd_type, known.collectd_type_instance, number, known.is_counter};
}

Samples samples_of(const Measurement& measurement, const Findings& findings) {
  Samples samples;
  add_metrics(findings, false, samples);
  if (measurement.sizes_unknown.empty()) {
    for (const Index& index : measurement.table.indexes)
      samples.push_back({info(PluginValue::index).collectd_type,
                         instance_of(index, measurement.table.indexes), index.bytes});
  }
  if (counts_changes(measurement)) {
    samples.push_back(sample_of(PluginValue::created, measurement.facts.rows_inserted));
    samples.push_back(sample_of(PluginValue::changed, measurement.facts.rows_updated));
    samples.push_back(sample_of(PluginValue::deleted, measurement.facts.rows_deleted));
  }
  samples.push_back(sample_of(PluginValue::locked, measurement.locked ? 1 : 0));
  return samples;
}

Samples database_samples_of(const Findings& findings) {
  Samples samples;
  add_metrics(findings, true, samples);
  return samples;
}

}  // namespace django_session::plugin
