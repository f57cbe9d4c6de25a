// Starting, asking to stop, and waiting no longer than was promised.
#include "plugin/worker.hpp"

#include <condition_variable>
#include <csignal>
#include <mutex>
#include <utility>

namespace django_session::plugin {

void block_signals() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
}

/// Outlives the Worker if its thread had to be let go.
struct Worker::Shared {
  StopSignal stop;
  std::mutex mutex;
  std::condition_variable ended;
  bool running = false;
  std::thread thread;
};

Worker::Worker() : shared_(std::make_shared<Shared>()) {}

Worker::~Worker() {
  request_stop(Clock::now());
  join();
}

bool Worker::start(Task task) {
  const std::lock_guard lock(shared_->mutex);
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
  const std::lock_guard lock(shared->mutex);
  shared->running = false;
  shared->ended.notify_all();
}

void Worker::request_stop(Clock::time_point give_up) { shared_->stop.request(give_up); }

bool Worker::join() {
  std::unique_lock lock(shared_->mutex);
  const bool ended = shared_->ended.wait_until(lock, shared_->stop.give_up(),
                                               [this] { return !shared_->running; });
  if (!shared_->thread.joinable()) return ended;
  if (ended)
    shared_->thread.join();
  else
    shared_->thread.detach();
  return ended;
}

}  // namespace django_session::plugin
