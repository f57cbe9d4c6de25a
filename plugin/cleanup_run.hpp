// What the write hook runs: the built-in cleanup, or the Command.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "core/cleanup.hpp"
#include "core/metric.hpp"
#include "plugin/reader.hpp"
#include "plugin/settings.hpp"
#include "plugin/stop_signal.hpp"

namespace django_session::plugin {

/// Why a cleanup starts.
struct CleanupCause {
  std::string host;  ///< as collectd names the host that the value came from
  Metric metric = Metric::total;
  double value = 0;
  std::string reason;  ///< one line
};

struct CleanupRun {
  std::string what;  ///< cleanup_name()
  /// Whether the result's rows, bytes and locks mean something; a program doesn't report them.
  bool has_figures = true;
  /// Runs it to its end, in the calling thread.
  std::function<CleanupResult(const CleanupCause& cause, const StopSignal& stop,
                              const std::function<void(const std::string& line)>& log)>
      run;
};

/// For messages: "method delete", "/usr/local/bin/clean".
std::string cleanup_name(const DatabaseSettings& settings);

/// By the settings, which must have a <Cleanup>. Throws ConfigError about the CommandUser.
CleanupRun cleanup_run(const DatabaseSettings& settings);

}  // namespace django_session::plugin
