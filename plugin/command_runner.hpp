// Runs a program for the write hook: without a shell, within limits, its output line by line.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "plugin/program_user.hpp"
#include "plugin/stop_signal.hpp"

namespace django_session::plugin {

struct Command {
  std::vector<std::string> words;        ///< the program's full path and its arguments
  std::vector<std::string> environment;  ///< NAME=value, besides (and before) the daemon's own
  std::optional<ProgramUser> user;       ///< nothing: the daemon's own
  std::chrono::milliseconds time_limit{};
  std::chrono::milliseconds grace{10000};  ///< between SIGTERM and SIGKILL at the time limit
};

struct CommandEnd {
  enum class How {
    exited,       ///< by itself: `number` is the exit code
    killed,       ///< by a signal that wasn't ours: `number`
    timed_out,    ///< ended by us, at the time limit
    stopped,      ///< ended by us, since the daemon stops
    not_started,  ///< `number` is the errno
  };
  How how = How::exited;
  int number = 0;
};

std::string describe(const CommandEnd& end);  ///< "exit code 3", "ended by signal 9 (Killed)"...

/// Runs a program to its end; may be called in any thread of a daemon with many, and changes
/// nothing that its other parts can see: no signal handler, no SIGCHLD, no child that a wait for
/// any child would find. (collectd ignores SIGCHLD, so the kernel keeps no exit codes, and its exec
/// plugin waits for whatever child there is.)
///
/// The program gets /dev/null to read, a process group of its own, no open files besides, default
/// signals, and the daemon's environment without what is a secret there. For another user it has
/// only that user's group, HOME, USER, LOGNAME and SHELL, and none of the daemon's rights. It is
/// ended (SIGTERM, then SIGKILL, to the whole group) when its time is over and when `stop` is
/// requested, then so that it is gone by the time at which nobody waits any longer. It doesn't
/// outlive this thread. What it leaves behind in the background by its own will is let alone.
///
/// Each line of its output goes to `on_line` as it comes, as valid UTF-8 without control
/// characters. Lines over 500 bytes are cut, and after 200 lines the rest is only counted. Throws
/// std::system_error when the means are missing (descriptors, processes).
CommandEnd run_command(const Command& command, const StopSignal& stop,
                       const std::function<void(const std::string& line)>& on_line);

}  // namespace django_session::plugin
