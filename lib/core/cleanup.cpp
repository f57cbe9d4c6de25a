// The names of the methods, in options and in messages.
#include "core/cleanup.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/config_error.hpp"
#include "core/quantity.hpp"
#include "core/secret.hpp"

namespace django_session {
namespace {

struct MethodName {
  Method method;
  std::string_view name;
};

constexpr std::array<MethodName, 4> kMethods = {{
    {Method::automatic, "auto"},
    {Method::remove, "delete"},
    {Method::swap, "swap"},
    {Method::full, "full"},
}};

}  // namespace

std::string_view method_name(Method method) {
  const auto* found = std::find_if(kMethods.begin(), kMethods.end(),
                                   [method](const auto& known) { return known.method == method; });
  return found->name;
}

Method parse_method(std::string_view name) {
  const auto* found = std::find_if(kMethods.begin(), kMethods.end(),
                                   [name](const auto& known) { return known.name == name; });
  if (found == kMethods.end())
    throw ConfigError(fmt::format(
        "unknown method \"{}\"; valid methods are auto, delete, swap, full", repeatable(name)));
  return found->method;
}

std::string_view outcome_name(Outcome outcome) {
  switch (outcome) {
    case Outcome::done:
      return "done";
    case Outcome::stopped:
      return "stopped";
    case Outcome::failed:
      return "failed";
    case Outcome::refused:
      break;
  }
  return "refused";
}

std::optional<double> bytes_reclaimed_by(const CleanupResult& result) {
  if (!result.bytes_before || !result.bytes_after) return std::nullopt;
  return std::max(0.0, *result.bytes_before - *result.bytes_after);
}

std::string rows_deleted_text(const CleanupResult& result) {
  const bool is_estimate =
      result.method == Method::swap && result.rows_deleted && *result.rows_deleted > 0;
  return (is_estimate ? "~" : "") + quantity_text(result.rows_deleted, Unit::rows);
}

std::string sizes_text(const CleanupResult& result, std::string_view before) {
  if (!result.bytes_before || !result.bytes_after) return "";
  return fmt::format("{}{} -> {}", before, format_quantity(*result.bytes_before, Unit::bytes),
                     format_quantity(*result.bytes_after, Unit::bytes));
}

std::optional<double> share_of_phase(const CleanupProgress& progress) {
  if (progress.rows_total <= 0) return progress.share;
  return std::clamp(progress.rows / progress.rows_total, 0.0, 1.0);
}

std::string quantity_text(std::optional<double> number, Unit unit) {
  return number ? format_quantity(*number, unit) : "unknown";
}

}  // namespace django_session
