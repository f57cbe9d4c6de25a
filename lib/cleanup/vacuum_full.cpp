// The rewrite, and its lock.
//
// While we wait for that everybody queues behind us, so it is a matter of --lock-timeout; but that
// is too short for autovacuum, which steps aside after deadlock_timeout. It is made to by a request
// for a lock that disturbs nobody else. It comes back at the earliest when its launcher looks
// again.
#include "cleanup/vacuum_full.hpp"

#include <fmt/format.h>

#include "cleanup/before_vacuum.hpp"
#include "cleanup/bystanders.hpp"
#include "cleanup/lock_wait.hpp"
#include "cleanup/patience.hpp"
#include "cleanup/reclaim_rights.hpp"
#include "measure/transaction.hpp"

namespace django_session::sessions {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

bool displace_autovacuum(Run& run) {
  const auto limit = patience::kDisplacesAutovacuum + run.options().answer_timeout;
  const Transaction transaction{Access::read_write, {patience::kDisplacesAutovacuum, limit}};
  const std::string lock =
      fmt::format("LOCK TABLE ONLY {} IN SHARE UPDATE EXCLUSIVE MODE;", run.target().sql_name);
  return granted([&] { run.send(transaction.sql(lock), pg::Deadline::after(limit)); });
}

bool rewrite_once(Run& run) {
  run.connection().take_warnings();
  const auto start = Clock::now();
  const bool done = granted([&run] {
    run.run_long(sql_of_vacuum_full(run), run.options().lock_timeout, "rewriting the table");
  });
  run.had_locked_for(std::chrono::duration_cast<milliseconds>(Clock::now() - start));
  if (done) run.note_warnings();
  return done;
}

/// False when a lock wasn't granted.
bool try_to_rewrite(Run& run, const LookAround& look_around) {
  if (!displace_autovacuum(run)) return false;
  look_around();
  return rewrite_once(run);
}

void rewrite(Run& run, const LookAround& look_around) {
  run.show("waiting for the exclusive lock");
  LockWait wait(run, {"the exclusive lock", [&run] { return lock_holders(run); },
                      patience::kForFullsLock, std::nullopt, std::nullopt});
  while (!try_to_rewrite(run, look_around)) {
    wait.was_refused();
    if (wait.is_given_up()) throw Stopped(wait.never_granted());
    run.rest(random_between(patience::kBetweenFullsLocks / 4, patience::kBetweenFullsLocks));
  }
}

}  // namespace

std::string sql_of_vacuum_full(const Run& run) {
  return "VACUUM (FULL, ANALYZE) " + run.target().sql_name;
}

void vacuum_full(Run& run, const LookAround& look_around) {
  const ReclaimRights rights = reclaim_rights(run);
  if (!rights.vacuum)
    throw pg::Error(pg::Error::Kind::statement,
                    fmt::format("role {} may not VACUUM {}: that takes its owner, {}", rights.role,
                                run.target().sql_name, rights.owner));
  const std::string holder =
      wait_for_old_snapshots(run, run.end().remaining() - patience::kBetweenSnapshotLooks);
  if (!holder.empty())
    throw Stopped("the space of what is deleted can't be given back until this ends: " + holder);
  flush_statistics(run, rights.version);
  rewrite(run, look_around);
}

}  // namespace django_session::sessions
