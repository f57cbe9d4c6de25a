// The thread in which one <Database>'s cleanups run, one at a time.
#pragma once

#include <functional>
#include <memory>
#include <thread>

#include "plugin/stop_signal.hpp"

namespace django_session::plugin {

/// For a new thread: collectd's signals are for its main thread.
void block_signals();

/// There is a thread only while a task runs: the first one starts with the first task, never while
/// the configuration is read (collectd forks after that). start(), request_stop() and join() may be
/// called from any thread.
class Worker {
 public:
  using Clock = StopSignal::Clock;

  /// What runs. It asks the signal often, owns whatever it uses (see join()) and throws nothing.
  using Task = std::function<void(const StopSignal& stop)>;

  Worker();
  ~Worker();  ///< as join(), with nothing left to wait for
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// Starts a task and returns at once. False if one is running, or the end was asked for. Throws
  /// std::system_error when there can be no further thread.
  bool start(Task task);

  /// Asks the running task to end, and takes no further one. Returns at once. The first request's
  /// `give_up` counts.
  void request_stop(Clock::time_point give_up);

  /// After request_stop(): waits for the task's end until `give_up`. False if it hasn't ended by
  /// then: its thread is let go, since a daemon that can't be stopped is worse than a cleanup
  /// that is cut off.
  bool join();

 private:
  struct Shared;

  static void run(const std::shared_ptr<Shared>& shared, const Task& task);

  std::shared_ptr<Shared> shared_;
};

}  // namespace django_session::plugin
