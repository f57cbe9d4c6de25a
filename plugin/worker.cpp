// Starting, asking to stop, and waiting no longer than was promised.
#include "plugin/worker.hpp"

#include <csignal>
#include <utility>

#include "core/mutex.hpp"

namespace django_session::plugin {

void block_signals() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
}

/// Outlives the Worker if its thread had to be let go.
struct Worker::Shared {
  StopSignal stop;
  Mutex mutex;
  Condition ended;
  bool running GUARDED_BY(mutex) = false;
  std::thread thread GUARDED_BY(mutex);
};

Worker::Worker() : shared_(std::make_shared<Shared>()) {}

Worker::~Worker() {
  request_stop(Clock::now());
  join();
}

bool Worker::start(Task task) {
  const Lock lock(shared_->mutex);
  if (shared_->running || shared_->stop.requested()) return false;
  if (shared_->thread.joinable()) shared_->thread.join();  // its task has ended
  shared_->thread = std::thread([shared = shared_, task = std::move(task)]() mutable {
    block_signals();
    run(shared, task);
  });
  shared_->running = true;
  return true;
}

void Worker::run(const std::shared_ptr<Shared>& shared, const Task& task) {
  task(shared->stop);
  const Lock lock(shared->mutex);
  shared->running = false;
  shared->ended.notify_all();
}

void Worker::request_stop(Clock::time_point give_up) { shared_->stop.request(give_up); }

bool Worker::join() {
  const Lock lock(shared_->mutex);
  while (shared_->running && shared_->ended.wait_until(shared_->mutex, shared_->stop.give_up()))
    continue;
  const bool ended = !shared_->running;
  if (!shared_->thread.joinable()) return ended;
  if (ended)
    shared_->thread.join();
  else
    shared_->thread.detach();
  return ended;
}

}  // namespace django_session::plugin
