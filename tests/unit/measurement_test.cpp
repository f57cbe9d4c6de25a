// From a measurement to the metrics: what is known, how well, and why not.
#include "core/measurement.hpp"

#include <string>

#include <CppUTest/TestHarness.h>

using namespace django_session;

namespace {

Measurement measured() {
  Measurement m;
  m.table.database = "site";
  m.table.schema = "public";
  m.table.name = "django_session";
  m.table.role = "watcher";
  m.facts.now = 970;
  m.sizes_are_exact = true;
  m.heap_bytes = 1000 * 8192.0;
  m.table_bytes = m.heap_bytes + 24576;
  m.toast_index_bytes = 8192;
  m.statistics.columns = {{"session_key", -1, 4, std::nullopt, 0, 0},
                          {"session_data", -1, 4, 132, 0, 0},
                          {"expire_date", 8, 8, 8, 0, 0}};
  m.facts.counters = {40000, 1000, 40000, 0, 40000, true, {}};
  for (int i = 0; i <= 100; ++i) m.statistics.expire_dates.histogram.push_back(i * 10);
  m.oldest_expire_date = 0;
  m.database_bytes = 1e8;
  return m;
}

bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_GROUP(Measurement){};

TEST(Measurement, fills_in_all_metrics) {
  const MetricValues values = evaluate(measured()).values;
  for (const MetricInfo& metric : all_metrics())
    CHECK_TRUE_TEXT(values[metric.metric].number.has_value(), std::string(metric.name).c_str());
  DOUBLES_EQUAL(1200, *values[Metric::live].number, 1);
  DOUBLES_EQUAL(38800, *values[Metric::expired].number, 1);
  DOUBLES_EQUAL(97, *values[Metric::expired_percent].number, 0.01);
  DOUBLES_EQUAL(970, *values[Metric::overdue].number, 0);
  DOUBLES_EQUAL(8.2, *values[Metric::database_percent].number, 0.1);
  DOUBLES_EQUAL(0.97 * 1000 * 8192, *values[Metric::reclaimable].number, 8192);
  CHECK_TRUE(values[Metric::expired].certainty == Certainty::estimated);
  CHECK_TRUE(values[Metric::total].certainty == Certainty::exact);
}

TEST(Measurement, prefers_counts) {
  Measurement m = measured();
  m.counted_live = 7;
  MetricValues values = evaluate(m).values;
  CHECK_TRUE(values[Metric::live].certainty == Certainty::exact);
  DOUBLES_EQUAL(39993, *values[Metric::expired].number, 0);
  m.counted_expired = 3;
  values = evaluate(m).values;
  DOUBLES_EQUAL(30, *values[Metric::expired_percent].number, 1e-9);
  CHECK_TRUE(values[Metric::expired_percent].certainty == Certainty::exact);
}

TEST(Measurement, is_zero_for_an_empty_table) {
  Measurement m = measured();
  m.facts.counters = {-1, 0, 0, 0, 0, false, {}};
  m.heap_bytes = m.table_bytes = m.toast_index_bytes = 0;
  m.statistics.expire_dates = {};
  m.oldest_expire_date = std::optional<double>();
  const MetricValues values = evaluate(m).values;
  for (const Metric metric : {Metric::live, Metric::expired, Metric::expired_percent,
                              Metric::overdue, Metric::reclaimable})
    DOUBLES_EQUAL(0, values[metric].number.value_or(-1), 0);
}

TEST(Measurement, names_the_right_that_is_missing) {
  Measurement m = measured();
  m.table.may_read_expire_date = false;
  m.statistics.expire_dates = {};
  m.table.role = "Odd Role";
  MetricValues values = evaluate(m).values;
  for (const Metric metric :
       {Metric::live, Metric::expired, Metric::overdue, Metric::reclaimable}) {
    CHECK_FALSE(values[metric].number.has_value());
    CHECK_TRUE(contains(values[metric].reason,
                        "GRANT SELECT (expire_date) ON public.django_session TO \"Odd Role\""));
  }
  CHECK_TRUE(values[Metric::total].number.has_value());
  m.table.may_use_schema = false;
  CHECK_TRUE(contains(evaluate(m).values[Metric::live].reason, "GRANT USAGE ON SCHEMA public TO"));
}

TEST(Measurement, asks_for_an_analyze_where_there_are_no_statistics) {
  Measurement m = measured();
  m.statistics.expire_dates = {};
  CHECK_TRUE(
      contains(evaluate(m).values[Metric::reclaimable].reason, "ANALYZE public.django_session"));
}

TEST(Measurement, does_not_go_by_statistics_of_before_many_changes) {
  Measurement m = measured();
  m.facts.counters.changed = 4000;  // of 40,000: a site's usual business
  DOUBLES_EQUAL(1200, evaluate(m).values[Metric::live].number.value_or(-1), 1);
  m.seen = RowSample{0.5, 20'000, 5000};
  Findings findings = evaluate(m);
  DOUBLES_EQUAL(10'000, findings.values[Metric::expired].number.value_or(-1), 1);
  CHECK_TRUE(findings.by_sample);
  m.seen = Unknown{};
  m.facts.counters.changed = 12'000;
  m.seen = Unknown{"too long"};
  STRCMP_EQUAL(
      "12000 rows have changed since the statistics were made: ANALYZE public.django_session; too "
      "long",
      evaluate(m).values[Metric::live].reason.c_str());
  m.table.may_read_expire_date = false;
  STRCMP_CONTAINS("12000 rows have changed", evaluate(m).values[Metric::expired].reason.c_str());
  m.counted_live = 500;  // then they aren't needed
  DOUBLES_EQUAL(39'500, evaluate(m).values[Metric::expired].number.value_or(-1), 0);
}

TEST(Measurement, has_no_less_than_was_seen) {
  Measurement m = measured();
  m.facts.now = -10;  // nothing had expired when ANALYZE ran
  m.oldest_expire_date = -20;
  m.facts.counters.changed = 0;
  m.least_expired = 2001;
  Findings findings = evaluate(m);
  CHECK_TRUE(findings.contradicted);
  DOUBLES_EQUAL(2001, findings.values[Metric::expired].number.value_or(-1), 0);
  DOUBLES_EQUAL(37'999, findings.values[Metric::live].number.value_or(-1), 0);
  m.seen = RowSample{0.5, 20'000, 5000};
  DOUBLES_EQUAL(10'000, evaluate(m).values[Metric::expired].number.value_or(-1), 1);
}

TEST(Measurement, has_no_less_than_was_seen_of_each_kind) {
  Measurement m = measured();
  m.facts.counters.live = m.facts.counters.tuples = 2000;
  m.facts.counters.changed = 0;
  m.least_live = 1990;
  m.least_expired = 1000;  // together more than the counters know of
  const MetricValues values = evaluate(m).values;
  DOUBLES_EQUAL(1990, values[Metric::live].number.value_or(-1), 0);
  DOUBLES_EQUAL(1000, values[Metric::expired].number.value_or(-1), 0);
}

TEST(Measurement, is_at_most_the_whole_database) {
  Measurement m = measured();
  m.database_bytes = m.total_bytes() / 2;  // as of before the table grew
  DOUBLES_EQUAL(100, evaluate(m).values[Metric::database_percent].number.value_or(-1), 0);
}

TEST(Measurement, never_calls_an_unknown_size_zero) {
  Measurement m = measured();
  m.sizes_are_exact = false;
  m.sizes_unknown = "locked";
  for (const Metric metric : {Metric::table, Metric::toast, Metric::indexes, Metric::total,
                              Metric::reclaimable, Metric::database_percent})
    STRCMP_EQUAL("locked", evaluate(m).values[metric].reason.c_str());
}

TEST(Measurement, what_expired_at_minus_infinity_has_no_age) {
  Measurement m = measured();
  m.oldest_expire_date = std::optional<double>();
  m.counted_expired = 0;
  DOUBLES_EQUAL(0, *evaluate(m).values[Metric::overdue].number, 0);
  m.counted_expired = 5;
  STRCMP_EQUAL("what has expired did so at -infinity",
               evaluate(m).values[Metric::overdue].reason.c_str());
  m.oldest_expire_date = std::optional<double>(m.facts.now + 60);
  STRCMP_EQUAL("what has expired did so at -infinity",
               evaluate(m).values[Metric::overdue].reason.c_str());
}

TEST(Measurement, says_why_the_oldest_or_the_database_is_not_known) {
  Measurement m = measured();
  m.oldest_expire_date = Unknown{"dead entries"};
  m.database_bytes = Unknown{"slow"};
  const MetricValues values = evaluate(m).values;
  STRCMP_EQUAL("dead entries", values[Metric::overdue].reason.c_str());
  STRCMP_EQUAL("slow", values[Metric::database].reason.c_str());
  STRCMP_EQUAL("slow", values[Metric::database_percent].reason.c_str());
}

TEST(Measurement, says_why_counters_are_not_believed) {
  Measurement m = measured();
  m.facts.counters.anchored = false;
  MetricValues values = evaluate(m).values;
  for (const Metric metric : {Metric::live, Metric::expired, Metric::dead, Metric::reclaimable,
                              Metric::expired_percent}) {
    CHECK_FALSE(values[metric].number.has_value());
    STRCMP_CONTAINS("no vacuum or analyze is on record", values[metric].reason.c_str());
  }
  m.facts.counters.anchored = true;
  m.facts.counters.stand_still = "track_counts is off";
  m.seen = Unknown{"reading some of its pages ended: too long"};
  values = evaluate(m).values;
  STRCMP_EQUAL("track_counts is off; reading some of its pages ended: too long",
               values[Metric::live].reason.c_str());
  STRCMP_EQUAL("track_counts is off", values[Metric::dead].reason.c_str());
}

TEST(Measurement, splits_what_was_seen_where_the_counters_do_not_fit) {
  Measurement m = measured();
  m.facts.counters.live = 0;  // deleted, vacuumed, and counted once more by their own session
  m.facts.counters.dead = 38800;
  m.seen = RowSample{0.5, 20000, 200};
  const MetricValues values = evaluate(m).values;
  DOUBLES_EQUAL(39600, *values[Metric::live].number, 1);
  DOUBLES_EQUAL(400, *values[Metric::expired].number, 1);
  CHECK_TRUE(values[Metric::live].certainty == Certainty::estimated);
  CHECK_FALSE(values[Metric::dead].number.has_value());
  m.seen = RowSample{1, 40000, 300};
  CHECK_TRUE(evaluate(m).values[Metric::expired].certainty == Certainty::exact);
}

TEST(Measurement, knows_no_more_dead_rows_than_there_is_room_for) {
  Measurement m = measured();
  m.facts.counters.dead = 30000;
  const MetricValue dead = evaluate(m).values[Metric::dead];
  CHECK_FALSE(dead.number.has_value());
  STRCMP_CONTAINS("30000 dead rows, more than there is room for", dead.reason.c_str());
}

TEST(Measurement, knows_that_there_is_room_for_the_rows_that_there_are) {
  Measurement m = measured();
  m.facts.counters.live = 43000;  // of which the last are smaller than the average
  m.facts.counters.dead = 0;
  DOUBLES_EQUAL(0, evaluate(m).values[Metric::dead].number.value_or(-1), 0);
}

TEST(Measurement, counts_no_sessions_where_no_right_tells_their_number) {
  Measurement m = measured();
  m.table.may_read_expire_date = false;
  m.statistics.expire_dates = {};
  m.facts.counters.live = 0;
  m.facts.counters.dead = 38800;
  const MetricValues values = evaluate(m).values;
  for (const Metric metric : {Metric::live, Metric::expired, Metric::expired_percent})
    STRCMP_CONTAINS("GRANT SELECT", values[metric].reason.c_str());
  CHECK_FALSE(values[Metric::dead].number.has_value());
}

TEST(Measurement, repeats_no_line_break_of_a_roles_name) {
  Measurement m = measured();
  m.table.role = "a\nb";
  m.table.may_read_expire_date = false;
  STRCMP_CONTAINS("role U&\"a\\000Ab\" may not read expire_date: GRANT",
                  evaluate(m).values[Metric::overdue].reason.c_str());
  m.table.may_use_schema = false;
  STRCMP_CONTAINS("role U&\"a\\000Ab\" may not use the schema: GRANT",
                  evaluate(m).values[Metric::overdue].reason.c_str());
}
