// From a value to a cleanup, and from its result to messages and counters.
#include "plugin/hook.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "core/quantity.hpp"

namespace django_session::plugin {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kLongestNotification = 255;  // bytes; collectd's limit
// collectd has more to do at its end than to wait for us.
constexpr milliseconds kStopTimeBesidesTimeout(800);

std::string shortened(std::string text) {
  if (text.size() <= kLongestNotification) return text;
  constexpr std::string_view kEllipsis = "...";
  std::size_t cut = kLongestNotification - kEllipsis.size();
  while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xc0) == 0x80) --cut;  // UTF-8
  return text.substr(0, cut).append(kEllipsis);
}

struct Ending {
  Severity severity;
  LogLevel level;
  std::string_view word;
};

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
  return fmt::format(" ({} sessions deleted, {} -> {}, {}, longest lock {} ms)",
                     format_quantity(result.rows_deleted, Unit::rows),
                     format_quantity(result.bytes_before, Unit::bytes),
                     format_quantity(result.bytes_after, Unit::bytes),
                     format_quantity(seconds(result.duration), Unit::seconds),
                     result.longest_lock.count());
}

}  // namespace

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
  std::map<std::pair<std::string, Metric>, Verdict> logged;  // by host and metric
  double cleanups = 0, failures = 0, rows_deleted = 0, bytes_reclaimed = 0;
  std::optional<CleanupResult> last;

  void say(LogLevel level, const std::string& text) const {
    output.log(level, fmt::format("{}: {}", instance, text));
  }

  void tell(const Ending& how, const std::string& text) const {
    say(how.level, text);
    output.notify(how.severity, shortened(fmt::format("{}: {}", instance, text)));
  }

  CleanupDecision judge(const std::string& host, Metric metric, double value, Moment now);
  void clean_up(const CleanupCause& cause, const StopSignal& stop);
  void clean_up_guarded(const CleanupCause& cause, const StopSignal& stop) noexcept;
  CleanupResult run_guarded(const CleanupCause& cause, const StopSignal& stop) const;
  void count(const CleanupResult& result, Moment now);
};

CleanupDecision Hook::Shared::judge(const std::string& host, Metric metric, double value,
                                    Moment now) {
  CleanupDecision decision;
  bool is_news = false;
  {
    const std::lock_guard lock(mutex);
    decision = policy.judge(host, metric, value, now);
    if (decision.verdict == Verdict::start) logged.clear();
    if (decision.verdict != Verdict::calm)
      is_news = std::exchange(logged[{host, metric}], decision.verdict) != decision.verdict;
  }
  const bool is_normal = decision.verdict == Verdict::calm || decision.verdict == Verdict::start ||
                         decision.verdict == Verdict::running;
  if (is_news && !is_normal)
    say(decision.verdict == Verdict::of_no_use ? LogLevel::warning : LogLevel::notice,
        decision.reason);
  return decision;
}

void Hook::Shared::clean_up(const CleanupCause& cause, const StopSignal& stop) {
  tell({Severity::okay, LogLevel::notice, ""},
       fmt::format("cleanup starts ({}): {}", run.what, cause.reason));
  const CleanupResult result = run_guarded(cause, stop);
  count(result, output.now());
  const Ending ending = ending_of(result.outcome);
  // The message of one that was done has the figures already.
  const bool adds_figures = run.has_figures && result.outcome == Outcome::stopped;
  tell(ending, fmt::format("cleanup {}: {}{}", ending.word, result.message,
                           adds_figures ? figures_of(result) : ""));
}

/// What a thread does: nothing may leave it.
void Hook::Shared::clean_up_guarded(const CleanupCause& cause, const StopSignal& stop) noexcept {
  try {
    clean_up(cause, stop);
  } catch (const std::exception& error) {
    output.log(LogLevel::error, error.what());
  }
}

CleanupResult Hook::Shared::run_guarded(const CleanupCause& cause, const StopSignal& stop) const {
  CleanupResult result;
  result.outcome = Outcome::failed;
  try {
    return run.run(cause, stop, [this](const std::string& line) {
      say(LogLevel::notice, fmt::format("cleanup: {}", line));
    });
  } catch (const std::exception& error) {
    result.message = error.what();
  } catch (...) {
    result.message = "an unknown exception";
  }
  return result;
}

void Hook::Shared::count(const CleanupResult& result, Moment now) {
  const std::lock_guard lock(mutex);
  policy.ended(result, now);
  ++cleanups;
  if (result.outcome == Outcome::failed || result.outcome == Outcome::refused) ++failures;
  rows_deleted += result.rows_deleted;
  bytes_reclaimed += std::max(0.0, result.bytes_before - result.bytes_after);
  last = result;
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
  if (name.plugin_instance != instance_) return false;
  if (host_.empty()) return name.of_this_host;
  return host_ == "*" || host_ == name.host;
}

void Hook::on_value(const ValueName& name, double value) {
  if (!is_meant(name)) return;
  const std::optional<Metric> metric = metric_of_sample(name.type, name.type_instance);
  if (!metric) return;
  std::string host(name.host);
  CleanupDecision decision = shared_->judge(host, *metric, value, shared_->output.now());
  if (decision.verdict == Verdict::start)
    start({std::move(host), *metric, value, std::move(decision.reason)});
}

void Hook::start(CleanupCause cause) {
  try {
    // Not started when the daemon ends: the policy then waits for an end that never comes.
    worker_.start([shared = shared_, cause = std::move(cause)](const StopSignal& stop) {
      shared->clean_up_guarded(cause, stop);
    });
  } catch (const std::exception& error) {
    CleanupResult result;
    result.outcome = Outcome::failed;
    shared_->count(result, shared_->output.now());
    shared_->say(LogLevel::error, fmt::format("no cleanup could be started: {}", error.what()));
  }
}

Samples Hook::samples() const {
  const std::lock_guard lock(shared_->mutex);
  Samples samples = {{"total_operations", "cleanup", shared_->cleanups, true},
                     {"total_operations", "cleanup_failed", shared_->failures, true},
                     {"total_objects", "deleted", shared_->rows_deleted, true},
                     {"total_bytes", "reclaimed", shared_->bytes_reclaimed, true}};
  if (shared_->last) {
    samples.push_back({"duration", "cleanup", seconds(shared_->last->duration)});
    if (shared_->run.has_figures)
      samples.push_back({"duration", "cleanup_lock", seconds(shared_->last->longest_lock)});
  }
  return samples;
}

void Hook::request_stop(milliseconds ago) {
  worker_.request_stop(Worker::Clock::now() + std::max(stop_time_ - ago, kStopTimeBesidesTimeout));
}

void Hook::join() {
  if (!worker_.join())
    shared_->say(LogLevel::error,
                 "the cleanup has not ended in time, and is cut off; the next one goes on with it");
}

Moment current_moment() {
  const std::time_t now = std::time(nullptr);
  std::tm local = {};
  localtime_r(&now, &local);
  return {std::chrono::steady_clock::now(), local.tm_hour * 60 + local.tm_min};
}

}  // namespace django_session::plugin
