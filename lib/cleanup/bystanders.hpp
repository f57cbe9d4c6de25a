// Who is in the way of a cleanup, or makes its work useless: who holds locks, old snapshots, rows.
// For messages: "pid 4711 of role site (gunicorn), in a transaction for 3 h".
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cleanup/run.hpp"

namespace django_session::sessions {

/// Up to three who hold or await a lock on a table, the one with the longest transaction first.
/// `table`: its OID, or "ANY (...)" of several.
std::string lock_holders(Run& run, const std::string& table);
/// On the run's table.
std::string lock_holders(Run& run);

/// The same for known sessions. `pids`: "{4711,4712}", see Stopped; a prepared transaction is 0
/// there, and then it is lock_holders().
std::string sessions_of(Run& run, const std::string& pids);

/// Who has the cleanup's advisory lock on the table: another cleanup, or any other session, since
/// its keys are no secret.
std::string cleanup_lock_holder(Run& run);

/// As lock_holders(), for who holds a row: `transactions` are ids found as xmax of such rows. Where
/// they say nothing (several hold one together), it is lock_holders() of the table.
std::string row_lock_holders(Run& run, const std::vector<std::string>& transactions);

/// As lock_holders(), for who keeps the backend waiting that has this cleanup's advisory lock: our
/// own, whose pid isn't known behind a pooler. Asked by another connection; "" where it doesn't wait.
std::string blockers_of_cleanup(Run& run, pg::Connection& asked);

/// A point in the order of transactions.
std::string snapshot_mark(Run& run);

/// Who may still want to see what was deleted after `mark`, so that VACUUM can't remove it, and
/// slots and prepared transactions that keep it. Oldest first.
std::vector<std::string> older_snapshots(Run& run, const std::string& mark);

/// The same for all that a deletion now would meet, and that have been there for long: those whom
/// the check names.
std::vector<std::string> long_transactions(Run& run);

/// A role that may not see what was copied after `mark`: by an older snapshot, or (only_writes)
/// because he has written something and will see only what he looks at then. The oldest; nothing
/// for none.
struct OldTransaction {
  std::string who;
  bool only_writes = false;
};
std::optional<OldTransaction> oldest_transaction(Run& run, const std::string& mark);

/// Whether a transaction that was open at `mark` has written something, and is open yet.
bool has_old_writers(Run& run, const std::string& mark);

/// One of our locks, by which locks of others are in its way.
enum class TableLock { share_row_exclusive, access_exclusive, of_helpers };

/// Looks again and again who has locks on some tables that are in the way of ours.
class LockWatch {
 public:
  /// `tables`: as for lock_holders().
  LockWatch(Run& run, std::string tables, TableLock ours)
      : run_(run), tables_(std::move(tables)), ours_(ours) {}

  /// A session has had one for long: by what the server says of his transaction, or by two looks.
  bool sees_a_long_one();

 private:
  using Clock = std::chrono::steady_clock;

  Run& run_;
  const std::string tables_;
  const TableLock ours_;
  std::map<std::string, Clock::time_point> met_;  ///< the holders, since when they are known
};

/// Notes for a plan: who has had a lock on the table for long, or has one that doesn't end by
/// itself.
std::vector<std::string> long_lock_holders(Run& run);

}  // namespace django_session::sessions
