// What <Database> takes, and what is said to the rest.
#include "plugin/settings.hpp"

#include <string>
#include <vector>

#include "refusal.hpp"

#include <CppUTest/TestHarness.h>

using namespace django_session;
using namespace django_session::plugin;

namespace {

DatabaseSettings settings_of(const std::string& database, std::vector<ConfigItem> lines = {}) {
  return read_database_block({"Database", {database}, std::move(lines)});
}

std::string why_refused(const std::string& database, std::vector<ConfigItem> lines = {}) {
  return refusal([&] { settings_of(database, std::move(lines)); });
}

}  // namespace

TEST_GROUP(DatabaseSettings){};

TEST(DatabaseSettings, take_no_instance_with_a_control_character) {
  STRCMP_EQUAL(
      "<Database \"site\">: Instance has a control character, such as a line break, or bytes that "
      "are not UTF-8; use printable characters (the default is the database's name)",
      why_refused("site", {{"Instance", {std::string("a\nb")}, {}}}).c_str());
}

TEST(DatabaseSettings, take_no_instance_that_is_not_utf8) {
  STRCMP_CONTAINS("bytes that are not UTF-8",
                  why_refused("site", {{"Instance", {std::string("b\xfcro")}, {}}}).c_str());
}

TEST(DatabaseSettings, take_a_database_with_a_control_character_if_the_instance_has_none) {
  STRCMP_CONTAINS("<Database \"a?b\">: Instance has a control character",
                  why_refused("a\nb").c_str());
  const DatabaseSettings settings = settings_of("a\nb", {{"Instance", {std::string("a b")}, {}}});
  STRCMP_EQUAL("a b", settings.instance.c_str());
  STRCMP_EQUAL("a\nb", settings.connection.dbname.c_str());
}

TEST(DatabaseSettings, are_told_apart_by_their_instance_in_what_is_wrong) {
  const ConfigItem wrong{"Timeout", {0.0}, {}};
  const auto why = [&](const std::string& instance) {
    return why_refused("site", {wrong, {"Instance", {instance}, {}}});
  };
  STRCMP_EQUAL(
      "<Database \"site\"> (Instance \"shop\"): Timeout must be between 0.1 and 86400 seconds",
      why("shop").c_str());
  STRCMP_CONTAINS("<Database \"site\">: Timeout", why("a\nb").c_str());
}

TEST(DatabaseSettings, take_booleans_as_words_too) {
  for (const char* word : {"TRUE", "true", "Yes", "ON"})
    CHECK_TRUE(settings_of("site", {{"Exact", {std::string(word)}, {}}}).exact);
  for (const char* word : {"FALSE", "false", "No", "oFF"})
    CHECK_FALSE(settings_of("site", {{"Exact", {std::string(word)}, {}}}).exact);
  for (const ConfigItem::Value& value :
       {ConfigItem::Value(1.0), ConfigItem::Value(std::string("1")), ConfigItem::Value("")})
    STRCMP_EQUAL("<Database \"site\">: Exact takes true or false (or yes or no, on or off)",
                 why_refused("site", {{"Exact", {value}, {}}}).c_str());
}

TEST(DatabaseSettings, take_no_times_that_come_out_as_nothing) {
  for (const char* option : {"Timeout", "Interval"}) {
    for (const double seconds : {0.0, 0.0004, 0.0999, -1.0, 86401.0})
      STRCMP_EQUAL(
          (std::string("<Database \"site\">: ") + option + " must be between 0.1 and 86400 seconds")
              .c_str(),
          why_refused("site", {{option, {seconds}, {}}}).c_str());
    STRCMP_EQUAL("", why_refused("site", {{option, {0.1}, {}}}).c_str());
  }
}
