// Who takes which task, and when threads come and go.
#include "plugin/reading_pool.hpp"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "plugin/worker.hpp"

namespace django_session::plugin {

struct ReadingPool::Worker {
  std::condition_variable wake;
  bool woken = false;
  std::optional<Clock::time_point> began;  ///< while a task runs
};

/// All under the mutex, but for running tasks and telling of a shortage.
struct ReadingPool::Shared : std::enable_shared_from_this<Shared> {
  using Lock = std::unique_lock<std::mutex>;

  Rules rules;
  std::function<void(const std::string&)> on_shortage;
  std::mutex mutex;
  std::deque<Task> waiting;
  std::vector<std::shared_ptr<Worker>> workers;
  std::vector<Worker*> idle;  ///< last in, first out: so that a surplus has nothing to do, and goes
  bool watcher_runs = false, watcher_rests = false;
  std::condition_variable backlog;  ///< the watcher has something to do
  std::condition_variable ended;    ///< a worker or the watcher is gone
  bool stopping = false, told_of_shortage = false;

  void add(Task task);
  void wake_a_worker();
  void start_worker();
  void work(const std::shared_ptr<Worker>& worker);
  bool wait_for_task(Worker& worker, Lock& lock);
  void run_next_task(Worker& worker, Lock& lock);
  void start_watcher();
  void watch();
  std::size_t workers_wanted() const;
  void start_wanted_workers(Lock& lock);
  bool stop(Clock::time_point give_up);
};

void ReadingPool::Shared::add(Task task) {
  waiting.push_back(std::move(task));
  if (!idle.empty()) {
    wake_a_worker();
  } else if (workers.size() < rules.few) {
    try {
      start_worker();
    } catch (const std::system_error&) {
      if (!workers.empty()) return;  // those that there are will take it
      waiting.pop_back();
      throw;
    }
  } else {
    if (!watcher_runs) start_watcher();
    if (watcher_rests) backlog.notify_one();
  }
}

void ReadingPool::Shared::wake_a_worker() {
  Worker& worker = *idle.back();
  idle.pop_back();
  worker.woken = true;
  worker.wake.notify_one();
}

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
  told_of_shortage = false;
}

void ReadingPool::Shared::work(const std::shared_ptr<Worker>& worker) {
  Lock lock(mutex);
  while (wait_for_task(*worker, lock)) run_next_task(*worker, lock);
  std::erase(workers, worker);
  ended.notify_all();
}

/// False when the worker is to go.
bool ReadingPool::Shared::wait_for_task(Worker& worker, Lock& lock) {
  while (!stopping && waiting.empty()) {
    idle.push_back(&worker);
    worker.wake.wait_for(lock, rules.keep, [&] { return worker.woken || stopping; });
    if (!std::exchange(worker.woken, false)) {
      std::erase(idle, &worker);
      if (workers.size() > rules.few) return false;
    }
  }
  return !stopping;
}

void ReadingPool::Shared::run_next_task(Worker& worker, Lock& lock) {
  Task task = std::move(waiting.front());
  waiting.pop_front();
  worker.began = Clock::now();
  lock.unlock();
  task();
  task = nullptr;  // what it owns may take long to free, or lock
  lock.lock();
  worker.began.reset();
}

void ReadingPool::Shared::start_watcher() try {
  std::thread([shared = shared_from_this()] {
    block_signals();
    shared->watch();
  }).detach();
  watcher_runs = true;
} catch (const std::system_error&) {
  // Those that there are will come to it, and the next task tries again.
}

/// Adds workers where tasks wait behind others that take long.
void ReadingPool::Shared::watch() {
  Lock lock(mutex);
  while (!stopping) {
    watcher_rests = true;
    backlog.wait(lock, [this] { return stopping || !waiting.empty(); });
    watcher_rests = false;
    backlog.wait_for(lock, rules.long_after, [this] { return stopping; });
    if (!stopping) start_wanted_workers(lock);
  }
  watcher_runs = false;
  ended.notify_all();
}

/// As few as usual beside those that take long. Where all do, there will be four times as many: so
/// it takes three steps until hundreds of databases that hang are all being read.
std::size_t ReadingPool::Shared::workers_wanted() const {
  const auto now = Clock::now();
  const auto slow = static_cast<std::size_t>(
      std::count_if(workers.begin(), workers.end(), [&](const std::shared_ptr<Worker>& worker) {
        return worker->began && now - *worker->began >= rules.long_after;
      }));
  const std::size_t wanted = slow == workers.size() ? 4 * slow : slow + rules.few;
  return std::min(wanted, workers.size() + waiting.size());
}

void ReadingPool::Shared::start_wanted_workers(Lock& lock) try {
  const std::size_t wanted = workers_wanted();
  while (workers.size() < wanted) start_worker();
} catch (const std::system_error& error) {
  if (std::exchange(told_of_shortage, true)) return;
  const std::string reason = error.code().message();
  lock.unlock();
  on_shortage(reason);
  lock.lock();
}

bool ReadingPool::Shared::stop(Clock::time_point give_up) {
  std::deque<Task> dropped;  // freed after the lock
  Lock lock(mutex);
  stopping = true;
  dropped.swap(waiting);
  for (Worker* worker : idle) worker->wake.notify_one();
  backlog.notify_all();
  return ended.wait_until(lock, give_up, [this] { return workers.empty() && !watcher_runs; });
}

ReadingPool::ReadingPool(std::function<void(const std::string&)> on_shortage, Rules rules)
    : shared_(std::make_shared<Shared>()) {
  shared_->rules = rules;
  shared_->on_shortage = std::move(on_shortage);
}

ReadingPool::~ReadingPool() { stop(Clock::now()); }

void ReadingPool::run(Task task) {
  const std::lock_guard lock(shared_->mutex);
  if (!shared_->stopping) shared_->add(std::move(task));
}

bool ReadingPool::stop(Clock::time_point give_up) { return shared_->stop(give_up); }

}  // namespace django_session::plugin
