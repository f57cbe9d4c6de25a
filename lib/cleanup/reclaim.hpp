// The second half of the methods "delete" and "full": giving back the space of what was deleted.
#pragma once

#include <functional>
#include <string>

#include "cleanup/cleanup_target.hpp"
#include "core/cleanup.hpp"
#include "pg/connection.hpp"

namespace django_session::sessions {

/// What the role of this connection may do to give space back.
struct ReclaimRights {
  std::string role, owner;  ///< ours, and the table's; not quoted
  bool vacuum = false, reindex = false;
  bool drop = false;  ///< invalid indexes
  int version = 0;    ///< of the server, as server_version_num
};

/// `oid`: the table's, decimal. Reads the catalogue alone. Throws pg::Error; where the table is
/// gone, of Kind::statement.
ReclaimRights reclaim_rights(pg::Connection& connection, const std::string& oid,
                             pg::Deadline deadline);

/// For a plan and for a result: that this role can't give anything back, and who can. Empty where
/// it can.
std::string why_nothing_is_reclaimed(const ReclaimRights& rights, const CleanupTarget& target);

/// Called before each statement that changes the table; may throw, and so end the cleanup.
using LookAround = std::function<void()>;

/// VACUUM, and REINDEX CONCURRENTLY of indexes that are at least a third empty, smallest first.
/// Without the right to do so it is left to autovacuum, which a note and result.message say. Where
/// somebody's old snapshot keeps what was deleted alive, there is the VACUUM alone, and the note.
void reclaim_after_delete(pg::Connection& connection, const CleanupTarget& target,
                          const CleanupOptions& options, pg::Deadline run_end,
                          CleanupObserver& observer, CleanupResult& result,
                          const LookAround& look_around);

/// VACUUM (FULL, ANALYZE): locks everybody out while it rewrites the table. Its lock is tried for
/// at most options.lock_timeout at a time. Sets result.longest_lock.
void vacuum_full(pg::Connection& connection, const CleanupTarget& target,
                 const CleanupOptions& options, pg::Deadline run_end, CleanupObserver& observer,
                 CleanupResult& result, const LookAround& look_around);

/// Drops the invalid indexes (..._ccnew, ..._ccold) that an interrupted REINDEX CONCURRENTLY left
/// on this table. What can't be dropped now is said in a note;
/// it is left, silently, by a role that isn't the owner. Returns how many are gone.
int remove_reindex_leftovers(pg::Connection& connection, const CleanupTarget& target,
                             const CleanupOptions& options, CleanupObserver& observer);

}  // namespace django_session::sessions
