// The rules of when a cleanup starts, in the order in which they are asked.
#include "core/cleanup_policy.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/config_error.hpp"
#include "core/quantity.hpp"

namespace django_session {
namespace {

using std::chrono::seconds;

constexpr seconds kLongestWait = std::chrono::hours(7 * 24);
constexpr seconds kShortestDoubledWait = std::chrono::minutes(1);  // doubling nothing gives nothing
constexpr long long kDay = 24 * 3600, kTwoDays = 2 * kDay;         // in seconds
constexpr int kMinutesOfDay = 24 * 60;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// "HH:MM" as minutes since midnight.
std::optional<int> minutes_of(std::string_view text) {
  if (text.size() != 5 || text[2] != ':') return std::nullopt;
  for (const std::size_t i : {0U, 1U, 3U, 4U})
    if (!is_digit(text[i])) return std::nullopt;
  const int hour = (text[0] - '0') * 10 + (text[1] - '0');
  const int minute = (text[3] - '0') * 10 + (text[4] - '0');
  const int minutes = hour * 60 + minute;
  if (minute > 59 || minutes > kMinutesOfDay) return std::nullopt;
  return minutes;
}

ConfigError no_window(std::string_view text, std::size_t position, std::string_view wrong) {
  return unreadable(text, position, "a window", wrong, "01:00-05:00");
}

std::string duration_text(std::chrono::steady_clock::duration duration) {
  return format_quantity(std::chrono::duration<double>(duration).count(), Unit::seconds);
}

std::string windows_text(const std::vector<TimeWindow>& windows) {
  std::string text;
  for (const TimeWindow& window : windows)
    text += (text.empty() ? "" : ", ") + format_window(window);
  return text;
}

std::string useless_text(int cleanups) {
  return cleanups == 1 ? "the last cleanup" : fmt::format("the last {} cleanups", cleanups);
}

/// Stopped on its way, but not for nothing: there is more to do.
bool got_on(const CleanupResult& result) {
  return result.outcome == Outcome::stopped &&
         (result.rows_deleted.value_or(0) > 0 || bytes_reclaimed_by(result).value_or(0) > 0);
}

}  // namespace

TimeWindow parse_window(std::string_view text) {
  const std::size_t dash = text.find('-');
  if (dash == std::string_view::npos) throw no_window(text, text.size(), "the '-' is missing");
  const std::optional<int> start = minutes_of(text.substr(0, dash));
  const std::optional<int> end = minutes_of(text.substr(dash + 1));
  if (!start || *start == kMinutesOfDay)
    throw no_window(text, 0, "a time of day has the form 01:00");
  if (!end) throw no_window(text, dash + 1, "a time of day has the form 01:00");
  if (*start == *end)
    throw no_window(text, 0, "it is empty (leave Window out to allow any time of day)");
  return {*start, *end};
}

std::string format_window(const TimeWindow& window) {
  return fmt::format("{:02}:{:02}-{:02}:{:02}", window.start / 60, window.start % 60,
                     window.end / 60, window.end % 60);
}

CleanupTrigger parse_trigger(std::string_view text) {
  return {parse_threshold(text, State::critical), std::string(text)};
}

bool can_hardly_end(Method method, Metric metric) {
  switch (metric) {
    case Metric::live:
      return true;
    case Metric::database:
    case Metric::database_percent:
    case Metric::table:
    case Metric::toast:
    case Metric::total:
    case Metric::reclaimable:
      return method == Method::remove;
    default:
      return false;
  }
}

std::optional<std::string> advice_on(const CleanupTrigger& trigger, Method method) {
  const Metric metric = trigger.threshold.metric;
  if (!can_hardly_end(method, metric)) return std::nullopt;
  if (metric == Metric::live)
    return fmt::format(
        "Trigger \"{}\": no cleanup deletes sessions that have not expired; use Trigger "
        "\"expired_percent=50\" with Method \"{}\"",
        trigger.text, method_name(method));
  return fmt::format(
      "Trigger \"{}\" with Method \"delete\": deleting frees space inside the table but gives the "
      "disk hardly any back, so each cleanup would wait longer than the one before; use Method "
      "\"auto\" with a role that may swap, or Trigger \"overdue=2d\"",
      trigger.text);
}

namespace {

/// Whether a range alerts on a session that has been expired for at most `keep`, in seconds.
bool alerts_on_kept(const Range& range, double keep) {
  // Between the range's borders and `keep` nothing changes.
  for (const double age : {keep, range.start, range.end, std::nextafter(range.end, keep + 1)})
    if (age > 0 && age <= keep && range.alerts(age)) return true;
  return false;
}

}  // namespace

void check_against_keep(const CleanupTrigger& trigger, std::chrono::seconds keep) {
  const Threshold& threshold = trigger.threshold;
  const auto kept = static_cast<double>(keep.count());
  if (threshold.metric != Metric::overdue || !alerts_on_kept(threshold.range, kept)) return;
  const long long beyond = keep.count() + kTwoDays;
  const std::string right =
      beyond % kDay == 0 ? fmt::format("{}d", beyond / kDay) : fmt::format("{}", beyond);
  throw ConfigError(
      fmt::format("\"{}\" can't be ended by a cleanup, because Keep spares sessions for {}; set "
                  "the Trigger above Keep, for example \"overdue={}\", or make Keep smaller",
                  trigger.text, format_quantity(kept, Unit::seconds), right));
}

std::optional<Metric> metric_of_sample(std::string_view type, std::string_view type_instance) {
  for (const MetricInfo& metric : all_metrics())
    if (type == metric.collectd_type && type_instance == metric.collectd_type_instance)
      return metric.metric;
  return std::nullopt;
}

const CleanupTrigger* CleanupPolicy::alerting_trigger(Metric metric, double value) const {
  for (const CleanupTrigger& trigger : rules_.triggers)
    if (trigger.threshold.metric == metric && trigger.threshold.range.alerts(value))
      return &trigger;
  return nullptr;
}

CleanupDecision CleanupPolicy::judge(const std::string& host, Metric metric, double value,
                                     Moment now) {
  if (!std::isfinite(value)) return {};
  const CleanupTrigger* trigger = alerting_trigger(metric, value);
  CleanupSource source{host, metric};
  if (trigger == nullptr) return judge_calm(source, value);
  cause_alerts_ = cause_alerts_ || cause_ == source;
  CleanupDecision decision = decide(now);
  decision.reason =
      fmt::format("{} is {} (Trigger \"{}\"){}", info(metric).name,
                  format_quantity(value, info(metric).unit), trigger->text, decision.reason);
  if (decision.verdict == Verdict::start) {
    running_ = cause_alerts_ = true;
    cause_ = std::move(source);
  }
  return decision;
}

CleanupDecision CleanupPolicy::judge_calm(const CleanupSource& source, double value) {
  if (cause_ != source) return {};
  cause_alerts_ = false;
  const bool is_old = history_.useless_cleanups == 0 && !history_.trouble;
  if (running_ || is_old) return {};
  before_ = std::exchange(history_, History{});
  return {Verdict::over,
          fmt::format("{} is {}", info(source.metric).name,
                      format_quantity(value, info(source.metric).unit)),
          before_.trouble};
}

void CleanupPolicy::not_told() {
  const bool has_news = history_.useless_cleanups > 0 || history_.trouble;
  if (!has_news) history_ = before_;
}

CleanupDecision CleanupPolicy::decide(Moment now) const {
  if (running_) return {Verdict::running, ", and a cleanup is running", {}};
  if (last_end_ && now.time < *last_end_ + wait()) {
    const std::string due = duration_text(*last_end_ + wait() - now.time);
    if (history_.useless_cleanups == 0) {
      return {
          Verdict::cooling_down,
          fmt::format(", but the last cleanup ended {} ago: the next may start in {} (Cooldown)",
                      duration_text(now.time - *last_end_), due),
          {}};
    }
    return {Verdict::of_no_use,
            fmt::format(", but {} didn't end that: the next may start in {} (the wait, now {}, "
                        "doubles each time, up to {})",
                        useless_text(history_.useless_cleanups), due, duration_text(wait()),
                        duration_text(kLongestWait)),
            {}};
  }
  if (!in_window(now.minute_of_day)) {
    return {Verdict::outside_window,
            fmt::format(", but a cleanup may start only within {} (Window)",
                        windows_text(rules_.windows)),
            {}};
  }
  return {Verdict::start, "", {}};
}

seconds CleanupPolicy::wait() const {
  const int useless_cleanups = history_.useless_cleanups;
  if (useless_cleanups == 0) return rules_.cooldown;
  seconds wait = std::max(rules_.cooldown, kShortestDoubledWait);
  const seconds longest = std::max(rules_.cooldown, kLongestWait);
  for (int i = 0; i < useless_cleanups && wait < longest; ++i) wait *= 2;
  return std::min(wait, longest);
}

bool CleanupPolicy::in_window(int minute_of_day) const {
  return rules_.windows.empty() ||
         std::any_of(rules_.windows.begin(), rules_.windows.end(),
                     [&](const TimeWindow& window) { return window.contains(minute_of_day); });
}

void CleanupPolicy::began(Moment now) {
  has_ended_ = false;
  last_ = now.wall;
}

void CleanupPolicy::note_end(Moment now) {
  running_ = false;
  has_ended_ = true;
  last_end_ = now.time;
  last_ = now.wall;
}

void CleanupPolicy::ended(const CleanupResult& result, Moment now) {
  note_end(now);
  if (result.left_to_another) return;
  history_.trouble.reset();
  if (result.outcome != Outcome::done) history_.trouble = result.outcome;
  // Useless until a value says otherwise.
  if (cause_alerts_ && !got_on(result)) ++history_.useless_cleanups;
}

void CleanupPolicy::interrupted(Moment now) { note_end(now); }

CleanupPast CleanupPolicy::past() const {
  CleanupPast past;
  if (last_) past.last = std::chrono::floor<seconds>(*last_);
  past.ended = has_ended_;
  past.useless_cleanups = history_.useless_cleanups;
  past.trouble = history_.trouble;
  past.cause = cause_;
  return past;
}

void CleanupPolicy::recall(const CleanupPast& past, Moment now) {
  if (!past.last) return;
  last_ = *past.last;
  last_end_ = now.time - std::max(now.wall - *last_, std::chrono::system_clock::duration::zero());
  history_.useless_cleanups = past.useless_cleanups + (past.ended ? 0 : 1);
  history_.trouble = past.trouble;
  cause_ = past.cause;
  cause_alerts_ = true;
}

void CleanupPolicy::suppose_the_worst(Moment now) {
  last_end_ = now.time;
  last_ = now.wall;
}

}  // namespace django_session
