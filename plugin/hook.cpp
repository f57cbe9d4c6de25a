// From a value to a cleanup, and from its result to counters and to what is said of it.
#include "plugin/hook.hpp"

#include <fmt/format.h>

#include <ctime>
#include <exception>
#include <optional>
#include <utility>

#include "core/mutex.hpp"
#include "plugin/cleanup_texts.hpp"
#include "plugin/past_file.hpp"
#include "plugin/voice.hpp"

namespace django_session::plugin {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

// collectd has more to do at its end than to wait for us.
constexpr milliseconds kStopTimeBesidesTimeout(500);
// A packet is sent easily, and a line of the log is not to be had for each.
constexpr std::chrono::hours kBetweenRefusedLines(1);
// After so long without alerting, why a cleanup waits is news again. Longer than any Interval.
constexpr std::chrono::hours kForgotten(48);

double seconds(milliseconds duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

/// As it stands in the log, and when it was given last.
struct LastVerdict {
  Verdict verdict = Verdict::calm;
  Clock::time_point given;
};

/// What the write threads, the cleanup's thread and the read threads have in common. The cleanup's
/// thread keeps it alive should it have to be let go.
struct Hook::Shared {
  Shared(CleanupRules rules, const std::string& instance, const HookOutput& output, CleanupRun what)
      : run(std::move(what)),
        turns(output.turns),
        now(output.now),
        voice(instance, output),
        policy(std::move(rules)) {}

  const CleanupRun run;
  const std::shared_ptr<CleanupTurns> turns;
  const std::function<Moment()> now;
  Voice voice;

  Mutex mutex;  // never held while anything outside is called
  CleanupPolicy policy GUARDED_BY(mutex);
  std::optional<LastVerdict> logged GUARDED_BY(mutex);
  std::string past_file GUARDED_BY(mutex);  // empty: nothing is kept
  bool keeping_failed GUARDED_BY(mutex) = false, cleaning GUARDED_BY(mutex) = false;
  int left_in_a_row GUARDED_BY(mutex) = 0;  // cleanups, to another one that was at work
  double cleanups GUARDED_BY(mutex) = 0, failures GUARDED_BY(mutex) = 0;
  double rows_deleted GUARDED_BY(mutex) = 0, bytes_reclaimed GUARDED_BY(mutex) = 0;
  std::optional<CleanupResult> last GUARDED_BY(mutex);
  std::optional<Clock::time_point> false_value_noted GUARDED_BY(mutex);

  CleanupDecision judge(const ValueName& name, Metric metric, double value, Moment when);
  bool is_news(Verdict verdict, Moment when) REQUIRES(mutex);
  void note_false_value(Metric metric);
  void recall(std::string file);
  void keep_past();
  bool note_keeping(bool failed);
  CleanupTurns::Turn take_turn(const CleanupCause& cause, const StopSignal& stop);
  bool begin();
  void clean_up(const CleanupCause& cause, const StopSignal& stop) noexcept;
  CleanupResult run_guarded(const CleanupCause& cause, const StopSignal& stop);
  void count(const CleanupResult& result, bool daemon_stops, Moment when);
  void tell_start(const CleanupCause& cause, const StopSignal& stop);
  void tell_end(const CleanupResult& result, const StopSignal& stop);
  void tell_over(const CleanupDecision& decision, const StopSignal& stop) noexcept;
  template <class Step>
  void attempt(Step step) noexcept;
  void take_start_back();
  void put_over_back();
  Samples samples();
};

bool Hook::Shared::is_news(Verdict verdict, Moment when) {
  if (verdict == Verdict::start) logged.reset();
  if (verdict == Verdict::calm || verdict == Verdict::over) return false;
  const bool is_same =
      logged && logged->verdict == verdict && when.time <= logged->given + kForgotten;
  logged = {verdict, when.time};
  return !is_same;
}

CleanupDecision Hook::Shared::judge(const ValueName& name, Metric metric, double value,
                                    Moment when) {
  const std::string host(name.host);
  CleanupDecision decision;
  bool news = false;
  {
    const Lock lock(mutex);
    decision = policy.judge(host, metric, value, when);
    news = is_news(decision.verdict, when);
  }
  if (decision.verdict == Verdict::calm) return decision;
  if (!name.measured_here) decision.reason = fmt::format("on {}: {}", host, decision.reason);
  const bool is_normal = decision.verdict == Verdict::start ||
                         decision.verdict == Verdict::running || decision.verdict == Verdict::over;
  if (news && !is_normal)
    voice.say(decision.verdict == Verdict::of_no_use ? LogLevel::warning : LogLevel::notice,
              decision.reason);
  return decision;
}

void Hook::Shared::note_false_value(Metric metric) {
  const Clock::time_point when = now().time;
  {
    const Lock lock(mutex);
    if (false_value_noted && when - *false_value_noted < kBetweenRefusedLines) return;
    false_value_noted = when;
  }
  voice.say(
      LogLevel::warning,
      fmt::format("values under this host's name that this daemon hasn't measured are ignored (now "
                  "{}): does another host have the same name, or are they forged?",
                  info(metric).name));
}

/// Resumes where the file ends; as if a cleanup had just ended where that can't be known.
void Hook::Shared::recall(std::string file) {
  const Moment when = now();
  std::optional<CleanupPast> past;
  bool is_known = true;
  try {
    past = read_past(file);
  } catch (const PastFileError& error) {
    is_known = false;
    voice.say(LogLevel::error,
              fmt::format("can't read when the last cleanup ran, so Cooldown starts now: {}",
                          error.what()));
  }
  const Lock lock(mutex);
  past_file = std::move(file);
  if (!is_known) policy.suppose_the_worst(when);
  if (past) policy.recall(*past, when);
}

/// In the cleanup's thread: the disk may take its time.
void Hook::Shared::keep_past() {
  std::string file;
  CleanupPast past;
  {
    const Lock lock(mutex);
    if (past_file.empty()) return;
    file = past_file;
    past = policy.past();
  }
  try {
    write_past(file, past);
    note_keeping(false);
  } catch (const PastFileError& error) {
    if (note_keeping(true)) return;
    voice.report(
        LogLevel::error,
        fmt::format("can't save when the last cleanup ran, so a restart will forget it: {}",
                    error.what()));
  }
}

/// Whether it had failed before, too.
bool Hook::Shared::note_keeping(bool failed) {
  const Lock lock(mutex);
  return std::exchange(keeping_failed, failed);
}

/// A trouble that was told is not over by a start.
void Hook::Shared::tell_start(const CleanupCause& cause, const StopSignal& stop) {
  std::optional<Outcome> trouble;
  {
    const Lock lock(mutex);
    trouble = policy.trouble();
  }
  voice.tell(severity_of(trouble), LogLevel::notice, start_text(run, cause), stop);
}

void Hook::Shared::tell_end(const CleanupResult& result, const StopSignal& stop) {
  std::optional<Ending> ending;
  {
    const Lock lock(mutex);
    ending = ending_of(result, policy.trouble(), left_in_a_row);
  }
  voice.tell(ending->severity, ending->level, end_text(run, result, *ending), stop);
}

void Hook::Shared::tell_over(const CleanupDecision& decision, const StopSignal& stop) noexcept {
  attempt([&] { keep_past(); });
  if (!decision.trouble) return;
  attempt([&] { voice.tell(Severity::okay, LogLevel::notice, over_text(decision), stop); });
}

template <class Step>
void Hook::Shared::attempt(Step step) noexcept {
  try {
    step();
  } catch (const std::exception& error) {
    voice.report(error);
  }
}

CleanupTurns::Turn Hook::Shared::take_turn(const CleanupCause& cause, const StopSignal& stop) {
  return turns->take(stop, [&] {
    voice.report(LogLevel::notice, fmt::format("cleanup waits for its turn (MaxCleanups {}): {}",
                                               turns->at_once(), cause.reason));
  });
}

/// False if what was due before the wait is no longer.
bool Hook::Shared::begin() {
  const Moment when = now();
  const Lock lock(mutex);
  if (!policy.is_still_due(when)) return false;
  policy.began(when);
  cleaning = true;
  return true;
}

/// What a thread does: nothing may leave it. The end is judged, counted and kept before it is told,
/// which can take as long as the receiver wants; the next one's turn doesn't wait for that.
void Hook::Shared::clean_up(const CleanupCause& cause, const StopSignal& stop) noexcept {
  CleanupTurns::Turn turn;
  attempt([&] { turn = take_turn(cause, stop); });
  if (!turn || !begin()) return take_start_back();
  CleanupResult result;
  attempt([&] { keep_past(); });
  attempt([&] { tell_start(cause, stop); });
  attempt([&] { result = run_guarded(cause, stop); });
  attempt([&] { count(result, stop.requested(), now()); });
  attempt([&] { keep_past(); });
  turn.reset();
  attempt([&] { tell_end(result, stop); });
}

CleanupResult Hook::Shared::run_guarded(const CleanupCause& cause, const StopSignal& stop) {
  CleanupResult result;
  result.outcome = Outcome::failed;
  try {
    return run.run(cause, stop, [this](const std::string& line) {
      voice.report(LogLevel::notice, fmt::format("cleanup: {}", line));
    });
  } catch (const std::exception& error) {
    result.message = error.what();
  } catch (...) {
    result.message = "an unknown exception";
  }
  return result;
}

void Hook::Shared::count(const CleanupResult& result, bool daemon_stops, Moment when) {
  const Lock lock(mutex);
  cleaning = false;
  if (daemon_stops && result.outcome == Outcome::stopped)
    policy.interrupted(when);
  else
    policy.ended(result, when);
  left_in_a_row = result.left_to_another ? left_in_a_row + 1 : 0;
  if (result.left_to_another) return;
  ++cleanups;
  if (result.outcome == Outcome::failed || result.outcome == Outcome::refused) ++failures;
  rows_deleted += result.rows_deleted.value_or(0);
  bytes_reclaimed += bytes_reclaimed_by(result).value_or(0);
  last = result;
}

void Hook::Shared::take_start_back() {
  const Lock lock(mutex);
  policy.not_started();
}

void Hook::Shared::put_over_back() {
  const Lock lock(mutex);
  policy.not_told();
}

Samples Hook::Shared::samples() {
  const Lock lock(mutex);
  Samples samples = {sample_of(PluginValue::cleanups, cleanups),
                     sample_of(PluginValue::cleanups_failed, failures),
                     sample_of(PluginValue::rows_deleted, rows_deleted),
                     sample_of(PluginValue::bytes_reclaimed, bytes_reclaimed),
                     sample_of(PluginValue::cleaning, cleaning ? 1 : 0)};
  if (!last) return samples;
  samples.push_back(sample_of(PluginValue::cleanup_time, seconds(last->duration)));
  if (run.has_figures)
    samples.push_back(sample_of(PluginValue::cleanup_lock, seconds(last->longest_lock)));
  return samples;
}

Hook::Hook(const DatabaseSettings& settings, std::string arriving_instance,
           const HookOutput& output, CleanupRun run)
    : host_(settings.cleanup->host),
      instance_(std::move(arriving_instance)),
      stop_time_(settings.timeout() + kStopTimeBesidesTimeout),
      shared_(std::make_shared<Shared>(settings.cleanup->rules, settings.instance, output,
                                       std::move(run))),
      past_file_name_(past_file_name(settings.instance)) {}

bool Hook::is_meant(const ValueName& name) const {
  if (host_.empty()) return name.measured_here;
  return host_ == "*" || host_ == name.host;
}

/// Says to be of this host, and this daemon knows better.
bool Hook::is_false(const ValueName& name) const {
  return name.names_this_host && !name.measured_here;
}

void Hook::recall(const std::filesystem::path& folder) {
  shared_->recall(folder / past_file_name_);
}

void Hook::on_value(const ValueName& name, double value) {
  if (name.plugin_instance != instance_) return;
  const std::optional<Metric> metric = metric_of_sample(name.type, name.type_instance);
  if (!metric) return;
  if (is_false(name)) return shared_->note_false_value(*metric);
  if (!is_meant(name)) return;
  const Moment now = shared_->now();
  CleanupDecision decision = shared_->judge(name, *metric, value, now);
  if (decision.verdict == Verdict::start)
    start({std::string(name.host), *metric, value, std::move(decision.reason)});
  if (decision.verdict == Verdict::over) settle(decision);
  if (decision.verdict != Verdict::calm) shared_->voice.note_hanging_notification(now);
}

void Hook::start(CleanupCause cause) {
  try {
    const bool started =
        worker_.start([shared = shared_, cause = std::move(cause)](const StopSignal& stop) {
          shared->clean_up(cause, stop);
        });
    // The thread of the last one still reports its end, or the daemon ends.
    if (!started) shared_->take_start_back();
  } catch (const std::exception& error) {
    CleanupResult result;
    result.outcome = Outcome::failed;
    shared_->count(result, false, shared_->now());
    shared_->voice.say(LogLevel::error,
                       fmt::format("no cleanup could be started: {}", error.what()));
  }
}

/// To be reported in the cleanup's thread, which may still be reporting the end: then a later value
/// will be.
void Hook::settle(const CleanupDecision& decision) try {
  const bool started = worker_.start(
      [shared = shared_, decision](const StopSignal& stop) { shared->tell_over(decision, stop); });
  if (!started) shared_->put_over_back();
} catch (const std::exception&) {
  shared_->put_over_back();
}

Samples Hook::samples() const { return shared_->samples(); }

void Hook::request_stop() {
  worker_.request_stop(Worker::Clock::now() + stop_time_);
  shared_->turns->wake();
}

void Hook::join() {
  if (worker_.join()) return;
  shared_->voice.say(
      LogLevel::error,
      "the cleanup did not finish in time and was abandoned; the next one resumes it");
  shared_->voice.fall_silent();
}

Moment current_moment() {
  const std::time_t now = std::time(nullptr);
  std::tm local = {};
  localtime_r(&now, &local);
  return {std::chrono::steady_clock::now(), local.tm_hour * 60 + local.tm_min,
          std::chrono::system_clock::from_time_t(now)};
}

}  // namespace django_session::plugin
