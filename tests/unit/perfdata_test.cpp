// Perfdata as Nagios' readers expect it.
#include "core/perfdata.hpp"

#include <limits>
#include <string>

#include <CppUTest/TestHarness.h>

using namespace django_session;

namespace {

MetricValue known(double number) { return {number, Certainty::exact, ""}; }

std::string label_of(std::string_view label) {
  std::string entry = perfdata_entry(label, 1, Unit::rows);
  return entry.substr(0, entry.size() - 2);
}

}  // namespace

TEST_GROUP(Perfdata){};

TEST(Perfdata, has_the_known_metrics_in_the_vocabularys_order) {
  MetricValues values;
  values[Metric::overdue] = known(63072000);
  values[Metric::expired_percent] = known(97.254);
  values[Metric::live] = known(123000.4);
  values[Metric::dead] = MetricValue::unknown("no statistics");
  values[Metric::database] = known(15032385536);
  values[Metric::total] = known(std::numeric_limits<double>::quiet_NaN());
  STRCMP_EQUAL(
      "database=15032385536B;;;0 live=123000;;;0 expired_percent=97.25%;;;0;100 "
      "overdue=63072000s;;;0",
      perfdata(values, {}).c_str());
}

TEST(Perfdata, is_empty_when_nothing_is_known) {
  STRCMP_EQUAL("", perfdata(MetricValues(), default_thresholds()).c_str());
}

TEST(Perfdata, has_the_first_warning_and_the_first_critical_threshold_in_base_units) {
  MetricValues values;
  values[Metric::reclaimable] = known(0);
  values[Metric::overdue] = known(0);
  values[Metric::expired_percent] = known(100);
  const std::vector<Threshold> thresholds = {
      parse_threshold("reclaimable=10GB", State::critical),
      parse_threshold("reclaimable=1GB", State::warning),
      parse_threshold("reclaimable=2GB", State::warning),
      parse_threshold("reclaimable=20GB", State::critical),
      parse_threshold("overdue=@1h:2d", State::critical),
      parse_threshold("expired_percent=~:90%", State::warning)};
  STRCMP_EQUAL(
      "reclaimable=0B;1073741824;10737418240;0 expired_percent=100%;~:90;;0;100 "
      "overdue=0s;;@3600:172800;0",
      perfdata(values, thresholds).c_str());
}

TEST(Perfdata, writes_large_numbers_without_exponent) {
  MetricValues values;
  values[Metric::total] = known(1e18);
  STRCMP_EQUAL("total=1000000000000000000B;;;0", perfdata(values, {}).c_str());
}

TEST(Perfdata, has_entries_with_and_without_thresholds) {
  STRCMP_EQUAL("x=5", perfdata_entry("x", 5, Unit::rows).c_str());
  STRCMP_EQUAL("x=5B;10;20", perfdata_entry("x", 5, Unit::bytes, "10", "20").c_str());
  STRCMP_EQUAL("x=5s;;@1:2", perfdata_entry("x", 5, Unit::seconds, "", "@1:2").c_str());
  STRCMP_EQUAL("x=5.25%;~:9.5", perfdata_entry("x", 5.25, Unit::percent, "~:9.5").c_str());
  STRCMP_EQUAL("x=-5", perfdata_entry("x", -5, Unit::rows).c_str());
}

TEST(Perfdata, has_nagios_u_for_a_number_that_is_not_finite) {
  STRCMP_EQUAL("x=U",
               perfdata_entry("x", std::numeric_limits<double>::infinity(), Unit::bytes).c_str());
}

TEST(Perfdata, quotes_labels_where_nagios_rules_want_it) {
  struct Row {
    const char *label, *written;
  };
  static constexpr Row kTable[] = {
      {"plain", "plain"},
      {"index_django_session_pkey", "index_django_session_pkey"},
      {"a.b-c/d:e", "a.b-c/d:e"},
      {"with blank", "'with blank'"},
      {"a=b", "'a=b'"},
      {"a;b", "'a;b'"},
      {"o'clock", "'o''clock'"},
      {"'", "''''"},
      {"\xc3\xa9t\xc3\xa9", "\xc3\xa9t\xc3\xa9"},
      {"", "''"},
  };
  for (const Row& row : kTable) STRCMP_EQUAL(row.written, label_of(row.label).c_str());
}

TEST(Perfdata, lets_no_pipe_and_no_control_character_through) {
  STRCMP_EQUAL("a_b", label_of("a|b").c_str());
  STRCMP_EQUAL("'a_ b_'", label_of("a\n b\x7f").c_str());
  STRCMP_EQUAL("a_b", label_of("a\xc2\x85"
                               "b")
                          .c_str());
  STRCMP_EQUAL("x=5", perfdata_entry("x", 5, Unit::rows, "1|2", "1\n2").c_str());
  STRCMP_EQUAL("x=5", perfdata_entry("x", 5, Unit::rows, "1;2", "1 2").c_str());
}
