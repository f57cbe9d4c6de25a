// A guard process between the daemon and the program. The guard is a child that no plugin's wait
// finds, knows the program's exit code by waiting for it as its parent, and tells it through a
// pipe. It leads the process group, whose number thus stays ours until we have waited for the
// guard.
#include "plugin/command_runner.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
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

#include "core/printable.hpp"

namespace django_session::plugin {
namespace {

using Clock = StopSignal::Clock;
using std::chrono::milliseconds;

constexpr std::size_t kLongestLine = 500, kLongestCharacter = 4;  // bytes
constexpr std::size_t kMostLines = 200;
constexpr milliseconds kReapTime(300);   // before give_up: for SIGKILL and what follows it
constexpr milliseconds kDrainTime(500);  // for output after the program's end

/// What the guard tells.
struct Report {
  bool started;
  int number;  ///< errno, or the status as waitpid() gives it
};

class Descriptor {
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  ~Descriptor() { reset(); }
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  int number() const { return number_; }
  void reset() {
    if (number_ >= 0) close(number_);
    number_ = -1;
  }

 private:
  int number_;
};

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

struct Pipe {
  Descriptor read_end, write_end;
};

Pipe make_pipe() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) fail("pipe2");
  return {Descriptor(ends[0]), Descriptor(ends[1])};
}

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

// -- In the children. Other threads are gone there, and may have held any lock: system calls only.

/// All that the children need, made before they are.
struct Plan {
  char* const* words;
  char* const* environment;
  const ProgramUser* user;   ///< nullptr: the daemon's own
  int null, output, report;  ///< descriptors
};

void set_signal(int number, void (*action)(int)) {
  struct sigaction wanted = {};
  wanted.sa_handler = action;
  sigaction(number, &wanted, nullptr);
}

void set_signals(void (*action)(int)) {
  for (int number = 1; number < NSIG; ++number) set_signal(number, action);
}

void unblock_signals() {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

void tell(int descriptor, bool started, int number) {
  const Report report = {started, number};
  [[maybe_unused]] const ssize_t written = write(descriptor, &report, sizeof(report));
}

/// By the system's own calls: the library's want to reach all threads that it remembers, and they
/// are not in this process.
bool become_user(const ProgramUser& user) {
  return syscall(SYS_setgroups, 1UL, &user.group) == 0 &&
         syscall(SYS_setresgid, user.group, user.group, user.group) == 0 &&
         syscall(SYS_setresuid, user.user, user.user, user.user) == 0;
}

[[noreturn]] void become_program(const Plan& plan) {
  if (plan.user != nullptr && !become_user(*plan.user)) {
    tell(plan.report, false, errno);
    _exit(127);
  }
  // Last, since the kernel forgets it where the user changes.
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // also finds a program that has left the group
  set_signals(SIG_DFL);
  unblock_signals();
  execve(plan.words[0], plan.words, plan.environment);
  tell(plan.report, false, errno);
  _exit(127);
}

/// Descriptors 0 to 2 as the program shall have them, 3 for the report, and no others.
int arrange_descriptors(const Plan& plan) {
  constexpr int kReport = 3;
  // Upwards first, so that none is overwritten before it is in its place.
  const int null = fcntl(plan.null, F_DUPFD, 10);
  const int output = fcntl(plan.output, F_DUPFD, 10);
  const int report = fcntl(plan.report, F_DUPFD, 10);
  if (null < 0 || output < 0 || report < 0) return -1;
  if (dup2(null, 0) < 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0) return -1;
  if (dup3(report, kReport, O_CLOEXEC) < 0) return -1;
  close_range(kReport + 1, ~0U, 0);
  return kReport;
}

void let_go_of_output() {
  dup2(0, 1);
  dup2(0, 2);
}

void kill_group(int /*signal*/) { kill(0, SIGKILL); }

/// Should the daemon die, its commands go with it.
void end_with_parent() {
  const int parent_died = SIGRTMIN + 1;
  set_signal(parent_died, kill_group);
  unblock_signals();
  prctl(PR_SET_PDEATHSIG, parent_died);
}

[[noreturn]] void guard(Plan plan) {
  prctl(PR_SET_NAME, "django_session");
  setpgid(0, 0);
  set_signals(SIG_IGN);          // the group's SIGTERM is for the program
  set_signal(SIGCHLD, SIG_DFL);  // else there were no exit code
  end_with_parent();
  plan.report = arrange_descriptors(plan);
  if (plan.report < 0) _exit(1);
  const pid_t program = _Fork();
  if (program == 0) become_program(plan);
  if (program < 0) {
    tell(plan.report, false, errno);
    _exit(1);
  }
  let_go_of_output();
  int status = 0;
  while (waitpid(program, &status, 0) < 0 && errno == EINTR) continue;
  tell(plan.report, true, status);
  _exit(0);
}

/// A child that sends no signal at its end, so that only a wait with __WALL finds it. Without
/// fork()'s handlers, which could wait for a lock that another thread had.
pid_t start_guard(const Plan& plan) {
  const long child = syscall(SYS_clone, 0UL, nullptr, nullptr, nullptr, 0UL);
  if (child < 0) fail("clone");
  if (child == 0) guard(plan);
  return static_cast<pid_t>(child);
}

// -- In the daemon.

/// Cuts output into lines and counts them.
class Lines {
 public:
  explicit Lines(const std::function<void(const std::string&)>& on_line) : on_line_(on_line) {}

  void add(std::string_view output) {
    for (const char c : output) {
      if (c == '\n')
        end_line();
      else if (line_.size() <= kLongestLine + kLongestCharacter)
        line_ += c;
    }
  }

  void finish() {
    if (!line_.empty()) end_line();
    if (count_ > kMostLines)
      on_line_(fmt::format("({} further lines are not shown)", count_ - kMostLines));
  }

 private:
  void end_line() {
    if (++count_ <= kMostLines) {
      if (!line_.empty() && line_.back() == '\r') line_.pop_back();
      const std::string_view shown = cut_to_bytes(line_, kLongestLine);
      on_line_(without_controls(shown, '?') + (shown.size() < line_.size() ? "..." : ""));
    }
    line_.clear();
  }

  const std::function<void(const std::string&)>& on_line_;
  std::string line_;
  std::size_t count_ = 0;
};

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
    if (null.number() < 0) fail("/dev/null");
    Pipe output = make_pipe();
    Pipe report = make_pipe();
    guard_ = start_guard({word_pointers.data(), environment_pointers.data(),
                          command_.user ? &*command_.user : nullptr, null.number(),
                          output.write_end.number(), report.write_end.number()});
    setpgid(guard_, guard_);  // whoever comes first: from here on the group exists
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
    Report report = {};
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
      const auto left = std::chrono::ceil<milliseconds>(enough - Clock::now());
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
  Lines lines_;
  pid_t guard_ = -1;
  Descriptor output_, report_;
  Clock::time_point time_is_over_;
  std::optional<Clock::time_point> kill_at_;  ///< set with the first SIGTERM
  bool stop_seen_ = false, timed_out_ = false, killed_ = false, guard_ended_ = false;
  std::optional<Report> told_;
};

}  // namespace

std::string describe(const CommandEnd& end) {
  switch (end.how) {
    case CommandEnd::How::exited:
      return fmt::format("exit code {}", end.number);
    case CommandEnd::How::killed:
      return fmt::format("ended by signal {} ({})", end.number, sigdescr_np(end.number));
    case CommandEnd::How::timed_out:
      return "ended at its time limit";
    case CommandEnd::How::stopped:
      return "ended since collectd stops";
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
