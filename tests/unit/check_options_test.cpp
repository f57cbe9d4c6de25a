// The command line of check_django_session: what it means, and every way of getting it wrong.
#include "check_options.hpp"

#include <string>
#include <vector>

#include "core/range.hpp"
#include "refusal.hpp"

#include <CppUTest/TestHarness.h>

using namespace django_session;
using nagios::Notice;
using nagios::Options;
using nagios::parse_options;

namespace {

using Words = std::vector<std::string>;

Options parsed(const Words& words) { return std::get<Options>(parse_options(words)); }

std::string refused(const Words& words) {
  return refusal([&] { parse_options(words); });
}

struct WrongLine {
  Words words;
  const char* message;  ///< a part of it
};

}  // namespace

TEST_GROUP(Options){};

TEST(Options, without_words_everything_has_its_default) {
  const Options options = parsed({});
  STRCMP_EQUAL("", options.connection.host.c_str());
  STRCMP_EQUAL("", options.connection.dbname.c_str());
  STRCMP_EQUAL("django_session", options.table.display().c_str());
  LONGS_EQUAL(10000, options.timeout.count());
  LONGS_EQUAL(3, options.thresholds.size());
  CHECK_FALSE(options.exact);
  LONGS_EQUAL(0, options.verbosity);
}

TEST(Options, short_and_long_names_mean_the_same) {
  const Options brief = parsed({"-H", "db1", "-p", "5433", "-d", "site", "-U", "monitor", "-T",
                                "a.b", "-t", "5", "--service", "shop"});
  const Options lengthy =
      parsed({"--host=db1", "--port=5433", "--dbname=site", "--username=monitor", "--table=a.b",
              "--timeout=5", "--service=shop"});
  for (const Options& options : {brief, lengthy}) {
    STRCMP_EQUAL("db1", options.connection.host.c_str());
    STRCMP_EQUAL("5433", options.connection.port.c_str());
    STRCMP_EQUAL("site", options.connection.dbname.c_str());
    STRCMP_EQUAL("monitor", options.connection.user.c_str());
    STRCMP_EQUAL("shop", options.connection.service.c_str());
    STRCMP_EQUAL("a", options.table.schema.c_str());
    STRCMP_EQUAL("b", options.table.table.c_str());
    LONGS_EQUAL(5000, options.timeout.count());
  }
}

TEST(Options, thresholds_repeat_and_replace_the_defaults) {
  const Options options =
      parsed({"-w", "live=5", "-c", "1GB", "-wexpired_percent=50%", "--critical=overdue=1w"});
  LONGS_EQUAL(4, options.thresholds.size());
  CHECK(options.thresholds[0].metric == Metric::live);
  CHECK(options.thresholds[1].metric == Metric::expired_percent);
  CHECK(options.thresholds[1].severity == State::warning);
  CHECK(options.thresholds[2].metric == Metric::total);
  CHECK(options.thresholds[2].severity == State::critical);
  DOUBLES_EQUAL(604800, options.thresholds[3].range.end, 0);
}

TEST(Options, ranges_may_begin_with_any_sign) {
  for (const char* range : {"@10:20", "~:0", "-5:5", "10:"}) {
    const std::string text = range;
    const Range expected = parse_range(text, Unit::bytes);
    for (const Words& words : {Words{"-w", text}, Words{"-w" + text}, Words{"--warning=" + text},
                               Words{"--warning", text}}) {
      const Options options = parsed(words);
      LONGS_EQUAL(1, options.thresholds.size());
      CHECK(options.thresholds[0].range.start == expected.start);
      CHECK(options.thresholds[0].range.alert_inside == expected.alert_inside);
    }
  }
}

TEST(Options, timeouts_are_durations) {
  LONGS_EQUAL(2500, parsed({"-t", "2.5"}).timeout.count());
  LONGS_EQUAL(60000, parsed({"-t1m"}).timeout.count());
  LONGS_EQUAL(1, parsed({"-t", "0.0001"}).timeout.count());
}

TEST(Options, flags_combine_and_count) {
  const Options options = parsed({"-vv", "--exact", "--verbose"});
  LONGS_EQUAL(3, options.verbosity);
  CHECK_TRUE(options.exact);
}

TEST(Options, the_last_of_a_repeated_option_counts) {
  STRCMP_EQUAL("b", parsed({"-H", "a", "-H", "b"}).connection.host.c_str());
}

TEST(Options, connection_strings_and_uris_are_databases) {
  for (const char* text :
       {"host=db1 dbname=site", "postgresql://monitor@db1:5433/site", "odd name"})
    STRCMP_EQUAL(text, parsed({"-d", text}).connection.dbname.c_str());
}

TEST(Options, a_list_of_ports_goes_with_a_list_of_hosts) {
  STRCMP_EQUAL("5432,5433", parsed({"-H", "a,b", "-p", "5432,5433"}).connection.port.c_str());
}

TEST(Options, a_value_in_brackets_is_one_value) {
  STRCMP_EQUAL("[a,b]", parsed({"-T", "[a,b]"}).table.table.c_str());
}

TEST(Options, help_and_version_are_notices) {
  const Notice help = std::get<Notice>(parse_options({"-h"}));
  STRCMP_CONTAINS("Usage: check_django_session", help.text.c_str());
  for (const MetricInfo& metric : all_metrics())
    STRCMP_CONTAINS(std::string(metric.name).c_str(), help.text.c_str());
  CHECK(help.text.find('|') == std::string::npos);
  const Notice version = std::get<Notice>(parse_options({"--version"}));
  STRCMP_CONTAINS("check_django_session " DJANGO_SESSION_VERSION, version.text.c_str());
}

TEST(Options, every_wrong_line_says_what_would_be_right) {
  const std::vector<WrongLine> lines = {
      {{"-p", "0"}, "-p: a port is a number from 1 to 65535, for example 5432"},
      {{"-p", "65536"}, "-p: a port is"},
      {{"-p", "-1"}, "-p: a port is"},
      {{"-p", "5432x"}, "-p: a port is"},
      {{"-p", "99999999999999999999"}, "-p: a port is"},
      {{"-p", "5432,"}, "-p: a port is"},
      {{"--port="}, "-p: a port is"},
      {{"-p"}, "-p needs a value"},
      {{"-H"}, "-H needs a value"},
      {{"--dbname=", "-H", "x"}, "-d: the value is empty; give one, for example -d site"},
      {{"-U", ""}, "-U: the value is empty"},
      {{"--service", ""}, "--service: the value is empty"},
      {{"-d", "host='x"}, "-d: the database is not a valid connection string or URI"},
      {{"-d", "hots=x"}, "not a valid connection string"},
      {{"-d", "password=x"}, "put it into a password file (~/.pgpass"},
      {{"-d", "postgres://me:x@db1/site"},
       "a password on the command line can be read by every user"},
      {{"-T", ""}, "-T: cannot read \"\" as a table's name: a name is empty"},
      {{"-T", "a.b.c"}, "expected SCHEMA.TABLE, for example public.django_session"},
      {{"-T", ".b"}, "a name is empty"},
      {{"-T", "\"a"}, "the closing quote is missing"},
      {{"-T", std::string(64, 'x')}, "at most 63 bytes"},
      {{"-w", ""}, "-w: total (in bytes): cannot read \"\""},
      {{"-w", "1-10"}, "start and end are separated by ':', for example 1GB:5GB"},
      {{"-w", ":"}, "a ':' needs a number before or after it"},
      {{"-c", "foo"}, "-c: total (in bytes): cannot read \"foo\""},
      {{"-c", "10:5"}, "the start, 10, is above the end, 5"},
      {{"-w", "total=1:12%%"}, "cannot read \"1:12%%\""},
      {{"-w", "live=5GB"}, "a number of rows has no unit"},
      {{"-w", "size=5GB"}, "no such metric; the metrics are database, table, toast"},
      {{"-w", "=5GB"}, "the metric before '=' is missing"},
      {{"-c", "overdue=2y"}, "ends in s, m, h, d or w"},
      {{"-c"}, "-c needs a value"},
      {{"-v", "-c"}, "-c needs a value"},
      {{"-t", "0"}, "-t: 0 seconds is out of range: it must be more than 0"},
      {{"-t", "-5"}, "-t: -5 seconds is out of range"},
      {{"-t", "2d"}, "at most a day, for example -t 10"},
      {{"-t", "ten"}, "-t: cannot read \"ten\" as a duration"},
      {{"-t", ""}, "-t: cannot read \"\" as a duration"},
      {{"-t", "1e3"}, "-t: cannot read \"1e3\""},
      {{"--exact=no"}, "--exact takes no value"},
      {{"--verbose=3"}, "--verbose takes no value"},
      {{"-v3"}, "unknown option -3; valid options are -H, -p, -d"},
      {{"-x"}, "unknown option -x"},
      {{"--warn", "5"}, "unknown option --warn;"},
      {{"--password=x"}, "unknown option --password;"},
      {{"site"}, "unexpected argument"},
      {{"-H", "db1", "--", "site"}, "unexpected argument"},
      {{"-"}, "unexpected argument"},
      {{""}, "unexpected argument"},
      {{"-v", "3"}, "unexpected argument"},
  };
  for (const WrongLine& line : lines) STRCMP_CONTAINS(line.message, refused(line.words).c_str());
}

TEST(Options, no_password_is_ever_repeated) {
  const std::vector<Words> lines = {
      {"-p", "s3cret"},
      {"-ps3cret"},
      {"--port=s3cret"},
      {"-p", "my", "s3cret"},
      {"-d", "password=s3cret"},
      {"-d", "password='s3cret"},
      {"-d", "sslpassword=s3cret"},
      {"-d", "host=db1 passwort=s3cret"},
      {"-d", "postgresql://me:s3cret@db1/site"},
      {"-d", "postgresql://me:s3cret@[db1/site"},
      {"-d", "postgresql://db1/site?password=s3cret"},
      {"--password=s3cret"},
      {"--password", "s3cret"},
      {"-Ps3cret"},
      {"-vPs3cret"},
      {"s3cret"},
      {"postgresql://me:s3cret@db1/site"},
      {"--", "-s3cret"},
  };
  for (const Words& line : lines) {
    const std::string message = refused(line);
    CHECK(!message.empty());
    CHECK_TEXT(message.find("s3cret") == std::string::npos, message.c_str());
  }
}
