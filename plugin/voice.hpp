// What a hook says, in the log and by notifications, until its cleanup has to be let go.
#pragma once

#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <optional>
#include <string>

#include "core/mutex.hpp"
#include "plugin/hook_output.hpp"
#include "plugin/stop_signal.hpp"

namespace django_session::plugin {

/// Notifications and lines, but those of an exception, begin with the hook's Instance.
class Voice {
 public:
  Voice(std::string instance, HookOutput output)
      : instance_(std::move(instance)), output_(std::move(output)) {}

  /// A line of the log, in any thread but the cleanup's.
  void say(LogLevel level, const std::string& text) const;

  /// The same, in the cleanup's thread.
  void report(LogLevel level, const std::string& text) EXCLUDES(mutex_);

  /// What went wrong beside all else.
  void report(const std::exception& error) const;

  /// In the cleanup's thread: to the log and, unless the daemon stops, as a notification: when
  /// stopping, collectd unloads the plugins that it would go to.
  void tell(Severity severity, LogLevel level, const std::string& text, const StopSignal& stop)
      EXCLUDES(mutex_);

  /// Once for each notification that is taking too long: nothing else can be done in the cleanup's
  /// thread meanwhile.
  void note_hanging_notification(Moment now) EXCLUDES(mutex_);

  /// When the cleanup's thread has to be let go: nothing more is said in it, since the daemon then
  /// frees what the output goes through. Waits a moment for what is being said.
  void fall_silent() EXCLUDES(mutex_);

 private:
  using Time = std::chrono::steady_clock::time_point;
  class Speaking;

  void notify(Severity severity, const std::string& text) EXCLUDES(mutex_);
  void set_notifying_since(std::optional<Time> since) EXCLUDES(mutex_);

  const std::string instance_;
  const HookOutput output_;
  std::atomic<bool> is_silent_ = false;

  Mutex mutex_;  ///< never held while the output is called
  Condition silence_;
  bool speaking_ GUARDED_BY(mutex_) = false;  ///< the cleanup's thread is
  std::optional<Time> notifying_since_ GUARDED_BY(mutex_);
  bool hang_is_known_ GUARDED_BY(mutex_) = false;
};

}  // namespace django_session::plugin
