// What is said of a cleanup in the log and by notifications, and how loud. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/cleanup.hpp"
#include "core/cleanup_policy.hpp"
#include "plugin/cleanup_run.hpp"
#include "plugin/hook_output.hpp"
#include "plugin/settings.hpp"

namespace django_session::plugin {

struct LogLine {
  LogLevel level;
  std::string text;
};

/// What is said once of a <Cleanup>, while the configuration is read. An empty one can't be told
/// from none: collectd leaves it out before we see it.
std::vector<LogLine> introduction_of(const DatabaseSettings& settings);

struct Ending {
  Severity severity;
  LogLevel level;
  std::string_view word;
};

/// What a trouble weighs that was told and isn't over.
Severity severity_of(std::optional<Outcome> trouble);

/// `trouble`: as above. `left_in_a_row`: how many cleanups, this one the last, have been left to
/// another one that was at work.
Ending ending_of(const CleanupResult& result, std::optional<Outcome> trouble, int left_in_a_row);

std::string start_text(const CleanupRun& run, const CleanupCause& cause);
std::string end_text(const CleanupRun& run, const CleanupResult& result, const Ending& ending);

/// That the trouble is over, as the decision says.
std::string over_text(const CleanupDecision& decision);

}  // namespace django_session::plugin
