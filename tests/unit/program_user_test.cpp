// Who may run a Command, and what is said of the others.
#include "plugin/program_user.hpp"

#include <unistd.h>

#include <string>

#include "refusal.hpp"

#include <CppUTest/TestHarness.h>

using namespace django_session;
using namespace django_session::plugin;

TEST_GROUP(ProgramUser) {
  static constexpr uid_t kRoot = 0, kOther = 12345;
  CleanupSettings settings;

  void setup() override { settings.command = {"/bin/true"}; }

  std::string why_refused(const char* name, uid_t daemon) {
    settings.command_user = name;
    return refusal([&] { program_user_of(settings, daemon); });
  }
};

TEST(ProgramUser, must_be_given_to_root) {
  STRCMP_EQUAL(
      "<Cleanup>: Command needs CommandUser, because collectd runs as root: the name of an "
      "ordinary user to run the program as",
      why_refused("", kRoot).c_str());
  STRCMP_EQUAL("", why_refused("", kOther).c_str());
  settings.command.clear();
  STRCMP_EQUAL("", why_refused("", kRoot).c_str());
}

TEST(ProgramUser, is_not_root) {
  STRCMP_EQUAL(
      "<Cleanup>: CommandUser \"root\" is root; give an ordinary user to run the program as",
      why_refused("root", kRoot).c_str());
}

TEST(ProgramUser, must_be_known) {
  STRCMP_EQUAL("<Cleanup>: CommandUser \"no?one\" is not a user of this host",
               why_refused("no\none", kRoot).c_str());
}

TEST(ProgramUser, cannot_be_changed_by_an_ordinary_user) {
  STRCMP_CONTAINS("CommandUser \"nobody\" can't be used: collectd doesn't run as root",
                  why_refused("nobody", kOther).c_str());
}

TEST(ProgramUser, is_found_with_what_belongs_to_him) {
  settings.command_user = "nobody";
  const auto user = program_user_of(settings, kRoot);
  CHECK_TRUE(user && user->user != 0 && user->group != 0);
  STRCMP_EQUAL("nobody", user->name.c_str());
  CHECK_FALSE(program_user_of(settings, user->user).has_value());
}
