// The server's answers about a table: what a reading makes of them, and a plan. Whatever they say, a
// figure is known and can be, or it isn't known and says why. See changed_row.hpp.
#include <cmath>
#include <stdexcept>

#include "changed_row.hpp"
#include "cleanup/preflight.hpp"
#include "cleanup/staying_rows.hpp"
#include "core/cleanup_plan.hpp"
#include "core/picture.hpp"
#include "core/quantity.hpp"
#include "demand.hpp"
#include "measure/answer.hpp"

using namespace django_session;
using namespace django_session::sessions;
using fuzz::demand;

namespace {

void demand_amount(double number, std::string_view what) {
  demand(std::isfinite(number) && number >= 0, what, std::to_string(number));
}

void demand_amount(std::optional<double> number, std::string_view what) {
  if (number) demand_amount(*number, what);
}

void demand_value(const MetricValue& value, const MetricInfo& metric) {
  demand(value.number.has_value() == value.reason.empty(), "a value or a reason", metric.name);
  if (!value.number) return;
  demand_amount(*value.number, metric.name);
  demand(metric.unit != Unit::percent || *value.number <= 100, "at most all", metric.name);
  const std::string written = plain_number(*value.number, metric.unit);
  demand(written.find_first_not_of("0123456789.") == std::string::npos, "a plain number", written);
  fuzz::demand_a_line(show(value, metric.unit));
}

/// But for what a double can't tell apart.
void demand_at_most(std::optional<double> part, std::optional<double> whole,
                    std::string_view what) {
  if (!part || !whole) return;
  demand(*part <= *whole * (1 + 1e-9) + 1, what, fmt::format("{} of {}", *part, *whole));
}

void demand_sound(const Findings& findings, const Measurement& m) {
  const MetricValues& values = findings.values;
  for (const MetricInfo& metric : all_metrics()) demand_value(values[metric.metric], metric);
  const auto number = [&](Metric metric) { return values[metric].number; };
  for (const Metric part : {Metric::table, Metric::toast, Metric::indexes, Metric::reclaimable})
    demand_at_most(number(part), number(Metric::total), info(part).name);
  demand(number(Metric::live).has_value() == number(Metric::expired_percent).has_value() ||
             !number(Metric::expired),
         "a share of what is known", "");
  const auto at_least = [&](Metric kind, double seen) {
    if (values[kind].certainty != Certainty::exact)
      demand(number(kind).value_or(seen) >= std::round(seen), "what was seen", info(kind).name);
  };
  at_least(Metric::live, m.least_live);
  at_least(Metric::expired, m.least_expired);
  if (!findings.reclaimable) return;
  const Reclaimable& parts = *findings.reclaimable;
  for (const double part : {parts.expired, parts.dead, parts.free, parts.bloat})
    demand_amount(part, "a part of what is reclaimable");
}

void demand_sound(const SizesAfresh& afresh) {
  demand_amount(afresh.table, "a table afresh");
  demand_amount(afresh.toast, "TOAST afresh");
  for (const IndexBloat& index : afresh.indexes) demand_amount(index.compact_bytes, index.name);
}

void demand_sound(const CleanupPlan& plan, Method wanted) {
  for (const auto number :
       {plan.live_rows, plan.expired_rows, plan.bytes_before, plan.bytes_after,
        plan.extra_disk_bytes, plan.temporary_bytes, plan.wal_bytes, plan.least_seconds})
    demand_amount(number, "a plan's figure");
  demand_at_most(plan.least_seconds, plan.most_seconds, "seconds");
  demand(!plan.reason.empty(), "a reason", "");
  demand(plan.bytes_after.has_value() || !plan.unknown.empty(), "why not", plan.reason);
  if (wanted != Method::automatic) return demand(plan.method == wanted, "the method", plan.reason);
  demand(plan.method != Method::full, "never full", plan.reason);
  if (plan.method == Method::swap)
    demand_at_most(plan.bytes_after, *plan.bytes_before * kSwapMostWritten, "bytes to rewrite");
}

Measurement measured(const pg::Row& row) {
  const pg::Rows rows(1, row);
  Definition definition = read_definition(row, rows);
  definition.statistics = read_statistics(rows);
  const auto facts = read_facts(rows, definition);
  if (!facts) throw std::runtime_error("another table");
  Measurement m = begin_measurement(definition, *facts);
  read_expiry(row, m);
  const pg::Row other = fuzz::renamed(
      row, {{"table_bytes", "table"}, {"sample_rows", "rows"}, {"sample_expired", "expired"}});
  read_sizes(other, m);
  read_sample(other, m);
  calibrate(m, m.statistics.expire_dates);
  m.lock = read_lock_queue(rows);
  m.database_bytes = row.number("bytes", pg::kAmount).value();
  return m;
}

void judge(const Measurement& m) {
  const Findings findings = evaluate(m);
  demand_sound(findings, m);
  fuzz::demand_a_line(sessions_in_words(m, findings.values));
  size_in_words(short_name(m.table), m, findings.values);
  swap_was_abandoned(m);
}

void plan(const Measurement& m, const SortSpace& sorting) {
  Circumstances circumstances;
  circumstances.values = evaluate(m).values;
  circumstances.afresh = sizes_afresh(m);
  circumstances.sorting = sorting;
  if (circumstances.afresh) demand_sound(*circumstances.afresh);
  for (const Method method : {Method::automatic, Method::remove, Method::swap, Method::full}) {
    CleanupOptions options;
    options.method = method;
    demand_sound(plan_from(circumstances, options), method);
  }
}

bool are_amounts(const pg::Row& row, std::initializer_list<const char*> columns) {
  for (const char* column : columns)
    if (!row.number(column, pg::kAmount)) return false;
  return true;
}

/// As a reading and a plan do, all of it; by the statistics alone, by a sample, and by counts.
void read(const pg::Row& row) {
  Measurement m = measured(row);
  const Measurement counted = m;
  judge(m);
  m.counted_live.reset();
  m.counted_expired.reset();
  judge(m);
  m.seen = Unknown{};
  judge(m);
  plan(m, read_sort_space(row));
  if (!are_amounts(
          row, {"found", "tuple", "tuple_deviation", "toasted", "value", "value_deviation", "w0"}))
    return;
  m = counted;
  m.staying = read_staying_rows(row, m.statistics.columns.size());
  if (m.staying) plan(m, read_sort_space(row));
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  read(server_rows::measured());  // else all would be refused
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  try {
    static const pg::Row healthy = server_rows::measured();
    read(fuzz::changed(healthy, fuzz::text_of(data, size)));
  } catch (const std::runtime_error&) {  // text of another type, or a number that can't be
  }
  return 0;
}
