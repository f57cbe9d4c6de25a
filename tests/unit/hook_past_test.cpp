// What a hook keeps for the next daemon, in a file.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "plugin/past_file.hpp"

#include "hook_fixture.hpp"

using namespace django_session;
using namespace django_session::plugin;

namespace {

/// Of a test, gone after it.
class Folder {
 public:
  Folder() { CHECK_TRUE(mkdtemp(path_.data()) != nullptr); }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string path() const { return path_; }

 private:
  std::string path_ = "/tmp/hook_test.XXXXXX";
};

void write_file(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

}  // namespace

TEST_GROUP_BASE(HookPast, HookFixture){};

TEST(HookPast, waits_on_after_a_restart) {
  const Folder folder;
  for (int restart = 0; restart < 3; ++restart) {
    Hook the_hook = hook();
    the_hook.recall(folder.path());
    for (int i = 0; i < 5; ++i) alert(the_hook);
    if (restart == 0) await_ended(the_hook);
    the_hook.request_stop();
    the_hook.join();
  }
  LONGS_EQUAL(1, runs);
  LONGS_EQUAL(3, journal.count("the last cleanup didn't end that") + 1);
}

TEST(HookPast, keeps_a_cleanup_that_the_daemon_did_not_survive) {
  const Folder folder;
  go_on = false;
  Hook killed = hook();
  killed.recall(folder.path());
  alert(killed);
  journal.await("one line");
  Hook next = hook();
  next.recall(folder.path());
  alert(next);
  STRCMP_CONTAINS("the next may start in 2 h", journal.await("didn't end that").c_str());
  killed.request_stop();
  killed.join();
}

TEST(HookPast, waits_a_cooldown_and_says_so_once_where_its_past_is_damaged) {
  const Folder folder;
  const std::string path = folder.path() + "/" + past_file_name("site");
  for (const char* text : {"", "nonsense", "django_session cleanups 1\nuseless 0\n"}) {
    write_file(path, text);
    Hook the_hook = hook();
    the_hook.recall(folder.path());
    for (int i = 0; i < 3; ++i) alert(the_hook);
    LONGS_EQUAL(0, runs);
  }
  LONGS_EQUAL(3, journal.count("damaged"));
  STRCMP_CONTAINS((path + ": damaged").c_str(), journal.await("damaged").c_str());
}

TEST(HookPast, goes_on_where_its_past_cannot_be_kept) {
  Hook the_hook = hook();
  the_hook.recall("/nonexistent");
  alert(the_hook);
  await_ended(the_hook);
  LONGS_EQUAL(1,
              journal.count("can't save when the last cleanup ran, so a restart will forget it"));
}
