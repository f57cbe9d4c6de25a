// The SQL of the swap, statement by statement. What it does and in which order is in swap.cpp.
//
// Everything that a swap makes lies in the table's schema, belongs to the table's owner and carries
// the OID of the table that has the name at that time:
//   djs_<oid>_state   one row: whose run it is, how far it is, what belongs to it
//   djs_<oid>_new     the shadow: the new table, filled with the live sessions
//   djs_<oid>_log     the keys of the sessions that changed meanwhile; never any session data
//   djs_<oid>_note()  the trigger function that writes them, for three triggers on the table
//   djs_<oid>_old     the replaced table, from the exchange until it is dropped
//
// Each function returns one message that is one transaction, and that comes to nothing unless the
// run still holds the state's row (see kGuard). Sessions' keys are never part of a statement. What
// a message finds out it reports (see report_of() in as_owner.hpp), or has as rows where that is
// said.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "core/oid.hpp"
#include "measure/transaction.hpp"

namespace django_session::sessions {

/// Names as SQL text, quoted; `oid` is the table's.
struct SwapNames {
  Oid oid;
  std::string schema, table;
  std::string owner;   ///< of all of it
  std::string run_id;  ///< hexadecimal
  std::string state() const { return helper("state"); }
  std::string shadow() const { return helper("new"); }
  std::string log() const { return helper("log"); }
  std::string function() const { return helper("note"); }
  std::string shadow_name() const { return "djs_" + oid.text() + "_new"; }

 private:
  std::string helper(const char* what) const { return schema + ".djs_" + oid.text() + "_" + what; }
};

/// The table's columns in their order, quoted.
using Columns = std::vector<std::string>;

/// SQLSTATEs of our own.
constexpr const char* kTakenOver = "DJS01";      ///< the state's row isn't ours (any more)
constexpr const char* kTryAgain = "DJS02";       ///< too much is in the log for a short lock
constexpr const char* kChanged = "DJS03";        ///< table truncated or altered: start over
constexpr const char* kNotReproduced = "DJS04";  ///< something of the table can't be reproduced
constexpr const char* kUnsound = "DJS05";        ///< table and shadow, or table and index, disagree
constexpr const char* kNameTaken = "DJS06";      ///< another object has one of our names

/// What is decided before, and measured.
struct SwapBeginning {
  long long keep_seconds;  ///< the option: leave what expired less than this ago
  std::string cutoff;      ///< so it is before this moment. SQL: a timestamptz
  double rows_before;      ///< -1: not known
  double bytes_before;
};

/// Makes state, log and shadow.
/// Locks: ACCESS SHARE on the table.
std::string create_sql(const SwapNames& names, TransactionLimits limits,
                       const SwapBeginning& beginning);

/// The same, rolled back: what would go wrong in it goes wrong here.
std::string try_create_sql(const SwapNames& names, TransactionLimits limits);

/// From now on every change leaves its key in the log; open changes are waited for.
/// Locks: SHARE UPDATE EXCLUSIVE, so that an autovacuum gives way, then SHARE ROW EXCLUSIVE on the
/// table: clients that write a session wait. Rows: asked, ended (epochs).
std::string create_triggers_sql(const SwapNames& names, TransactionLimits limits);

/// Copies the next sessions in the order of expire_date: `rows`, and those that expire at the same
/// moment as the last of them. Report: rows (of this chunk), copied (so far),
/// log_bytes (of the file). Locks: ACCESS SHARE on the table; no row locks.
std::string copy_sql(const SwapNames& names, TransactionLimits limits, const Columns& columns,
                     long long rows);

/// Leaves each key in the log once. No lock on the table.
std::string collapse_log_sql(const SwapNames& names, TransactionLimits limits);

/// Removes from the shadow, before it has indexes, whatever is in the log: to be followed by VACUUM
/// where that is much, so that what comes instead finds room. No lock on the table.
std::string forget_changed_sql(const SwapNames& names, TransactionLimits limits);

/// Copies again what changed meanwhile, then builds the shadow's indexes. Report: copied
/// (sessions). Locks: ACCESS SHARE on the table.
std::string build_indexes_sql(const SwapNames& names, TransactionLimits limits,
                              const Columns& columns);

/// To be sent before VACUUM, so that the table's row counters are right after it.
std::string flush_statistics_sql(const SwapNames& names, TransactionLimits limits);

/// ANALYZE of the shadow as its owner.
std::string analyze_sql(const SwapNames& names, TransactionLimits limits);

/// Brings up to `rows` of the changed sessions up to date. Report: keys, truncated, ms (of the
/// server). Locks: ACCESS SHARE on the table; no row locks.
std::string drain_sql(const SwapNames& names, TransactionLimits limits, const Columns& columns,
                      long long rows);

/// Compares all live sessions with those in the shadow, reading the table as it lies on the disk;
/// fails with kUnsound if they differ although no key in the log explains it. Locks: ACCESS SHARE
/// on the table.
std::string verify_sql(const SwapNames& names, TransactionLimits limits, const Columns& columns);

/// Which of two ways to the live sessions doesn't find all: by reading the whole table, by the
/// index on expire_date, or by looking each of them up by the primary key.
enum class CountBy { heap, index, key };
/// Report: heap, index or key: the live sessions found that way. Locks: ACCESS SHARE on the table.
std::string count_live_sql(const SwapNames& names, TransactionLimits limits, CountBy by);

/// What may be done under the exclusive lock.
struct ExchangeLimits {
  int keys;                        ///< changed sessions to bring up to date; with more: kTryAgain
  std::chrono::milliseconds held;  ///< else the statement times out
};

/// Exchanges the two. Rows: asked, ended (epochs: from just before the exclusive lock is asked for
/// until just before it is given back). Locks: SHARE UPDATE EXCLUSIVE, then for at most limits.lock
/// ACCESS EXCLUSIVE on the table.
std::string exchange_sql(const SwapNames& names, TransactionLimits limits, const Columns& columns,
                         ExchangeLimits most);

/// Whose state it has to be when something is removed: this run's; nobody's, for it is gone, and no
/// other run has made one since; or whatever became of it.
enum class Whose { ours, nobodys, anybodys };

/// Drops the triggers on `tables`, which are those of triggered_tables_query(). Locks: as
/// create_triggers_sql, but ACCESS EXCLUSIVE, on those tables. Rows: asked, ended (epochs).
std::string remove_triggers_sql(const SwapNames& names, TransactionLimits limits, Whose state,
                                const std::vector<std::string>& tables);

/// To be sent after that: drops all else that is there under the names and belongs to the owner, in
/// whatever schema: replaced table, shadow, function, log, state. What can't be dropped because
/// something depends on it is emptied and kept under another name. Report: locked (one that others
/// have locked, and what would have come after it, are still there). No lock on the table.
std::string remove_sql(const SwapNames& names, TransactionLimits limits, Whose state);

/// Query: the tables that triggers of ours are on. Rows: name, quoted.
std::string triggered_tables_query(const SwapNames& names);

/// Where remove_triggers_sql can't get its lock: stops the log without it, and drops the shadow.
/// Locks: SHARE ROW EXCLUSIVE on the table: doesn't wait for readers.
std::string disable_sql(const SwapNames& names, TransactionLimits limits);

/// The state, read without waiting for its row. Report: run_id, phase (with _ for spaces), `shadow`,
/// keep_seconds, copied, rows_before, bytes_before, age (seconds), lease (seconds left),
/// backend_gone, is_vacuumed (shadow or log, by any session), and intact: table, triggers and
/// helpers are as the run left them.
std::string read_state_sql(const SwapNames& names, TransactionLimits limits);

/// Makes the state ours if it still is of the run `former`. Report: taken.
std::string take_over_sql(const SwapNames& names, TransactionLimits limits,
                          const std::string& former);

/// After the exchange: notes in the state that its figures have been reported.
std::string reported_sql(const SwapNames& names, TransactionLimits limits);

/// Renews the lease and nothing else: for a run that waits. No lock on the table.
std::string renew_sql(const SwapNames& names, TransactionLimits limits);

/// For a run that leaves the state behind, but continues.
std::string end_lease_sql(const SwapNames& names, TransactionLimits limits);

/// Query: the indexes that a swap finds sessions by. Rows: name, not quoted; is_key: the primary
/// key.
std::string search_indexes_query(const SwapNames& names);

/// Query: the table's columns in their order. Rows: name, quoted.
std::string columns_query(const SwapNames& names);

}  // namespace django_session::sessions
