// When is a cleanup due? Values, times and results go in, a decision with its reason comes out. No
// clock, no I/O.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/cleanup.hpp"
#include "core/metric.hpp"
#include "core/threshold.hpp"

namespace django_session {

/// A part of the day in local time, in minutes since midnight; `end` is not in it and may be 24:00.
/// One that ends before it starts crosses midnight.
struct TimeWindow {
  int start = 0;
  int end = 0;

  bool contains(int minute_of_day) const {
    if (start < end) return start <= minute_of_day && minute_of_day < end;
    return minute_of_day >= start || minute_of_day < end;
  }
};

/// Reads "01:00-05:00". Throws ConfigError.
TimeWindow parse_window(std::string_view text);
std::string format_window(const TimeWindow& window);

/// `METRIC=RANGE`, with its text for messages.
struct CleanupTrigger {
  Threshold threshold;
  std::string text;
};

/// Reads `[METRIC=]RANGE`. Throws ConfigError.
CleanupTrigger parse_trigger(std::string_view text);

struct CleanupRules {
  std::vector<CleanupTrigger> triggers;  ///< any one that alerts is enough
  std::vector<TimeWindow> windows;       ///< when a cleanup may start; none: at any time
  std::chrono::seconds cooldown{3600};   ///< from the end of one to the start of the next
};

/// The metric that collectd's type and type instance stand for.
std::optional<Metric> metric_of_sample(std::string_view type, std::string_view type_instance);

/// Now, by both clocks that matter.
struct Moment {
  std::chrono::steady_clock::time_point time;
  int minute_of_day = 0;  ///< local time
};

enum class Verdict {
  calm,            ///< no trigger alerts
  start,           ///< start a cleanup now
  running,         ///< one is running
  cooling_down,    ///< the last one ended less than Cooldown ago
  of_no_use,       ///< the last ones didn't end what triggers: the wait is longer than Cooldown
  outside_window,  ///< due, but not at this time of day
};

struct CleanupDecision {
  Verdict verdict = Verdict::calm;
  std::string reason;  ///< one line, for the log and the notification; empty for `calm`
};

/// Decides for one table. Values come one at a time, from one or several hosts.
///
/// Whether a cleanup was of use is judged by the values that come after it, not by its own account:
/// it was if what triggers came to an end. As long as it doesn't, each further cleanup waits twice
/// as long as the one before: 2, 4, 8... times the cooldown (at least a minute), up to 7 days. A
/// heap that `delete` has emptied but can't give back, a missing right or a threshold below what
/// the live sessions need thus cost one try a week, not one an hour. The first value that no longer
/// alerts ends it. A cleanup that was stopped on its way, by its time limit say, and got something
/// done doesn't count: the next one goes on after the plain cooldown. Metrics (and hosts) count for
/// themselves: that one can't be helped is no reason to let another wait. What is not heard of for
/// longer than the longest wait is forgotten.
///
/// Not thread-safe.
class CleanupPolicy {
 public:
  explicit CleanupPolicy(CleanupRules rules) : rules_(std::move(rules)) {}

  /// Judges one value as it arrives. After `start` a cleanup counts as running, until ended(). A
  /// value that is not finite is unknown and triggers nothing.
  CleanupDecision judge(const std::string& host, Metric metric, double value, Moment now);

  /// The cleanup that judge() wanted to start could not: the next value may start it.
  void not_started() { running_ = false; }

  /// The cleanup that was started has ended, however.
  void ended(const CleanupResult& result, Moment now);

 private:
  using Source = std::pair<std::string, Metric>;  // host and metric
  struct Alert {
    int useless_cleanups = 0;                     ///< how many in a row didn't end it
    std::chrono::steady_clock::time_point heard;  ///< its last value
  };

  const CleanupTrigger* alerting_trigger(Metric metric, double value) const;
  std::chrono::seconds wait_after(int useless_cleanups) const;
  CleanupDecision decide(int useless_cleanups, Moment now) const;
  void forget_silent_sources(Moment now);
  bool in_window(int minute_of_day) const;

  CleanupRules rules_;
  bool running_ = false;
  std::optional<std::chrono::steady_clock::time_point> last_end_;
  std::map<Source, Alert> alerting_;
};

}  // namespace django_session
