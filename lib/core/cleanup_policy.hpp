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

/// Whether a cleanup by this method can hardly bring the metric down, whatever the threshold.
bool can_hardly_end(Method method, Metric metric);

/// Advice about a trigger that its method can hardly end, with a pair that works: "Trigger
/// "reclaimable=1GB" ...". Nothing if there is nothing to say.
std::optional<std::string> advice_on(const CleanupTrigger& trigger, Method method);

/// Throws ConfigError if the trigger alerts on sessions that `keep` leaves: it would never stop
/// alerting.
void check_against_keep(const CleanupTrigger& trigger, std::chrono::seconds keep);

struct CleanupRules {
  std::vector<CleanupTrigger> triggers;  ///< any one that alerts is enough
  std::vector<TimeWindow> windows;       ///< when a cleanup may start; none: at any time
  std::chrono::seconds cooldown{3600};   ///< from the end of one to the start of the next
};

/// The metric that collectd's type and type instance stand for.
std::optional<Metric> metric_of_sample(std::string_view type, std::string_view type_instance);

/// Now, by the clocks that matter.
struct Moment {
  std::chrono::steady_clock::time_point time;
  int minute_of_day = 0;                         ///< local time
  std::chrono::system_clock::time_point wall{};  ///< for what has to outlast the daemon
};

enum class Verdict {
  calm,            ///< no trigger alerts
  over,            ///< so does the last cleanup's cause, for the first time since
  start,           ///< start a cleanup now
  running,         ///< one is running, or waits for its turn
  cooling_down,    ///< the last one ended less than Cooldown ago
  of_no_use,       ///< the last ones didn't end what triggers: the wait is longer than Cooldown
  outside_window,  ///< due, but not at this time of day
};

struct CleanupDecision {
  Verdict verdict = Verdict::calm;
  std::string reason;              ///< one line, for the log and the notification; empty for `calm`
  std::optional<Outcome> trouble;  ///< `over`: how the last cleanup had failed or stopped short
};

/// What is measured, and the host that says so.
struct CleanupSource {
  std::string host;
  Metric metric = Metric::total;
  bool operator==(const CleanupSource& other) const = default;
};

/// What has to be known of a table's cleanups when the daemon starts again.
struct CleanupPast {
  std::optional<std::chrono::sys_seconds> last;  ///< the end of the last one, or else its start
  bool ended = true;                             ///< false: it was running when this was noted
  int useless_cleanups = 0;                      ///< in a row
  std::optional<Outcome> trouble;  ///< that the last one ended with, until it is reported as over
  std::optional<CleanupSource> cause;  ///< of the last one
  bool operator==(const CleanupPast& other) const = default;
};

/// Decides for one table. Values come one at a time, from one or several hosts.
///
/// Whether a cleanup was of use is judged by the values that come after it, not by its own account:
/// it was if what caused it came to an end, by the word of the host that had it start. As long as
/// it doesn't, each further cleanup of the table waits twice as long as the one before, no matter
/// which host triggers it: 2, 4, 8... times the cooldown (at least a minute), up to 7 days. A heap
/// that `delete` has emptied but can't give back, a missing right or a threshold below what the
/// live sessions need thus cost one try a week, not one an hour. The cause's first value that no
/// longer alerts ends it. A cleanup that was stopped on its way, by its time limit say, and got
/// something done doesn't count: the next one resumes after the plain cooldown. Nor does one that
/// found another host's running.
///
/// Not thread-safe. Its size doesn't depend on how many hosts there are.
class CleanupPolicy {
 public:
  explicit CleanupPolicy(CleanupRules rules) : rules_(std::move(rules)) {}

  /// Judges one value as it arrives. After `start` a cleanup counts as running, until ended(). A
  /// value that is not finite is unknown and triggers nothing. `over` is given once.
  CleanupDecision judge(const std::string& host, Metric metric, double value, Moment now);

  /// The cleanup that judge() wanted to start could not: the next value may start it.
  void not_started() { running_ = false; }

  /// What judge() called `over` could not be told: the cause's next value may be.
  void not_told();

  /// Whether the cleanup that judge() wanted to start is still right, having waited for its turn.
  bool is_still_due(Moment now) const { return cause_alerts_ && in_window(now.minute_of_day); }

  /// It has its turn.
  void began(Moment now);

  /// It has ended, however.
  void ended(const CleanupResult& result, Moment now);

  /// It has ended without being to blame for what it left: the daemon stops.
  void interrupted(Moment now);

  /// How the last one failed or stopped short, unless that is over.
  std::optional<Outcome> trouble() const { return history_.trouble; }

  CleanupPast past() const;
  /// Resumes where an earlier daemon stopped. A cleanup that this one never heard the end of counts
  /// as of no use: it may be what ended it. An end in the future, by a clock that was wrong then or
  /// is now, counts as now.
  void recall(const CleanupPast& past, Moment now);
  /// Nothing is known of the past: as if a cleanup had just ended.
  void suppose_the_worst(Moment now);

 private:
  struct History {
    int useless_cleanups = 0;
    std::optional<Outcome> trouble;
  };

  const CleanupTrigger* alerting_trigger(Metric metric, double value) const;
  CleanupDecision judge_calm(const CleanupSource& source, double value);
  std::chrono::seconds wait() const;
  CleanupDecision decide(Moment now) const;
  bool in_window(int minute_of_day) const;
  void note_end(Moment now);

  CleanupRules rules_;
  bool running_ = false, has_ended_ = true;
  std::optional<std::chrono::steady_clock::time_point> last_end_;
  std::optional<std::chrono::system_clock::time_point> last_;  ///< by the wall clock; or the start
  std::optional<CleanupSource> cause_;
  bool cause_alerts_ = false;
  History history_, before_;  ///< and before what was over last
};

}  // namespace django_session
