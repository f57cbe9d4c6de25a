// The write hook of one <Database>: takes values as they arrive, starts a cleanup when one is due,
// and reports what came of it.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "plugin/cleanup_run.hpp"
#include "plugin/hook_output.hpp"
#include "plugin/samples.hpp"
#include "plugin/settings.hpp"
#include "plugin/worker.hpp"

namespace django_session::plugin {

/// collectd's identifier of a value, its own plugin's name left out, and where it comes from. The
/// host is what the sender says.
struct ValueName {
  std::string_view host, plugin_instance, type, type_instance;
  bool measured_here = false;    ///< by this very daemon
  bool names_this_host = false;  ///< no matter which daemon measured it
};

/// All members may be called in any thread at any time.
class Hook {
 public:
  /// `arriving_instance`: the plugin instance as it stands in arriving values.
  Hook(const DatabaseSettings& settings, std::string arriving_instance, const HookOutput& output,
       CleanupRun run);

  /// Resumes the waits that its file in `folder` has, and keeps them there from now on. To be
  /// called before the first value.
  void recall(const std::filesystem::path& folder);

  /// Judges a value if it is meant for this hook. Never waits: a cleanup that is due runs in a
  /// thread of its own.
  void on_value(const ValueName& name, double value);

  /// The cleanups so far, the last one, and whether one is running.
  Samples samples() const;

  /// Starts no further cleanup, and asks a running one to end. Returns at once. It is waited for in
  /// join(), until the block's Timeout and most of a second have passed.
  void request_stop();

  /// Waits for the end of what runs, as long as that. After it an abandoned cleanup says nothing
  /// more.
  void join();

 private:
  struct Shared;

  bool is_meant(const ValueName& name) const;
  bool is_false(const ValueName& name) const;
  void start(CleanupCause cause);
  void settle(const CleanupDecision& decision);

  std::string host_, instance_;
  std::chrono::milliseconds stop_time_;
  std::shared_ptr<Shared> shared_;
  std::string past_file_name_;
  Worker worker_;
};

/// The clocks of this machine.
Moment current_moment();

}  // namespace django_session::plugin
