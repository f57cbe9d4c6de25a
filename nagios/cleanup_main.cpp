// django_session_cleanup: reads the command line, plans or cleans up, prints one summary, or one
// JSON object, and exits 0 to 3. SIGINT, SIGTERM and SIGHUP ask it to stop; a second one ends it at
// once. One that was ignored when it started (by nohup, say) stays so.
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
#include "cleanup_json.hpp"
#include "cleanup_options.hpp"
#include "cleanup_progress.hpp"
#include "cleanup_report.hpp"
#include "core/config_error.hpp"
#include "core/printable.hpp"
#include "measure/probe.hpp"

namespace django_session::nagios {
namespace {

constexpr int kFailed = 2;

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
}

/// Shows the notes, and keeps them for the end.
class NotesKept : public ProgressDisplay {
 public:
  using ProgressDisplay::ProgressDisplay;
  void on_note(const std::string& line) override {
    notes.push_back(line);
    ProgressDisplay::on_note(line);
  }
  std::vector<std::string> notes;
};

int code_of(Outcome outcome) { return static_cast<int>(outcome); }

int complain(Outcome outcome, const std::string& message) {
  fmt::print(stderr, "django_session_cleanup: {}\n", without_controls(message, '?'));
  return code_of(outcome);
}

/// With its SQL only where it is shown on its own, and -v asks for it.
DryRun plan_of(const CleanupCommand& command) {
  DryRun dry_run = sessions::plan_cleanup(command.connection, command.table, command.cleanup);
  if (command.task != CleanupCommand::Task::plan || command.verbosity == 0)
    dry_run.outline.sql.clear();
  return dry_run;
}

std::string plan_text(const CleanupCommand& command, const DryRun& dry_run) {
  const std::string table = command.table.display();
  return command.json ? plan_as_json(table, dry_run) : write_plan(table, dry_run);
}

int print_plan(const CleanupCommand& command) {
  const DryRun dry_run = plan_of(command);
  fmt::print("{}", plan_text(command, dry_run));
  return code_of(dry_run.plan.refused ? Outcome::refused : Outcome::done);
}

/// Where the table is locked or the server isn't there, there is none: the run says so itself.
std::optional<DryRun> plan_of_run(const CleanupCommand& command) try {
  if (command.verbosity == 0 || command.task != CleanupCommand::Task::clean) return std::nullopt;
  return plan_of(command);
} catch (const sessions::Stopped&) {
  return std::nullopt;
} catch (const pg::Error&) {
  return std::nullopt;
}

void execute(const CleanupCommand& command, EndedRun& run) {
  listen_to_signals();
  NotesKept display(stderr, command.progress ? style_for(stderr) : ProgressDisplay::Style::none,
                    [] { return stop_signal != 0; });
  run.result =
      command.task == CleanupCommand::Task::abort
          ? sessions::abort_cleanup(command.connection, command.table, command.cleanup, display)
          : sessions::run_cleanup(command.connection, command.table, command.cleanup, display);
  run.notes = display.notes;
}

/// In text a refusal has no summary.
std::string text_of_end(const CleanupCommand& command, const EndedRun& run) {
  if (command.json) return run_as_json(command.table.display(), run);
  if (run.result.outcome == Outcome::refused) return "";
  const bool is_terminal = isatty(STDOUT_FILENO) == 1;
  return write_summary(run.result, is_terminal ? Audience::person : Audience::monitoring);
}

int clean(const CleanupCommand& command) {
  EndedRun run;
  run.plan = plan_of_run(command);
  if (run.plan && !command.json) fmt::print("{}", plan_text(command, *run.plan));
  execute(command, run);
  fmt::print("{}", text_of_end(command, run));
  const CleanupResult& result = run.result;
  if (result.outcome == Outcome::refused || result.outcome == Outcome::failed)
    return complain(result.outcome, result.message);
  return code_of(result.outcome);
}

int do_nothing(const CleanupCommand& command) {
  const std::string message = "nothing to do in state " + command.state;
  fmt::print("{}", command.json ? ending_as_json(Outcome::done, message)
                                : fmt::format("DJANGO_SESSION_CLEANUP OK - {}\n", message));
  return code_of(Outcome::done);
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

int follow(const std::vector<std::string>& words) {
  const auto parsed = parse_cleanup_command(words);
  if (const auto* notice = std::get_if<Notice>(&parsed)) {
    fmt::print("{}", notice->text);
    return code_of(Outcome::done);
  }
  return obey(std::get<CleanupCommand>(parsed));
}

/// Without a plan or a result.
int end_early(const std::vector<std::string>& words, Outcome outcome, const std::string& message) {
  if (asks_for_json(words)) fmt::print("{}", ending_as_json(outcome, message));
  return complain(outcome, message);
}

int run(const std::vector<std::string>& words) try {
  return follow(words);
} catch (const ConfigError& error) {
  return end_early(words, Outcome::refused, error.what());
} catch (const sessions::NoSuchTable& error) {
  return end_early(words, Outcome::refused, error.what());
} catch (const sessions::Stopped& stopped) {
  return end_early(words, Outcome::stopped, stopped.what());
} catch (const std::exception& error) {
  return end_early(words, Outcome::failed, error.what());
}

}  // namespace
}  // namespace django_session::nagios

int main(int argc, char** argv) {
  using namespace django_session;
  // Without one of them the server's socket would take its place.
  for (const int descriptor : {STDOUT_FILENO, STDERR_FILENO})
    if (fcntl(descriptor, F_GETFD) == -1) return nagios::kFailed;
  try {
    std::signal(SIGPIPE, SIG_IGN);
    const int code = nagios::run({argv + std::min(argc, 1), argv + argc});
    const bool written = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
    // After a failure a thread may be stuck in a name lookup, and use what exit() would tear down.
    if (code == nagios::kFailed) std::_Exit(code);
    return written ? code : std::max(code, nagios::kFailed);
  } catch (...) {  // out of memory, even for the message
    std::_Exit(nagios::kFailed);
  }
}
