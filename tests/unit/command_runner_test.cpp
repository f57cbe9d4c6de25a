// Programs run for real: their exit, their output, their limits, and what the daemon's other parts
// see of them.
#include "plugin/command_runner.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <CppUTest/TestHarness.h>

using namespace django_session::plugin;
using namespace std::chrono_literals;

namespace {

using Clock = StopSignal::Clock;

/// As collectd and its exec plugin have it.
void reap_any_child(int) {
  const int saved = errno;
  while (waitpid(-1, nullptr, WNOHANG) > 0) continue;
  errno = saved;
}

bool is_there(pid_t process) { return kill(process, 0) == 0; }

bool is_gone_soon(pid_t process) {
  for (int i = 0; i < 200 && is_there(process); ++i) std::this_thread::sleep_for(10ms);
  return !is_there(process);
}

}  // namespace

TEST_GROUP(CommandRunner) {
  StopSignal stop;
  std::vector<std::string> lines;
  Command command;

  void setup() override {
    command.time_limit = 20s;
    command.grace = 300ms;
  }

  void teardown() override { signal(SIGCHLD, SIG_DFL); }

  CommandEnd run(std::vector<std::string> words) {
    command.words = std::move(words);
    return run_command(command, stop, [this](const std::string& line) { lines.push_back(line); });
  }

  CommandEnd run_script(const std::string& script) { return run({"/bin/sh", "-c", script}); }

  std::string end_of(const std::string& script) { return describe(run_script(script)); }

  std::string output() const {
    std::string all;
    for (const std::string& line : lines) all += line + "\n";
    return all;
  }
};

TEST(CommandRunner, tells_the_exit_code) {
  STRCMP_EQUAL("exit code 0", end_of("exit 0").c_str());
  STRCMP_EQUAL("exit code 3", end_of("exit 3").c_str());
}

TEST(CommandRunner, tells_the_signal_that_ended_the_program) {
  STRCMP_EQUAL("ended by signal 9 (Killed)", end_of("kill -9 $$").c_str());
  STRCMP_EQUAL("ended by signal 40 (real-time signal)", end_of("kill -40 $$").c_str());
}

TEST(CommandRunner, tells_why_a_program_cannot_be_started) {
  STRCMP_EQUAL("could not be started: No such file or directory",
               describe(run({"/nowhere/clean"})).c_str());
  STRCMP_EQUAL("could not be started: Permission denied", describe(run({"/etc/passwd"})).c_str());
}

TEST(CommandRunner, knows_the_exit_code_where_the_daemon_ignores_its_children) {
  signal(SIGCHLD, SIG_IGN);
  STRCMP_EQUAL("exit code 7", end_of("exit 7").c_str());
}

TEST(CommandRunner, knows_the_exit_code_where_another_plugin_waits_for_any_child) {
  signal(SIGCHLD, reap_any_child);
  for (int i = 0; i < 20; ++i) STRCMP_EQUAL("exit code 7", end_of("exit 7").c_str());
}

TEST(CommandRunner, shows_its_child_to_no_wait_for_any_child) {
  std::thread runner([this] { run_script("sleep 0.3"); });
  std::this_thread::sleep_for(100ms);
  LONGS_EQUAL(-1, waitpid(-1, nullptr, WNOHANG));
  LONGS_EQUAL(ECHILD, errno);
  runner.join();
}

TEST(CommandRunner, leaves_no_child_behind) {
  run_script("exit 0");
  LONGS_EQUAL(-1, waitpid(-1, nullptr, WNOHANG | __WALL));
  LONGS_EQUAL(ECHILD, errno);
}

TEST(CommandRunner, gives_arguments_as_they_are_without_a_shell) {
  run({"/usr/bin/printf", "%s\\n", "a b", "$HOME `id` ; *", ""});
  STRCMP_EQUAL("a b\n$HOME `id` ; *\n\n", output().c_str());
}

TEST(CommandRunner, hands_on_both_outputs_line_by_line) {
  run_script("echo one; echo two >&2; printf three");
  STRCMP_EQUAL("one\ntwo\nthree\n", output().c_str());
}

TEST(CommandRunner, hands_lines_on_as_they_come) {
  std::vector<Clock::time_point> times;
  command.words = {"/bin/sh", "-c", "echo one; sleep 0.5; echo two"};
  run_command(command, stop, [&](const std::string&) { times.push_back(Clock::now()); });
  CHECK_TRUE(times.at(1) - times.at(0) > 300ms);
}

TEST(CommandRunner, replaces_control_characters_and_cuts_long_lines) {
  run_script("printf 'a\\033[31mb\\r\\n'; head -c 2000 /dev/zero | tr '\\0' x; echo");
  STRCMP_EQUAL("a?[31mb", lines.at(0).c_str());
  UNSIGNED_LONGS_EQUAL(503, lines.at(1).size());
  STRCMP_EQUAL("xxx...", lines.at(1).substr(497).c_str());
}

TEST(CommandRunner, hands_on_valid_utf8_alone) {
  run_script(
      "printf 'b\\344r \\303\\244 \\000 \\302\\205\\n'; head -c 499 /dev/zero | tr '\\0' x; "
      "printf '\\303\\244y\\n'");
  STRCMP_EQUAL("b?r \xc3\xa4 ? ?", lines.at(0).c_str());
  STRCMP_EQUAL((std::string(499, 'x') + "...").c_str(), lines.at(1).c_str());
}

TEST(CommandRunner, runs_as_another_user_without_any_right_of_the_daemon) {
  if (geteuid() != 0) return;
  command.user = ProgramUser{65534, 65534, "nobody", "/nonexistent", "/bin/false"};
  setenv("HOME", "/root", 1);
  run_script(
      "id -u; id -G; grep -E '^(Uid|Gid|Groups|CapEff)' /proc/self/status; "
      "env | grep -E '^(HOME|USER|LOGNAME|SHELL)=' | sort");
  STRCMP_EQUAL(
      "65534\n65534\nUid:?65534?65534?65534?65534\nGid:?65534?65534?65534?65534\n"
      "Groups:?65534 \nCapEff:?0000000000000000\n"
      "HOME=/nonexistent\nLOGNAME=nobody\nSHELL=/bin/false\nUSER=nobody\n",
      output().c_str());
}

TEST(CommandRunner, ends_another_users_program_too) {
  if (geteuid() != 0) return;
  command.user = ProgramUser{65534, 65534, "nobody", "/nonexistent", "/bin/false"};
  command.time_limit = 300ms;
  STRCMP_EQUAL("ended at its time limit",
               end_of("trap '' TERM; echo $$; while :; do sleep 0.1; done").c_str());
  CHECK_TRUE(is_gone_soon(std::stoi(lines.at(0))));
}

TEST(CommandRunner, counts_the_lines_that_are_too_many) {
  run_script("seq 1 100000");
  UNSIGNED_LONGS_EQUAL(201, lines.size());
  STRCMP_EQUAL("(99800 more lines not shown)", lines.back().c_str());
}

TEST(CommandRunner, gives_the_environment_without_secrets) {
  setenv("PGPASSWORD", "secret", 1);
  setenv("PGHOST", "db1", 1);
  command.environment = {"DJANGO_SESSION_METRIC=reclaimable"};
  run_script("env");
  unsetenv("PGPASSWORD");
  unsetenv("PGHOST");
  STRCMP_CONTAINS("DJANGO_SESSION_METRIC=reclaimable\n", output().c_str());
  STRCMP_CONTAINS("PGHOST=db1\n", output().c_str());
  CHECK_TRUE(output().find("secret") == std::string::npos);
}

TEST(CommandRunner, gives_no_open_files_but_the_three) {
  run_script("ls /proc/self/fd; readlink /proc/self/fd/0");
  // ls has one more, the folder that it lists.
  STRCMP_EQUAL("0\n1\n2\n3\n/dev/null\n", output().c_str());
}

TEST(CommandRunner, gives_default_signals) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  signal(SIGPIPE, SIG_IGN);
  run_script("grep -E 'Sig(Blk|Ign)' /proc/self/status");
  signal(SIGPIPE, SIG_DFL);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  STRCMP_EQUAL("SigBlk:?0000000000000000\nSigIgn:?0000000000000000\n", output().c_str());
}

TEST(CommandRunner, ends_a_program_at_its_time_limit) {
  command.time_limit = 300ms;
  const auto started = Clock::now();
  STRCMP_EQUAL("ended at its time limit", end_of("sleep 30").c_str());
  CHECK_TRUE(Clock::now() - started < 3s);
}

TEST(CommandRunner, lets_the_program_clean_up_at_its_time_limit) {
  command.time_limit = 300ms;
  command.grace = 5s;
  run_script("trap 'echo bye; exit 0' TERM; sleep 30 & wait");
  STRCMP_EQUAL("bye\n", output().c_str());
}

TEST(CommandRunner, kills_the_whole_group_of_one_that_does_not_listen) {
  command.time_limit = 300ms;
  STRCMP_EQUAL(
      "ended at its time limit",
      end_of("trap '' TERM; sh -c 'trap \"\" TERM; echo $$; sleep 30; true'; true").c_str());
  CHECK_TRUE(is_gone_soon(std::stoi(lines.at(0))));
}

TEST(CommandRunner, kills_a_program_that_has_left_its_group) {
  command.time_limit = 300ms;
  const auto started = Clock::now();
  run({"/usr/bin/setsid", "/bin/sh", "-c", "trap '' TERM; echo $$; sleep 2; sleep 2; sleep 2"});
  CHECK_TRUE(Clock::now() - started < 3s);
}

TEST(CommandRunner, ends_a_program_when_the_daemon_stops) {
  std::thread stopper([this] {
    std::this_thread::sleep_for(300ms);
    stop.request(Clock::now() + 1s);
  });
  const auto started = Clock::now();
  STRCMP_EQUAL("ended because collectd is stopping",
               end_of("trap '' TERM; while :; do sleep 0.1; done").c_str());
  stopper.join();
  CHECK_TRUE(Clock::now() < stop.give_up());
  CHECK_TRUE(Clock::now() - started < 2s);
}

TEST(CommandRunner, does_not_wait_for_what_the_program_left_in_the_background) {
  const auto started = Clock::now();
  STRCMP_EQUAL("exit code 0", end_of("sleep 5 & echo $!").c_str());
  CHECK_TRUE(Clock::now() - started < 3s);
  const pid_t background = std::stoi(lines.at(0));
  CHECK_TRUE(is_there(background));
  kill(background, SIGKILL);
}

TEST(CommandRunner, runs_beside_others_in_several_threads) {
  std::vector<CommandEnd> ends(6);
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < ends.size(); ++i)
      threads.emplace_back([&ends, i] {
        StopSignal never;
        Command one;
        one.words = {"/bin/sh", "-c", "sleep 0.1; exit " + std::to_string(i)};
        one.time_limit = 20s;
        ends[i] = run_command(one, never, [](const std::string&) {});
      });
  }
  for (std::size_t i = 0; i < ends.size(); ++i) LONGS_EQUAL(static_cast<int>(i), ends[i].number);
}
