// How a cleanup makes way for the rest of the server: it rests, waits for replicas, and looks who
// makes its work useless.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "cleanup/cleanup_target.hpp"
#include "core/cleanup.hpp"
#include "pg/connection.hpp"

namespace django_session::sessions {

/// Rests. Throws Stopped when that was wanted or the run's time is over.
void pause_for(std::chrono::milliseconds duration, pg::Deadline run_end, CleanupObserver& observer);

/// Returns at once unless a replica, a replication slot or the archiver is further behind than
/// options.max_lag allows (1 GB where no bytes are given); then waits for it, with a note. Throws
/// Stopped, with its name, after five minutes of that, or at the end of the run. `meanwhile` is
/// called about each second of the wait.
void wait_for_calm(pg::Connection& connection, const CleanupOptions& options, pg::Deadline run_end,
                   CleanupObserver& observer, const std::function<void()>& meanwhile = {});

/// Which readers of the WAL might fall behind without our noticing, for notes: replicas whose lag
/// this role may not see (that takes pg_read_all_stats) and that have no slot, and an archiver of
/// which nothing is known.
std::vector<std::string> what_hides_from_us(pg::Connection& connection, pg::Deadline deadline);

/// For a note: that the synchronous standby is gone. Empty where there is one, or none is wanted.
std::string missing_synchronous_standby(pg::Connection& connection, pg::Deadline deadline);

/// Up to three who hold or await a lock on the table, the one with the longest transaction first:
/// "pid 4711 of role site (gunicorn), in a transaction for 3 h; prepared transaction "x" of ...".
std::string lock_holders(pg::Connection& connection, const std::string& oid, pg::Deadline deadline);

/// Who has the cleanup's advisory lock on the table: another cleanup, or anybody else, since its
/// keys are no secret.
std::string cleanup_lock_holder(pg::Connection& connection, const std::string& oid,
                                pg::Deadline deadline);

/// As lock_holders(), for who holds a row: `transactions` are ids found as xmax of such rows. Where
/// they say nothing (several hold one together), it is lock_holders().
std::string row_lock_holders(pg::Connection& connection, const std::string& oid,
                             const std::vector<std::string>& transactions, pg::Deadline deadline);

/// A point in the order of transactions.
std::string snapshot_mark(pg::Connection& connection, pg::Deadline deadline);

/// Who may still want to see what was deleted after `mark`, so that VACUUM can't remove it: "pid
/// 4711 of role site (gunicorn), in a transaction for 3 h", `replication slot "x"`... Oldest first.
std::vector<std::string> older_snapshots(pg::Connection& connection, const std::string& mark,
                                         pg::Deadline deadline);

/// The same for everybody who has been there for a minute or more (as far as this role may see the
/// age), and for slots and prepared transactions.
std::vector<std::string> long_transactions(pg::Connection& connection, pg::Deadline deadline);

}  // namespace django_session::sessions
