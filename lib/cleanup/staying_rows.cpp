// One SELECT of averages, which goes through the same jail as the count of what stays.
#include "cleanup/staying_rows.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

namespace django_session::sessions {
namespace {

// Up to so many rows from either end of the index on expire_date; or the rows of so many random
// pages (32 MB), where these have enough of them.
constexpr double kRowsOfAnEnd = 2000, kPages = 4000, kEnough = 1000;
constexpr double kPage = 8192;

// {0} expressions of the columns' sizes, {1} the table, {2} seconds to keep.
constexpr const char* kAtAnEnd = R"((
  SELECT {0} FROM ONLY {1} s WHERE s.expire_date >= now() - {2} * interval '1 second'
  ORDER BY s.expire_date {3} LIMIT {4:.0f}))";
// The same, and {3} percent of the pages.
constexpr const char* kOnSomePages = R"((
  SELECT {0} FROM ONLY {1} s TABLESAMPLE SYSTEM ({3:.6f}) REPEATABLE (0)
  WHERE s.expire_date >= now() - {2} * interval '1 second'))";

// A row of more data than this (TOAST_TUPLE_TARGET without the header) has its widest value in
// TOAST, and a pointer in its place. {0} averages of the columns' sizes, {1} length of the row's
// data, {2} all sizes, {3} the rows.
constexpr const char* kAverages = R"(
SELECT count(*) AS found, coalesce(avg(in_heap), 0) AS tuple, coalesce(stddev_pop(in_heap), 0) AS tuple_deviation,
  coalesce(avg((in_toast > 0)::int), 0) AS toasted, coalesce(avg(nullif(in_toast, 0)), 0) AS value,
  coalesce(stddev_pop(nullif(in_toast, 0)), 0) AS value_deviation{0}
FROM (SELECT l.*,
        24 + CASE WHEN length > 2008 THEN length - widest + 18 ELSE length END AS in_heap,
        CASE WHEN length > 2008 THEN widest ELSE 0 END AS in_toast
      FROM (SELECT r.*, {1} AS length, greatest({2}) AS widest FROM {3} r) l) q)";

/// Where a value ends that comes behind `before`: aligned unless its length word is one byte.
/// `before` is said once, else the expression would double with each column.
std::string end_of_value(const std::string& before, std::size_t i, const Column& column) {
  const std::string step =
      column.length > 0
          ? fmt::format("{:.0f}", column.alignment)
          : fmt::format("(CASE WHEN r.w{} > 127 THEN {:.0f} ELSE 1 END)", i, column.alignment);
  return fmt::format("({0} + {1} - 1) / {1} * {1} + r.w{2}", before, step, i);
}

/// Rows with the columns' sizes as w0, w1, ...: the least work that finds enough of them.
std::string some_rows(Run& run, const std::string& sizes, const Measurement& m) {
  const auto keep = run.options().keep.count();
  const std::string& table = run.target().sql_name;
  const double pages = std::max(1.0, m.heap_bytes / kPage);
  const double share = std::min(1.0, kPages / pages);
  const double expected = evaluate(m).values[Metric::live].number.value_or(0) * share;
  if (expected >= kEnough && (share < 1 || expected > 2 * kRowsOfAnEnd))
    return fmt::format(kOnSomePages, sizes, table, keep, 100 * share);
  return fmt::format("({} UNION ALL {})",
                     fmt::format(kAtAnEnd, sizes, table, keep, "ASC", kRowsOfAnEnd),
                     fmt::format(kAtAnEnd, sizes, table, keep, "DESC", kRowsOfAnEnd));
}

/// Else the server's log would have an error for each plan.
bool may_read_all(Run& run) {
  const pg::Rows rows = run.ask(fmt::format(
      "SELECT bool_and(has_column_privilege(a.attrelid, a.attnum, 'SELECT')) AS may_read "
      "FROM pg_attribute a WHERE a.attrelid = '{}'::oid AND a.attnum > 0 AND NOT a.attisdropped;",
      run.target().oid));
  return !rows.empty() && rows.front().flag("may_read");
}

}  // namespace

std::optional<StayingRows> look_at_what_stays(Run& run, ReadingAs who, const Measurement& m,
                                              pg::Deadline limit) {
  const std::vector<Column>& columns = m.statistics.columns;
  if (columns.empty() || who == ReadingAs::nobody) return std::nullopt;
  if (who == ReadingAs::ourselves && !may_read_all(run)) return std::nullopt;
  std::vector<std::string> names = {"found",   "tuple", "tuple_deviation",
                                    "toasted", "value", "value_deviation"};
  std::string sizes, averages, widths, length = "0";
  for (std::size_t i = 0; i < columns.size(); ++i) {
    names.push_back(fmt::format("w{}", i));
    sizes += fmt::format("{}coalesce(pg_column_size(s.{}), 0) AS w{}", i == 0 ? "" : ", ",
                         run.connection().identifier(columns[i].name), i);
    averages += fmt::format(", coalesce(avg(nullif(w{0}, 0)), 0) AS w{0}", i);
    length = end_of_value(length, i, columns[i]);
    widths += fmt::format("{}r.w{}", i == 0 ? "" : ", ", i);
  }
  const std::string select =
      fmt::format(kAverages, averages, length, widths, some_rows(run, sizes, m));
  const auto row = ask_sessions(run, who, {names, select}, limit);
  if (!row) return std::nullopt;
  return read_staying_rows(*row, columns.size());
}

std::optional<StayingRows> read_staying_rows(const pg::Row& row, std::size_t columns) {
  if (*row.number("found") < 1) return std::nullopt;
  StayingRows staying{{*row.number("tuple"), *row.number("tuple_deviation")},
                      *row.number("toasted"),
                      {*row.number("value"), *row.number("value_deviation")},
                      {}};
  for (std::size_t i = 0; i < columns; ++i)
    staying.widths.push_back(*row.number(fmt::format("w{}", i)));
  return staying;
}

}  // namespace django_session::sessions
