// From what was measured to the vocabulary's metrics.
#include "core/measurement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/sql_name.hpp"

namespace django_session {
namespace {

constexpr double kPage = 8192;
constexpr double kDjangoKeyWidth = 33;  // 32 characters and a one-byte length word
constexpr double kShortValue =
    127;  // up to here a value's length word is one byte, and the value isn't aligned

std::optional<ColumnWidth> width_of(const Column& column) {
  ColumnWidth width{column.length, column.alignment, column.null_fraction, column.distinct};
  if (column.length > 0) return width;
  if (column.average_width)
    width.bytes = *column.average_width;
  else if (column.name == "session_key")
    width.bytes = kDjangoKeyWidth;
  else
    return std::nullopt;
  if (width.bytes < kShortValue) width.alignment = 1;
  return width;
}

ColumnWidths widths_of(const Measurement& measurement, const std::vector<std::string>* names) {
  std::vector<ColumnWidth> widths;
  for (const Column& column : measurement.columns) {
    if (names != nullptr && std::find(names->begin(), names->end(), column.name) == names->end())
      continue;
    const auto width = width_of(column);
    if (!width) return std::nullopt;
    widths.push_back(*width);
  }
  return widths;
}

/// How many sessions there are, and how many of each kind; each as a metric with its certainty or
/// its reason.
struct Rows {
  MetricValue live, expired, dead;
};

MetricValue counted(double rows) { return {rows, Certainty::exact, ""}; }
MetricValue estimated(double rows) {
  return {std::round(std::max(0.0, rows)), Certainty::estimated, ""};
}

std::string missing_right(const Measurement& m) {
  const std::string role = sql_identifier(m.role);
  if (!m.may_use_schema)
    return fmt::format("role {} may not use the schema: GRANT USAGE ON SCHEMA {} TO {}", role,
                       sql_identifier(m.schema), role);
  return fmt::format("role {} may not read expire_date: GRANT SELECT (expire_date) ON {} TO {}",
                     role, sql_table(m.schema, m.table), role);
}

std::string why_no_estimate(const Measurement& m) {
  if (!m.may_read_expire_date) return missing_right(m);
  return fmt::format("no statistics yet: ANALYZE {}", sql_table(m.schema, m.table));
}

void split_sessions(const Measurement& m, std::optional<double> total, Rows& rows) {
  if (m.counted_live) rows.live = counted(*m.counted_live);
  if (m.counted_expired) rows.expired = counted(*m.counted_expired);
  if (m.counted_live && m.counted_expired) return;
  if (total && m.counted_live) {
    rows.expired = estimated(*total - *m.counted_live);
  } else if (total && m.counted_expired) {
    rows.live = estimated(*total - *m.counted_expired);
  } else if (total && (m.expire_dates.known() || *total == 0)) {
    const auto split =
        estimate_sessions(*total, m.expire_dates, m.now, m.oldest_expire_date, m.counters);
    rows.live = estimated(split.live);
    rows.expired = estimated(split.expired);
  } else {
    if (!m.counted_live) rows.live = MetricValue::unknown(why_no_estimate(m));
    if (!m.counted_expired) rows.expired = MetricValue::unknown(why_no_estimate(m));
  }
}

/// Rows that were written just before a VACUUM or ANALYZE by the same session are counted twice by
/// the cumulative statistics (they are flushed once a second, after it): more rows than the pages
/// hold are not there, and then reltuples, which that VACUUM or ANALYZE has counted, is right.
RowCount credible(RowCount count, const Measurement& m) {
  const ColumnWidths widths = widths_of(m, nullptr);
  if (!count.rows || !widths || m.counters.tuples < 0 || m.counters.catalog_pages == 0)
    return count;
  constexpr double kTolerance = 1.05;  // the widths are averages
  const double capacity = m.heap_bytes / heap_bytes_per_row(*widths, m.fillfactor);
  if (*count.rows > capacity * kTolerance)
    count.rows = m.counters.tuples / m.counters.catalog_pages * m.heap_bytes / kPage;
  return count;
}

Rows count_rows(const Measurement& m) {
  Rows rows;
  const RowCount count = credible(estimate_rows(m.counters, m.heap_bytes / kPage), m);
  split_sessions(m, count.rows, rows);
  rows.dead = count.dead ? estimated(*count.dead)
                         : MetricValue::unknown(
                               "no vacuum or analyze is on record here since the statistics began");
  return rows;
}

/// What estimate_reclaimable() works on.
struct Files {
  RowKinds rows;
  HeapFile heap;
  ToastFiles toast;
  std::vector<IndexFile> indexes;
};

std::optional<Files> files_of(const Measurement& m, const Rows& rows) {
  if (!rows.live.number || !rows.expired.number || !m.sizes_unknown.empty()) return std::nullopt;
  Files files;
  files.rows = {*rows.live.number, *rows.expired.number, rows.dead.number.value_or(0)};
  files.heap = {m.heap_bytes, m.fillfactor, widths_of(m, nullptr)};
  const RowCount chunks = estimate_rows(m.toast_counters, m.toast_heap_bytes / kPage);
  files.toast = {m.toast_heap_bytes, m.toast_index_bytes, chunks.rows};
  for (const Index& index : m.indexes) {
    const ColumnWidths widths = index.plain_btree ? widths_of(m, &index.columns) : std::nullopt;
    files.indexes.push_back({index.bytes, index.fillfactor, index.unique, widths});
  }
  return files;
}

std::optional<Reclaimable> reclaimable_of(const Measurement& m, const Rows& rows) {
  const auto files = files_of(m, rows);
  if (!files) return std::nullopt;
  Reclaimable result = estimate_reclaimable(files->rows, files->heap, files->toast, files->indexes);
  if (!rows.dead.number && files->rows.all() > 0) result.at_least = true;
  return result;
}

std::string why_not_reclaimable(const Measurement& m, const Rows& rows) {
  if (!m.sizes_unknown.empty()) return m.sizes_unknown;
  return rows.live.number ? rows.expired.reason : rows.live.reason;
}

MetricValue ratio(const MetricValue& part, double whole, const MetricValue& other) {
  if (!part.number) return part;
  if (!other.number) return other;
  const bool exact = part.certainty == Certainty::exact && other.certainty == Certainty::exact;
  return {whole > 0 ? 100 * *part.number / whole : 0,
          exact ? Certainty::exact : Certainty::estimated, ""};
}

MetricValue overdue(const Measurement& m) {
  if (!m.may_read_expire_date) return MetricValue::unknown(missing_right(m));
  if (!m.expire_date_indexed)
    return MetricValue::unknown(
        "no index leads with expire_date: finding the oldest session would scan the table");
  if (!m.oldest_unknown.empty()) return MetricValue::unknown(m.oldest_unknown);
  return {m.oldest_expire_date ? std::max(0.0, m.now - *m.oldest_expire_date) : 0, Certainty::exact,
          ""};
}

}  // namespace

double Measurement::indexes_bytes() const {
  return std::accumulate(indexes.begin(), indexes.end(), 0.0,
                         [](double sum, const Index& index) { return sum + index.bytes; });
}

Findings evaluate(const Measurement& m) {
  Findings findings;
  MetricValues& values = findings.values;
  const auto size = [&m](double bytes) {
    if (!m.sizes_unknown.empty()) return MetricValue::unknown(m.sizes_unknown);
    return MetricValue{bytes, m.sizes_are_exact ? Certainty::exact : Certainty::estimated, ""};
  };
  values[Metric::table] = size(m.table_bytes);
  values[Metric::toast] = size(m.toast_bytes());
  values[Metric::indexes] = size(m.indexes_bytes());
  values[Metric::total] = size(m.total_bytes());
  values[Metric::database] = m.database_bytes ? MetricValue{*m.database_bytes, Certainty::exact, ""}
                                              : MetricValue::unknown(m.database_bytes_unknown);
  values[Metric::database_percent] =
      ratio(values[Metric::total], m.database_bytes.value_or(0), values[Metric::database]);

  const Rows rows = count_rows(m);
  values[Metric::live] = rows.live;
  values[Metric::expired] = rows.expired;
  values[Metric::dead] = rows.dead;
  values[Metric::expired_percent] = ratio(
      rows.expired, rows.expired.number.value_or(0) + rows.live.number.value_or(0), rows.live);
  values[Metric::overdue] = overdue(m);

  findings.reclaimable = reclaimable_of(m, rows);
  if (findings.reclaimable) {
    const bool at_least = findings.reclaimable->at_least;
    values[Metric::reclaimable] = {std::round(findings.reclaimable->total()),
                                   at_least ? Certainty::at_least : Certainty::estimated, ""};
  } else {
    values[Metric::reclaimable] = MetricValue::unknown(why_not_reclaimable(m, rows));
  }
  return findings;
}

double SizesAfresh::indexes_total() const {
  return std::accumulate(
      indexes.begin(), indexes.end(), 0.0,
      [](double sum, const IndexBloat& index) { return sum + index.compact_bytes; });
}

std::optional<SizesAfresh> sizes_afresh(const Measurement& m) {
  const auto files = files_of(m, count_rows(m));
  if (!files) return std::nullopt;
  constexpr double kMaps = 4 * kPage;  // free space (three pages) and visibility
  const auto left_of = [&](double bytes, const HeapFile& heap, const ToastFiles& toast,
                           const std::vector<IndexFile>& indexes) {
    return std::max(0.0, bytes - estimate_reclaimable(files->rows, heap, toast, indexes).total());
  };
  SizesAfresh afresh;
  afresh.table =
      left_of(m.heap_bytes, files->heap, {}, {}) + std::min(kMaps, m.table_bytes - m.heap_bytes);
  afresh.toast = left_of(m.toast_bytes(), {}, files->toast, {});
  for (std::size_t i = 0; i < m.indexes.size(); ++i) {
    const IndexFile& index = files->indexes[i];
    const double built = index.columns ? compact_index_bytes(files->rows.live, *index.columns,
                                                             index.fillfactor, index.unique)
                                       : left_of(index.bytes, {}, {}, {index});
    afresh.indexes.push_back({m.indexes[i].name, index.bytes, std::min(built, index.bytes)});
  }
  return afresh;
}

bool swap_was_abandoned(const Measurement& m) {
  constexpr double kLongestSwap = 3600;
  return m.swap && m.now - m.swap->started.value_or(0) >= kLongestSwap;
}

}  // namespace django_session
