// The further lines: what takes the space, how it is known, and what to do next.
#include "check_report.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>

#include "check_first_line.hpp"
#include "core/diagnosis.hpp"
#include "core/perfdata.hpp"
#include "core/picture.hpp"
#include "core/quantity.hpp"
#include "core/route.hpp"
#include "line_text.hpp"

namespace django_session::nagios {
namespace {

constexpr std::size_t kMostIndexes = 10;
constexpr std::size_t kMostTables = 5;

using Lines = std::vector<std::string>;

std::string bytes(double size, const Measurement& m) {
  return show({size, m.sizes_are_exact ? Certainty::exact : Certainty::estimated, ""}, Unit::bytes);
}

void add_sizes(const Report& report, Lines& lines) {
  const Measurement& m = report.measurement;
  if (!m.sizes_unknown.empty()) {
    lines.push_back(fmt::format("{} in database {}: sizes are unknown, {}", m.table.full_name(),
                                m.table.database, m.sizes_unknown));
    return;
  }
  lines.push_back(fmt::format("{} in database {}: {}; heap {}, TOAST {}, indexes {}",
                              m.table.full_name(), m.table.database, bytes(m.total_bytes(), m),
                              bytes(m.table_bytes, m), bytes(m.toast_bytes(), m),
                              bytes(m.indexes_bytes(), m)));
  std::vector<Index> indexes = m.table.indexes;
  std::stable_sort(indexes.begin(), indexes.end(),
                   [](const Index& a, const Index& b) { return a.bytes > b.bytes; });
  for (std::size_t i = 0; i < std::min(indexes.size(), kMostIndexes); ++i)
    lines.push_back(fmt::format("Index {}: {}{}", indexes[i].name, bytes(indexes[i].bytes, m),
                                indexes[i].valid ? "" : ", not valid"));
  if (indexes.size() > kMostIndexes)
    lines.push_back(fmt::format("... and {} more indexes", indexes.size() - kMostIndexes));
}

std::string rows(const MetricValues& values, Metric metric) {
  return fmt::format("{} {}", info(metric).name, show(values[metric], Unit::rows));
}

std::string how_counted(const Findings& findings) {
  const MetricValues& values = findings.values;
  const MetricValue& live = values[Metric::live];
  const MetricValue& expired = values[Metric::expired];
  if (!live.number) return live.reason;
  if (!expired.number) return expired.reason;
  const bool counted = live.certainty == Certainty::exact && expired.certainty == Certainty::exact;
  if (counted) return "sessions counted";
  return findings.by_sample ? "estimated from a sample of its pages"
                            : "estimated from the planner's statistics";
}

void add_sessions(const Report& report, Lines& lines) {
  const MetricValues& values = report.findings.values;
  lines.push_back(fmt::format("Sessions: {}, {}, {} ({})", rows(values, Metric::live),
                              rows(values, Metric::expired), rows(values, Metric::dead),
                              how_counted(report.findings)));
  if (!report.measurement.not_counted.empty())
    lines.push_back("Not counted, though asked for: " + report.measurement.not_counted);
}

void add_reclaimable(const Report& report, Lines& lines) {
  const MetricValue& value = report.findings.values[Metric::reclaimable];
  if (!report.findings.reclaimable) {
    lines.push_back("Reclaimable: unknown, " + value.reason);
    return;
  }
  const Reclaimable& parts = *report.findings.reclaimable;
  const auto size = [](double number) { return format_quantity(number, Unit::bytes); };
  lines.push_back(fmt::format(
      "Reclaimable: {}: expired sessions {}, dead rows {}, free space {}, index bloat {}",
      show(value, Unit::bytes), size(parts.expired), size(parts.dead), size(parts.free),
      size(parts.bloat)));
}

std::string ago(const std::optional<double>& time, const Measurement& m) {
  if (!time) return m.facts.standby ? "not recorded on a standby" : "never";
  return format_quantity(std::max(0.0, m.facts.now - *time), Unit::seconds) + " ago";
}

void add_maintenance(const Report& report, Lines& lines) {
  const Measurement& m = report.measurement;
  lines.push_back(fmt::format("Last vacuum {}, last analyze {}", ago(m.facts.last_vacuum, m),
                              ago(m.facts.last_analyze, m)));
}

/// The list is by the catalogue's pages; of our own table we know better.
std::vector<TableSize> with_measured_size(const Report& report) {
  const Measurement& m = report.measurement;
  std::vector<TableSize> tables = report.largest_tables;
  std::erase_if(tables, [&m](const TableSize& t) {
    return t.schema == m.table.schema && t.table == m.table.name;
  });
  if (m.sizes_unknown.empty()) tables.push_back({m.table.schema, m.table.name, m.total_bytes()});
  std::stable_sort(tables.begin(), tables.end(),
                   [](const TableSize& a, const TableSize& b) { return a.bytes > b.bytes; });
  tables.resize(std::min(tables.size(), kMostTables));
  return tables;
}

void add_largest_tables(const Report& report, Lines& lines) {
  if (report.largest_tables.empty()) return;
  Lines names;
  const std::vector<TableSize> tables = with_measured_size(report);
  if (tables.empty()) return;  // ours alone, and its size isn't known
  for (const TableSize& table : tables)
    names.push_back(fmt::format("{}.{} ~{}", table.schema, table.table,
                                format_quantity(table.bytes, Unit::bytes)));
  lines.push_back(fmt::format("Largest tables of {}: {}", report.measurement.table.database,
                              fmt::join(names, ", ")));
}

/// Each table takes a check of its own.
void add_other_tables(const Report& report, Lines& lines) {
  const SessionTable& table = report.measurement.table;
  std::vector<std::string> others = report.session_tables;
  std::erase(others, table_word(table.schema, table.name));
  if (others.empty()) return;
  lines.push_back(
      fmt::format("Not looked at here, though of the same kind: -T {}; give each a check "
                  "of its own",
                  fmt::join(others, ", -T ")));
}

/// Reasons of what was judged, or is part of the picture, and isn't known.
void add_unknown(const Report& report, Lines& lines) {
  for (const MetricInfo& metric : all_metrics()) {
    const MetricValue& value = report.findings.values[metric.metric];
    const bool judged = std::any_of(report.thresholds.begin(), report.thresholds.end(),
                                    [&](const Threshold& t) { return t.metric == metric.metric; });
    if (!value.number && (judged || metric.metric == Metric::database ||
                          metric.metric == Metric::overdue || metric.metric == Metric::dead))
      lines.push_back(fmt::format("{} is unknown: {}", metric.name, value.reason));
  }
}

const char* label(Advice::Place place) {
  switch (place) {
    case Advice::Place::instead:
      return "Instead: ";
    case Advice::Place::then:
      return "Then: ";
    case Advice::Place::next:
      break;
  }
  return "Next: ";
}

/// Of the first advice that asks for something; where there is none, of what has alerted.
std::optional<RunbookSection> section_of(const Report& report, const std::vector<Advice>& advices) {
  for (const Advice& advice : advices)
    if (!advice.command.empty()) return advice.section;
  if (report.judgement.deciding.empty()) return std::nullopt;
  const Metric metric = report.judgement.deciding.front();
  if (!report.findings.values[metric].number) return RunbookSection::unknown_value;
  return runbook_section(metric);
}

void add_one(const Advice& advice, Lines& lines) {
  lines.push_back(label(advice.place) + advice.finding);
  if (!advice.command.empty()) lines.push_back("  " + advice.command);
}

/// First, since some that carry it cut it off after 1,024 bytes: for that, where to read more comes
/// before the other ways.
void add_advice(const Report& report, Lines& lines) {
  const auto advices = diagnose(report.measurement, report.findings, report.route,
                                report.judgement.deciding, report.reading);
  const auto others = std::find_if(advices.begin(), advices.end(), [](const Advice& advice) {
    return advice.place == Advice::Place::instead;
  });
  std::for_each(advices.begin(), others, [&](const Advice& advice) { add_one(advice, lines); });
  if (const auto section = section_of(report, advices)) lines.push_back(runbook_line(*section));
  std::for_each(others, advices.end(), [&](const Advice& advice) { add_one(advice, lines); });
}

void add_judged(const Report& report, Lines& lines) {
  for (const Threshold& threshold : report.thresholds) {
    const MetricInfo& metric = info(threshold.metric);
    const State state = judge(report.findings.values, {threshold}).state;
    lines.push_back(fmt::format(
        "Judged: {} {}={}: {} is {}", threshold.severity == State::critical ? "-c" : "-w",
        metric.name, perfdata_range(threshold.range, metric.unit),
        show(report.findings.values[threshold.metric], metric.unit), state_name(state)));
  }
}

void add_sources(const Report& report, Lines& lines) {
  const Measurement& m = report.measurement;
  lines.push_back(m.sizes_are_exact ? "Sizes are the files' own (pg_relation_size)"
                                    : "Sizes are the catalogue's pages (pg_class.relpages), as of "
                                      "the last vacuum or analyze");
  lines.push_back(
      m.counted_live && m.counted_expired
          ? "Sessions are counted; dead rows are the cumulative statistics'"
          : "Sessions are estimated: rows by pg_stat_all_tables, expired ones by the histogram of "
            "expire_date in pg_stats");
  lines.push_back(
      "Reclaimable is the files' size less what the live rows would need, by the columns' average "
      "widths in pg_stats");
  lines.push_back("Overdue is the age of the lowest expire_date in its index");
}

void add_connection(const Report& report, Lines& lines) {
  const Measurement& m = report.measurement;
  lines.push_back(fmt::format("Connected to {}, database {}, as {}; the server is a {}",
                              report.server, m.table.database, m.table.role,
                              m.facts.standby ? "standby" : "primary"));
}

void add_further_lines(const Report& report, Lines& lines) {
  add_advice(report, lines);
  add_sizes(report, lines);
  add_sessions(report, lines);
  add_reclaimable(report, lines);
  add_maintenance(report, lines);
  add_largest_tables(report, lines);
  add_other_tables(report, lines);
  add_unknown(report, lines);
  if (report.verbosity >= 2) add_judged(report, lines);
  if (report.verbosity >= 2) add_sources(report, lines);
  if (report.verbosity >= 3) add_connection(report, lines);
}

}  // namespace

Judgement judge_table(const Measurement& m, const Findings& findings,
                      const std::vector<Threshold>& thresholds) {
  Judgement judgement = judge(findings.values, thresholds);
  if (swap_was_abandoned(m) && judgement.state != State::critical) judgement.state = State::warning;
  if (site_stands_still(m)) judgement.state = State::critical;
  return judgement;
}

bool wants_more_lines(State state, int verbosity) { return state != State::ok || verbosity > 0; }

std::string write_report(const Report& report) {
  const MetricValues& values = report.findings.values;
  std::string text = first_line(report.measurement, values, report.judgement);
  const std::string data = perfdata(values, report.thresholds);
  if (!data.empty()) text += " | " + data;
  text += '\n';
  if (!wants_more_lines(report.judgement.state, report.verbosity)) return text;
  Lines lines;
  add_further_lines(report, lines);
  for (const std::string& line : lines) text += plain_line(line) + '\n';
  return text;
}

std::string further_line(std::string_view text) { return plain_line(text) + "\n"; }

std::string write_failure(State state, std::string_view message) {
  const std::string line =
      plain_line(fmt::format("DJANGO_SESSION {} - {}", state_name(state), message));
  const std::string first = shorten(line, kLongestFirstLine);
  return first == line ? line + "\n" : first + "\n" + plain_line(message) + "\n";
}

}  // namespace django_session::nagios
