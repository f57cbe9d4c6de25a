// From a value to a cleanup, and from its result to messages and counters.
#include "plugin/hook.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <ctime>
#include <exception>
#include <mutex>
#include <optional>
#include <utility>

#include "core/printable.hpp"
#include "core/quantity.hpp"
#include "plugin/past_file.hpp"

namespace django_session::plugin {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kLongestNotification = 255;  // bytes; collectd's limit
// collectd has more to do at its end than to wait for us.
constexpr milliseconds kStopTimeBesidesTimeout(800);
// For what a thread is saying in the moment in which it is let go.
constexpr milliseconds kLastWord(100);
// Whoever takes a notification for longer hangs.
constexpr std::chrono::seconds kLongestTelling(60);
// A packet is sent easily, and a line of the log is not to be had for each.
constexpr std::chrono::hours kBetweenRefusedLines(1);
// After so long without alerting, why a cleanup waits is news again. Longer than any Interval.
constexpr std::chrono::hours kForgotten(48);

std::string shortened(std::string text) {
  if (text.size() <= kLongestNotification) return text;
  constexpr std::string_view kEllipsis = "...";
  return std::string(cut_to_bytes(text, kLongestNotification - kEllipsis.size())).append(kEllipsis);
}

struct Ending {
  Severity severity;
  LogLevel level;
  std::string_view word;
};

// So often in a row may a cleanup find another one at work before somebody should look at that.
constexpr int kOftenLeftToAnother = 3;

Severity severity_of(std::optional<Outcome> trouble) {
  if (!trouble) return Severity::okay;
  return *trouble == Outcome::stopped ? Severity::warning : Severity::failure;
}

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

double seconds(milliseconds duration) { return std::chrono::duration<double>(duration).count(); }

std::string figures_of(const CleanupResult& result) {
  return fmt::format(" ({} sessions deleted{}, {}, longest lock {} ms)", rows_deleted_text(result),
                     sizes_text(result, ", "),
                     format_quantity(seconds(result.duration), Unit::seconds),
                     result.longest_lock.count());
}

}  // namespace

/// As it stands in the log, and when it was given last.
struct LastVerdict {
  Verdict verdict = Verdict::calm;
  Clock::time_point given;
};

/// What the write threads, the cleanup's thread and the read threads have in common. The cleanup's
/// thread keeps it alive should it have to be let go.
struct Hook::Shared {
  Shared(CleanupRules rules, std::string name, HookOutput out, CleanupRun what)
      : instance(std::move(name)),
        output(std::move(out)),
        run(std::move(what)),
        policy(std::move(rules)) {}

  const std::string instance;
  const HookOutput output;
  const CleanupRun run;

  std::mutex mutex;  // of all below; never held while anything outside is called
  CleanupPolicy policy;
  std::optional<LastVerdict> logged;
  std::string past_file;  // empty: nothing is kept
  bool keeping_failed = false, cleaning = false;
  int left_in_a_row = 0;  // cleanups, to another one that was at work
  double cleanups = 0, failures = 0, rows_deleted = 0, bytes_reclaimed = 0;
  std::optional<CleanupResult> last;
  std::optional<Clock::time_point> notifying_since;
  bool hang_is_known = false;
  std::optional<Clock::time_point> false_value_noted;

  /// Set when the cleanup's thread had to be let go: the daemon then frees what its output goes
  /// through.
  std::atomic<bool> abandoned = false;
  std::mutex speech;
  std::condition_variable silence;
  bool speaking = false;  // guarded by speech: output of the cleanup's thread is under way

  /// The time in which the cleanup's thread speaks.
  class Speech {
   public:
    explicit Speech(Shared& shared) : shared_(shared) { set(true); }
    ~Speech() { set(false); }
    Speech(const Speech&) = delete;
    Speech& operator=(const Speech&) = delete;

   private:
    void set(bool speaking) {
      const std::lock_guard lock(shared_.speech);
      shared_.speaking = speaking;
      shared_.silence.notify_all();
    }
    Shared& shared_;
  };

  void say(LogLevel level, const std::string& text) const {
    if (!abandoned) output.log(level, fmt::format("{}: {}", instance, text));
  }

  /// As say(), in the cleanup's thread.
  void report(LogLevel level, const std::string& text) {
    const Speech under_way(*this);
    say(level, text);
  }

  /// To the log and, unless the daemon stops, as a notification: stopping, collectd takes away the
  /// plugins that it would go to.
  void tell(const Ending& how, const std::string& text, const StopSignal& stop) {
    const Speech under_way(*this);
    say(how.level, text);
    if (!abandoned && !stop.requested())
      notify(how.severity, shortened(fmt::format("{}: {}", instance, text)));
  }

  void abandon() {
    abandoned = true;
    std::unique_lock lock(speech);
    silence.wait_for(lock, kLastWord, [this] { return !speaking; });
  }

  CleanupDecision judge(const ValueName& name, Metric metric, double value, Moment now);
  bool is_news(Verdict verdict, Moment now);
  void recall();
  void keep_past();
  void note_false_value(Metric metric);
  void clean_up(const CleanupCause& cause, const StopSignal& stop) noexcept;
  CleanupTurns::Turn take_turn(const CleanupCause& cause, const StopSignal& stop);
  bool begin();
  void tell_over(const CleanupDecision& decision, const StopSignal& stop) noexcept;
  void tell_start(const CleanupCause& cause, const StopSignal& stop);
  Ending ending_for(const CleanupResult& result);
  void tell_end(const CleanupResult& result, const StopSignal& stop);
  void notify(Severity severity, const std::string& text);
  void set_notifying_since(std::optional<Clock::time_point> since);
  void note_hanging_notification(Moment now);
  template <class Step>
  void attempt(Step step) noexcept;
  CleanupResult run_guarded(const CleanupCause& cause, const StopSignal& stop);
  void take_start_back();
  void put_over_back();
  void count(const CleanupResult& result, bool daemon_stops, Moment now);
};

/// Under the mutex.
bool Hook::Shared::is_news(Verdict verdict, Moment now) {
  if (verdict == Verdict::start) logged.reset();
  if (verdict == Verdict::calm || verdict == Verdict::over) return false;
  const bool is_same =
      logged && logged->verdict == verdict && now.time <= logged->given + kForgotten;
  logged = {verdict, now.time};
  return !is_same;
}

CleanupDecision Hook::Shared::judge(const ValueName& name, Metric metric, double value,
                                    Moment now) {
  const std::string host(name.host);
  CleanupDecision decision;
  bool news = false;
  {
    const std::lock_guard lock(mutex);
    decision = policy.judge(host, metric, value, now);
    news = is_news(decision.verdict, now);
  }
  if (decision.verdict == Verdict::calm) return decision;
  if (!name.measured_here) decision.reason = fmt::format("on {}: {}", host, decision.reason);
  const bool is_normal = decision.verdict == Verdict::start ||
                         decision.verdict == Verdict::running || decision.verdict == Verdict::over;
  if (news && !is_normal)
    say(decision.verdict == Verdict::of_no_use ? LogLevel::warning : LogLevel::notice,
        decision.reason);
  return decision;
}

void Hook::Shared::note_false_value(Metric metric) {
  const Clock::time_point now = output.now().time;
  {
    const std::lock_guard lock(mutex);
    if (false_value_noted && now - *false_value_noted < kBetweenRefusedLines) return;
    false_value_noted = now;
  }
  say(LogLevel::warning,
      fmt::format("values under this host's name that this daemon hasn't measured are ignored (now "
                  "{}): is another host called the same, or does somebody forge them?",
                  info(metric).name));
}

void Hook::Shared::set_notifying_since(std::optional<Clock::time_point> since) {
  const std::lock_guard lock(mutex);
  notifying_since = since;
  hang_is_known = false;
}

void Hook::Shared::notify(Severity severity, const std::string& text) {
  set_notifying_since(output.now().time);
  try {
    output.notify(severity, text);
  } catch (...) {
    set_notifying_since(std::nullopt);
    throw;
  }
  set_notifying_since(std::nullopt);
}

/// The cleanup's thread can't do anything else until a notification has been taken.
void Hook::Shared::note_hanging_notification(Moment now) {
  {
    const std::lock_guard lock(mutex);
    if (!notifying_since || now.time - *notifying_since < kLongestTelling) return;
    if (std::exchange(hang_is_known, true)) return;
  }
  say(LogLevel::error,
      fmt::format("no cleanup goes on or starts: one of collectd's plugins has been busy with a "
                  "notification for over {}",
                  format_quantity(seconds(kLongestTelling), Unit::seconds)));
}

/// Goes on where the file ends; as if a cleanup had just ended where that can't be known.
void Hook::Shared::recall() {
  const Moment now = output.now();
  std::optional<CleanupPast> past;
  try {
    past = read_past(past_file);
  } catch (const PastFileError& error) {
    say(LogLevel::error, fmt::format("when the last cleanup was can't be read, and Cooldown begins "
                                     "now: {}",
                                     error.what()));
    const std::lock_guard lock(mutex);
    return policy.suppose_the_worst(now);
  }
  const std::lock_guard lock(mutex);
  if (past) policy.recall(*past, now);
}

/// In the cleanup's thread: the disk may take its time.
void Hook::Shared::keep_past() {
  CleanupPast past;
  {
    const std::lock_guard lock(mutex);
    if (past_file.empty()) return;
    past = policy.past();
  }
  try {
    write_past(past_file, past);
    keeping_failed = false;
  } catch (const PastFileError& error) {
    if (std::exchange(keeping_failed, true)) return;
    report(
        LogLevel::error,
        fmt::format("when the last cleanup was won't be known after a restart: {}", error.what()));
  }
}

/// A trouble that was told is not over by a start.
void Hook::Shared::tell_start(const CleanupCause& cause, const StopSignal& stop) {
  std::optional<Outcome> trouble;
  {
    const std::lock_guard lock(mutex);
    trouble = policy.trouble();
  }
  tell({severity_of(trouble), LogLevel::notice, ""},
       fmt::format("cleanup starts ({}): {}", run.what, cause.reason), stop);
}

/// Another host's, or another program's, may have been quicker once, but hardly each time.
Ending Hook::Shared::ending_for(const CleanupResult& result) {
  if (!result.left_to_another) return ending_of(result.outcome);
  const std::lock_guard lock(mutex);
  constexpr std::string_view kWord = "put off";
  if (left_in_a_row >= kOftenLeftToAnother) return {Severity::warning, LogLevel::warning, kWord};
  return {severity_of(policy.trouble()), LogLevel::notice, kWord};
}

void Hook::Shared::tell_end(const CleanupResult& result, const StopSignal& stop) {
  const Ending ending = ending_for(result);
  // The message of one that was done has the figures already.
  const bool adds_figures =
      run.has_figures && result.outcome == Outcome::stopped && !result.left_to_another;
  tell(ending,
       fmt::format("cleanup {}: {}{}", ending.word, result.message,
                   adds_figures ? figures_of(result) : ""),
       stop);
}

void Hook::Shared::tell_over(const CleanupDecision& decision, const StopSignal& stop) noexcept {
  attempt([&] { keep_past(); });
  if (!decision.trouble) return;
  attempt([&] {
    tell({Severity::okay, LogLevel::notice, ""},
         fmt::format("cleanup no longer needed: {}; that the last one {} is over", decision.reason,
                     ending_of(*decision.trouble).word),
         stop);
  });
}

template <class Step>
void Hook::Shared::attempt(Step step) noexcept {
  try {
    step();
  } catch (const std::exception& error) {
    if (!abandoned) output.log(LogLevel::error, error.what());
  }
}

CleanupTurns::Turn Hook::Shared::take_turn(const CleanupCause& cause, const StopSignal& stop) {
  return output.turns->take(stop, [&] {
    report(LogLevel::notice, fmt::format("cleanup waits for its turn (MaxCleanups {}): {}",
                                         output.turns->at_once(), cause.reason));
  });
}

/// False if what was due before the wait is no longer.
bool Hook::Shared::begin() {
  const Moment now = output.now();
  const std::lock_guard lock(mutex);
  if (!policy.is_still_due(now)) return false;
  policy.began(now);
  cleaning = true;
  return true;
}

/// What a thread does: nothing may leave it. The end is judged, counted and kept before it is told,
/// which can take as long as whoever is told wants; the next one's turn doesn't wait for that.
void Hook::Shared::clean_up(const CleanupCause& cause, const StopSignal& stop) noexcept {
  CleanupTurns::Turn turn;
  attempt([&] { turn = take_turn(cause, stop); });
  if (!turn || !begin()) return take_start_back();
  CleanupResult result;
  attempt([&] { keep_past(); });
  attempt([&] { tell_start(cause, stop); });
  attempt([&] { result = run_guarded(cause, stop); });
  attempt([&] { count(result, stop.requested(), output.now()); });
  attempt([&] { keep_past(); });
  turn.reset();
  attempt([&] { tell_end(result, stop); });
}

CleanupResult Hook::Shared::run_guarded(const CleanupCause& cause, const StopSignal& stop) {
  CleanupResult result;
  result.outcome = Outcome::failed;
  try {
    return run.run(cause, stop, [this](const std::string& line) {
      report(LogLevel::notice, fmt::format("cleanup: {}", line));
    });
  } catch (const std::exception& error) {
    result.message = error.what();
  } catch (...) {
    result.message = "an unknown exception";
  }
  return result;
}

void Hook::Shared::count(const CleanupResult& result, bool daemon_stops, Moment now) {
  const std::lock_guard lock(mutex);
  cleaning = false;
  if (daemon_stops && result.outcome == Outcome::stopped)
    policy.interrupted(now);
  else
    policy.ended(result, now);
  left_in_a_row = result.left_to_another ? left_in_a_row + 1 : 0;
  if (result.left_to_another) return;
  ++cleanups;
  if (result.outcome == Outcome::failed || result.outcome == Outcome::refused) ++failures;
  rows_deleted += result.rows_deleted.value_or(0);
  bytes_reclaimed += bytes_reclaimed_by(result).value_or(0);
  last = result;
}

void Hook::Shared::take_start_back() {
  const std::lock_guard lock(mutex);
  policy.not_started();
}

void Hook::Shared::put_over_back() {
  const std::lock_guard lock(mutex);
  policy.not_told();
}

Hook::Hook(const DatabaseSettings& settings, std::string arriving_instance, HookOutput output,
           CleanupRun run)
    : host_(settings.cleanup->host),
      instance_(std::move(arriving_instance)),
      stop_time_(milliseconds(static_cast<long long>(settings.timeout_seconds * 1000)) +
                 kStopTimeBesidesTimeout),
      shared_(std::make_shared<Shared>(settings.cleanup->rules, settings.instance,
                                       std::move(output), std::move(run))) {}

bool Hook::is_meant(const ValueName& name) const {
  if (host_.empty()) return name.measured_here;
  return host_ == "*" || host_ == name.host;
}

/// Says to be of this host, and this daemon knows better.
bool Hook::is_false(const ValueName& name) const {
  return name.names_this_host && !name.measured_here;
}

void Hook::recall(const std::filesystem::path& folder) {
  shared_->past_file = folder / past_file_name(shared_->instance);
  shared_->recall();
}

void Hook::on_value(const ValueName& name, double value) {
  if (name.plugin_instance != instance_) return;
  const std::optional<Metric> metric = metric_of_sample(name.type, name.type_instance);
  if (!metric) return;
  if (is_false(name)) return shared_->note_false_value(*metric);
  if (!is_meant(name)) return;
  const Moment now = shared_->output.now();
  CleanupDecision decision = shared_->judge(name, *metric, value, now);
  if (decision.verdict == Verdict::start)
    start({std::string(name.host), *metric, value, std::move(decision.reason)});
  if (decision.verdict == Verdict::over) settle(decision);
  if (decision.verdict != Verdict::calm) shared_->note_hanging_notification(now);
}

void Hook::start(CleanupCause cause) {
  try {
    const bool started =
        worker_.start([shared = shared_, cause = std::move(cause)](const StopSignal& stop) {
          shared->clean_up(cause, stop);
        });
    // The thread of the last one still tells its end, or the daemon ends.
    if (!started) shared_->take_start_back();
  } catch (const std::exception& error) {
    CleanupResult result;
    result.outcome = Outcome::failed;
    shared_->count(result, false, shared_->output.now());
    shared_->say(LogLevel::error, fmt::format("no cleanup could be started: {}", error.what()));
  }
}

/// To be told in the cleanup's thread, which may still be telling the end: then a later value will.
void Hook::settle(const CleanupDecision& decision) try {
  const bool started = worker_.start(
      [shared = shared_, decision](const StopSignal& stop) { shared->tell_over(decision, stop); });
  if (!started) shared_->put_over_back();
} catch (const std::exception&) {
  shared_->put_over_back();
}

Samples Hook::samples() const {
  const std::lock_guard lock(shared_->mutex);
  Samples samples = {{"total_operations", "cleanup", shared_->cleanups, true},
                     {"total_operations", "cleanup_failed", shared_->failures, true},
                     {"total_objects", "deleted", shared_->rows_deleted, true},
                     {"total_bytes", "reclaimed", shared_->bytes_reclaimed, true},
                     {"bool", "cleaning", shared_->cleaning ? 1.0 : 0.0}};
  if (shared_->last) {
    samples.push_back({"duration", "cleanup", seconds(shared_->last->duration)});
    if (shared_->run.has_figures)
      samples.push_back({"duration", "cleanup_lock", seconds(shared_->last->longest_lock)});
  }
  return samples;
}

void Hook::request_stop(milliseconds ago) {
  worker_.request_stop(Worker::Clock::now() + std::max(stop_time_ - ago, kStopTimeBesidesTimeout));
  shared_->output.turns->wake();
}

void Hook::join() {
  if (worker_.join()) return;
  shared_->say(LogLevel::error,
               "the cleanup has not ended in time, and is cut off; the next one resumes it");
  shared_->abandon();
}

Moment current_moment() {
  const std::time_t now = std::time(nullptr);
  std::tm local = {};
  localtime_r(&now, &local);
  return {std::chrono::steady_clock::now(), local.tm_hour * 60 + local.tm_min,
          std::chrono::system_clock::from_time_t(now)};
}

}  // namespace django_session::plugin
