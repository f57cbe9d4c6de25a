// Plan and result as text.
#include "cleanup_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include "core/cleanup_plan.hpp"
#include "core/metric.hpp"
#include "core/perfdata.hpp"
#include "core/printable.hpp"
#include "core/quantity.hpp"
#include "line_text.hpp"

namespace django_session::nagios {
namespace {

std::string rows(std::optional<double> number) { return quantity_text(number, Unit::rows); }
std::string bytes(std::optional<double> number) { return quantity_text(number, Unit::bytes); }
/// "about 585 MB"
std::string about(std::optional<double> number) { return (number ? "about " : "") + bytes(number); }

std::string line(const std::string& label, const std::string& text) {
  return fmt::format("  {:<10} {}\n", label, plain_line(text));
}

std::string refusal_text(const Refusal& refusal) {
  if (refusal.object.empty()) return refusal.reason;
  return refusal.object + " " + refusal.reason;
}

/// Each once, with the methods that it is in the way of.
std::string refusals_text(const CleanupPlan& plan) {
  std::vector<std::pair<std::string, std::string>> entries;  // reason, methods
  for (const Refusal& refusal : plan.refusals) {
    const std::string reason = refusal_text(refusal), method(method_name(refusal.method));
    const auto known = std::find_if(entries.begin(), entries.end(),
                                    [&](const auto& entry) { return entry.first == reason; });
    if (known == entries.end())
      entries.emplace_back(reason, method);
    else
      known->second += ", " + method;
  }
  std::string text = entries.empty() ? "" : "Not possible:\n";
  for (const auto& [reason, methods] : entries) text += line(methods, reason);
  return text;
}

std::string notes_text(const CleanupPlan& plan) {
  std::string text;
  for (const std::string& note : all_notes(plan)) text += line("note", note);
  return text;
}

std::string needs_text(const CleanupPlan& plan) {
  if (plan.nothing_to_do) return "nothing";
  if (!plan.extra_disk_bytes && !plan.wal_bytes) return "unknown";
  const std::string temporary =
      plan.temporary_bytes.value_or(0) > 0
          ? fmt::format(" ({} of it temporary files)", bytes(plan.temporary_bytes))
          : "";
  return fmt::format("{} of disk temporarily{}, and writes {} of WAL", bytes(plan.extra_disk_bytes),
                     temporary, about(plan.wal_bytes));
}

std::string fits_text(const CleanupPlan& plan) {
  if (plan.nothing_to_do) return "yes";
  if (!plan.free_disk_bytes) return "unknown: the server's disk is not visible from here";
  const std::string free = bytes(plan.free_disk_bytes) + " are free";
  if (!plan.fits && plan.disk.empty()) return "unknown: " + free;
  if (!plan.fits) return fmt::format("unknown: the disk of {} is not visible from here", plan.disk);
  if (*plan.fits) return "yes: " + free;
  return "no: only " + free + (plan.disk.empty() ? "" : " " + plan.disk);
}

/// "about 20 s to 3 min: ...", of which it says what it goes by.
std::string takes_text(const CleanupPlan& plan) {
  if (plan.nothing_to_do) return "no time";
  if (!plan.least_seconds || !plan.most_seconds) return "unknown";
  const auto text = [](double seconds) {
    return format_quantity(std::ceil(seconds), Unit::seconds);
  };
  return fmt::format(
      "about {} to {}, without waits for locks and replicas: half to four times as long as it took "
      "on two cores, all in memory{}",
      text(*plan.least_seconds), text(*plan.most_seconds),
      plan.method == Method::swap ? "; --rehearse measures it" : "");
}

/// "~29.1k" where it is an estimate.
std::string count(std::optional<double> number, bool counted) {
  return (number && !counted ? "~" : "") + rows(number);
}

std::string sessions_text(const CleanupPlan& plan) {
  const std::string expired = count(plan.expired_rows, plan.expired_is_counted),
                    live = count(plan.live_rows, plan.live_is_counted);
  if (plan.keep.count() == 0) return fmt::format("{} expired, {} live", expired, live);
  const auto keep = static_cast<double>(plan.keep.count());
  return fmt::format("{} that expired more than {} ago, {} others, which are kept", expired,
                     format_quantity(keep, Unit::seconds), live);
}

std::string work_text(const CleanupPlan& plan) {
  return line("sessions", sessions_text(plan)) +
         line("size", fmt::format("{} now, {} afterwards", bytes(plan.bytes_before),
                                  about(plan.bytes_after))) +
         line("needs", needs_text(plan)) + line("fits", fits_text(plan)) +
         (plan.refused ? "" : line("takes", takes_text(plan))) +
         (plan.unknown.empty() ? "" : line("unknown", plan.unknown));
}

std::string outline_text(const CleanupOutline& outline) {
  std::string text;
  for (const auto& [label, answer] : {std::pair("goes", &outline.goes),
                                      {"makes", &outline.makes},
                                      {"locks", &outline.locks},
                                      {"keeps", &outline.keeps},
                                      {"undo", &outline.undo}})
    if (!answer->empty()) text += line(label, *answer);
  return text;
}

/// Its lines are indented, so that none can be taken for one of ours, whatever is in a name.
std::string sql_text(const CleanupOutline& outline) {
  if (outline.sql.empty()) return "";
  std::string text = "SQL of the run, in this order (what only asks the catalogue is left out):\n";
  for (const std::string& message : outline.sql) {
    std::istringstream lines(message);
    for (std::string one; std::getline(lines, one);)
      text += one.empty() ? "\n" : "  " + without_controls(one, '?') + "\n";
  }
  return text;
}

/// "DONE", "STOPPED", "FAILED"
std::string capitals(std::string_view word) {
  std::string text(word);
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return text;
}

std::string seconds_entry(std::string_view label, std::chrono::milliseconds time) {
  return fmt::format("{}={:.3f}s", label, std::chrono::duration<double>(time).count());
}

/// With a space behind it; what isn't known is left out.
std::string known_entry(std::string_view label, std::optional<double> number, Unit unit) {
  return number ? std::string(perfdata_entry(label, *number, unit)) + " " : "";
}

std::string perfdata_of(const CleanupResult& result) {
  return known_entry("deleted", result.rows_deleted, Unit::rows) +
         known_entry("before", result.bytes_before, Unit::bytes) +
         known_entry("after", result.bytes_after, Unit::bytes) +
         known_entry("reclaimed", bytes_reclaimed_by(result), Unit::bytes) +
         seconds_entry("duration", result.duration) + " " +
         seconds_entry("longest_lock", result.longest_lock);
}

}  // namespace

std::string write_plan(const std::string& table, const DryRun& dry_run) {
  const auto& [plan, outline] = dry_run;
  std::string text = fmt::format("Plan for {}\n", plain_line(table));
  text += plan.refused
              ? line("refused", plan.reason)
              : line("method", fmt::format("{}: {}", method_name(plan.method), plan.reason));
  return text + work_text(plan) + outline_text(outline) + notes_text(plan) + refusals_text(plan) +
         sql_text(outline);
}

std::string write_summary(const CleanupResult& result, Audience audience) {
  const std::string perfdata =
      audience == Audience::monitoring ? " | " + perfdata_of(result) : std::string();
  return fmt::format("DJANGO_SESSION_CLEANUP {} - {}{}\n", capitals(outcome_name(result.outcome)),
                     plain_line(result.message), perfdata);
}

}  // namespace django_session::nagios
