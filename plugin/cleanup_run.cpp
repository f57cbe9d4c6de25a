// The two kinds of cleanup behind one signature.
#include "plugin/cleanup_run.hpp"

#include <fmt/format.h>

#include <unistd.h>

#include <chrono>

#include "cleanup/cleanup.hpp"
#include "core/printable.hpp"
#include "core/quantity.hpp"
#include "plugin/command_runner.hpp"
#include "plugin/program_user.hpp"

namespace django_session::plugin {
namespace {

using Log = std::function<void(const std::string&)>;

/// What the engine asks collectd for, and reports to it.
class Observer : public CleanupObserver {
 public:
  Observer(const StopSignal& stop, const Log& log) : stop_(stop), log_(log) {}
  bool stop_requested() override { return stop_.requested(); }
  void on_progress(const CleanupProgress& /*progress*/) override {}
  void on_note(const std::string& line) override { log_(line); }

 private:
  const StopSignal& stop_;
  const Log& log_;
};

CleanupRun built_in_cleanup(const DatabaseSettings& settings) {
  const CleanupSettings& cleanup = *settings.cleanup;
  CleanupOptions options = cleanup.options;
  options.answer_timeout =
      std::chrono::milliseconds(static_cast<long long>(settings.timeout_seconds * 1000));
  CleanupRun run;
  run.what = cleanup_name(settings);
  run.run = [connection = cleaning_connection(settings.connection, cleanup), table = settings.table,
             options](const CleanupCause&, const StopSignal& stop, const Log& log) {
    Observer observer(stop, log);
    return sessions::run_cleanup(connection, table, options, observer);
  };
  return run;
}

std::vector<std::string> environment_of(const CleanupCause& cause,
                                        const DatabaseSettings& settings) {
  const MetricInfo& metric = info(cause.metric);
  return {fmt::format("DJANGO_SESSION_METRIC={}", metric.name),
          fmt::format("DJANGO_SESSION_VALUE={}", plain_number(cause.value, metric.unit)),
          fmt::format("DJANGO_SESSION_HOST={}", cause.host),
          fmt::format("DJANGO_SESSION_DATABASE={}", settings.database),
          fmt::format("DJANGO_SESSION_TABLE={}", settings.table.display())};
}

Outcome outcome_of(const CommandEnd& end) {
  if (end.how == CommandEnd::How::timed_out || end.how == CommandEnd::How::stopped)
    return Outcome::stopped;
  return end.how == CommandEnd::How::exited && end.number == 0 ? Outcome::done : Outcome::failed;
}

/// All of it but what depends on the cause.
Command command_of(const DatabaseSettings& settings) {
  Command command;
  command.words = settings.cleanup->command;
  command.time_limit = settings.cleanup->options.max_duration.value();
  try {
    command.user = program_user_of(*settings.cleanup, geteuid());
  } catch (const ConfigError& error) {
    throw ConfigError(fmt::format("<Database \"{}\">: {}", without_controls(settings.database, '?'),
                                  error.what()));
  }
  return command;
}

CleanupResult run_program(const Command& command, const StopSignal& stop, const Log& log) {
  const auto started = std::chrono::steady_clock::now();
  const CommandEnd end = run_command(command, stop, log);
  CleanupResult result;
  result.outcome = outcome_of(end);
  result.duration = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now() - started);
  result.message = fmt::format(
      "{} after {}", describe(end),
      format_quantity(std::chrono::duration<double>(result.duration).count(), Unit::seconds));
  return result;
}

}  // namespace

std::string cleanup_name(const DatabaseSettings& settings) {
  const CleanupSettings& cleanup = *settings.cleanup;
  return cleanup.command.empty() ? fmt::format("method {}", method_name(cleanup.options.method))
                                 : cleanup.command.front();
}

CleanupRun cleanup_run(const DatabaseSettings& settings) {
  if (settings.cleanup->command.empty()) return built_in_cleanup(settings);
  CleanupRun run;
  run.what = cleanup_name(settings);
  run.has_figures = false;
  run.run = [settings, command = command_of(settings)](const CleanupCause& cause,
                                                       const StopSignal& stop, const Log& log) {
    Command caused = command;
    caused.environment = environment_of(cause, settings);
    return run_program(caused, stop, log);
  };
  return run;
}

}  // namespace django_session::plugin
