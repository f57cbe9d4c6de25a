// The questions to pg_locks, pg_stat_activity, pg_prepared_xacts and pg_replication_slots, and the
// words for the answers.
#include "cleanup/bystanders.hpp"

#include <fmt/format.h>

#include "cleanup/patience.hpp"
#include "cleanup/sql_files.hpp"
#include "core/sql_text.hpp"
#include "measure/catalog_query.hpp"
#include "measure/holders.hpp"

namespace django_session::sessions {
namespace {

constexpr const char* kMark = "SELECT pg_snapshot_xmax(pg_current_snapshot()) AS mark;";

// {0} which locks. Who holds or awaits one, longest transaction first. A prepared transaction no
// longer has a process.
constexpr const char* kLockHolders = R"(
WITH lock AS (
  SELECT l.pid, l.virtualtransaction FROM pg_locks l JOIN pg_database d ON d.oid = l.database
  WHERE d.datname = current_database() AND {0}
)
SELECT 'prepared' AS kind, x.gid AS name, x.owner AS role, '' AS application,
  extract(epoch FROM now() - x.prepared) AS seconds
FROM pg_prepared_xacts x WHERE EXISTS (
  SELECT FROM pg_locks l JOIN lock ON lock.virtualtransaction = l.virtualtransaction
  WHERE lock.pid IS NULL AND l.locktype = 'transactionid' AND l.transactionid = x.transaction)
UNION ALL
SELECT 'backend', a.pid::text, a.usename, a.application_name,
  extract(epoch FROM now() - a.xact_start)
FROM pg_stat_activity a WHERE a.pid <> pg_backend_pid() AND a.pid IN (SELECT pid FROM lock)
ORDER BY seconds DESC NULLS LAST LIMIT 3;
)";

// {0} which locks are the cleanup's advisory lock. The locks of those who keep its holder waiting; a
// prepared transaction is one of them as long as its id, or a table of its, is waited for.
constexpr const char* kKeepsUsWaiting = R"((
  l.pid IN (SELECT unnest(pg_blocking_pids(ours.pid)) FROM pg_locks ours WHERE {0})
  OR l.pid IS NULL AND l.virtualtransaction IN (
    SELECT theirs.virtualtransaction
    FROM pg_locks ours JOIN pg_locks awaited ON awaited.pid = ours.pid AND NOT awaited.granted
    JOIN pg_locks theirs ON theirs.transactionid = awaited.transactionid
      OR theirs.relation = awaited.relation AND theirs.database = awaited.database
    WHERE {0} AND theirs.pid IS NULL)))";

// {0} ids of transactions, as strings.
constexpr const char* kTransactions = R"(
SELECT 'prepared' AS kind, x.gid AS name, x.owner AS role, '' AS application,
  extract(epoch FROM now() - x.prepared) AS seconds
FROM pg_prepared_xacts x WHERE x.transaction::text IN ({0})
UNION ALL
SELECT 'backend', a.pid::text, a.usename, a.application_name,
  extract(epoch FROM now() - a.xact_start)
FROM pg_stat_activity a WHERE a.pid <> pg_backend_pid() AND a.pid IN (
  SELECT l.pid FROM pg_locks l
  WHERE l.locktype = 'transactionid' AND l.granted AND l.transactionid::text IN ({0}))
ORDER BY seconds DESC NULLS LAST LIMIT 3;
)";

// {0} an array of process ids.
constexpr const char* kBackends = R"(
SELECT 'backend' AS kind, a.pid::text AS name, a.usename AS role, a.application_name AS application,
  extract(epoch FROM now() - a.xact_start) AS seconds
FROM pg_stat_activity a WHERE a.pid = ANY ({0}::int[]) ORDER BY seconds DESC NULLS LAST LIMIT 3;
)";

// {0} the tables, {1} modes of locks that don't matter. pg_locks hides nothing; the age of
// others' transactions is hidden without pg_read_all_stats, and a prepared transaction has no
// process. What has no role there is autovacuum, which gives way, see lock_against_vacuum() in
// swap_sql.cpp.
constexpr const char* kBlockers = R"(
SELECT DISTINCT l.virtualtransaction AS holder,
  extract(epoch FROM clock_timestamp() - a.xact_start) * 1000 AS ms
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
  AND l.relation = {0}
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.mode NOT IN ({1}) AND (a.pid IS NULL OR a.usesysid IS NOT NULL);
)";

// {0} a snapshot_mark(). Slots, prepared transactions and standbys read no sessions.
constexpr const char* kOldSnapshots = R"(
SELECT format('pid %s of role %s (%s)', a.pid, a.usename, a.application_name) AS who,
  a.backend_xmin IS NULL AS only_writes
FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
  AND a.backend_type IS DISTINCT FROM 'autovacuum worker'
  AND greatest(age(a.backend_xmin), age(a.backend_xid))
    > pg_snapshot_xmax(pg_current_snapshot())::text::numeric - '{0}'::numeric
ORDER BY age(a.backend_xmin) DESC NULLS LAST;
)";

// {0} a snapshot_mark(). Whose transaction was open then and has written something.
constexpr const char* kOldWriters = R"(
SELECT a.pid FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
  AND age(a.backend_xid) > pg_snapshot_xmax(pg_current_snapshot())::text::numeric - '{0}'::numeric;
)";

constexpr const char* kAnyAge = "true";

// {0} the table. Who waits for a lock is in nobody's way as long as another session has one.
constexpr const char* kOfTable = R"(l.locktype = 'relation' AND l.relation = {0}
  AND (l.granted OR NOT EXISTS (
    SELECT FROM pg_locks g WHERE g.locktype = 'relation' AND g.relation = l.relation AND g.granted
      AND g.database = l.database AND g.pid IS DISTINCT FROM pg_backend_pid())))";

/// One line each of what a query found.
std::vector<std::string> describe_all(const pg::Rows& rows) {
  std::vector<std::string> lines;
  for (const pg::Row& row : rows) lines.push_back(read_holder(row).who);
  return lines;
}

std::vector<std::string> describe_all(Run& run, const std::string& query) {
  return describe_all(run.ask(query));
}

/// Of locks in pg_locks, called l.
std::string holders_of(Run& run, const std::string& which) {
  const auto holders = describe_all(run, fmt::format(kLockHolders, which));
  return holders.empty() ? "a session that has since ended"
                         : fmt::format("{}", fmt::join(holders, "; "));
}

}  // namespace

std::string lock_holders(Run& run, const std::string& table) {
  return holders_of(run, fmt::format(kOfTable, table));
}

std::string lock_holders(Run& run) { return lock_holders(run, run.target().oid.text()); }

std::string sessions_of(Run& run, const std::string& pids) {
  const auto sessions = describe_all(run, fmt::format(kBackends, run.connection().literal(pids)));
  return sessions.empty() ? lock_holders(run) : fmt::format("{}", fmt::join(sessions, "; "));
}

std::string cleanup_lock_holder(Run& run) {
  return holders_of(run, is_cleanup_lock("l", run.target().oid.text()));
}

std::string blockers_of_cleanup(Run& run, pg::Connection& asked) {
  const std::string which =
      fmt::format(kKeepsUsWaiting, is_cleanup_lock("ours", run.target().oid.text()));
  const pg::Rows rows = ask_catalog(asked, fmt::format(kLockHolders, which), run.soon());
  return fmt::format("{}", fmt::join(describe_all(rows), "; "));
}

std::string row_lock_holders(Run& run, const std::vector<std::string>& transactions) {
  if (!transactions.empty()) {
    const std::string ids = fmt::format("'{}'", fmt::join(transactions, "', '"));
    const auto holders = describe_all(run, fmt::format(kTransactions, ids));
    if (!holders.empty()) return fmt::format("{}", fmt::join(holders, "; "));
  }
  return lock_holders(run);
}

std::string snapshot_mark(Run& run) {
  const pg::Rows rows = run.ask(kMark);
  if (rows.empty()) throw pg::Error(pg::Error::Kind::connection, "the answer was incomplete");
  return rows.front().text("mark");
}

std::vector<std::string> older_snapshots(Run& run, const std::string& mark) {
  return describe_all(run, snapshot_holders_query(mark, kAnyAge));
}

std::vector<std::string> long_transactions(Run& run) {
  return describe_all(run, dead_row_holders_query());
}

std::optional<OldTransaction> oldest_transaction(Run& run, const std::string& mark) {
  const pg::Rows rows = run.ask(fmt::format(kOldSnapshots, mark));
  if (rows.empty()) return std::nullopt;
  return OldTransaction{rows.front().text("who"), rows.front().flag("only_writes")};
}

bool has_old_writers(Run& run, const std::string& mark) {
  return !run.ask(fmt::format(kOldWriters, mark)).empty();
}

bool LockWatch::sees_a_long_one() {
  const char* harmless =
      ours_ == TableLock::share_row_exclusive ? "'AccessShareLock', 'RowShareLock'" : "''";
  std::map<std::string, Clock::time_point> now;
  bool any = false;
  for (const pg::Row& row : run_.ask(fmt::format(kBlockers, tables_, harmless))) {
    const std::string holder = row.text("holder");
    const auto known = met_.find(holder);
    const auto met = now[holder] = known == met_.end() ? Clock::now() : known->second;
    any = any || Clock::now() - met >= patience::kLongTransaction ||
          row.number("ms").value_or(0) > static_cast<double>(patience::kLongTransaction.count());
  }
  met_ = std::move(now);
  return any;
}

std::vector<std::string> long_lock_holders(Run& run) {
  std::vector<std::string> notes;
  for (const pg::Row& row : run.ask(sql::fill<sql::long_locks>(sql::arg<"oid">(run.target().oid))))
    notes.push_back(row.text("note"));
  return notes;
}

}  // namespace django_session::sessions
