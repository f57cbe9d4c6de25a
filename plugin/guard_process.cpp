// What runs in the guard and in the program's process. The daemon's other threads are gone there,
// and may have held any lock: system calls only.
#include "plugin/guard_process.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <system_error>

namespace django_session::plugin {
namespace {

// The system's own calls. The library's are ThreadSanitizer's in a build with it: they wait for locks
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

/// Asks for a signal when the thread ends that made this process. Has it ended already, the whole group does.
void expect_end_of(pid_t parent, int signal) {
  syscall(SYS_prctl, PR_SET_PDEATHSIG, static_cast<unsigned long>(signal), 0UL, 0UL, 0UL);
  if (getppid() != parent) kill(0, SIGKILL);
}

constexpr unsigned long kSignalSetSize = (NSIG - 1) / 8;  // the kernel's, bytes

void set_to_default(int signal) {
  constexpr std::array<long, 8> kDefault = {};  // whatever the order of its members is
  syscall(SYS_rt_sigaction, signal, kDefault.data(), nullptr, kSignalSetSize);
}

void set_all_to_default() {
  for (int signal = 1; signal < NSIG; ++signal) set_to_default(signal);
}

void block_only(const sigset_t& signals) {
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &signals, nullptr, kSignalSetSize);
}

int next_of(const sigset_t& signals) {
  return static_cast<int>(syscall(SYS_rt_sigtimedwait, &signals, nullptr, nullptr, kSignalSetSize));
}

/// Whether it has ended.
bool look_after(pid_t program, int& status) {
  return syscall(SYS_wait4, program, &status, WNOHANG, nullptr) == program;
}

/// The library's calls want to reach all threads that it remembers, and they are not in this process.
bool become_user(const ProgramUser& user) {
  return syscall(SYS_setgroups, 1UL, &user.group) == 0 &&
         syscall(SYS_setresgid, user.group, user.group, user.group) == 0 &&
         syscall(SYS_setresuid, user.user, user.user, user.user) == 0;
}

[[noreturn]] void become_program(const GuardPlan& plan, pid_t guard) {
  if (plan.user != nullptr && !become_user(*plan.user)) {
    tell(plan.report, false, errno);
    end_process(127);
  }
  // Last, since the kernel forgets it where the user changes.
  expect_end_of(guard, SIGKILL);  // also finds a program that has left the group
  set_all_to_default();
  sigset_t none;
  sigemptyset(&none);
  block_only(none);
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

/// The program's status. Should the daemon die first, its commands go with it.
int await_end(pid_t program, int parent_died) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGCHLD);
  sigaddset(&signals, parent_died);
  int status = 0;
  while (!look_after(program, status))
    if (next_of(signals) == parent_died) kill(0, SIGKILL);
  return status;
}

[[noreturn]] void guard(GuardPlan plan) {
  name_process("django_session");
  setpgid(0, 0);
  sigset_t all;  // the group's SIGTERM is for the program; others are waited for
  sigfillset(&all);
  block_only(all);
  set_to_default(SIGCHLD);  // else there were no exit code
  const int parent_died = SIGRTMIN + 1;
  set_to_default(parent_died);
  expect_end_of(plan.parent, parent_died);
  plan.report = arrange_descriptors(plan);
  if (plan.report < 0) end_process(1);
  const pid_t guard = getpid();
  const pid_t program = _Fork();
  if (program == 0) become_program(plan, guard);
  if (program < 0) {
    tell(plan.report, false, errno);
    end_process(1);
  }
  let_go_of_output();
  tell(plan.report, true, await_end(program, parent_died));
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
