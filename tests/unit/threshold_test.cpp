// Thresholds read, and values judged by them.
#include "core/threshold.hpp"

#include <limits>
#include <string>

#include "refusal.hpp"

#include <CppUTest/TestHarness.h>

using namespace django_session;

namespace {

MetricValue known(double number) { return {number, Certainty::exact, ""}; }

Threshold warn(std::string_view text) { return parse_threshold(text, State::warning); }
Threshold crit(std::string_view text) { return parse_threshold(text, State::critical); }

std::string why_refused(std::string_view text) {
  return refusal([&] { warn(text); });
}

/// "CRITICAL total live"
std::string judged(const MetricValues& values, const std::vector<Threshold>& thresholds) {
  const Judgement judgement = judge(values, thresholds);
  std::string text(state_name(judgement.state));
  for (const Metric metric : judgement.deciding) text.append(" ").append(info(metric).name);
  return text;
}

}  // namespace

TEST_GROUP(Threshold){};

TEST(Threshold, names_its_metric_and_has_its_unit) {
  const Threshold threshold = crit("overdue=1h:2d");
  CHECK_TRUE(threshold.metric == Metric::overdue);
  CHECK_TRUE(threshold.severity == State::critical);
  DOUBLES_EQUAL(3600, threshold.range.start, 0);
  DOUBLES_EQUAL(172800, threshold.range.end, 0);
}

TEST(Threshold, is_on_the_total_without_a_metric) {
  const Threshold threshold = warn("@1GB:5GB");
  CHECK_TRUE(threshold.metric == Metric::total);
  CHECK_TRUE(threshold.severity == State::warning);
  CHECK_TRUE(threshold.range.alert_inside);
}

TEST(Threshold, takes_m_as_minutes_or_mebibytes_by_its_metric) {
  DOUBLES_EQUAL(300, warn("overdue=5m").range.end, 0);
  DOUBLES_EQUAL(5242880, warn("table=5m").range.end, 0);
  STRCMP_CONTAINS("a number of rows has no unit", why_refused("live=5m").c_str());
}

TEST(Threshold, can_be_set_on_every_metric) {
  for (const MetricInfo& metric : all_metrics())
    CHECK_TRUE(warn(std::string(metric.name) + "=10").metric == metric.metric);
}

TEST(Threshold, refuses_an_unknown_metric_with_the_list_of_metrics) {
  STRCMP_EQUAL(
      "cannot read \"size=5GB\" as a threshold: no such metric; the metrics are database, table, "
      "toast, indexes, total, reclaimable, live, expired, dead, expired_percent, database_percent, "
      "overdue, for example reclaimable=10GB",
      why_refused("size=5GB").c_str());
  STRCMP_CONTAINS("no such metric", why_refused("Total=5GB").c_str());
  STRCMP_CONTAINS("no such metric", why_refused("total =5GB").c_str());
  STRCMP_CONTAINS("the metric before '=' is missing", why_refused("=5GB").c_str());
}

TEST(Threshold, refuses_a_wrong_range_with_the_metric_and_its_unit) {
  STRCMP_EQUAL(
      "overdue (in seconds): cannot read \"5GB\" as a range of durations at \"GB\": a duration is "
      "in "
      "seconds, or ends in s, m, h, d or w, for example 1h:2d",
      why_refused("overdue=5GB").c_str());
  STRCMP_CONTAINS("expired_percent (in percent): ", why_refused("expired_percent=1:12%%").c_str());
  STRCMP_CONTAINS("dead (in rows): ", why_refused("dead=").c_str());
  STRCMP_CONTAINS("total (in bytes): cannot read \"2d\"", why_refused("2d").c_str());
  STRCMP_CONTAINS("total (in bytes): cannot read \"=5\"", why_refused("total==5").c_str());
  CHECK_TRUE(!why_refused("").empty());
}

TEST(Threshold, has_defaults_for_overdue_and_reclaimable) {
  const auto defaults = default_thresholds();
  UNSIGNED_LONGS_EQUAL(3, defaults.size());
  MetricValues values;
  values[Metric::overdue] = known(172801);
  values[Metric::reclaimable] = known(0);
  STRCMP_EQUAL("WARNING overdue", judged(values, defaults).c_str());
  values[Metric::reclaimable] = known(1073741825);
  STRCMP_EQUAL("WARNING overdue reclaimable", judged(values, defaults).c_str());
  values[Metric::reclaimable] = known(10737418241);
  STRCMP_EQUAL("CRITICAL reclaimable", judged(values, defaults).c_str());
}

TEST_GROUP(Judgement) {
  MetricValues values;

  void setup() override {
    values[Metric::total] = known(50);
    values[Metric::live] = known(1000);
    values[Metric::expired_percent] = known(97.5);
    values[Metric::dead] = MetricValue::unknown("no statistics");
  }
};

TEST(Judgement, is_ok_without_thresholds_and_within_them) {
  STRCMP_EQUAL("OK", judged(values, {}).c_str());
  STRCMP_EQUAL("OK", judged(values, {warn("100"), crit("200")}).c_str());
}

TEST(Judgement, puts_critical_before_warning_before_unknown) {
  STRCMP_EQUAL("UNKNOWN dead", judged(values, {warn("100"), warn("dead=5")}).c_str());
  STRCMP_EQUAL("WARNING total", judged(values, {warn("dead=5"), warn("40")}).c_str());
  STRCMP_EQUAL("WARNING total", judged(values, {warn("40"), crit("dead=5")}).c_str());
  STRCMP_EQUAL("CRITICAL live",
               judged(values, {warn("40"), crit("live=500"), warn("dead=5")}).c_str());
}

TEST(Judgement, names_each_deciding_metric_once_in_the_order_of_the_thresholds) {
  STRCMP_EQUAL(
      "WARNING live total",
      judged(values, {warn("live=500"), warn("40"), warn("live=600"), crit("100")}).c_str());
}

TEST(Judgement, names_only_what_gave_the_worst_state) {
  STRCMP_EQUAL("CRITICAL total",
               judged(values, {warn("live=500"), warn("30"), crit("40")}).c_str());
}

TEST(Judgement, never_takes_an_unknown_value_for_zero) {
  STRCMP_EQUAL("UNKNOWN dead", judged(values, {warn("dead=0:5")}).c_str());
  STRCMP_EQUAL("UNKNOWN dead", judged(values, {crit("dead=@0:5")}).c_str());
  STRCMP_EQUAL("UNKNOWN dead", judged(values, {crit("dead=~:")}).c_str());
}

TEST(Judgement, takes_a_number_that_is_not_finite_for_unknown) {
  for (const double number :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    values[Metric::table] = known(number);
    STRCMP_EQUAL("UNKNOWN table", judged(values, {crit("table=10")}).c_str());
  }
}

TEST(Judgement, compares_percentages_as_they_are_measured) {
  STRCMP_EQUAL("WARNING expired_percent", judged(values, {warn("expired_percent=97%")}).c_str());
  STRCMP_EQUAL("OK", judged(values, {warn("expired_percent=97.5%")}).c_str());
}

TEST(Judgement, has_nagios_names_and_exit_codes) {
  STRCMP_EQUAL("OK", std::string(state_name(State::ok)).c_str());
  STRCMP_EQUAL("WARNING", std::string(state_name(State::warning)).c_str());
  STRCMP_EQUAL("CRITICAL", std::string(state_name(State::critical)).c_str());
  STRCMP_EQUAL("UNKNOWN", std::string(state_name(State::unknown)).c_str());
  LONGS_EQUAL(2, static_cast<int>(State::critical));
  LONGS_EQUAL(3, static_cast<int>(State::unknown));
}
