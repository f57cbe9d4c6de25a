// The vocabulary as the README and collectd's types.db have it.
#include "core/metric.hpp"

#include <set>
#include <string>

#include <CppUTest/TestHarness.h>

using namespace django_session;

namespace {

struct Expected {
  const char* name;
  Unit unit;
  const char *type, *type_instance;
};

constexpr Expected kExpected[] = {
    {"database", Unit::bytes, "pg_db_size", ""},
    {"table", Unit::bytes, "bytes", "table"},
    {"toast", Unit::bytes, "bytes", "toast"},
    {"indexes", Unit::bytes, "bytes", "indexes"},
    {"total", Unit::bytes, "bytes", "total"},
    {"reclaimable", Unit::bytes, "bytes", "reclaimable"},
    {"live", Unit::rows, "pg_n_tup_g", "live"},
    {"expired", Unit::rows, "pg_n_tup_g", "expired"},
    {"dead", Unit::rows, "pg_n_tup_g", "dead"},
    {"expired_percent", Unit::percent, "percent", "expired"},
    {"database_percent", Unit::percent, "percent", "database"},
    {"overdue", Unit::seconds, "duration", "overdue"},
};

}  // namespace

TEST_GROUP(Metric){};

TEST(Metric, has_its_name_unit_and_place_in_collectd) {
  std::size_t i = 0;
  for (const Expected& expected : kExpected) {
    const MetricInfo& actual = all_metrics()[i++];
    STRCMP_EQUAL(expected.name, std::string(actual.name).c_str());
    CHECK_TRUE_TEXT(expected.unit == actual.unit, expected.name);
    STRCMP_EQUAL_TEXT(expected.type, actual.collectd_type, expected.name);
    STRCMP_EQUAL_TEXT(expected.type_instance, actual.collectd_type_instance, expected.name);
  }
  UNSIGNED_LONGS_EQUAL(kMetricCount, i);
}

TEST(Metric, is_found_by_its_name_and_no_other) {
  for (const MetricInfo& metric : all_metrics()) {
    CHECK_TRUE(find_metric(metric.name) == metric.metric);
    CHECK_TRUE(&info(metric.metric) == &metric);
  }
  for (const char* name : {"", "Total", "totals", "tot", "total ", "bytes-total"})
    CHECK_FALSE_TEXT(find_metric(name).has_value(), name);
}

TEST(Metric, has_a_meaning_of_one_line_and_a_place_of_its_own) {
  std::set<std::string> places;
  for (const MetricInfo& metric : all_metrics()) {
    CHECK_TRUE(!metric.meaning.empty() && metric.meaning.size() < 80);
    places.insert(std::string(metric.collectd_type) + "-" + metric.collectd_type_instance);
  }
  UNSIGNED_LONGS_EQUAL(kMetricCount, places.size());
}

TEST(Metric, shares_no_place_with_the_plugins_other_values) {
  std::set<std::string> places;
  for (const MetricInfo& metric : all_metrics())
    places.insert(std::string(metric.collectd_type) + "-" + metric.collectd_type_instance);
  for (const PluginValueInfo& other : all_plugin_values()) {
    CHECK_TRUE(&info(other.value) == &other);
    CHECK_TRUE(!other.meaning.empty() && other.meaning.size() < 80);
    places.insert(std::string(other.collectd_type) + "-" + other.collectd_type_instance);
  }
  UNSIGNED_LONGS_EQUAL(kMetricCount + kPluginValueCount, places.size());
}

TEST(Metric, is_unknown_with_a_reason_and_without_a_number) {
  const MetricValue value = MetricValue::unknown("no right");
  CHECK_FALSE(value.number.has_value());
  STRCMP_EQUAL("no right", value.reason.c_str());
}
