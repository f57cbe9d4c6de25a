// django_session_cleanup: reads the command line, plans or cleans up, prints one summary and exits
// 0 to 3. SIGINT, SIGTERM and SIGHUP ask it to stop; a second one ends it at once. One that
// was ignored when it started (by nohup, say) stays so.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "cleanup/cleanup.hpp"
#include "cleanup/cleanup_target.hpp"
#include "cleanup_options.hpp"
#include "cleanup_progress.hpp"
#include "cleanup_report.hpp"
#include "core/config_error.hpp"
#include "core/printable.hpp"
#include "measure/probe.hpp"

namespace django_session::nagios {
namespace {

constexpr int kDone = 0, kFailed = 2, kRefused = 3;  // and 1 for stopped

volatile std::sig_atomic_t stop_signal = 0;

void on_signal(int number) { stop_signal = number; }

/// The program that started us may want that: nohup does.
bool is_ignored(int number) {
  struct sigaction inherited {};
  return sigaction(number, nullptr, &inherited) == 0 && inherited.sa_handler == SIG_IGN;
}

void listen_to_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = static_cast<int>(SA_RESETHAND);  // the second one has its usual effect
  for (const int number : {SIGINT, SIGTERM, SIGHUP})
    if (!is_ignored(number)) sigaction(number, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

int complain(int code, const std::string& message) {
  fmt::print(stderr, "django_session_cleanup: {}\n", without_controls(message, '?'));
  return code;
}

int print_plan(const CleanupCommand& command) {
  const CleanupPlan plan =
      sessions::plan_cleanup(command.connection, command.table, command.cleanup);
  fmt::print("{}", write_plan(command.table.display(), plan));
  return plan.refused ? kRefused : kDone;
}

CleanupResult execute(const CleanupCommand& command) {
  ProgressDisplay display(stderr,
                          command.progress ? style_for(stderr) : ProgressDisplay::Style::none,
                          [] { return stop_signal != 0; });
  if (command.task == CleanupCommand::Task::abort)
    return sessions::abort_cleanup(command.connection, command.table, command.cleanup, display);
  return sessions::run_cleanup(command.connection, command.table, command.cleanup, display);
}

/// Where the table is locked the run says so itself.
void print_plan_of_run(const CleanupCommand& command) try {
  print_plan(command);
} catch (const sessions::Stopped&) {
}

/// Outcome's values are the exit codes.
int clean(const CleanupCommand& command) {
  if (command.verbosity > 0 && command.task == CleanupCommand::Task::clean)
    print_plan_of_run(command);
  const CleanupResult result = execute(command);
  const int code = static_cast<int>(result.outcome);
  if (result.outcome == Outcome::refused) return complain(code, result.message);
  const Audience audience = isatty(STDOUT_FILENO) == 1 ? Audience::person : Audience::monitoring;
  fmt::print("{}", write_summary(result, audience));
  if (result.outcome == Outcome::failed) complain(code, result.message);
  return code;
}

int do_nothing(const CleanupCommand& command) {
  fmt::print("DJANGO_SESSION_CLEANUP OK - nothing to do in state {}\n", command.state);
  return kDone;
}

int obey(const CleanupCommand& command) {
  switch (command.task) {
    case CleanupCommand::Task::nothing:
      return do_nothing(command);
    case CleanupCommand::Task::plan:
      return print_plan(command);
    default:
      return clean(command);
  }
}

int run(const std::vector<std::string>& words) try {
  const auto parsed = parse_cleanup_command(words);
  if (const auto* notice = std::get_if<Notice>(&parsed)) {
    fmt::print("{}", notice->text);
    return kDone;
  }
  return obey(std::get<CleanupCommand>(parsed));
} catch (const ConfigError& error) {
  return complain(kRefused, error.what());
} catch (const sessions::NoSuchTable& error) {
  return complain(kRefused, error.what());
} catch (const sessions::Stopped& stopped) {
  return complain(static_cast<int>(Outcome::stopped), stopped.what());
} catch (const std::exception& error) {
  return complain(kFailed, error.what());
}

}  // namespace
}  // namespace django_session::nagios

int main(int argc, char** argv) {
  using namespace django_session;
  // Without one of them the server's socket would take its place.
  for (const int descriptor : {STDOUT_FILENO, STDERR_FILENO})
    if (fcntl(descriptor, F_GETFD) == -1) return nagios::kFailed;
  try {
    nagios::listen_to_signals();
    const int code = nagios::run({argv + std::min(argc, 1), argv + argc});
    const bool written = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
    // After a failure a thread may be stuck in a name lookup, and use what exit() would tear down.
    if (code == nagios::kFailed) std::_Exit(code);
    return written ? code : std::max(code, nagios::kFailed);
  } catch (...) {  // out of memory, even for the message
    std::_Exit(nagios::kFailed);
  }
}
