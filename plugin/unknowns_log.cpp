// The log's last word follows the values, except for what it has said within the hour.
#include "plugin/unknowns_log.hpp"

#include "plugin/outage_log.hpp"

namespace django_session::plugin {
namespace {

constexpr std::chrono::hours kRest(1);

}  // namespace

std::optional<UnknownsLog::Line> UnknownsLog::next(const std::string& reasons, Time now) {
  const std::string causes = cause_of(reasons);
  if (causes == standing_) return std::nullopt;
  if (reasons.empty()) {
    standing_.clear();
    return Line{false, "all values are known again"};
  }
  std::erase_if(said_, [now](const auto& said) { return now - said.second >= kRest; });
  if (!said_.emplace(causes, now).second) return std::nullopt;
  standing_ = causes;
  return Line{true, "some values are unknown: " + reasons};
}

}  // namespace django_session::plugin
