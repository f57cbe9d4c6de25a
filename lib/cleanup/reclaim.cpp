// VACUUM, then REINDEX CONCURRENTLY, each only where it can succeed, and each bounded.
#include "cleanup/reclaim.hpp"

#include <fmt/format.h>

#include "cleanup/before_vacuum.hpp"
#include "cleanup/bystanders.hpp"
#include "cleanup/lock_wait.hpp"
#include "cleanup/patience.hpp"
#include "cleanup/reclaim_rights.hpp"
#include "cleanup/reindex.hpp"

namespace django_session::sessions {
namespace {

void vacuum(Run& run, int version, const LookAround& look_around) {
  run.show("vacuuming");
  look_around();
  const std::string statement = sql_of_vacuum(run, version);
  run.connection().take_warnings();
  if (!granted([&] { run.run_long(statement, patience::kVacuumsLock); }))
    throw Stopped("VACUUM's lock was never granted: " + lock_holders(run));
  run.note_warnings();  // most of all "skipping ... only table or database owner can vacuum it"
}

/// REINDEX CONCURRENTLY would wait for the holder, or copy what the holder still wants to see.
void say_what_is_left(Run& run, const std::string& holder) {
  run.result().message = fmt::format(
      "vacuumed, but the space of what was deleted can't be reused, and the indexes are not "
      "rebuilt, until this ends: {}",
      holder);
  run.note(run.result().message);
}

}  // namespace

/// Without truncation: that would take an exclusive lock, which standbys replay without yielding.
std::string sql_of_vacuum(const Run& run, int version) {
  return "VACUUM (ANALYZE, TRUNCATE FALSE, INDEX_CLEANUP TRUE, PARALLEL 0) " +
         table_alone(run, version);
}

void reclaim_after_delete(Run& run, const LookAround& look_around) {
  const ReclaimRights rights = reclaim_rights(run);
  if (!rights.vacuum) {
    run.result().message = why_nothing_is_reclaimed(rights, run.target());
    return;
  }
  remove_reindex_leftovers(run);
  // VACUUM is worth its half of the time all the same.
  const std::string holder = wait_for_old_snapshots(run, run.end().remaining() / 2);
  flush_statistics(run, rights.version);
  vacuum(run, rights.version, look_around);
  if (!holder.empty()) return say_what_is_left(run, holder);
  if (rights.reindex) rebuild_bloated_indexes(run, rights.version, look_around);
}

}  // namespace django_session::sessions
