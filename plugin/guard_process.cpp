// What runs in the guard and in the program's process. The daemon's other threads are gone there,
// and may have held any lock: system calls only.
#include "plugin/guard_process.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <system_error>

namespace django_session::plugin {
namespace {

// The system's own calls. The library's are ThreadSanitizer's where that is at work: they wait for locks
// that another thread may have had, and take the descriptors of this process for the daemon's.

void name_process(const char* name) { syscall(SYS_prctl, PR_SET_NAME, name, 0UL, 0UL, 0UL); }

[[noreturn]] void end_process(int code) {
  while (true) syscall(SYS_exit_group, code);
}

int copied_upwards(int descriptor) {
  return static_cast<int>(syscall(SYS_fcntl, descriptor, F_DUPFD, 10));
}

bool copied_to(int number, int descriptor, int flags = 0) {
  return syscall(SYS_dup3, descriptor, number, flags) >= 0;
}

void tell(int descriptor, bool started, int number) {
  const GuardReport report = {started, number};
  syscall(SYS_write, descriptor, &report, sizeof(report));
}

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

/// The library's calls want to reach all threads that it remembers, and they are not in this process.
bool become_user(const ProgramUser& user) {
  return syscall(SYS_setgroups, 1UL, &user.group) == 0 &&
         syscall(SYS_setresgid, user.group, user.group, user.group) == 0 &&
         syscall(SYS_setresuid, user.user, user.user, user.user) == 0;
}

[[noreturn]] void become_program(const GuardPlan& plan) {
  if (plan.user != nullptr && !become_user(*plan.user)) {
    tell(plan.report, false, errno);
    end_process(127);
  }
  // Last, since the kernel forgets it where the user changes.
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // also finds a program that has left the group
  set_signals(SIG_DFL);
  unblock_signals();
  execve(plan.words[0], plan.words, plan.environment);
  tell(plan.report, false, errno);
  end_process(127);
}

/// Descriptors 0 to 2 as the program shall have them, 3 for the report, and no others.
int arrange_descriptors(const GuardPlan& plan) {
  constexpr int kReport = 3;
  // Upwards first, so that none is overwritten before it is in its place.
  const int null = copied_upwards(plan.null);
  const int output = copied_upwards(plan.output);
  const int report = copied_upwards(plan.report);
  if (null < 0 || output < 0 || report < 0) return -1;
  if (!copied_to(0, null) || !copied_to(1, output) || !copied_to(2, output)) return -1;
  if (!copied_to(kReport, report, O_CLOEXEC)) return -1;
  close_range(kReport + 1, ~0U, 0);
  return kReport;
}

void let_go_of_output() {
  copied_to(1, 0);
  copied_to(2, 0);
}

void kill_group(int /*signal*/) { kill(0, SIGKILL); }

/// Should the daemon die, its commands go with it; it may have died before we were told to notice.
void end_with_parent(pid_t parent) {
  const int parent_died = SIGRTMIN + 1;
  set_signal(parent_died, kill_group);
  unblock_signals();
  prctl(PR_SET_PDEATHSIG, parent_died);
  if (getppid() != parent) kill_group(parent_died);
}

[[noreturn]] void guard(GuardPlan plan) {
  name_process("django_session");
  setpgid(0, 0);
  set_signals(SIG_IGN);          // the group's SIGTERM is for the program
  set_signal(SIGCHLD, SIG_DFL);  // else there were no exit code
  end_with_parent(plan.parent);
  plan.report = arrange_descriptors(plan);
  if (plan.report < 0) end_process(1);
  const pid_t program = _Fork();
  if (program == 0) become_program(plan);
  if (program < 0) {
    tell(plan.report, false, errno);
    end_process(1);
  }
  let_go_of_output();
  int status = 0;
  while (waitpid(program, &status, 0) < 0 && errno == EINTR) continue;
  tell(plan.report, true, status);
  end_process(0);
}

}  // namespace

/// A child that sends no signal at its end, so that only a wait with __WALL finds it. Without
/// fork()'s handlers, which could wait for a lock that another thread had.
pid_t start_guard(const GuardPlan& plan) {
  const long child = syscall(SYS_clone, 0UL, nullptr, nullptr, nullptr, 0UL);
  if (child < 0) throw std::system_error(errno, std::generic_category(), "clone");
  if (child == 0) guard(plan);
  return static_cast<pid_t>(child);
}

}  // namespace django_session::plugin
