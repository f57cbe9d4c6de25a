// Nagios ranges: when they alert, what is refused, how perfdata writes them.
#include "core/range.hpp"

#include <limits>
#include <string>

#include "refusal.hpp"

#include <CppUTest/TestHarness.h>

using namespace django_session;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Read {
  const char* text;
  Unit unit;
  double start, end;
  bool alert_inside;
};

std::string why_refused(std::string_view text, Unit unit) {
  return refusal([&] { parse_range(text, unit); });
}

std::string rewritten(std::string_view text, Unit unit) {
  return perfdata_range(parse_range(text, unit), unit);
}

}  // namespace

TEST_GROUP(Range){};

TEST(Range, alerts_outside_by_default) {
  const Range range = parse_range("10:20", Unit::rows);
  CHECK_TRUE(range.alerts(9.999));
  CHECK_FALSE(range.alerts(10));
  CHECK_FALSE(range.alerts(15));
  CHECK_FALSE(range.alerts(20));
  CHECK_TRUE(range.alerts(20.001));
}

TEST(Range, alerts_inside_with_an_at_sign) {
  const Range range = parse_range("@10:20", Unit::rows);
  CHECK_FALSE(range.alerts(9.999));
  CHECK_TRUE(range.alerts(10));
  CHECK_TRUE(range.alerts(20));
  CHECK_FALSE(range.alerts(20.001));
}

TEST(Range, alerts_below_zero_when_only_an_end_is_given) {
  const Range range = parse_range("5", Unit::rows);
  CHECK_TRUE(range.alerts(-0.001));
  CHECK_FALSE(range.alerts(0));
  CHECK_TRUE(range.alerts(6));
}

TEST(Range, never_alerts_from_infinity_to_infinity_and_always_with_an_at_sign) {
  for (const double value : {-1e300, 0.0, 1e300}) {
    CHECK_FALSE(parse_range("~:", Unit::rows).alerts(value));
    CHECK_TRUE(parse_range("@~:", Unit::rows).alerts(value));
  }
}

TEST(Range, reads_start_and_end_with_units) {
  static constexpr double kGb = 1073741824;
  static constexpr Read kTable[] = {
      {"5GB", Unit::bytes, 0, 5 * kGb, false},
      {"1GB:5GB", Unit::bytes, kGb, 5 * kGb, false},
      {"512m:1g", Unit::bytes, kGb / 2, kGb, false},
      {"1.25GB:", Unit::bytes, 1.25 * kGb, kInfinity, false},
      {"@10:20", Unit::rows, 10, 20, true},
      {"@5", Unit::rows, 0, 5, true},
      {"@5:", Unit::rows, 5, kInfinity, true},
      {"~:0", Unit::rows, -kInfinity, 0, false},
      {"~:", Unit::rows, -kInfinity, kInfinity, false},
      {"@~:", Unit::rows, -kInfinity, kInfinity, true},
      {"@~:7", Unit::rows, -kInfinity, 7, true},
      {"10:", Unit::rows, 10, kInfinity, false},
      {":5", Unit::rows, 0, 5, false},
      {"@:5", Unit::rows, 0, 5, true},
      {"5:5", Unit::rows, 5, 5, false},
      {"0", Unit::rows, 0, 0, false},
      {"-10:-5", Unit::rows, -10, -5, false},
      {"-10:", Unit::rows, -10, kInfinity, false},
      {"~:-1", Unit::rows, -kInfinity, -1, false},
      {"1h:2d", Unit::seconds, 3600, 172800, false},
      {"30m", Unit::seconds, 0, 1800, false},
      {"50%:90", Unit::percent, 50, 90, false},
  };
  for (const Read& row : kTable) {
    const Range range = parse_range(row.text, row.unit);
    DOUBLES_EQUAL_TEXT(row.end, range.end, 0, row.text);
    CHECK_TEXT(row.start == range.start, row.text);
    CHECK_EQUAL_TEXT(row.alert_inside, range.alert_inside, row.text);
  }
}

TEST(Range, refuses_anything_else_in_every_unit) {
  for (const Unit unit : {Unit::bytes, Unit::rows, Unit::percent, Unit::seconds})
    for (const char* text :
         {"",     "@",    ":",     "@:",     "~",     "@~",    "~5",    "~~:",     "~:~",  "5:~",
          "1-10", "10:5", "@10:5", "foo",    "1:foo", "foo:1", "1:2:3", "::",      "1::2", "1:12%%",
          "-5",   ":-5",  "0:-1",  "-5:-10", "@@5",   "5@",    "@ 5",   " 5",      "5 ",   "1 :2",
          "1: 2", "1e3",  "1:1e3", "0x10",   "inf",   "~:inf", "nan",   "nan:nan", "+5",   "1..5",
          "1;5",  "1,5",  "5GBs",  "1|2",    ">5",    "<=5"})
      CHECK_TEXT(!why_refused(text, unit).empty(), text);
}

TEST(Range, refuses_units_of_other_metrics) {
  CHECK_TRUE(!why_refused("1GB:2d", Unit::bytes).empty());
  CHECK_TRUE(!why_refused("1d:2GB", Unit::seconds).empty());
  CHECK_TRUE(!why_refused("5%", Unit::rows).empty());
  CHECK_TRUE(!why_refused("1:12%%", Unit::percent).empty());
}

TEST(Range, refuses_with_the_place_the_reason_and_an_example) {
  struct Row {
    const char* text;
    Unit unit;
    const char* message;
  };
  static constexpr Row kTable[] = {
      {"1-10", Unit::bytes,
       "cannot read \"1-10\" as a range of sizes at \"-10\": start and end are separated by ':', "
       "for "
       "example 1GB:5GB"},
      {"", Unit::rows,
       "cannot read \"\" as a range of rows: a number is missing, for example 1000:5000"},
      {"@", Unit::rows,
       "cannot read \"@\" as a range of rows at its end: a number is missing, for example "
       "1000:5000"},
      {":", Unit::seconds,
       "cannot read \":\" as a range of durations: a ':' needs a number before or after it, for "
       "example "
       "1h:2d"},
      {"foo", Unit::percent,
       "cannot read \"foo\" as a range of percentages: expected a number, for example "
       "50%:90%"},
      {"10:5", Unit::rows,
       "cannot read \"10:5\" as a range of rows at \"5\": the start, 10, is above the end, 5, for "
       "example 1000:5000"},
      {"-5", Unit::rows,
       "cannot read \"-5\" as a range of rows: the start, 0, is above the end, -5, for example "
       "1000:5000"},
      {"5:~", Unit::rows,
       "cannot read \"5:~\" as a range of rows at \"~\": '~' is allowed only before the ':', "
       "for "
       "example 1000:5000"},
      {"1:2:3", Unit::rows,
       "cannot read \"1:2:3\" as a range of rows at \":3\": a range has only one ':', for "
       "example 1000:5000"},
      {"1:12%%", Unit::percent,
       "cannot read \"1:12%%\" as a range of percentages at \"%%\": a percentage may end in one % "
       "only, for example 50%:90%"},
      {"1GB:2d", Unit::bytes,
       "cannot read \"1GB:2d\" as a range of sizes at \"d\": a size is in bytes, or ends in kB, "
       "MB, GB "
       "or TB, for example 1GB:5GB"},
  };
  for (const Row& row : kTable) STRCMP_EQUAL(row.message, why_refused(row.text, row.unit).c_str());
}

TEST(Range, is_written_in_base_units_and_without_a_start_of_zero) {
  struct Row {
    const char* text;
    Unit unit;
    const char* written;
  };
  static constexpr Row kTable[] = {
      {"0:10", Unit::rows, "10"},
      {":10", Unit::rows, "10"},
      {"10", Unit::rows, "10"},
      {"@0:10", Unit::rows, "@10"},
      {"10:", Unit::rows, "10:"},
      {"0:", Unit::rows, "0:"},
      {"@0:", Unit::rows, "@0:"},
      {"~:0", Unit::rows, "~:0"},
      {"~:", Unit::rows, "~:"},
      {"@~:", Unit::rows, "@~:"},
      {"@10:20", Unit::rows, "@10:20"},
      {"-10:-5", Unit::rows, "-10:-5"},
      {"-0:5", Unit::rows, "5"},
      {"0:0", Unit::rows, "0"},
      {"1GB:5GB", Unit::bytes, "1073741824:5368709120"},
      {"1.1kB", Unit::bytes, "1126"},
      {"2d", Unit::seconds, "172800"},
      {"50%:90.5%", Unit::percent, "50:90.5"},
      {"1000000000000000000", Unit::bytes, "1000000000000000000"},
  };
  for (const Row& row : kTable) STRCMP_EQUAL(row.written, rewritten(row.text, row.unit).c_str());
}

TEST(Range, reads_back_what_it_writes) {
  for (const char* text : {"5", "@5", "1:", "0:", "~:", "@~:", "~:3", "-10:-5", "@-10:5"}) {
    const std::string once = rewritten(text, Unit::rows);
    CHECK_EQUAL(once, rewritten(once, Unit::rows));
  }
}
