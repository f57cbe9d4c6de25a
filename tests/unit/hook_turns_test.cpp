// Which of several databases' cleanups comes when.
#include <algorithm>
#include <memory>
#include <string>

#include "plugin/cleanup_turns.hpp"

#include "hook_fixture.hpp"

using namespace django_session;
using namespace django_session::plugin;

/// Two hooks that take turns: `first` cleans up, and `second` waits.
TEST_GROUP_BASE(HookTurns, HookFixture) {
  const std::shared_ptr<CleanupTurns> turns = std::make_shared<CleanupTurns>();
  std::unique_ptr<Hook> first, second;

  void setup() override {
    HookFixture::setup();
    go_on = false;
    first = hook_of("a");
    second = hook_of("b");
    alert(*first, "a");
    CHECK_TRUE(!journal.await("log a: cleanup: one line").empty());
    alert(*second, "b");
    CHECK_TRUE(!journal.await("log b: cleanup waits for its turn (MaxCleanups 1): recl").empty());
  }

  void teardown() override {
    end(*second);
    end(*first);
    second.reset();
    first.reset();
    HookFixture::teardown();
  }

  std::unique_ptr<Hook> hook_of(const std::string& instance) {
    HookOutput out = output();
    out.turns = turns;
    settings.instance = instance;
    return std::make_unique<Hook>(settings, instance, out, run);
  }

  static void end(Hook & hook) {
    hook.request_stop();
    hook.join();
  }
};

TEST(HookTurns, come_first_to_who_came_first) {
  const std::unique_ptr<Hook> third = hook_of("c");
  alert(*third, "c");
  CHECK_TRUE(!journal.await("log c: cleanup waits for its turn").empty());
  LONGS_EQUAL(1, runs);
  STRCMP_CONTAINS("bool-cleaning=0", samples_of(*second).c_str());
  go_on = true;
  CHECK_TRUE(!journal.await("OKAY c: cleanup ended").empty());
  const auto lines = journal.lines();
  const auto place = [&lines](const char* line) {
    return std::find(lines.begin(), lines.end(), line) - lines.begin();
  };
  CHECK_TRUE(place("log b: cleanup: one line") < place("log c: cleanup: one line"));
}

TEST(HookTurns, are_not_waited_for_when_the_daemon_ends) {
  const auto asked = std::chrono::steady_clock::now();
  end(*second);
  CHECK_TRUE(std::chrono::steady_clock::now() - asked < 1s);
  end(*first);
  LONGS_EQUAL(1, runs);
}

TEST(HookTurns, are_passed_on_where_they_come_too_late) {
  second->on_value({"here", "b", "bytes", "reclaimable", true, true}, 0);
  go_on = true;
  await_ended(*first);
  end(*second);
  LONGS_EQUAL(1, runs);
}
