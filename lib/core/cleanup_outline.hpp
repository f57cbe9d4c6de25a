// What a careful administrator asks before a cleanup runs, answered as text. No I/O.
#pragma once

#include <string>
#include <vector>

#include "core/cleanup.hpp"

namespace django_session {

struct CleanupOutline {
  std::string cutoff;  ///< what expired before it goes; a moment in UTC, by the server's clock
  // For people. Empty where nothing would be run.
  std::string goes;   ///< which sessions, by which clock
  std::string makes;  ///< what comes into being meanwhile, under which names
  std::string locks;  ///< which, for how long at most, and how often tried
  std::string keeps;  ///< what stays as it is, and how that is made sure of
  std::string undo;   ///< what of it can be undone, until when
  /// What would be sent and changes something, in order: messages of one or more statements, each
  /// with a comment before it.
  std::vector<std::string> sql;
};

struct DryRun {
  CleanupPlan plan;
  CleanupOutline outline;
};

}  // namespace django_session
