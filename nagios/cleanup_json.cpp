// The keys are those of the perfdata and of the metrics. Names are kept as they are: as ASCII they
// can neither end the line nor be obeyed by a terminal.
#include "cleanup_json.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/cleanup_plan.hpp"

namespace django_session::nagios {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kMostExact = 9007199254740992.0;  // 2^53: a double is a whole number up to here

Json whole(std::optional<double> number) {
  if (!number || !(std::abs(*number) <= kMostExact)) return nullptr;
  return static_cast<std::int64_t>(std::llround(*number));
}

Json seconds(std::optional<double> number) {
  return number ? Json(std::round(*number * 1000) / 1000) : Json(nullptr);
}

Json seconds(std::chrono::milliseconds time) { return static_cast<double>(time.count()) / 1000; }

/// Until it is decided, auto is no method.
Json method(Method chosen) {
  if (chosen == Method::automatic) return nullptr;
  return method_name(chosen);
}

Json text_or_null(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

Json flag(std::optional<bool> known) { return known ? Json(*known) : Json(nullptr); }

/// By method: what is in its way.
Json refusals(const CleanupPlan& plan) {
  Json all;
  for (const Method method : {Method::remove, Method::swap, Method::full})
    all[std::string(method_name(method))] = Json::array();
  for (const Refusal& refusal : plan.refusals)
    all[std::string(method_name(refusal.method))].push_back(
        refusal.object.empty() ? refusal.reason : describe(refusal));
  return all;
}

/// In the form of ISO 8601.
Json moment(const std::string& utc) {
  if (utc.empty()) return nullptr;
  std::string text = utc + "Z";
  std::replace(text.begin(), text.end(), ' ', 'T');
  return text;
}

Json object_of(const std::string& table, const DryRun& dry_run) {
  const auto& [plan, outline] = dry_run;
  return {
      {"outcome", plan.refused ? outcome_name(Outcome::refused) : "planned"},
      {"message", plan.reason},
      {"table", table},
      {"method", method(plan.method)},
      {"nothing_to_do", plan.nothing_to_do},
      {"keep", plan.keep.count()},
      {"cutoff", moment(outline.cutoff)},
      {"live", whole(plan.live_rows)},
      {"live_is_counted", plan.live_is_counted},
      {"expired", whole(plan.expired_rows)},
      {"expired_is_counted", plan.expired_is_counted},
      {"before", whole(plan.bytes_before)},
      {"after", whole(plan.bytes_after)},
      {"extra_disk", whole(plan.extra_disk_bytes)},
      {"temporary_files", whole(plan.temporary_bytes)},
      {"wal", whole(plan.wal_bytes)},
      {"least_seconds", seconds(plan.least_seconds)},
      {"most_seconds", seconds(plan.most_seconds)},
      {"free_disk", whole(plan.free_disk_bytes)},
      {"fits", flag(plan.fits)},
      {"unknown", text_or_null(plan.unknown)},
      {"goes", text_or_null(outline.goes)},
      {"makes", text_or_null(outline.makes)},
      {"locks", text_or_null(outline.locks)},
      {"keeps", text_or_null(outline.keeps)},
      {"undo", text_or_null(outline.undo)},
      {"notes", all_notes(plan)},
      {"refusals", refusals(plan)},
      {"sql", outline.sql},
  };
}

std::string line(const Json& object) {
  constexpr int kOnOneLine = -1;
  constexpr bool kAscii = true;
  return object.dump(kOnOneLine, ' ', kAscii, Json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string plan_as_json(const std::string& table, const DryRun& dry_run) {
  return line(object_of(table, dry_run));
}

std::string run_as_json(const std::string& table, const EndedRun& run) {
  const CleanupResult& result = run.result;
  return line({
      {"outcome", outcome_name(result.outcome)},
      {"message", result.message},
      {"table", table},
      {"method", method(result.method)},
      {"deleted", whole(result.rows_deleted)},
      {"before", whole(result.bytes_before)},
      {"after", whole(result.bytes_after)},
      {"reclaimed", whole(bytes_reclaimed_by(result))},
      {"duration", seconds(result.duration)},
      {"longest_lock", seconds(result.longest_lock)},
      {"left_to_another", result.left_to_another},
      {"notes", run.notes},
      {"plan", run.plan ? object_of(table, *run.plan) : Json(nullptr)},
  });
}

std::string ending_as_json(Outcome outcome, const std::string& message) {
  return line({{"outcome", outcome_name(outcome)}, {"message", message}});
}

}  // namespace django_session::nagios
