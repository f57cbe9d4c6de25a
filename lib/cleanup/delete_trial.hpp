// For a plan: whether a DELETE works, by trying one.
#pragma once

#include <string>

#include "cleanup/delete_access.hpp"
#include "cleanup/run.hpp"

namespace django_session::sessions {

struct DeleteTrial {
  std::string failure;  ///< what it ended with; empty where it works, or nothing can be said now
  bool stays = false;   ///< it works, and the session is still there: of others that isn't known
};

/// A DELETE of one session that expired before `cutoff`, which is rolled back. Runs the triggers.
/// Throws pg::Error if the connection is lost.
DeleteTrial try_a_delete(Run& run, const DeleteAccess& access, const std::string& cutoff);

}  // namespace django_session::sessions
