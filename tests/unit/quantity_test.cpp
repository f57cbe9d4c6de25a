// Quantities read and written: what is accepted, what is refused and why, what people and perfdata
// see.
#include "core/quantity.hpp"

#include <clocale>
#include <cmath>
#include <limits>
#include <string>

#include "refusal.hpp"

#include <CppUTest/TestHarness.h>

using namespace django_session;

namespace {

constexpr double kKb = 1024, kMb = kKb * kKb, kGb = kMb * kKb, kTb = kGb * kKb, kPb = kTb * kKb;
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct Read {
  const char* text;
  double value;
};

template <std::size_t N>
void check_reads(const Read (&table)[N], Unit unit) {
  for (const Read& row : table)
    DOUBLES_EQUAL_TEXT(row.value, parse_quantity(row.text, unit), 0, row.text);
}

std::string why_refused(const std::string& text, Unit unit) {
  return refusal([&] { parse_quantity(text, unit); });
}

struct Written {
  double value;
  const char* text;
};

template <std::size_t N>
void check_people_see(const Written (&table)[N], Unit unit) {
  for (const Written& row : table) STRCMP_EQUAL(row.text, format_quantity(row.value, unit).c_str());
}

template <std::size_t N>
void check_plain(const Written (&table)[N], Unit unit) {
  for (const Written& row : table) STRCMP_EQUAL(row.text, plain_number(row.value, unit).c_str());
}

}  // namespace

TEST_GROUP(Quantity){};

TEST(Quantity, reads_bytes_in_powers_of_1024_in_any_case) {
  static constexpr Read kTable[] = {
      {"0", 0},       {"8192", 8192}, {"8192B", 8192},
      {"1b", 1},      {"1k", kKb},    {"1K", kKb},
      {"1kB", kKb},   {"1KB", kKb},   {"1KiB", kKb},
      {"1kib", kKb},  {"1m", kMb},    {"1M", kMb},
      {"1MB", kMb},   {"1mib", kMb},  {"1g", kGb},
      {"1GB", kGb},   {"1GiB", kGb},  {"1t", kTb},
      {"1Tb", kTb},   {"1TIB", kTb},  {"1.25GB", 1.25 * kGb},
      {".5k", 512},   {"5.", 5},      {"0.5", 0.5},
      {"-1kB", -kKb}, {"007", 7},     {"1000000000000000000", 1e18},
  };
  check_reads(kTable, Unit::bytes);
}

TEST(Quantity, reads_durations_in_seconds) {
  static constexpr Read kTable[] = {
      {"0", 0},       {"90", 90},     {"90s", 90},    {"90S", 90},    {"5m", 300},     {"2h", 7200},
      {"2d", 172800}, {"1w", 604800}, {"1.5h", 5400}, {"0.25", 0.25}, {"-1d", -86400},
  };
  check_reads(kTable, Unit::seconds);
}

TEST(Quantity, reads_percent_with_or_without_its_sign) {
  static constexpr Read kTable[] = {{"90", 90}, {"90%", 90}, {"0.5%", 0.5}, {"150%", 150}};
  check_reads(kTable, Unit::percent);
}

TEST(Quantity, reads_rows_as_plain_numbers) {
  static constexpr Read kTable[] = {{"100000", 1e5}, {"0", 0}, {"1.5", 1.5}, {"-3", -3}};
  check_reads(kTable, Unit::rows);
}

TEST(Quantity, refuses_what_is_no_plain_number_in_every_unit) {
  for (const Unit unit : {Unit::bytes, Unit::rows, Unit::percent, Unit::seconds}) {
    for (const char* text :
         {"",   " ",    " 1",    "1 ",    "1 0",      "\t1",      "1\n", "+1",  "--1",
          "-",  ".",    "-.",    "..1",   "1..",      "1.2.3",    "1,5", "1e3", "1E3",
          "1e", "0x10", "0x1p3", "inf",   "-inf",     "infinity", "nan", "NaN", "foo",
          "GB", "%",    "1'000", "1_000", "\xd9\xa1", "1\xc2\xa0"})
      CHECK_TEXT(!why_refused(text, unit).empty(), text);
    CHECK_TRUE(!why_refused(std::string("1\0", 2), unit).empty());
  }
}

TEST(Quantity, refuses_units_of_other_metrics) {
  struct Row {
    const char* text;
    Unit unit;
  };
  static constexpr Row kTable[] = {
      {"5GB", Unit::seconds},  {"5GB", Unit::rows},   {"5GB", Unit::percent},
      {"5k", Unit::rows},      {"5k", Unit::seconds}, {"2d", Unit::bytes},
      {"2h", Unit::rows},      {"2s", Unit::percent}, {"5%", Unit::bytes},
      {"5%", Unit::rows},      {"5%", Unit::seconds}, {"5%%", Unit::percent},
      {"5bytes", Unit::bytes}, {"5kBB", Unit::bytes}, {"5iB", Unit::bytes},
      {"5dd", Unit::seconds},  {"1PB", Unit::bytes},  {"1d12h", Unit::seconds},
  };
  for (const Row& row : kTable) CHECK_TEXT(!why_refused(row.text, row.unit).empty(), row.text);
}

TEST(Quantity, refuses_with_the_place_the_units_there_are_and_an_example) {
  STRCMP_EQUAL(
      "cannot read \"2d\" as a size at \"d\": a size is in bytes, or ends in kB, MB, GB or TB, for "
      "example 1.25GB",
      why_refused("2d", Unit::bytes).c_str());
  STRCMP_EQUAL(
      "cannot read \"5GB\" as a duration at \"GB\": a duration is in seconds, or ends in s, m, h, "
      "d or "
      "w, for example 2d",
      why_refused("5GB", Unit::seconds).c_str());
  STRCMP_EQUAL(
      "cannot read \"12%%\" as a percentage at \"%%\": a percentage may end in one % only, for "
      "example 90%",
      why_refused("12%%", Unit::percent).c_str());
  STRCMP_EQUAL(
      "cannot read \"5k\" as a number of rows at \"k\": a number of rows has no unit, for example "
      "100000",
      why_refused("5k", Unit::rows).c_str());
  STRCMP_EQUAL("cannot read \"\" as a duration: expected a number, for example 2d",
               why_refused("", Unit::seconds).c_str());
}

TEST(Quantity, refuses_numbers_out_of_range) {
  const std::string largest(308, '9');
  CHECK_EQUAL("", why_refused(largest, Unit::bytes));
  STRCMP_CONTAINS("out of range", why_refused(largest + "TB", Unit::bytes).c_str());
  STRCMP_CONTAINS("out of range", why_refused(largest + "w", Unit::seconds).c_str());
  STRCMP_CONTAINS("out of range", why_refused(std::string(400, '9'), Unit::rows).c_str());
}

TEST(Quantity, has_an_example_that_it_can_read) {
  for (const Unit unit : {Unit::bytes, Unit::rows, Unit::percent, Unit::seconds})
    CHECK_TRUE(parse_quantity(info(unit).quantity_example, unit) > 0);
}

TEST(Quantity, shows_sizes_in_postgresqls_units) {
  static constexpr Written kTable[] = {
      {0, "0 bytes"},
      {1, "1 bytes"},
      {8192, "8192 bytes"},
      {10239, "10239 bytes"},
      {10239.4, "10239 bytes"},
      {10239.6, "10 kB"},
      {10240, "10 kB"},
      {10752, "10.5 kB"},
      {99.94 * kKb, "99.9 kB"},
      {99.96 * kKb, "100 kB"},
      {276 * kMb, "276 MB"},
      {276.4 * kMb, "276 MB"},
      {34.2 * kMb, "34.2 MB"},
      {12.5 * kGb, "12.5 GB"},
      {12.9 * kGb, "12.9 GB"},
      {1023.4 * kKb, "1023 kB"},
      {1023.6 * kKb, "1 MB"},
      {1024 * kMb, "1 GB"},
      {kGb - 1, "1 GB"},
      {kGb, "1 GB"},
      {1.04 * kGb, "1 GB"},
      {1.06 * kGb, "1.1 GB"},
      {kTb, "1 TB"},
      {2.5 * kPb, "2.5 PB"},
      {5000 * kPb, "5000 PB"},
      {-1, "-1 bytes"},
      {-0.0, "0 bytes"},
      {-0.2, "0 bytes"},
      {-12.5 * kGb, "-12.5 GB"},
      {kInfinity, "unknown"},
      {-kInfinity, "unknown"},
      {kNan, "unknown"},
  };
  check_people_see(kTable, Unit::bytes);
}

TEST(Quantity, shows_rows_shortened_in_thousands) {
  static constexpr Written kTable[] = {
      {0, "0"},         {950, "950"},      {999, "999"},      {999.6, "1k"},   {1000, "1k"},
      {1049, "1k"},     {12345, "12.3k"},  {99949, "99.9k"},  {99999, "100k"}, {276400, "276k"},
      {999499, "999k"}, {999500, "1M"},    {4.1e6, "4.1M"},   {1.2e9, "1.2G"}, {3e12, "3T"},
      {5e15, "5000T"},  {-4.1e6, "-4.1M"}, {kNan, "unknown"},
  };
  check_people_see(kTable, Unit::rows);
}

TEST(Quantity, shows_percent_without_hiding_what_is_left) {
  static constexpr Written kTable[] = {
      {0, "0%"},           {0.001, "0.1%"},  {0.09, "0.1%"},
      {0.5, "0.5%"},       {5, "5%"},        {9.94, "9.9%"},
      {9.96, "10%"},       {10.4, "10%"},    {92, "92%"},
      {96.97, "97%"},      {98.6, "99%"},    {99, "99%"},
      {99.04, "99%"},      {99.4, "99.4%"},  {99.97, "99.9%"},
      {99.99999, "99.9%"}, {100, "100%"},    {100.5, "100.5%"},
      {-5.5, "-5.5%"},     {-0.01, "-0.1%"}, {kInfinity, "unknown"},
  };
  check_people_see(kTable, Unit::percent);
}

TEST(Quantity, shows_durations_in_days_from_two_days_on) {
  static constexpr Written kTable[] = {
      {0, "0 s"},      {0.04, "0 s"},          {0.25, "0.3 s"},
      {1.5, "1.5 s"},  {45, "45 s"},           {59.4, "59 s"},
      {59.6, "1 min"}, {60, "1 min"},          {90, "1.5 min"},
      {720, "12 min"}, {3569, "59 min"},       {3599, "1 h"},
      {5400, "1.5 h"}, {19800, "5.5 h"},       {36000, "10 h"},
      {86400, "24 h"}, {47.4 * 3600, "47 h"},  {47.6 * 3600, "2 d"},
      {172800, "2 d"}, {2.5 * 86400, "2.5 d"}, {730 * 86400.0, "730 d"},
      {-45, "-45 s"},  {-172800, "-2 d"},      {kNan, "unknown"},
  };
  check_people_see(kTable, Unit::seconds);
}

TEST(Quantity, survives_every_magnitude) {
  for (const Unit unit : {Unit::bytes, Unit::rows, Unit::percent, Unit::seconds}) {
    for (double value = 1e-300; std::isfinite(value); value *= 1e10) {
      for (const double signed_value : {value, -value}) {
        CHECK_TRUE(format_quantity(signed_value, unit).find('e') == std::string::npos ||
                   unit == Unit::bytes);
        CHECK_TRUE(plain_number(signed_value, unit).find('e') == std::string::npos);
      }
    }
    CHECK_FALSE(format_quantity(std::numeric_limits<double>::max(), unit).empty());
  }
}

TEST(Quantity, is_whole_and_without_exponent_in_perfdata) {
  static constexpr Written kTable[] = {
      {0, "0"},
      {-0.0, "0"},
      {-0.4, "0"},
      {0.5, "1"},
      {1.4, "1"},
      {1e18, "1000000000000000000"},
      {13421772800, "13421772800"},
      {-5, "-5"},
      {1e6, "1000000"},
      {kNan, "U"},
      {kInfinity, "U"},
  };
  for (const Unit unit : {Unit::bytes, Unit::rows, Unit::seconds}) check_plain(kTable, unit);
}

TEST(Quantity, has_at_most_two_decimals_as_percent_in_perfdata) {
  static constexpr Written kTable[] = {
      {0, "0"},        {97, "97"},     {97.5, "97.5"},       {97.25, "97.25"},
      {99.996, "100"}, {100, "100"},   {1000, "1000"},       {0.004, "0"},
      {-0.004, "0"},   {-0.5, "-0.5"}, {33.333333, "33.33"}, {kNan, "U"},
  };
  check_plain(kTable, Unit::percent);
}

TEST(Quantity, has_nagios_unit_of_measurement) {
  CHECK_TRUE(info(Unit::bytes).perfdata == "B");
  CHECK_TRUE(info(Unit::seconds).perfdata == "s");
  CHECK_TRUE(info(Unit::percent).perfdata == "%");
  CHECK_TRUE(info(Unit::rows).perfdata.empty());
}

TEST(Quantity, is_the_same_in_a_locale_with_decimal_commas) {
  const std::string before = std::setlocale(LC_ALL, nullptr);
  // Where no such locale is installed, this test shows nothing new.
  for (const char* name : {"de_DE.UTF-8", "fr_FR.UTF-8", "de_DE.utf8"})
    if (std::setlocale(LC_ALL, name) != nullptr) break;
  DOUBLES_EQUAL(1.25 * kGb, parse_quantity("1.25GB", Unit::bytes), 0);
  CHECK_EQUAL("12.5 GB", format_quantity(12.5 * kGb, Unit::bytes));
  CHECK_EQUAL("97.25", plain_number(97.25, Unit::percent));
  std::setlocale(LC_ALL, before.c_str());
}
