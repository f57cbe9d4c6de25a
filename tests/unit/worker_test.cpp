// One task at a time, in a thread that can be stopped in a bounded time.
#include "plugin/worker.hpp"

#include <poll.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

#include <CppUTest/TestHarness.h>

using namespace django_session::plugin;
using namespace std::chrono_literals;

namespace {

Worker::Clock::time_point in(std::chrono::milliseconds time) { return Worker::Clock::now() + time; }

void wait_until(const std::atomic<bool>& condition) {
  for (int i = 0; i < 500 && !condition; ++i) std::this_thread::sleep_for(10ms);
  CHECK_TRUE(condition);
}

/// Runs until it is asked to stop.
void run_until_stopped(const StopSignal& stop) {
  pollfd wait = {stop.descriptor(), POLLIN, 0};
  while (!stop.requested()) poll(&wait, 1, 10000);
}

}  // namespace

TEST_GROUP(Worker) {
  // Shared, since a thread that was let go may still use them.
  std::shared_ptr<std::atomic<bool>> begun = std::make_shared<std::atomic<bool>>(false);
  std::shared_ptr<std::atomic<bool>> ended = std::make_shared<std::atomic<bool>>(false);
};

TEST(Worker, runs_a_task_in_a_thread_of_its_own) {
  Worker worker;
  std::atomic<bool> elsewhere = false;
  const auto here = std::this_thread::get_id();
  CHECK_TRUE(worker.start([&](const StopSignal&) {
    elsewhere = std::this_thread::get_id() != here;
    *ended = true;
  }));
  wait_until(*ended);
  CHECK_TRUE(elsewhere);
}

TEST(Worker, takes_no_second_task_while_one_runs) {
  Worker worker;
  CHECK_TRUE(worker.start(run_until_stopped));
  CHECK_FALSE(worker.start([](const StopSignal&) {}));
  worker.request_stop(in(5s));
  CHECK_TRUE(worker.join());
}

TEST(Worker, takes_the_next_task_after_the_end_of_one) {
  Worker worker;
  std::atomic<int> runs = 0;
  for (int i = 0; i < 20; ++i) {
    std::atomic<bool> taken = false;
    while (!taken) taken = worker.start([&](const StopSignal&) { ++runs; });
  }
  worker.request_stop(in(5s));
  CHECK_TRUE(worker.join());
  LONGS_EQUAL(20, runs);
}

TEST(Worker, takes_no_task_after_the_request_to_stop) {
  Worker worker;
  worker.request_stop(in(1s));
  CHECK_FALSE(worker.start([](const StopSignal&) {}));
  CHECK_TRUE(worker.join());
}

TEST(Worker, ends_a_task_that_listens_at_once) {
  Worker worker;
  worker.start([this](const StopSignal& stop) {
    *begun = true;
    run_until_stopped(stop);
    *ended = true;
  });
  wait_until(*begun);
  const auto asked = Worker::Clock::now();
  worker.request_stop(in(10s));
  CHECK_TRUE(worker.join());
  CHECK_TRUE(*ended);
  CHECK_TRUE(Worker::Clock::now() - asked < 2s);
}

TEST(Worker, lets_a_task_go_that_does_not_listen) {
  std::atomic<bool> let_go = false;
  {
    Worker worker;
    worker.start([mine = begun, done = ended](const StopSignal& stop) {
      *mine = true;
      std::this_thread::sleep_for(700ms);
      *done = stop.requested();  // still there
    });
    wait_until(*begun);
    const auto asked = Worker::Clock::now();
    worker.request_stop(in(200ms));
    CHECK_FALSE(worker.join());
    let_go = Worker::Clock::now() - asked < 600ms;
  }
  CHECK_TRUE(let_go);
  wait_until(*ended);
  std::this_thread::sleep_for(50ms);
}

TEST(Worker, keeps_the_first_request_of_several) {
  Worker worker;
  worker.start([done = ended](const StopSignal&) {
    std::this_thread::sleep_for(500ms);
    *done = true;
  });
  worker.request_stop(in(100ms));
  worker.request_stop(in(60s));
  CHECK_FALSE(worker.join());
  wait_until(*ended);
  std::this_thread::sleep_for(50ms);
}

TEST(Worker, can_be_asked_and_started_from_many_threads) {
  Worker worker;
  std::atomic<int> runs = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 8; ++i)
      threads.emplace_back([&] {
        for (int j = 0; j < 50; ++j) worker.start([&](const StopSignal&) { ++runs; });
      });
    std::this_thread::sleep_for(2ms);
    worker.request_stop(in(5s));
  }
  CHECK_TRUE(worker.join());
  CHECK_TRUE(runs <= 400);
}
