// The process between the daemon and a program that it runs. It is a child that no plugin's wait
// finds, knows the program's exit code by waiting for it as its parent, and tells it through a
// pipe. It leads the process group, whose number thus stays ours until we have waited for it.
#pragma once

#include <sys/types.h>

#include "plugin/program_user.hpp"

namespace django_session::plugin {

/// What the guard tells.
struct GuardReport {
  bool started;
  int number;  ///< errno, or the status as waitpid() gives it
};

/// All that the guard and the program need, made before they are.
struct GuardPlan {
  char* const* words;        ///< the program's full path and its arguments
  char* const* environment;  ///< both end in a null pointer
  const ProgramUser* user;   ///< null: the daemon's own
  int null, output, report;  ///< descriptors
  pid_t parent;              ///< the daemon
};

/// Starts the guard, and through it the program. Only a wait with __WALL finds it. Throws
/// std::system_error.
pid_t start_guard(const GuardPlan& plan);

}  // namespace django_session::plugin
