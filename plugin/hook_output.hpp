// What a write hook needs of the world around it: collectd, or a test.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "core/cleanup_policy.hpp"
#include "plugin/cleanup_turns.hpp"
#include "plugin/reader.hpp"

namespace django_session::plugin {

enum class Severity { okay, warning, failure };

/// Called in several threads.
struct HookOutput {
  std::function<void(LogLevel, const std::string&)> log;
  /// May take its time: called in the cleanup's thread alone, and not once a stop was requested. At
  /// most 255 bytes.
  std::function<void(Severity, const std::string&)> notify;
  std::function<Moment()> now;
  std::shared_ptr<CleanupTurns> turns = std::make_shared<CleanupTurns>();  ///< all hooks' together
};

}  // namespace django_session::plugin
