// What <Cleanup> takes, and what is said to the rest.
#include "plugin/cleanup_settings.hpp"

#include <string>
#include <vector>

#include "plugin/settings.hpp"
#include "refusal.hpp"

#include <CppUTest/TestHarness.h>

using namespace django_session;
using namespace django_session::plugin;
using namespace std::chrono_literals;

namespace {

using Values = std::vector<ConfigItem::Value>;

ConfigItem line(std::string key, Values values) { return {std::move(key), std::move(values), {}}; }

ConfigItem line(std::string key, const char* text) {
  return line(std::move(key), Values{std::string(text)});
}

const ConfigItem kTrigger = line("Trigger", "reclaimable=1GB");

ConfigItem cleanup_block(std::vector<ConfigItem> lines) {
  return {"Cleanup", {}, std::move(lines)};
}

ConfigItem database_block(std::vector<ConfigItem> lines) {
  return {"Database", {std::string("site")}, std::move(lines)};
}

CleanupSettings settings_of(std::vector<ConfigItem> lines) {
  return read_cleanup_block(cleanup_block(std::move(lines)));
}

CleanupSettings with(ConfigItem item) { return settings_of({kTrigger, std::move(item)}); }

std::string why_refused(std::vector<ConfigItem> lines) {
  return refusal([&] { settings_of(std::move(lines)); });
}

std::string why_database_refused(std::vector<ConfigItem> lines) {
  return refusal([&] { read_database_block(database_block(std::move(lines))); });
}

}  // namespace

TEST_GROUP(CleanupSettings){};

TEST(CleanupSettings, need_no_more_than_a_trigger) {
  const CleanupSettings settings = settings_of({kTrigger});
  UNSIGNED_LONGS_EQUAL(1, settings.rules.triggers.size());
  CHECK_TRUE(settings.rules.cooldown == 3600s);
  CHECK_TRUE(settings.rules.windows.empty());
  CHECK_TRUE(settings.options.method == Method::remove);
  CHECK_TRUE(settings.options.max_duration == 1800s);
  CHECK_TRUE(settings.options.keep == 0s);
  CHECK_TRUE(settings.host.empty() && settings.user.empty() && settings.command.empty());
}

TEST(CleanupSettings, take_every_option) {
  const CleanupSettings settings = settings_of(
      {kTrigger, line("trigger", "overdue=9d"), line("Host", "db1"), line("METHOD", "swap"),
       line("Cooldown", {600.0}), line("Window", "01:00-05:00"), line("Window", "22:00-23:00"),
       line("MaxDuration", "1h"), line("Keep", "7d"), line("User", "cleaner"),
       line("Service", "direct"), line("PassFile", "/etc/collectd/cleaner")});
  UNSIGNED_LONGS_EQUAL(2, settings.rules.triggers.size());
  STRCMP_EQUAL("overdue=9d", settings.rules.triggers[1].text.c_str());
  UNSIGNED_LONGS_EQUAL(2, settings.rules.windows.size());
  STRCMP_EQUAL("db1", settings.host.c_str());
  CHECK_TRUE(settings.options.method == Method::swap);
  CHECK_TRUE(settings.rules.cooldown == 600s);
  CHECK_TRUE(settings.options.max_duration == 3600s);
  CHECK_TRUE(settings.options.keep == 7 * 24h);
  STRCMP_EQUAL("cleaner", settings.user.c_str());
}

TEST(CleanupSettings, take_a_program_with_its_arguments) {
  const CleanupSettings settings =
      with(line("Command", {std::string("/bin/clean"), std::string("a b"), std::string("")}));
  UNSIGNED_LONGS_EQUAL(3, settings.command.size());
  STRCMP_EQUAL("a b", settings.command[1].c_str());
}

TEST(CleanupSettings, are_a_part_of_the_database_block) {
  const DatabaseSettings settings = read_database_block(
      database_block({line("Read", {false}), cleanup_block({kTrigger, line("Host", "*")})}));
  CHECK_TRUE(settings.cleanup.has_value());
  STRCMP_EQUAL("*", settings.cleanup->host.c_str());
  CHECK_TRUE(!read_database_block(database_block({})).cleanup.has_value());
}

struct WrongBlock {
  std::vector<ConfigItem> lines;
  const char* message;
};

TEST(CleanupSettings, say_what_is_wrong_and_what_would_be_right) {
  const std::vector<WrongBlock> blocks = {
      {{},
       "<Cleanup>: Trigger is missing; it takes METRIC=RANGE in quotes, for example "
       "\"reclaimable=1GB\""},
      {{line("Trigger", {5.0})},
       "<Cleanup>: Trigger takes METRIC=RANGE in quotes, for example \"reclaimable=1GB\""},
      {{line("Trigger", "")},
       "<Cleanup>: Trigger is empty, but takes METRIC=RANGE in quotes, for example "
       "\"reclaimable=1GB\""},
      {{line("Trigger", "reclaimable=1-10")},
       "<Cleanup>: Trigger: reclaimable (in bytes): cannot read \"1-10\" as a range"},
      {{line("Trigger", "size=1GB")},
       "<Cleanup>: Trigger: cannot read \"size=1GB\" as a threshold: "
       "no such metric; the metrics are database, table,"},
      {{line("Trigger", {std::string("total=1GB"), std::string("live=5")})},
       "<Cleanup>: Trigger takes METRIC=RANGE in quotes, for example \"reclaimable=1GB\", not 2 "
       "values"},
      {{kTrigger, line("Host", {true})},
       "<Cleanup>: Host takes a host's name in quotes, or \"*\" for any host"},
      {{kTrigger, line("Host", "db1"), line("host", "db2")},
       "<Cleanup>: host may be given only once"},
      {{kTrigger, line("Method", "truncate")}, "<Cleanup>: Method: "},
      {{kTrigger, line("Method", {1.0})},
       "<Cleanup>: Method takes one of \"auto\", \"delete\", \"swap\", \"full\""},
      {{kTrigger, line("Cooldown", {-1.0})}, "<Cleanup>: Cooldown must be between 0 s and 366 d"},
      {{kTrigger, line("Cooldown", "soon")},
       "<Cleanup>: Cooldown: cannot read \"soon\" as a duration"},
      {{kTrigger, line("Cooldown", {true})},
       "<Cleanup>: Cooldown takes a duration, for example 3600 or \"1h\""},
      {{kTrigger, line("Window", "1-5")},
       "<Cleanup>: Window: cannot read \"1-5\" as a window: a time of day has the form 01:00, for "
       "example 01:00-05:00"},
      {{kTrigger, line("Window", {105.0})},
       "<Cleanup>: Window takes a part of the day in quotes, for example \"01:00-05:00\""},
      {{kTrigger, line("MaxDuration", {0.0})},
       "<Cleanup>: MaxDuration must be between 1 s and 7 d"},
      {{kTrigger, line("MaxDuration", "8d")}, "<Cleanup>: MaxDuration must be between 1 s and 7 d"},
      {{kTrigger, line("Keep", "-1d")}, "<Cleanup>: Keep must be between 0 s and 3660 d"},
      {{kTrigger, line("Keep", "7 days")}, "<Cleanup>: Keep: cannot read \"7 days\" as a duration"},
      {{kTrigger, line("User", "")}, "<Cleanup>: User is empty, but takes one text in quotes"},
      {{kTrigger, line("Service", Values{})},
       "<Cleanup>: Service takes one text in quotes, not 0 values"},
      {{kTrigger, line("PassFile", {7.0})}, "<Cleanup>: PassFile takes one text in quotes"},
      {{kTrigger, line("Command", "clean")},
       "<Cleanup>: Command takes a program's full path and its arguments, each in quotes: "
       "\"/usr/local/bin/clean\" \"-v\""},
      {{kTrigger, line("Command", {std::string("/bin/clean"), 5.0})},
       "<Cleanup>: Command takes a program's full path and its arguments, each in quotes"},
      {{kTrigger, line("Command", Values{})},
       "<Cleanup>: Command has no value, but takes a program's full path"},
      {{kTrigger, line("Command", "/bin/clean"), line("Keep", {5.0})},
       "<Cleanup>: Keep is for the built-in cleanup, and Command runs a program instead; remove "
       "one of them"},
      {{kTrigger, line("Password", "x")},
       "<Cleanup>: Password is not a valid option; valid options are Trigger, Host, Method, "
       "Cooldown, "
       "Window, MaxDuration, Keep, User, Service, PassFile, Command, CommandUser"},
      {{kTrigger, line("CommandUser", {65534.0})},
       "<Cleanup>: CommandUser takes the name of an ordinary user in quotes"},
      {{line("Trigger", "overdue=2d"), line("Keep", "7d")},
       "<Cleanup>: Trigger \"overdue=2d\" can't be ended by a cleanup, because Keep spares "
       "sessions for 7 d; set the Trigger above Keep, for example \"overdue=9d\", or make Keep "
       "smaller"},
      {{kTrigger, {"Host", {}, {line("Name", "db1")}}},
       "<Cleanup>: Host is a block, but takes a host's name in quotes, or \"*\" for any host"},
  };
  for (const WrongBlock& block : blocks)
    STRCMP_CONTAINS(block.message, why_refused(block.lines).c_str());
}

TEST(CleanupSettings, contradict_themselves_with_a_trigger_within_keep) {
  const auto is_refused = [](const char* trigger, const char* keep) {
    return !why_refused({line("Trigger", trigger), line("Keep", keep)}).empty();
  };
  CHECK_TRUE(is_refused("overdue=2d", "49h") && is_refused("overdue=@1d:3d", "7d"));
  CHECK_TRUE(is_refused("overdue=0", "1d"));
  CHECK_FALSE(is_refused("overdue=2d", "2d") || is_refused("overdue=2d", "1d"));
  CHECK_FALSE(is_refused("overdue=@8d:9d", "7d") || is_refused("overdue=3d:9d", "7d") ||
              is_refused("overdue=0", "0"));
  CHECK_FALSE(is_refused("expired_percent=50", "7d"));
}

TEST(CleanupSettings, warn_of_a_trigger_that_its_method_can_hardly_end) {
  struct Pair {
    const char *trigger, *method;
    bool works;
  };
  for (const Pair& pair : {Pair{"overdue=2d", "delete", true},
                           {"expired_percent=50", "delete", true},
                           {"expired=1000", "delete", true},
                           {"dead=1000", "delete", true},
                           {"indexes=1GB", "delete", true},
                           {"reclaimable=1GB", "delete", false},
                           {"1GB", "delete", false},
                           {"table=1GB", "delete", false},
                           {"toast=1GB", "delete", false},
                           {"database=1GB", "delete", false},
                           {"database_percent=50", "delete", false},
                           {"reclaimable=1GB", "auto", true},
                           {"total=1GB", "swap", true},
                           {"total=1GB", "full", true},
                           {"live=1000", "swap", false}}) {
    const CleanupSettings settings =
        settings_of({line("Trigger", pair.trigger), line("Method", pair.method)});
    LONGS_EQUAL_TEXT(pair.works ? 0 : 1, settings.warnings.size(), pair.trigger);
  }
  STRCMP_CONTAINS(
      "<Cleanup>: Trigger \"reclaimable=1GB\" with Method \"delete\": deleting frees space inside "
      "the table",
      settings_of({kTrigger}).warnings.front().c_str());
  CHECK_TRUE(with(line("Command", "/bin/clean")).warnings.empty());
}

TEST(CleanupSettings, warn_of_a_user_without_a_program) {
  const CleanupSettings settings =
      settings_of({line("Trigger", "overdue=2d"), line("CommandUser", "nobody")});
  STRCMP_EQUAL("<Cleanup>: CommandUser has no effect without Command",
               settings.warnings.front().c_str());
}

TEST(CleanupSettings, refuse_a_value_behind_the_blocks_name) {
  ConfigItem block = cleanup_block({kTrigger});
  block.values = {std::string("site")};
  STRCMP_EQUAL("<Cleanup> takes no value", refusal([&] { read_cleanup_block(block); }).c_str());
}

TEST(CleanupSettings, are_refused_with_the_name_of_their_database) {
  STRCMP_EQUAL("<Database \"site\">: <Cleanup>: User is empty, but takes one text in quotes",
               why_database_refused({cleanup_block({kTrigger, line("User", "")})}).c_str());
  STRCMP_EQUAL(
      "<Database \"site\">: Cleanup may be given only once",
      why_database_refused({cleanup_block({kTrigger}), cleanup_block({kTrigger})}).c_str());
}

TEST(CleanupSettings, are_needed_where_nothing_is_read) {
  STRCMP_EQUAL(
      "<Database \"site\">: Read is false and there is no <Cleanup>, so there is nothing to do",
      why_database_refused({line("Read", {false})}).c_str());
}

TEST(CleanupSettings, name_the_host_where_nothing_is_read) {
  STRCMP_EQUAL("<Database \"site\">: with Read false, <Cleanup> needs Host: whose values it obeys",
               why_database_refused({line("Read", {false}), cleanup_block({kTrigger})}).c_str());
}

TEST_GROUP(CleaningConnection) {
  pg::Parameters reading;
  CleanupSettings cleanup;

  void setup() override {
    reading.dbname = "site";
    reading.host = "db1";
    reading.port = "6432";
    reading.user = "monitor";
    reading.password = "secret";
    reading.sslmode = "require";
    reading.passfile = "/etc/pgpass";
  }
};

TEST(CleaningConnection, is_the_reading_one_by_default) {
  const pg::Parameters cleaning = cleaning_connection(reading, cleanup);
  STRCMP_EQUAL("monitor", cleaning.user.c_str());
  STRCMP_EQUAL("secret", cleaning.password.c_str());
  STRCMP_EQUAL("db1", cleaning.host.c_str());
}

TEST(CleaningConnection, of_another_user_has_not_the_readers_password) {
  cleanup.user = "cleaner";
  const pg::Parameters cleaning = cleaning_connection(reading, cleanup);
  STRCMP_EQUAL("cleaner", cleaning.user.c_str());
  STRCMP_EQUAL("", cleaning.password.c_str());
  STRCMP_EQUAL("/etc/pgpass", cleaning.passfile.c_str());
  STRCMP_EQUAL("db1", cleaning.host.c_str());
  STRCMP_EQUAL("require", cleaning.sslmode.c_str());
}

TEST(CleaningConnection, takes_its_own_password_file_before_the_readers_password) {
  cleanup.passfile = "/etc/cleaner";
  const pg::Parameters cleaning = cleaning_connection(reading, cleanup);
  STRCMP_EQUAL("", cleaning.password.c_str());
  STRCMP_EQUAL("/etc/cleaner", cleaning.passfile.c_str());
}

TEST(CleaningConnection, of_a_service_leaves_server_and_user_to_it) {
  cleanup.service = "direct";
  const pg::Parameters cleaning = cleaning_connection(reading, cleanup);
  STRCMP_EQUAL("direct", cleaning.service.c_str());
  STRCMP_EQUAL("site", cleaning.dbname.c_str());
  STRCMP_EQUAL("", (cleaning.host + cleaning.port + cleaning.user + cleaning.password).c_str());
}

TEST(CleaningConnection, of_a_service_is_no_less_safe_than_the_readers) {
  cleanup.service = "direct";
  STRCMP_EQUAL("require", cleaning_connection(reading, cleanup).sslmode.c_str());
  reading.dbname = "postgresql://monitor:secret@db1/site?sslmode=verify-full";
  STRCMP_EQUAL("dbname='site' sslmode='verify-full'",
               cleaning_connection(reading, cleanup).dbname.c_str());
}

TEST(CleaningConnection, replaces_what_a_connection_string_says_of_the_user) {
  reading.dbname = "host=db1 user=monitor password=secret dbname=site sslcert=/c passfile=/p";
  cleanup.user = "cleaner";
  const pg::Parameters cleaning = cleaning_connection(reading, cleanup);
  STRCMP_EQUAL("passfile='/p' dbname='site' host='db1' sslcert='/c'", cleaning.dbname.c_str());
  STRCMP_EQUAL("cleaner", cleaning.user.c_str());
}

TEST(CleaningConnection, puts_its_password_file_before_what_a_connection_string_says) {
  reading.dbname = "host=db1 user=monitor password=secret dbname=site passfile=/p";
  cleanup.passfile = "/etc/cleaner";
  STRCMP_EQUAL("user='monitor' dbname='site' host='db1'",
               cleaning_connection(reading, cleanup).dbname.c_str());
}

TEST(CleaningConnection, of_a_service_takes_the_name_alone_from_a_connection_string) {
  reading.dbname = "host=db1 user=monitor password=secret dbname='the site' service=a sslcert=/c";
  cleanup.service = "direct";
  cleanup.user = "cleaner";
  STRCMP_EQUAL("dbname='the site'", cleaning_connection(reading, cleanup).dbname.c_str());
}

TEST(CleaningConnection, by_default_is_what_a_connection_string_says) {
  reading.dbname = "host=db1 user=monitor password=secret dbname=site";
  STRCMP_EQUAL(reading.dbname.c_str(), cleaning_connection(reading, cleanup).dbname.c_str());
}
