// Who may give space back.
#pragma once

#include <string>

#include "cleanup/run.hpp"

namespace django_session::sessions {

/// What the role of this connection may do to give space back.
struct ReclaimRights {
  std::string role, owner;  ///< ours, and the table's; not quoted
  bool vacuum = false, reindex = false;
  bool drop = false;  ///< invalid indexes
  int version = 0;    ///< of the server, as server_version_num
};

/// On the run's table. Reads the catalogue alone. Throws pg::Error; where the table is gone, of
/// Kind::statement.
ReclaimRights reclaim_rights(Run& run);

/// For a plan and for a result: that this role can't give anything back, and who can. Empty where
/// it can.
std::string why_nothing_is_reclaimed(const ReclaimRights& rights, const CleanupTarget& target);

}  // namespace django_session::sessions
