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
  for (const Column& column : measurement.statistics.columns) {
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
  bool by_sample = false, contradicted = false;
  std::optional<double> chunks;  ///< of TOAST, live ones
};

MetricValue counted(double rows) { return {rows, Certainty::exact, ""}; }
MetricValue estimated(double rows) {
  return {std::round(std::max(0.0, rows)), Certainty::estimated, ""};
}

std::string missing_right(const Measurement& m) {
  const std::string role = sql_identifier(m.table.role);
  if (!m.table.may_use_schema)
    return fmt::format("role {} may not use the schema: GRANT USAGE ON SCHEMA {} TO {}", role,
                       sql_identifier(m.table.schema), role);
  return fmt::format("role {} may not read expire_date: GRANT SELECT (expire_date) ON {} TO {}",
                     role, sql_table(m.table.schema, m.table.name), role);
}

/// By changes that neither the statistics nor a count of ours knows of.
bool statistics_are_outdated(const Measurement& m, double share) {
  RelationCounters counters = m.facts.counters;
  if (counters.changed && m.statistics.expire_dates.counted)
    *counters.changed -= m.statistics.expire_dates.counted->changes;
  return outdated(counters, share);
}

/// The statistics, where they are all that there is to go by.
bool too_old_to_believe(const Measurement& m) {
  return m.facts.counters.changed && statistics_are_outdated(m, kUsualChanges);
}

std::string why_no_estimate(const Measurement& m) {
  const std::string table = sql_table(m.table.schema, m.table.name);
  if (!m.table.may_read_expire_date &&
      !(m.statistics.expire_dates.known() && too_old_to_believe(m)))
    return missing_right(m);
  if (expire_date_is_never_analyzed(m))
    return fmt::format(
        "expire_date's statistics target is 0, so ANALYZE passes it over: ALTER TABLE {} ALTER "
        "expire_date SET STATISTICS 100, then ANALYZE {}",
        table, table);
  if (!m.statistics.expire_dates.known())
    return fmt::format("no statistics yet: ANALYZE {}", table);
  return fmt::format("{:.0f} rows have changed since the statistics were made: ANALYZE {}",
                     m.facts.counters.changed.value_or(0), table);
}

/// Counted, both kinds: nothing is better known.
std::optional<RowSample> seen_rows(const Measurement& m) {
  if (m.counted_live && m.counted_expired)
    return RowSample{1, *m.counted_live + *m.counted_expired, *m.counted_expired};
  return m.seen.as_optional();
}

void split_by_sample(const Measurement& m, const RowSample& seen, Rows& rows) {
  const auto value = seen.complete() ? counted : estimated;
  if (!m.counted_expired) rows.expired = value(seen.all_expired());
  if (!m.counted_live) rows.live = value(seen.all_rows() - seen.all_expired());
}

/// By the statistics; or, where they are outdated or can't be right, by the shares among the rows
/// of the sample. (The number of all rows is better known than by a sample.)
void split_by_shares(const Measurement& m, double total, Rows& rows) {
  SessionCount split = estimate_sessions(total, m.statistics.expire_dates, m.facts.now, m.oldest(),
                                         m.facts.counters);
  rows.contradicted = split.live < m.least_live || split.expired < m.least_expired;
  if (m.seen && m.seen->rows > 0 &&
      (rows.contradicted || statistics_are_outdated(m, kFewChanges))) {
    rows.by_sample = true;
    split.expired = total * m.seen->expired / m.seen->rows;
    split.live = total - split.expired;
  }
  rows.live = estimated(split.live);
  rows.expired = estimated(split.expired);
}

/// What was seen is there.
void keep_to_what_was_seen(const Measurement& m, Rows& rows) {
  if (!rows.live.number || !rows.expired.number) return;
  const double total = *rows.live.number + *rows.expired.number;
  const auto raise = [total](MetricValue& value, double least, MetricValue& other,
                             double least_other) {
    if (value.certainty == Certainty::exact || *value.number >= least) return;
    value = estimated(least);
    if (other.certainty != Certainty::exact)
      other = estimated(std::max(total - least, least_other));
  };
  raise(rows.live, m.least_live, rows.expired, m.least_expired);
  raise(rows.expired, m.least_expired, rows.live, m.least_live);
}

void split_sessions(const Measurement& m, const RowCount& count, Rows& rows) {
  if (m.counted_live) rows.live = counted(*m.counted_live);
  if (m.counted_expired) rows.expired = counted(*m.counted_expired);
  if (m.counted_live && m.counted_expired) return;
  const auto& total = count.rows;
  const bool sampled =
      m.seen && (count.by_sample || m.seen->complete() || !m.statistics.expire_dates.known());
  if (sampled) {
    rows.by_sample = true;
    split_by_sample(m, *m.seen, rows);
  } else if (total && m.counted_live) {
    rows.expired = estimated(*total - *m.counted_live);
  } else if (total && m.counted_expired) {
    rows.live = estimated(*total - *m.counted_expired);
  } else if (total && (*total == 0 ||
                       (m.statistics.expire_dates.known() && (m.seen || !too_old_to_believe(m))))) {
    split_by_shares(m, *total, rows);
  } else {
    std::string reason =
        m.table.may_read_expire_date && !total ? total.reason() : why_no_estimate(m);
    if (total && m.statistics.expire_dates.known() && !m.seen.reason().empty())
      reason += "; " + m.seen.reason();
    if (!m.counted_live) rows.live = MetricValue::unknown(reason);
    if (!m.counted_expired) rows.expired = MetricValue::unknown(reason);
  }
}

/// No column is narrower than this where its width is hidden.
constexpr double kNarrowest = 1;

/// How many row versions the heap can hold.
double capacity(const Measurement& m) {
  std::vector<ColumnWidth> widths;
  for (const Column& column : m.statistics.columns)
    widths.push_back(width_of(column).value_or(ColumnWidth{kNarrowest, 1, 0, 0}));
  return m.heap_bytes / heap_bytes_per_row(widths, m.table.fillfactor);
}

/// The rows that are there have room, whatever the estimate says of it.
bool has_room_for(const Measurement& m, double rows, double dead) {
  constexpr double kTolerance = 1.05;  // the widths are averages
  return rows + dead <= std::max(capacity(m), rows) * kTolerance + 1;
}

/// Where it isn't known how many rows there is room for: no row and no page has come or gone since
/// the rows were counted last, although many have changed.
bool a_rewrite_may_have_removed(const Measurement& m, double dead) {
  const RelationCounters& c = m.facts.counters;
  const bool same = c.catalog_pages == m.heap_bytes / kPage && std::abs(c.live - c.tuples) < 1;
  constexpr double kFewRows = 50;
  return same && dead > kFewChanges * c.live + kFewRows && !widths_of(m, nullptr);
}

/// A rewrite (VACUUM FULL, CLUSTER) removes dead rows that the counters keep until the next
/// ANALYZE.
MetricValue dead_rows(const Measurement& m, const RowCount& count) {
  if (!count.dead) return MetricValue::unknown(count.dead.reason());
  if (count.rows && !has_room_for(m, *count.rows, *count.dead))
    return MetricValue::unknown(fmt::format(
        "the server counts {:.0f} dead rows, more than there is room for", *count.dead));
  if (a_rewrite_may_have_removed(m, *count.dead))
    return MetricValue::unknown(fmt::format(
        "the server counts {:.0f} dead rows, but a rewrite may have removed them: the columns' "
        "widths are hidden from role {}",
        *count.dead, sql_identifier(m.table.role)));
  return estimated(*count.dead);
}

RowCount row_count(const Measurement& m) {
  // No page in the catalogue doesn't mean that there is none.
  if (!m.sizes_unknown.empty()) return {Unknown{m.sizes_unknown}, Unknown{m.sizes_unknown}};
  RowCount count = estimate_rows(m.facts.counters, m.heap_bytes / kPage, seen_rows(m));
  if (count.rows) return count;
  std::string reason = count.rows.reason();
  if (!m.seen.reason().empty()) reason += "; " + m.seen.reason();
  if (m.locked) reason += ", and the table is locked";
  count.rows = Unknown{reason};
  return count;
}

/// The counters of the TOAST table go wrong as those of the table do, and nobody may look into it.
/// Where they are in doubt, it has lost as many of its rows as the table has.
std::optional<double> toast_chunks(const Measurement& m, const RowCount& count) {
  const double pages = m.toast_heap_bytes / kPage;
  const RowCount chunks = estimate_rows(m.facts.toast_counters, pages, std::nullopt);
  const bool believed = !count.by_sample && m.facts.counters.stand_still.empty();
  if (believed && chunks.rows) return *chunks.rows;
  if (!count.rows || !m.facts.toast_counters.counted_by_vacuum() ||
      !m.facts.counters.counted_by_vacuum())
    return std::nullopt;
  const double then = m.facts.counters.tuples_in(m.heap_bytes / kPage);
  if (then <= 0) return std::nullopt;
  return m.facts.toast_counters.tuples_in(pages) * *count.rows / then;
}

Rows count_rows(const Measurement& m) {
  const RowCount count = row_count(m);
  Rows rows;
  split_sessions(m, count, rows);
  keep_to_what_was_seen(m, rows);
  rows.dead = dead_rows(m, count);
  rows.chunks = toast_chunks(m, count);
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
  files.heap = {m.heap_bytes, m.table.fillfactor, widths_of(m, nullptr)};
  files.toast = {m.toast_heap_bytes, m.toast_index_bytes, rows.chunks};
  for (const Index& index : m.table.indexes) {
    const ColumnWidths widths = index.plain_btree ? widths_of(m, &index.columns) : std::nullopt;
    files.indexes.push_back({index.bytes, index.fillfactor, index.unique, widths});
  }
  return files;
}

std::optional<Reclaimable> reclaimable_of(const Measurement& m, const Rows& rows) {
  const auto files = files_of(m, rows);
  if (!files) return std::nullopt;
  Reclaimable result =
      without_growth(estimate_reclaimable(files->rows, files->heap, files->toast, files->indexes));
  if (!rows.dead.number && files->rows.all() > 0) result.at_least = true;
  return result;
}

std::string why_not_reclaimable(const Measurement& m, const Rows& rows) {
  if (!m.sizes_unknown.empty()) return m.sizes_unknown;
  return rows.live.number ? rows.expired.reason : rows.live.reason;
}

/// Sizes of the table and its TOAST table with the rows in them that stay.
void write_afresh(SizesAfresh& afresh, const Measurement& m, double rows) {
  const StayingRows& staying = *m.staying;
  const auto pages = [](double bytes) { return std::ceil(bytes / kPage) * kPage; };
  afresh.table = pages(rows * heap_bytes_for_each(staying.tuples, m.table.fillfactor));
  if (m.toast_heap_bytes + m.toast_index_bytes <= 0) return;
  const std::vector<ColumnWidth> chunk_id_and_seq = {{4, 4, 0, 0}, {4, 4, 0, 0}};
  const ToastedValue value = toasted_value(staying.values);
  const double values = rows * staying.toasted;
  afresh.toast = pages(values * value.bytes) +
                 compact_index_bytes(values * value.chunks, chunk_id_and_seq, 90, true);
}

/// At most 100: the database's size may date from before the table grew.
MetricValue ratio(const MetricValue& part, double whole, const MetricValue& other) {
  if (!part.number) return part;
  if (!other.number) return other;
  const bool exact = part.certainty == Certainty::exact && other.certainty == Certainty::exact;
  return {whole > 0 ? std::min(100.0, 100 * *part.number / whole) : 0,
          exact ? Certainty::exact : Certainty::estimated, ""};
}

MetricValue overdue(const Measurement& m) {
  if (!m.table.may_read_expire_date) return MetricValue::unknown(missing_right(m));
  if (!m.table.expire_date_indexed)
    return MetricValue::unknown(
        "no index leads with expire_date: finding the oldest session would scan the table");
  if (!m.oldest_expire_date) return MetricValue::unknown(m.oldest_expire_date.reason());
  const auto oldest = m.oldest();
  if ((!oldest || *oldest >= m.facts.now) && m.counted_expired.value_or(0) > 0)
    return MetricValue::unknown("what has expired did so at -infinity");
  return {oldest ? std::max(0.0, m.facts.now - *oldest) : 0, Certainty::exact, ""};
}

}  // namespace

double Measurement::indexes_bytes() const {
  return std::accumulate(table.indexes.begin(), table.indexes.end(), 0.0,
                         [](double sum, const Index& index) { return sum + index.bytes; });
}

void evaluate_database(const Measurement& m, MetricValues& values) {
  values[Metric::database] = m.database_bytes ? MetricValue{*m.database_bytes, Certainty::exact, ""}
                                              : MetricValue::unknown(m.database_bytes.reason());
  values[Metric::database_percent] = ratio(
      values[Metric::total], m.database_bytes.as_optional().value_or(0), values[Metric::database]);
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
  evaluate_database(m, values);

  const Rows rows = count_rows(m);
  findings.by_sample = rows.by_sample;
  findings.contradicted = rows.contradicted;
  values[Metric::live] = rows.live;
  values[Metric::expired] = rows.expired;
  values[Metric::dead] = rows.dead;
  values[Metric::expired_percent] = ratio(
      rows.expired, rows.expired.number.value_or(0) + rows.live.number.value_or(0), rows.live);
  values[Metric::overdue] = overdue(m);

  findings.reclaimable = reclaimable_of(m, rows);
  if (findings.reclaimable) {
    // What the expired rows take follows from averages of all rows: that is no bound. But where
    // widths are hidden, it is free space that is left out, which is the larger part by far.
    constexpr double kNegligible = 0.02;
    const bool bounded = findings.reclaimable->expired <= kNegligible * m.total_bytes();
    const bool at_least = findings.reclaimable->at_least && (bounded || !widths_of(m, nullptr));
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

std::optional<SizesAfresh> sizes_afresh(const Measurement& measurement) {
  Measurement m = measurement;
  for (std::size_t i = 0; m.staying && i < m.statistics.columns.size(); ++i)
    m.statistics.columns[i].average_width = m.staying->widths.at(i);
  const auto files = files_of(m, count_rows(m));
  if (!files) return std::nullopt;
  constexpr double kMaps = 4 * kPage;  // free space (three pages) and visibility
  const auto left_of = [&](double bytes, const HeapFile& heap, const ToastFiles& toast,
                           const std::vector<IndexFile>& indexes) {
    return std::max(0.0, bytes - estimate_reclaimable(files->rows, heap, toast, indexes).total());
  };
  SizesAfresh afresh;
  const double maps = std::clamp(m.table_bytes - m.heap_bytes, 0.0, kMaps);
  afresh.table = left_of(m.heap_bytes, files->heap, {}, {}) + maps;
  afresh.toast = left_of(m.toast_bytes(), {}, files->toast, {});
  if (m.staying) {
    write_afresh(afresh, m, files->rows.live);
    afresh.table += maps;
  }
  for (std::size_t i = 0; i < m.table.indexes.size(); ++i) {
    const IndexFile& index = files->indexes[i];
    const double built = index.columns ? rebuilt_index_bytes(files->rows.live, index.bytes, index)
                                       : left_of(index.bytes, {}, {}, {index});
    afresh.indexes.push_back({m.table.indexes[i].name, index.bytes, built});
  }
  return afresh;
}

bool is_plain_index_on_expire_date(const Index& index) {
  return index.valid && index.plain_btree && !index.columns.empty() &&
         index.columns.front() == "expire_date";
}

bool expire_date_is_never_analyzed(const Measurement& m) {
  return std::any_of(
      m.statistics.columns.begin(), m.statistics.columns.end(),
      [](const Column& column) { return column.name == "expire_date" && column.never_analyzed; });
}

bool site_stands_still(const Measurement& m) {
  constexpr double kLongestPause =
      120;  // seconds: a page that was asked for has long been given up
  return m.locked && m.lock.waited.value_or(0) >= kLongestPause;
}

bool swap_was_abandoned(const Measurement& m) {
  constexpr double kLongestPause = 3600;  // of one that was stopped and is to be run again
  if (m.facts.standby) return false;      // whether it runs is known on the primary
  return m.table.swap && !m.table.swap->runs &&
         m.facts.now - m.table.swap->started.value_or(0) >= kLongestPause;
}

}  // namespace django_session
