// Who runs which task, and when threads come and go.
#include "plugin/reading_pool.hpp"

#include <algorithm>
#include <deque>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "core/mutex.hpp"
#include "plugin/worker.hpp"

namespace django_session::plugin {

/// A thread. It has a task from when it was given one to that one's end, and runs it without the
/// mutex, under which all else is used.
struct ReadingPool::Worker {
  Condition wake;
  Task task;
  bool has_task = false, is_quick = false;
  Clock::time_point began;
};

struct ReadingPool::Shared : std::enable_shared_from_this<Shared> {
  struct Waiting {
    Task task;
    bool is_quick;
  };

  Shared(Rules the_rules, std::function<void(const std::string&)> tell)
      : rules(the_rules), on_shortage(std::move(tell)), allowed(rules.few) {}

  const Rules rules;
  const std::function<void(const std::string&)> on_shortage;  ///< called without the mutex

  Mutex mutex;
  std::deque<Waiting> waiting GUARDED_BY(mutex);
  std::size_t running GUARDED_BY(mutex) = 0;  ///< of the quick ones
  /// Of the quick ones at a time: the few, and as many as are stuck.
  std::size_t allowed GUARDED_BY(mutex);
  bool one_has_ended GUARDED_BY(mutex) = false;  ///< since the watcher looked
  std::vector<std::shared_ptr<Worker>> workers GUARDED_BY(mutex);
  /// Last in, first out: so that a surplus has nothing to do, and goes.
  std::vector<Worker*> idle GUARDED_BY(mutex);
  bool watcher_runs GUARDED_BY(mutex) = false, watcher_rests GUARDED_BY(mutex) = false;
  Condition backlog;  ///< the watcher has something to do
  Condition ended;    ///< a worker or the watcher is gone
  bool stopping GUARDED_BY(mutex) = false, told_of_shortage GUARDED_BY(mutex) = false;

  void add(Task task, bool is_quick) REQUIRES(mutex);
  bool may_run(const Waiting& next) const REQUIRES(mutex) {
    return !next.is_quick || running < allowed;
  }
  void give_next_task() REQUIRES(mutex);
  void give(Worker& worker, Waiting next) REQUIRES(mutex);
  void start_worker() REQUIRES(mutex);
  void work(const std::shared_ptr<Worker>& worker);
  bool wait_for_task(Worker& worker) REQUIRES(mutex);
  void run_task(Worker& worker) REQUIRES(mutex);
  void wake_watcher() REQUIRES(mutex);
  void watch();
  bool await_a_stall() REQUIRES(mutex);
  void allow_as_many_as_are_stuck() REQUIRES(mutex);
  void catch_up() REQUIRES(mutex);
  bool stop(Clock::time_point give_up);
};

void ReadingPool::Shared::add(Task task, bool is_quick) {
  waiting.push_back({std::move(task), is_quick});
  if (waiting.size() == 1) one_has_ended = false;
  try {
    // A long one doesn't wait behind quick ones.
    if (!is_quick) std::rotate(waiting.begin(), waiting.end() - 1, waiting.end());
    if (may_run(waiting.front())) give_next_task();
  } catch (const std::system_error&) {
    if (workers.empty()) {
      waiting.pop_front();
      throw;
    }
  }
  if (!waiting.empty()) wake_watcher();
}

/// Throws std::system_error when that needs a thread that can't be started.
void ReadingPool::Shared::give_next_task() {
  if (idle.empty()) start_worker();
  Worker& worker = *idle.back();
  idle.pop_back();
  Waiting next = std::move(waiting.front());
  waiting.pop_front();
  give(worker, std::move(next));
  worker.wake.notify_one();
}

void ReadingPool::Shared::give(Worker& worker, Waiting next) {
  worker.task = std::move(next.task);
  worker.has_task = true;
  worker.is_quick = next.is_quick;
  worker.began = Clock::now();
  if (next.is_quick) ++running;
}

/// It is idle at first.
void ReadingPool::Shared::start_worker() {
  workers.push_back(std::make_shared<Worker>());
  try {
    std::thread([shared = shared_from_this(), worker = workers.back()] {
      block_signals();
      shared->work(worker);
    }).detach();
  } catch (...) {
    workers.pop_back();
    throw;
  }
  idle.push_back(workers.back().get());
  told_of_shortage = false;
}

void ReadingPool::Shared::work(const std::shared_ptr<Worker>& worker) {
  const Lock lock(mutex);
  while (wait_for_task(*worker)) {
    do run_task(*worker);
    while (worker->has_task);
    if (!stopping) idle.push_back(worker.get());
  }
  std::erase(workers, worker);
  ended.notify_all();
}

/// For a worker that is idle. False when it is to go.
bool ReadingPool::Shared::wait_for_task(Worker& worker) {
  auto kept_until = Clock::now() + rules.keep;
  while (!worker.has_task && !stopping) {
    if (worker.wake.wait_until(mutex, kept_until)) continue;
    if (workers.size() > rules.few) break;
    kept_until = Clock::now() + rules.keep;
  }
  if (!worker.has_task) std::erase(idle, &worker);
  return worker.has_task;
}

/// Runs its task, and takes the next one, if there is one for it.
void ReadingPool::Shared::run_task(Worker& worker) {
  {
    const Unlocked while_it_runs(mutex);
    worker.task();
    worker.task = nullptr;  // what it owns may take long to free, or lock
  }
  worker.has_task = false;
  one_has_ended = true;
  if (worker.is_quick) --running;
  if (stopping || waiting.empty() || !may_run(waiting.front())) return;
  give(worker, std::move(waiting.front()));
  waiting.pop_front();
}

void ReadingPool::Shared::wake_watcher() {
  if (watcher_rests) backlog.notify_one();
  if (watcher_runs) return;
  try {
    std::thread([shared = shared_from_this()] {
      block_signals();
      shared->watch();
    }).detach();
    watcher_runs = true;
  } catch (const std::system_error&) {
    // The workers that there are will come to it, and the next task tries again.
  }
}

/// Looks after tasks that wait, in a thread of its own.
void ReadingPool::Shared::watch() {
  const Lock lock(mutex);
  while (await_a_stall()) {
    allow_as_many_as_are_stuck();
    catch_up();
  }
  watcher_runs = false;
  ended.notify_all();
}

/// False when all is to end.
bool ReadingPool::Shared::await_a_stall() {
  if (waiting.empty()) allowed = rules.few;
  watcher_rests = true;
  while (!stopping && waiting.empty()) backlog.wait(mutex);
  watcher_rests = false;
  const auto stalled = Clock::now() + rules.stall;
  while (!stopping && backlog.wait_until(mutex, stalled)) continue;
  return !stopping;
}

/// Where nothing at all comes to its end, twice as many: so sixty databases that begin to hang
/// together hold up the others for four looks, once.
void ReadingPool::Shared::allow_as_many_as_are_stuck() {
  const auto now = Clock::now();
  const auto stuck = static_cast<std::size_t>(
      std::count_if(workers.begin(), workers.end(), [&](const std::shared_ptr<Worker>& worker) {
        return worker->has_task && worker->is_quick && now - worker->began >= rules.long_after;
      }));
  allowed = rules.few + stuck;
  if (!std::exchange(one_has_ended, false)) allowed = std::max(allowed, 2 * running);
}

void ReadingPool::Shared::catch_up() try {
  while (!waiting.empty() && may_run(waiting.front())) give_next_task();
} catch (const std::system_error& error) {
  if (std::exchange(told_of_shortage, true)) return;
  const std::string reason = error.code().message();
  const Unlocked while_it_is_said(mutex);
  on_shortage(reason);
}

bool ReadingPool::Shared::stop(Clock::time_point give_up) {
  std::deque<Waiting> dropped;  // freed after the lock
  const Lock lock(mutex);
  stopping = true;
  dropped.swap(waiting);
  for (const std::shared_ptr<Worker>& worker : workers) worker->wake.notify_one();
  backlog.notify_all();
  const auto runs = [this]() REQUIRES(mutex) { return !workers.empty() || watcher_runs; };
  while (runs() && ended.wait_until(mutex, give_up)) continue;
  return !runs();
}

ReadingPool::ReadingPool(std::function<void(const std::string&)> on_shortage, Rules rules)
    : shared_(std::make_shared<Shared>(rules, std::move(on_shortage))) {}

ReadingPool::~ReadingPool() { stop(Clock::now()); }

void ReadingPool::run(Task task, Expected expected) {
  const Lock lock(shared_->mutex);
  if (!shared_->stopping) shared_->add(std::move(task), expected == Expected::quick);
}

bool ReadingPool::stop(Clock::time_point give_up) { return shared_->stop(give_up); }

}  // namespace django_session::plugin
