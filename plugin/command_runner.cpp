// What the daemon's side does for a program that runs: the limits, its output, its end.
#include "plugin/command_runner.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "plugin/descriptor.hpp"
#include "plugin/guard_process.hpp"
#include "plugin/output_lines.hpp"

namespace django_session::plugin {
namespace {

using Clock = StopSignal::Clock;
using std::chrono::milliseconds;

constexpr milliseconds kReapTime(300);   // before give_up: for SIGKILL and what follows it
constexpr milliseconds kDrainTime(500);  // for output after the program's end

bool is_secret(std::string_view variable) { return variable.starts_with("PGPASSWORD="); }

bool is_of_a_user(std::string_view variable) {
  constexpr std::array<std::string_view, 4> kNames = {"HOME=", "USER=", "LOGNAME=", "SHELL="};
  return std::any_of(kNames.begin(), kNames.end(),
                     [variable](std::string_view name) { return variable.starts_with(name); });
}

std::vector<std::string> environment_of(const Command& command) {
  std::vector<std::string> all = command.environment;
  if (command.user) {
    const ProgramUser& user = *command.user;
    all.insert(all.end(), {"HOME=" + user.home, "USER=" + user.name, "LOGNAME=" + user.name,
                           "SHELL=" + user.shell});
  }
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable)
    if (!is_secret(*variable) && !(command.user && is_of_a_user(*variable)))
      all.emplace_back(*variable);
  return all;
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

/// A running program, from its start to its end.
class Running {
 public:
  Running(const Command& command, const StopSignal& stop,
          const std::function<void(const std::string&)>& on_line)
      : command_(command), stop_(stop), lines_(on_line) {
    start();
    time_is_over_ = Clock::now() + command.time_limit;
  }

  ~Running() {
    if (!guard_ended_ || kill_at_) kill(-guard_, SIGKILL);  // what SIGTERM didn't end
    while (waitpid(guard_, nullptr, __WALL) < 0 && errno == EINTR) continue;
  }

  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  CommandEnd wait() {
    while (!guard_ended_) {
      poll_until(next_step());
      enforce_limits();
    }
    drain();
    lines_.finish();
    return end();
  }

 private:
  void start() {
    std::vector<std::string> words = command_.words;
    std::vector<std::string> environment = environment_of(command_);
    const std::vector<char*> word_pointers = pointers_to(words);
    const std::vector<char*> environment_pointers = pointers_to(environment);
    const Descriptor null(open("/dev/null", O_RDWR | O_CLOEXEC));
    if (null.number() < 0) throw std::system_error(errno, std::generic_category(), "/dev/null");
    Pipe output = make_pipe();
    Pipe report = make_pipe();
    guard_ = start_guard({word_pointers.data(), environment_pointers.data(),
                          command_.user ? &*command_.user : nullptr, null.number(),
                          output.write_end.number(), report.write_end.number(), getpid()});
    setpgid(guard_, guard_);  // either side may come first: from here on the group exists
    output_ = std::move(output.read_end);
    report_ = std::move(report.read_end);
    fcntl(output_.number(), F_SETFL, O_NONBLOCK);
  }

  Clock::time_point next_step() const {
    if (killed_) return Clock::time_point::max();
    if (kill_at_) return *kill_at_;
    return time_is_over_;
  }

  /// Waits for output, for the end, for a request to stop, or until something is to be done.
  void poll_until(Clock::time_point time) {
    std::array<pollfd, 3> waits = {{{output_.number(), POLLIN, 0},
                                    {report_.number(), POLLIN, 0},
                                    {stop_seen_ ? -1 : stop_.descriptor(), POLLIN, 0}}};
    const auto left = std::chrono::ceil<milliseconds>(time - Clock::now());
    const milliseconds longest(60000);  // poll() counts in int
    const auto wait = std::clamp(left, milliseconds::zero(), longest);
    if (poll(waits.data(), waits.size(), static_cast<int>(wait.count())) < 0) return;  // EINTR
    if (waits[0].revents != 0) read_output();
    if (waits[1].revents != 0) read_report();
  }

  void read_output() {
    std::array<char, 4096> buffer{};
    const ssize_t size = read(output_.number(), buffer.data(), buffer.size());
    if (size > 0)
      lines_.add({buffer.data(), static_cast<std::size_t>(size)});
    else if (size == 0 || (errno != EINTR && errno != EAGAIN))
      output_.reset();
  }

  /// Nothing in it: the guard was killed with its group.
  void read_report() {
    GuardReport report = {};
    const ssize_t size = read(report_.number(), &report, sizeof(report));
    if (size < 0 && errno == EINTR) return;
    if (size == sizeof(report)) told_ = report;
    guard_ended_ = true;
  }

  void enforce_limits() {
    if (guard_ended_) return;
    const Clock::time_point now = Clock::now();
    if (stop_.requested() && !stop_seen_) {
      stop_seen_ = true;
      end_by(stop_.give_up() - kReapTime, now);
    } else if (now >= time_is_over_ && !kill_at_) {
      end_by(now + command_.grace, now);
    }
    if (kill_at_ && now >= *kill_at_ && !killed_) {
      killed_ = true;
      kill(-guard_, SIGKILL);
    }
  }

  void end_by(Clock::time_point kill_at, Clock::time_point now) {
    if (!kill_at_) {
      kill(-guard_, SIGTERM);
      timed_out_ = now >= time_is_over_;
    }
    kill_at_ = std::min(kill_at, kill_at_.value_or(kill_at));
  }

  /// What the program wrote before its end. Something in the background may hold the pipe open.
  void drain() {
    const Clock::time_point enough = std::min(
        Clock::now() + kDrainTime, stop_seen_ ? stop_.give_up() : Clock::time_point::max());
    report_.reset();
    while (output_.number() >= 0 && Clock::now() < enough) {
      pollfd wait = {output_.number(), POLLIN, 0};
      const auto left =
          std::max(std::chrono::ceil<milliseconds>(enough - Clock::now()), milliseconds::zero());
      if (poll(&wait, 1, static_cast<int>(left.count())) > 0) read_output();
    }
  }

  CommandEnd end() const {
    if (told_ && !told_->started) return {CommandEnd::How::not_started, told_->number};
    if (kill_at_) return {timed_out_ ? CommandEnd::How::timed_out : CommandEnd::How::stopped, 0};
    if (!told_) return {CommandEnd::How::killed, SIGKILL};
    if (WIFSIGNALED(told_->number)) return {CommandEnd::How::killed, WTERMSIG(told_->number)};
    return {CommandEnd::How::exited, WEXITSTATUS(told_->number)};
  }

  const Command& command_;
  const StopSignal& stop_;
  OutputLines lines_;
  pid_t guard_ = -1;
  Descriptor output_, report_;
  Clock::time_point time_is_over_;
  std::optional<Clock::time_point> kill_at_;  ///< set with the first SIGTERM
  bool stop_seen_ = false, timed_out_ = false, killed_ = false, guard_ended_ = false;
  std::optional<GuardReport> told_;
};

/// The C library has no description of a real-time signal.
std::string name_of_signal(int number) {
  if (const char* description = sigdescr_np(number)) return description;
  return "real-time signal";
}

}  // namespace

std::string describe(const CommandEnd& end) {
  switch (end.how) {
    case CommandEnd::How::exited:
      return fmt::format("exit code {}", end.number);
    case CommandEnd::How::killed:
      return fmt::format("ended by signal {} ({})", end.number, name_of_signal(end.number));
    case CommandEnd::How::timed_out:
      return "ended at its time limit";
    case CommandEnd::How::stopped:
      return "ended because collectd is stopping";
    case CommandEnd::How::not_started:
      break;
  }
  return fmt::format("could not be started: {}", std::generic_category().message(end.number));
}

CommandEnd run_command(const Command& command, const StopSignal& stop,
                       const std::function<void(const std::string& line)>& on_line) {
  return Running(command, stop, on_line).wait();
}

}  // namespace django_session::plugin
