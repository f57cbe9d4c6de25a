// What a hook keeps over a restart: as text, and as a file.
#include "plugin/past_file.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include <CppUTest/TestHarness.h>

using namespace django_session;
using namespace django_session::plugin;
using namespace std::chrono_literals;

namespace {

std::string message_of(const std::string& path) {
  try {
    read_past(path);
  } catch (const PastFileError& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_GROUP(PastFile) {
  std::string folder = "/tmp/past_file_test.XXXXXX";
  CleanupPast past;

  void setup() override {
    CHECK_TRUE(mkdtemp(folder.data()) != nullptr);
    past.last = std::chrono::sys_seconds(1'764'290'000s);
    past.useless_cleanups = 2;
    past.trouble = Outcome::failed;
    past.cause = CleanupSource{"db 1/a%\n", Metric::overdue};
  }
  void teardown() override { std::filesystem::remove_all(folder); }

  std::string path() const { return folder + "/past"; }
};

TEST(PastFile, is_lines_of_text) {
  STRCMP_EQUAL(
      "django_session cleanups 1\nended 1764290000\nuseless 2\ntrouble failed\n"
      "cause overdue db%201%2Fa%25%0A\nwhole\n",
      past_text(past).c_str());
}

TEST(PastFile, is_read_as_it_was_written) {
  write_past(path(), past);
  CHECK_TRUE(read_past(path()) == past);
  past.ended = false;
  past.trouble.reset();
  write_past(path(), past);
  CHECK_TRUE(read_past(path()) == past);
  write_past(path(), CleanupPast{});
  CHECK_TRUE(read_past(path()) == CleanupPast{});
}

TEST(PastFile, is_for_its_owner_alone) {
  umask(0);
  write_past(path(), past);
  struct stat status = {};
  stat(path().c_str(), &status);
  LONGS_EQUAL(0600, status.st_mode & 07777);
}

TEST(PastFile, need_not_be_there) { CHECK_TRUE(!read_past(path())); }

TEST(PastFile, is_damaged_wherever_it_is_cut_off) {
  const std::string text = past_text(past);
  for (std::size_t length = 0; length < text.size(); ++length)
    CHECK_FALSE(parse_past(text.substr(0, length)).has_value());
}

TEST(PastFile, is_damaged_if_anything_else_is_in_it) {
  for (const char* lines :
       {"useless -1\n", "useless 99999999999\n", "useless 1 \n", "useless\n", "ended\n",
        "ended -1\n", "ended 99999999999999\n", "ended 1\nbegan 1\n", "trouble done\n",
        "cause overdue\n", "cause size db1\n", "cause overdue db%2\n", "cause overdue db%zz\n",
        "\n", "other 1\n", "django_session cleanups 1\n"})
    CHECK_FALSE(parse_past(std::string("django_session cleanups 1\n") + lines + "whole\n"));
  CHECK_FALSE(parse_past("django_session cleanups 2\nwhole\n").has_value());
  CHECK_FALSE(parse_past(past_text(past) + past_text(past)).has_value());
  CHECK_TRUE(parse_past("django_session cleanups 1\nwhole\n").has_value());
}

TEST(PastFile, says_which_one_cannot_be_read_and_why) {
  std::filesystem::create_directory(path());
  STRCMP_EQUAL((path() + ": Is a directory").c_str(), message_of(path()).c_str());
  std::filesystem::remove(path());
  std::ofstream(path()) << std::string(100'000, 'x');
  STRCMP_EQUAL((path() + ": damaged").c_str(), message_of(path()).c_str());
}

TEST(PastFile, is_not_waited_for_if_it_is_a_pipe) {
  LONGS_EQUAL(0, mkfifo(path().c_str(), 0600));
  STRCMP_EQUAL((path() + ": damaged").c_str(), message_of(path()).c_str());
}

TEST(PastFile, replaces_a_link_and_not_what_it_points_to) {
  std::ofstream(folder + "/precious") << "precious";
  std::filesystem::create_symlink(folder + "/precious", path() + ".new");
  write_past(path(), past);
  LONGS_EQUAL(8, std::filesystem::file_size(folder + "/precious"));
  CHECK_TRUE(read_past(path()) == past);
}

TEST(PastFile, has_a_name_without_slashes) {
  STRCMP_EQUAL("django_session-site.cleanups", past_file_name("site").c_str());
  STRCMP_EQUAL("django_session-..%2Fa%20b%25.cleanups", past_file_name("../a b%").c_str());
}
