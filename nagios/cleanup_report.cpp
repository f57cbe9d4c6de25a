// Plan and result as text.
#include "cleanup_report.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/metric.hpp"
#include "core/perfdata.hpp"
#include "core/quantity.hpp"
#include "line_text.hpp"

namespace django_session::nagios {
namespace {

std::string rows(double number) { return format_quantity(number, Unit::rows); }
std::string bytes(double number) { return format_quantity(number, Unit::bytes); }

std::string line(const std::string& label, const std::string& text) {
  return fmt::format("  {:<10} {}\n", label, plain_line(text));
}

std::string refusal_text(const Refusal& refusal) {
  if (refusal.object.empty()) return refusal.reason;
  return refusal.object + " " + refusal.reason;
}

std::string refusals_text(const CleanupPlan& plan) {
  if (plan.refusals.empty()) return "";
  std::string text = "Not possible:\n";
  for (const Refusal& refusal : plan.refusals)
    text += line(std::string(method_name(refusal.method)), refusal_text(refusal));
  return text;
}

std::string notes_text(const CleanupPlan& plan) {
  std::string text;
  for (const std::string& note : plan.notes) text += line("note", note);
  return text;
}

std::string work_text(const CleanupPlan& plan) {
  return line("sessions",
              fmt::format("{} expired, {} live", rows(plan.expired_rows), rows(plan.live_rows))) +
         line("size", fmt::format("{} now, about {} afterwards", bytes(plan.bytes_before),
                                  bytes(plan.bytes_after))) +
         line("needs", fmt::format("{} of disk in between, and writes about {} of WAL",
                                   bytes(plan.extra_disk_bytes), bytes(plan.wal_bytes)));
}

std::string_view outcome_name(Outcome outcome) {
  switch (outcome) {
    case Outcome::done:
      return "DONE";
    case Outcome::stopped:
      return "STOPPED";
    case Outcome::failed:
      return "FAILED";
    case Outcome::refused:
      break;
  }
  return "REFUSED";
}

std::string seconds_entry(std::string_view label, std::chrono::milliseconds time) {
  return fmt::format("{}={:.3f}s", label, std::chrono::duration<double>(time).count());
}

std::string perfdata_of(const CleanupResult& result) {
  const double reclaimed = std::max(0.0, result.bytes_before - result.bytes_after);
  return fmt::format("{} {} {} {} {} {}",
                     perfdata_entry("deleted", result.rows_deleted, Unit::rows),
                     perfdata_entry("before", result.bytes_before, Unit::bytes),
                     perfdata_entry("after", result.bytes_after, Unit::bytes),
                     perfdata_entry("reclaimed", reclaimed, Unit::bytes),
                     seconds_entry("duration", result.duration),
                     seconds_entry("longest_lock", result.longest_lock));
}

}  // namespace

std::string write_plan(const std::string& table, const CleanupPlan& plan) {
  std::string text = fmt::format("Plan for {}\n", plain_line(table));
  text += plan.refused
              ? line("refused", plan.reason)
              : line("method", fmt::format("{}: {}", method_name(plan.method), plan.reason));
  return text + work_text(plan) + notes_text(plan) + refusals_text(plan);
}

std::string write_summary(const CleanupResult& result) {
  return fmt::format("DJANGO_SESSION_CLEANUP {} - {} | {}\n", outcome_name(result.outcome),
                     plain_line(result.message), perfdata_of(result));
}

}  // namespace django_session::nagios
