// The write hook of one <Database>: takes values as they arrive, starts a cleanup when one is due,
// and tells what came of it.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/cleanup_policy.hpp"
#include "plugin/cleanup_run.hpp"
#include "plugin/cleanup_turns.hpp"
#include "plugin/reader.hpp"
#include "plugin/samples.hpp"
#include "plugin/settings.hpp"
#include "plugin/worker.hpp"

namespace django_session::plugin {

enum class Severity { okay, warning, failure };

/// What the hook needs of the world around it: collectd, or a test. Called in several threads.
struct HookOutput {
  std::function<void(LogLevel, const std::string&)> log;
  /// May take its time: called in the cleanup's thread alone, and not once a stop was requested. At
  /// most 255 bytes.
  std::function<void(Severity, const std::string&)> notify;
  std::function<Moment()> now;
  std::shared_ptr<CleanupTurns> turns = std::make_shared<CleanupTurns>();  ///< all hooks' together
};

/// collectd's identifier of a value, its own plugin's name left out, and where it comes from. The
/// host is what whoever sent it says.
struct ValueName {
  std::string_view host, plugin_instance, type, type_instance;
  bool measured_here = false;    ///< by this very daemon
  bool names_this_host = false;  ///< whoever measured it
};

/// All members may be called in any thread at any time.
class Hook {
 public:
  /// `arriving_instance`: the plugin instance as it stands in arriving values.
  Hook(const DatabaseSettings& settings, std::string arriving_instance, HookOutput output,
       CleanupRun run);

  /// Goes on with the waits that its file in `folder` tells of, and keeps them there from now on.
  /// To be called before the first value.
  void recall(const std::filesystem::path& folder);

  /// Judges a value if it is meant for this hook. Never waits: a cleanup that is due runs in a
  /// thread of its own.
  void on_value(const ValueName& name, double value);

  /// The cleanups so far, the last one, and whether one is under way.
  Samples samples() const;

  /// Starts no cleanup any more, and asks a running one to end. Returns at once. It is waited for
  /// in join(), until the block's Timeout and a second have passed since the daemon began to stop,
  /// which was `ago` before now.
  void request_stop(std::chrono::milliseconds ago = std::chrono::milliseconds(0));

  /// Waits for the end of what runs, as long as that. After it a cleanup that is cut off says
  /// nothing any more.
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
  Worker worker_;
};

/// The clocks of this machine.
Moment current_moment();

}  // namespace django_session::plugin
