// Few threads for tasks that are quick, and one more for each that hangs.
#include "plugin/reading_pool.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <CppUTest/TestHarness.h>

using namespace django_session::plugin;
using namespace std::chrono_literals;

namespace {

/// What the tasks of a test do together. Shared, since a thread that was let go may still use it.
struct Tasks {
  std::atomic<int> running = 0, most = 0, ended = 0;
  std::mutex mutex;
  std::condition_variable opened;
  bool open = false;

  void begin() {
    const int now = ++running;
    int before = most;
    while (before < now && !most.compare_exchange_weak(before, now)) continue;
  }
  void end() {
    --running;
    ++ended;
  }
  void let_go() {
    const std::lock_guard lock(mutex);
    open = true;
    opened.notify_all();
  }
  void hang() {
    begin();
    std::unique_lock lock(mutex);
    opened.wait(lock, [this] { return open; });
    end();
  }
};

void wait_until(const std::function<bool()>& condition) {
  for (int i = 0; i < 1000 && !condition(); ++i) std::this_thread::sleep_for(5ms);
  CHECK_TRUE(condition());
}

/// A pool whose threads are all busy keeps a task that it is given, until it stops.
void wait_until_stopping(ReadingPool& pool) {
  bool kept = true;
  while (kept) {
    const auto part_of_it = std::make_shared<int>();
    pool.run([part_of_it] {});
    kept = part_of_it.use_count() > 1;
    std::this_thread::sleep_for(1ms);
  }
}

std::ptrdiff_t threads_of_this_process() {
  const std::filesystem::directory_iterator threads("/proc/self/task");
  return std::distance(begin(threads), end(threads));
}

ReadingPool::Clock::time_point in(std::chrono::milliseconds time) {
  return ReadingPool::Clock::now() + time;
}

}  // namespace

TEST_GROUP(ReadingPool) {
  std::shared_ptr<Tasks> tasks = std::make_shared<Tasks>();
  std::atomic<int> shortages = 0;

  ReadingPool::Rules rules(std::chrono::milliseconds stall, std::chrono::milliseconds keep) {
    ReadingPool::Rules the_rules;
    the_rules.few = 3;
    the_rules.stall = stall;
    the_rules.long_after = 5 * stall;
    the_rules.keep = keep;
    return the_rules;
  }
  std::function<void(const std::string&)> count_shortages() {
    return [this](const std::string&) { ++shortages; };
  }
  ReadingPool::Task hanging() {
    return [mine = tasks] { mine->hang(); };
  }
  ReadingPool::Task quick() {
    return [mine = tasks] {
      mine->begin();
      std::this_thread::sleep_for(1ms);
      mine->end();
    };
  }
};

TEST(ReadingPool, runs_quick_tasks_a_few_at_a_time) {
  ReadingPool pool(count_shortages(), rules(10s, 60s));
  for (int i = 0; i < 200; ++i) pool.run(quick());
  wait_until([this] { return tasks->ended == 200; });
  CHECK_COMPARE(tasks->most, <=, 3);
  CHECK_TRUE(pool.stop(in(5s)));
}

TEST(ReadingPool, runs_what_is_quick_while_very_many_tasks_hang) {
  ReadingPool pool(count_shortages(), rules(20ms, 60s));
  for (int i = 0; i < 60; ++i) pool.run(hanging());
  for (int i = 0; i < 10; ++i) pool.run(quick());
  wait_until([this] { return tasks->ended == 10 && tasks->running == 60; });
  tasks->let_go();
  CHECK_TRUE(pool.stop(in(5s)));
  LONGS_EQUAL(70, tasks->ended);
}

TEST(ReadingPool, runs_what_is_expected_to_take_long_at_once_and_besides) {
  ReadingPool pool(count_shortages(), rules(10s, 60s));
  for (int i = 0; i < 60; ++i) pool.run(hanging(), ReadingPool::Expected::long_lasting);
  wait_until([this] { return tasks->running == 60; });
  const auto others = std::make_shared<Tasks>();
  for (int i = 0; i < 3; ++i) pool.run([others] { others->hang(); });
  wait_until([&] { return others->running == 3; });
  others->let_go();
  tasks->let_go();
  CHECK_TRUE(pool.stop(in(5s)));
}

TEST(ReadingPool, runs_quick_tasks_a_few_at_a_time_though_there_are_many_threads) {
  ReadingPool pool(count_shortages(), rules(10s, 60s));
  for (int i = 0; i < 60; ++i) pool.run(hanging(), ReadingPool::Expected::long_lasting);
  wait_until([this] { return tasks->running == 60; });
  tasks->let_go();
  wait_until([this] { return tasks->ended == 60; });
  tasks->most = 0;
  for (int i = 0; i < 200; ++i) pool.run(quick());
  wait_until([this] { return tasks->ended == 260; });
  CHECK_COMPARE(tasks->most, <=, 3);
  CHECK_TRUE(pool.stop(in(5s)));
}

TEST(ReadingPool, goes_on_a_few_at_a_time_beside_some_that_are_stuck) {
  ReadingPool pool(count_shortages(), rules(200ms, 60s));
  pool.run(hanging());
  pool.run(hanging());
  for (int i = 0; i < 200; ++i) pool.run(quick());
  wait_until([this] { return tasks->ended == 200; });
  CHECK_COMPARE(tasks->most, <=, 2 + 2 * 3);  // twice, should the machine be busy
  tasks->let_go();
  CHECK_TRUE(pool.stop(in(5s)));
}

TEST(ReadingPool, lets_threads_go_that_have_nothing_to_do) {
  const std::ptrdiff_t before = threads_of_this_process();
  ReadingPool pool(count_shortages(), rules(10s, 50ms));
  for (int i = 0; i < 40; ++i) pool.run(hanging(), ReadingPool::Expected::long_lasting);
  wait_until([this] { return tasks->running == 40; });
  CHECK_COMPARE(threads_of_this_process(), >=, before + 40);
  tasks->let_go();
  // Time and again a task, which would keep all threads if each had its turn.
  wait_until([&] {
    pool.run(quick());
    return threads_of_this_process() <= before + 3 + 1;  // the few, and who watches them
  });
  CHECK_TRUE(pool.stop(in(5s)));
}

TEST(ReadingPool, drops_what_waits_when_it_stops) {
  ReadingPool pool(count_shortages(), rules(10s, 60s));
  for (int i = 0; i < 3; ++i) pool.run(hanging());
  wait_until([this] { return tasks->running == 3; });
  for (int i = 0; i < 50; ++i) pool.run(quick());
  std::thread end([&] {
    wait_until_stopping(pool);
    tasks->let_go();
  });
  CHECK_TRUE(pool.stop(in(5s)));
  end.join();
  LONGS_EQUAL(3, tasks->ended);
  pool.run(quick());
  std::this_thread::sleep_for(10ms);
  LONGS_EQUAL(3, tasks->ended);
}

TEST(ReadingPool, waits_no_longer_than_it_was_told) {
  auto asked = ReadingPool::Clock::now();
  {
    ReadingPool pool(count_shortages(), rules(10ms, 60s));
    for (int i = 0; i < 10; ++i) pool.run(hanging());
    wait_until([this] { return tasks->running == 10; });
    asked = ReadingPool::Clock::now();
    CHECK_FALSE(pool.stop(in(100ms)));
  }
  CHECK_TRUE(ReadingPool::Clock::now() - asked < 3s);
  tasks->let_go();
  wait_until([this] { return tasks->ended == 10; });
  std::this_thread::sleep_for(20ms);
}

TEST(ReadingPool, can_be_used_and_stopped_from_many_threads) {
  ReadingPool pool(count_shortages(), rules(1ms, 1ms));
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i)
      threads.emplace_back([&] {
        for (int j = 0; j < 200; ++j) pool.run(quick());
      });
    std::this_thread::sleep_for(20ms);
    CHECK_TRUE(pool.stop(in(5s)));
  }
  LONGS_EQUAL(0, tasks->running);
  LONGS_EQUAL(0, shortages);
}
