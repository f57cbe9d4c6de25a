// The threads in which readings run: few, unless readings hang.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

namespace django_session::plugin {

/// Runs tasks in threads of its own, in the order in which they came, a few at a time. Tasks that
/// take long are in nobody's way: those that are expected to run beside the few, and those that
/// turn out to don't count among them. Threads that have had nothing to do for a while go. The
/// first one starts with the first task, never while the configuration is read (collectd forks
/// after that). All members may be called in any thread.
class ReadingPool {
 public:
  using Clock = std::chrono::steady_clock;

  /// Throws nothing, and owns whatever it uses: it may have to be let go (see stop()).
  using Task = std::function<void()>;

  struct Rules {
    /// How many tasks run at a time while none takes long: what is due at the same time must not
    /// fall upon a server at the same time.
    std::size_t few = 5;
    std::chrono::milliseconds long_after{250};  ///< when a task counts as one that takes long
    std::chrono::milliseconds stall{100};       ///< how long tasks wait with none coming to its end
    std::chrono::milliseconds keep{20'000};     ///< when a thread with nothing to do goes
  };

  /// `on_shortage`: called once when tasks have to wait because no further thread can be started.
  explicit ReadingPool(std::function<void(const std::string& reason)> on_shortage)
      : ReadingPool(std::move(on_shortage), Rules()) {}
  ReadingPool(std::function<void(const std::string& reason)> on_shortage, Rules rules);
  ~ReadingPool();  ///< as stop(), with nothing left to wait for
  ReadingPool(const ReadingPool&) = delete;
  ReadingPool& operator=(const ReadingPool&) = delete;

  enum class Expected { quick, long_lasting };

  /// Returns at once. After stop() the task is dropped. Throws std::system_error when there can't
  /// be even one thread.
  void run(Task task, Expected expected = Expected::quick);

  /// Drops what waits, and returns when what runs has ended, or at `give_up`. False if something
  /// hasn't ended by then: its thread is let go.
  bool stop(Clock::time_point give_up);

 private:
  struct Worker;
  struct Shared;

  std::shared_ptr<Shared> shared_;  ///< outlives this where a thread was let go
};

}  // namespace django_session::plugin
