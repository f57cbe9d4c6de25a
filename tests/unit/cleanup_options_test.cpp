// The command line of django_session_cleanup: what it means, and every way of getting it wrong.
#include "cleanup_options.hpp"

#include <string>
#include <vector>

#include "refusal.hpp"

#include <CppUTest/TestHarness.h>

using namespace django_session;
using nagios::CleanupCommand;
using nagios::Notice;
using nagios::parse_cleanup_command;
using Task = nagios::CleanupCommand::Task;

namespace {

using Words = std::vector<std::string>;

CleanupCommand parsed(const Words& words) {
  return std::get<CleanupCommand>(parse_cleanup_command(words));
}

std::string refused(const Words& words) {
  return refusal([&] { parse_cleanup_command(words); });
}

struct WrongLine {
  Words words;
  const char* message;  ///< a part of it
};

constexpr double kMb = 1024 * 1024;

}  // namespace

TEST_GROUP(CleanupOptions){};

TEST(CleanupOptions, without_words_everything_has_its_default) {
  const CleanupCommand command = parsed({});
  CHECK(command.task == Task::clean);
  CHECK(command.cleanup.method == Method::automatic);
  STRCMP_EQUAL("django_session", command.table.display().c_str());
  LONGS_EQUAL(0, command.cleanup.keep.count());
  LONGS_EQUAL(100, command.cleanup.lock_timeout.count());
  LONGS_EQUAL(10'000, command.cleanup.answer_timeout.count());
  LONGS_EQUAL(60'000, command.cleanup.max_clock_skew.count());
  CHECK_FALSE(command.cleanup.max_duration.has_value());
  CHECK_FALSE(command.cleanup.max_lag.bytes.has_value());
  CHECK_FALSE(command.cleanup.max_lag.time.has_value());
  CHECK_TRUE(command.progress);
  LONGS_EQUAL(0, command.verbosity);
}

TEST(CleanupOptions, the_connection_is_given_as_for_the_check) {
  const CleanupCommand command = parsed({"-H", "db1", "-p", "5433", "-d", "site", "-U", "cleaner",
                                         "--service", "shop", "-T", "a.b", "-t", "5"});
  STRCMP_EQUAL("db1", command.connection.host.c_str());
  STRCMP_EQUAL("5433", command.connection.port.c_str());
  STRCMP_EQUAL("site", command.connection.dbname.c_str());
  STRCMP_EQUAL("cleaner", command.connection.user.c_str());
  STRCMP_EQUAL("shop", command.connection.service.c_str());
  STRCMP_EQUAL("a.b", command.table.display().c_str());
  LONGS_EQUAL(5000, command.cleanup.answer_timeout.count());
}

TEST(CleanupOptions, methods_are_given_by_name) {
  CHECK(parsed({"--method", "auto"}).cleanup.method == Method::automatic);
  CHECK(parsed({"--method", "delete"}).cleanup.method == Method::remove);
  CHECK(parsed({"--method=swap"}).cleanup.method == Method::swap);
  CHECK(parsed({"--method", "swap", "--method", "full"}).cleanup.method == Method::full);
}

TEST(CleanupOptions, durations_have_units) {
  const CleanupOptions options = parsed({"--keep", "7d", "--max-duration", "30m", "--lock-timeout",
                                         "0.05", "--max-clock-skew", "2h"})
                                     .cleanup;
  LONGS_EQUAL(2 * 3600 * 1000, options.max_clock_skew.count());
  LONGS_EQUAL(7 * 24 * 3600, options.keep.count());
  LONGS_EQUAL(30 * 60 * 1000, options.max_duration->count());
  LONGS_EQUAL(50, options.lock_timeout.count());
}

TEST(CleanupOptions, a_part_of_a_second_is_kept_too) {
  LONGS_EQUAL(2, parsed({"--keep", "1.5"}).cleanup.keep.count());
}

TEST(CleanupOptions, lag_is_a_size_or_a_time_or_both) {
  const LagLimit size = parsed({"--max-lag", "64MB"}).cleanup.max_lag;
  DOUBLES_EQUAL(64 * kMb, *size.bytes, 0);
  CHECK_FALSE(size.time.has_value());
  const LagLimit time = parsed({"--max-lag", "2.5s"}).cleanup.max_lag;
  LONGS_EQUAL(2500, time.time->count());
  CHECK_FALSE(time.bytes.has_value());
  const LagLimit both = parsed({"--max-lag", "1G", "--max-lag", "1h"}).cleanup.max_lag;
  DOUBLES_EQUAL(1024 * kMb, *both.bytes, 0);
  LONGS_EQUAL(3600 * 1000, both.time->count());
}

TEST(CleanupOptions, tasks) {
  CHECK(parsed({"--dry-run"}).task == Task::plan);
  CHECK(parsed({"--abort"}).task == Task::abort);
  CHECK_FALSE(parsed({"--no-progress"}).progress);
  CHECK(parsed({"--json"}).json);
  LONGS_EQUAL(2, parsed({"-vv"}).verbosity);
}

TEST(CleanupOptions, an_event_handler_acts_on_hard_problems_alone) {
  struct Event {
    const char *state, *type;
    Task task;
  };
  const std::vector<Event> events = {
      {"CRITICAL", "HARD", Task::clean},  {"WARNING", "HARD", Task::clean},
      {"critical", "hard", Task::clean},  {"OK", "HARD", Task::nothing},
      {"UNKNOWN", "HARD", Task::nothing}, {"CRITICAL", "SOFT", Task::nothing},
      {"WARNING", "SOFT", Task::nothing}, {"OK", "SOFT", Task::nothing},
      {"UNKNOWN", "SOFT", Task::nothing},
  };
  for (const Event& event : events)
    CHECK_TEXT(parsed({"--state", event.state, "--state-type", event.type}).task == event.task,
               event.state);
  STRCMP_EQUAL("SOFT WARNING", parsed({"--state=WARNING", "--state-type=SOFT"}).state.c_str());
}

TEST(CleanupOptions, help_and_version_are_notices) {
  const Notice help = std::get<Notice>(parse_cleanup_command({"-h"}));
  STRCMP_CONTAINS("Usage: django_session_cleanup", help.text.c_str());
  for (const char* option :
       {"--method", "--keep", "--dry-run", "--max-duration", "--lock-timeout", "--max-lag",
        "--max-clock-skew", "--abort", "--no-progress", "--json", "--state", "--state-type"})
    STRCMP_CONTAINS(option, help.text.c_str());
  const Notice version = std::get<Notice>(parse_cleanup_command({"-V"}));
  STRCMP_CONTAINS("django_session_cleanup " DJANGO_SESSION_VERSION, version.text.c_str());
}

TEST(CleanupOptions, every_wrong_line_says_what_would_be_right) {
  const std::vector<WrongLine> lines = {
      {{"--method", "truncate"},
       "--method: unknown method \"truncate\"; valid methods are auto, delete, swap, full"},
      {{"--method", ""}, "--method: unknown method \"\""},
      {{"--method", "SWAP"}, "unknown method"},
      {{"--method", "a\nb"}, "unknown method \"a?b\""},
      {{"--method"}, "--method needs a value"},
      {{"--keep", "-1"}, "--keep: -1 is out of range: it must be between 0 and"},
      {{"--keep", "week"}, "--keep: cannot read \"week\" as a duration"},
      {{"--keep", "7 d"}, "--keep: cannot read"},
      {{"--keep", "101000000h"}, "--keep: 101000000h is out of range"},
      {{"--keep", ""}, "--keep: cannot read \"\""},
      {{"--max-duration", "0"}, "--max-duration: 0 is out of range: it must be between 0.001"},
      {{"--max-duration", "2y"}, "ends in s, m, h, d or w"},
      {{"--max-duration", "1e3"}, "cannot read \"1e3\""},
      {{"--lock-timeout", "0"},
       "--lock-timeout: 0 is out of range: it must be between 0.001 and 60 seconds"},
      {{"--lock-timeout", "2m"}, "--lock-timeout: 2m is out of range"},
      {{"--lock-timeout", "150ms"}, "--lock-timeout: cannot read \"150ms\""},
      {{"--max-lag", "5m"},
       "--max-lag: \"5m\" is not clearly a size or a duration; write 64MB or 30s, for example"},
      {{"--max-lag", "64M"}, "is not clearly a size or a duration"},
      {{"--max-lag", "100"}, "is not clearly a size or a duration"},
      {{"--max-lag", ""}, "is not clearly a size or a duration"},
      {{"--max-lag", "0MB"}, "--max-lag: 0MB is out of range: it must be more than 0"},
      {{"--max-lag", "-1GB"}, "--max-lag: -1GB is out of range"},
      {{"--max-lag", "0s"}, "--max-lag: 0s is out of range"},
      {{"--max-lag", "2d"}, "--max-lag: 2d is out of range"},
      {{"--max-lag", "xMB"}, "--max-lag: cannot read \"xMB\" as a size"},
      {{"--abort", "--dry-run"}, "--abort can't be combined with --dry-run"},
      {{"--abort", "--method", "swap"}, "--abort can't be combined with --method"},
      {{"--abort", "--keep", "1d"}, "--abort can't be combined with --keep"},
      {{"--abort", "--max-lag", "1GB"}, "--abort can't be combined with --max-lag"},
      {{"--state", "CRITICAL"}, "--state and --state-type must be given together"},
      {{"--state-type", "HARD"}, "--state and --state-type must be given together"},
      {{"--state", "", "--state-type", "HARD"}, "--state: the value is empty"},
      {{"--state", "CRITICAL", "--state-type", ""}, "--state-type: the value is empty"},
      {{"--state", "BAD", "--state-type", "HARD"},
       "--state: \"BAD\" is not one of OK, WARNING, UNKNOWN, CRITICAL"},
      {{"--state", "OK", "--state-type", "FIRM"},
       "--state-type: \"FIRM\" is not one of SOFT, HARD"},
      {{"--state", "$SERVICESTATE$", "--state-type", "HARD"}, "is not one of OK, WARNING"},
      {{"--dry-run=yes"}, "--dry-run takes no value"},
      {{"--abort=1"}, "--abort takes no value"},
      {{"-t", "0"}, "-t: 0 seconds is out of range"},
      {{"-p", "0"}, "-p: a port is a number"},
      {{"-U", ""}, "-U: the value is empty; give one, for example -U django_session_cleaner"},
      {{"-T", "a.b.c"}, "expected SCHEMA.TABLE"},
      {{"-d", "password=x"}, "put it into a password file"},
      {{"-c", "total=1GB"},
       "unknown option -c; valid options are -H, -p, -d, -U, --service, -T, -t, --method"},
      {{"--exact"}, "unknown option --exact"},
      {{"delete"}, "unexpected argument"},
      {{"--method", "delete", "now"}, "unexpected argument"},
      {{"--max-lag"}, "--max-lag needs a value"},
  };
  for (const WrongLine& line : lines) STRCMP_CONTAINS(line.message, refused(line.words).c_str());
}

TEST(CleanupOptions, a_wrong_line_is_refused_in_a_state_that_needs_no_action_too) {
  CHECK(!refused({"--state", "OK", "--state-type", "HARD", "--method", "x"}).empty());
}

TEST(CleanupOptions, no_password_is_ever_repeated) {
  const std::vector<Words> lines = {
      {"-p", "s3cret"},
      {"--port=s3cret"},
      {"-p", "my", "s3cret"},
      {"-d", "password=s3cret"},
      {"-d", "host=db1 pass=s3cret"},
      {"-d", "postgresql://me:s3cret@db1/site"},
      {"--password=s3cret"},
      {"--password", "s3cret"},
      {"-Ps3cret"},
      {"s3cret"},
  };
  for (const Words& line : lines) {
    const std::string message = refused(line);
    CHECK(!message.empty());
    CHECK_TEXT(message.find("s3cret") == std::string::npos, message.c_str());
  }
}
