// From what a cleanup did to words.
#include "plugin/cleanup_texts.hpp"

#include <fmt/format.h>

#include <chrono>

#include "core/quantity.hpp"

namespace django_session::plugin {
namespace {

// So often in a row may a cleanup find another one at work before someone should look at that.
constexpr int kOftenLeftToAnother = 3;

Ending ending_of(Outcome outcome) {
  switch (outcome) {
    case Outcome::done:
      return {Severity::okay, LogLevel::notice, "ended"};
    case Outcome::stopped:
      return {Severity::warning, LogLevel::warning, "stopped before its end"};
    case Outcome::refused:
      return {Severity::failure, LogLevel::error, "refused"};
    case Outcome::failed:
      break;
  }
  return {Severity::failure, LogLevel::error, "failed"};
}

std::string figures_of(const CleanupResult& result) {
  const double seconds = std::chrono::duration<double>(result.duration).count();
  return fmt::format(" ({} sessions deleted{}, {}, longest lock {} ms)", rows_deleted_text(result),
                     sizes_text(result, ", "), format_quantity(seconds, Unit::seconds),
                     result.longest_lock.count());
}

std::string triggers_text(const DatabaseSettings& settings) {
  std::string triggers;
  for (const auto& trigger : settings.cleanup->rules.triggers)
    triggers += (triggers.empty() ? "" : " or ") + trigger.text;
  return fmt::format("<Cleanup> waits for {} ({})", triggers, cleanup_name(settings));
}

/// Anyone who reaches the port of the network plugin can send values under any name.
std::string foreign_values_text(const std::string& host) {
  return fmt::format(
      "<Cleanup> obeys values of {} that arrive over the network. Let the network plugin accept "
      "only signed ones (Listen with SecurityLevel \"Sign\" and an AuthFile): anyone who reaches "
      "its port can forge the others",
      host == "*" ? "any host" : host);
}

}  // namespace

std::vector<LogLine> introduction_of(const DatabaseSettings& settings) {
  const CleanupSettings& cleanup = *settings.cleanup;
  std::vector<LogLine> lines = {{LogLevel::notice, triggers_text(settings)}};
  if (!cleanup.host.empty()) lines.push_back({LogLevel::notice, foreign_values_text(cleanup.host)});
  for (const std::string& warning : cleanup.warnings) lines.push_back({LogLevel::warning, warning});
  for (LogLine& line : lines) line.text = fmt::format("{}: {}", settings.instance, line.text);
  return lines;
}

Severity severity_of(std::optional<Outcome> trouble) {
  if (!trouble) return Severity::okay;
  return *trouble == Outcome::stopped ? Severity::warning : Severity::failure;
}

/// Another host's, or another program's, may have been quicker once, but hardly each time.
Ending ending_of(const CleanupResult& result, std::optional<Outcome> trouble, int left_in_a_row) {
  if (!result.left_to_another) return ending_of(result.outcome);
  constexpr std::string_view kWord = "put off";
  if (left_in_a_row >= kOftenLeftToAnother) return {Severity::warning, LogLevel::warning, kWord};
  return {severity_of(trouble), LogLevel::notice, kWord};
}

std::string start_text(const CleanupRun& run, const CleanupCause& cause) {
  return fmt::format("cleanup starts ({}): {}", run.what, cause.reason);
}

std::string end_text(const CleanupRun& run, const CleanupResult& result, const Ending& ending) {
  // The message of one that was done has the figures already.
  const bool adds_figures =
      run.has_figures && result.outcome == Outcome::stopped && !result.left_to_another;
  return fmt::format("cleanup {}: {}{}", ending.word, result.message,
                     adds_figures ? figures_of(result) : "");
}

std::string over_text(const CleanupDecision& decision) {
  return fmt::format("cleanup no longer needed: {} (the last one: {})", decision.reason,
                     ending_of(*decision.trouble).word);
}

}  // namespace django_session::plugin
