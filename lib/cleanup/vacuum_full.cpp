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

// {} the table's OID.
constexpr const char* kFile = "SELECT pg_relation_filenode({}::oid) AS file;";

bool displace_autovacuum(Run& run) {
  const auto limit = patience::kDisplacesAutovacuum + run.options().answer_timeout;
  const Transaction transaction{Access::read_write, {patience::kDisplacesAutovacuum, limit}};
  const std::string lock =
      fmt::format("LOCK TABLE ONLY {} IN SHARE UPDATE EXCLUSIVE MODE;", run.target().sql_name);
  return granted([&] { run.send(transaction.sql(lock), pg::Deadline::after(limit)); });
}

/// Counts its lifetime as a lock's, however that ends.
class CountedLock {
 public:
  explicit CountedLock(Run& run) : run_(run) {}
  CountedLock(const CountedLock&) = delete;
  CountedLock& operator=(const CountedLock&) = delete;
  ~CountedLock() {
    run_.had_locked_for(std::chrono::duration_cast<milliseconds>(Clock::now() - start_));
  }

 private:
  Run& run_;
  Clock::time_point start_ = Clock::now();
};

std::string file_of_table(Run& run) {
  return run.ask(fmt::format(kFile, run.target().oid)).front().text("file");
}

/// The rewrite is committed before ANALYZE asks for a lock of its own, which may not be granted: that
/// is no reason to rewrite once more.
bool is_rewritten(Run& run, const std::string& former_file) {
  if (file_of_table(run) == former_file) return false;
  run.note("rewritten, but not analyzed, which is left to autovacuum: " + lock_holders(run));
  return true;
}

bool rewrite_once(Run& run, int version) {
  run.connection().take_warnings();
  const std::string former_file = file_of_table(run);
  const bool granted_all = granted([&] {
    const CountedLock lock(run);
    run.run_long(sql_of_vacuum_full(run, version), run.options().lock_timeout,
                 "rewriting the table");
  });
  if (!granted_all && !is_rewritten(run, former_file)) return false;
  run.note_warnings();
  return true;
}

/// False when a lock wasn't granted.
bool try_to_rewrite(Run& run, int version, const LookAround& look_around) {
  if (!displace_autovacuum(run)) return false;
  look_around();
  return rewrite_once(run, version);
}

void rewrite(Run& run, int version, const LookAround& look_around) {
  run.show("waiting for the exclusive lock");
  LockWait wait(run, {"the exclusive lock", [&run] { return lock_holders(run); },
                      patience::kForFullsLock, milliseconds(0), patience::kBetweenLockNotes});
  while (!try_to_rewrite(run, version, look_around)) {
    wait.was_refused();
    if (wait.is_given_up()) throw Stopped(wait.never_granted());
    run.rest(random_between(patience::kBetweenFullsLocks / 4, patience::kBetweenFullsLocks));
  }
}

}  // namespace

std::string sql_of_vacuum_full(const Run& run, int version) {
  return "VACUUM (FULL, ANALYZE) " + table_alone(run, version);
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
  rewrite(run, rights.version, look_around);
}

}  // namespace django_session::sessions
