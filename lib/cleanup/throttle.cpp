// The questions to pg_stat_replication, pg_replication_slots, pg_stat_archiver and
// pg_stat_activity, and what is made of the answers.
#include "cleanup/throttle.hpp"

#include <fmt/format.h>

#include <thread>

#include "core/printable.hpp"
#include "core/quantity.hpp"
#include "core/wal_lag.hpp"
#include "measure/catalog_query.hpp"

namespace django_session::sessions {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kSlice{50};  // how soon a wish to stop is noticed
constexpr milliseconds kBetweenLooks{1000};
constexpr milliseconds kPatience{5 * 60 * 1000};

// A base backup has no lag. Replicas that show no position to this role have NULL for it. A slot
// has used most of its allowance when what it holds back is four times what it may still hold; one
// that is lost holds back nothing any more. The archiver is asked to begin with a segment when that
// is complete, so the unfinished one is not late; "00000002.history" is no WAL file.
constexpr const char* kWalReaders = R"(
SELECT 'replica' AS kind, application_name AS name,
  pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) AS bytes_behind,
  extract(epoch FROM replay_lag) AS seconds_behind, false AS about_to_be_lost
FROM pg_stat_replication WHERE state IS DISTINCT FROM 'backup'
UNION ALL
SELECT 'slot', slot_name, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), NULL,
  wal_status = 'unreserved'
    OR coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) > 4 * safe_wal_size, false)
FROM pg_replication_slots
WHERE restart_lsn IS NOT NULL AND wal_status IS DISTINCT FROM 'lost'
UNION ALL
SELECT 'archiver', '', CASE WHEN file IS NOT NULL THEN greatest(0,
  trunc(pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') / segment.bytes) * segment.bytes
    - ('x' || substr(file, 9, 8))::bit(32)::bigint * 4294967296
    - (('x' || substr(file, 17, 8))::bit(32)::bigint + is_archived::int) * segment.bytes) END,
  NULL, false
FROM (SELECT coalesce(substring(last_archived_wal FROM '^[0-9A-F]{24}'),
                      substring(last_failed_wal FROM '^[0-9A-F]{24}')) AS file,
        last_archived_wal ~ '^[0-9A-F]{24}' IS TRUE AS is_archived
      FROM pg_stat_archiver) archived,
  (SELECT pg_size_bytes(current_setting('wal_segment_size')) AS bytes) segment
WHERE current_setting('archive_mode') <> 'off';
)";

// The archiver's statistics name no file when they have just been reset, and stay like that where
// archive_command is empty. Then its folder tells, to those who may look there.
constexpr const char* kMayListArchive = R"(
SELECT has_function_privilege('pg_catalog.pg_ls_archive_statusdir()', 'EXECUTE') AS allowed;
)";
constexpr const char* kWaitingForArchive = R"(
SELECT count(*) * pg_size_bytes(current_setting('wal_segment_size')) AS bytes
FROM pg_ls_archive_statusdir() WHERE name ~ '^[0-9A-F]{24}[.]ready$';
)";

constexpr const char* kReplicasOutOfSight = R"(
SELECT DISTINCT application_name AS name FROM pg_stat_replication r
WHERE replay_lsn IS NULL AND state IS NULL
  AND NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid);
)";

// Whose state is hidden from this role may be the one.
constexpr const char* kNoSynchronousStandby = R"(
SELECT current_setting('synchronous_standby_names') AS names
WHERE current_setting('synchronous_standby_names') <> '' AND NOT EXISTS (
  SELECT FROM pg_stat_replication WHERE state IS NULL OR sync_state IN ('sync', 'quorum'));
)";

constexpr const char* kMark = "SELECT pg_snapshot_xmax(pg_current_snapshot()) AS mark;";

// {0} the mark, {1} what else must hold. Transactions of other databases don't matter to a table of
// this one; those of walsenders (hot_standby_feedback) have no database. A transaction holds back
// by its snapshot or by its own id. The age in time is hidden from roles without pg_read_all_stats,
// the ids are not. Transactions of VACUUM itself (and autovacuum's, which have no role) hold back
// nothing.
constexpr const char* kHolders = R"(
WITH mark AS (
  SELECT pg_snapshot_xmax(pg_current_snapshot())::text::numeric - '{0}'::numeric AS age
), holder AS (
  SELECT CASE WHEN a.backend_type = 'walsender' THEN 'walsender' ELSE 'backend' END AS kind,
    a.pid::text AS name, a.usename AS role, a.application_name AS application,
    greatest(age(a.backend_xmin), age(a.backend_xid)) AS age,
    extract(epoch FROM now() - a.xact_start) AS seconds
  FROM pg_stat_activity a
  WHERE a.pid <> pg_backend_pid() AND coalesce(a.datname, current_database()) = current_database()
    AND (a.usesysid IS NOT NULL OR a.datname IS NULL)
    AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.pid = a.pid)
  UNION ALL
  SELECT 'slot', slot_name, NULL, NULL, age(xmin), NULL FROM pg_replication_slots
  WHERE wal_status IS DISTINCT FROM 'lost'
  UNION ALL
  SELECT 'prepared', gid, owner, NULL, age(transaction), extract(epoch FROM now() - prepared)
  FROM pg_prepared_xacts WHERE database = current_database()
)
SELECT holder.* FROM holder, mark
WHERE holder.age IS NOT NULL AND holder.age >= mark.age AND ({1})
ORDER BY holder.age DESC;
)";

// {0} which locks. Who holds or awaits one, longest transaction first. A prepared transaction has
// no process any more.
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

constexpr const char* kAnyAge = "true";
// A slot's age in time isn't known, but it is more than a moment by its nature.
constexpr const char* kAMinuteOld = "holder.seconds >= 60 OR holder.kind IN ('slot', 'prepared')";

WalReader read_wal_reader(const pg::Row& row) {
  const std::string kind = row.text("kind");
  WalReader reader;
  reader.kind = kind == "replica" ? WalReader::Kind::replica
                : kind == "slot"  ? WalReader::Kind::slot
                                  : WalReader::Kind::archiver;
  reader.name = row.text("name");
  reader.bytes_behind = row.number("bytes_behind");
  reader.seconds_behind = row.number("seconds_behind");
  reader.about_to_be_lost = row.flag("about_to_be_lost");
  return reader;
}

/// Bytes of the complete WAL files that wait for the archiver; nothing where this role may not see
/// them.
std::optional<double> waiting_for_archive(pg::Connection& connection, pg::Deadline deadline) {
  const pg::Rows rights = ask_catalog(connection, kMayListArchive, deadline);
  if (rights.empty() || !rights.front().flag("allowed")) return std::nullopt;
  const pg::Rows rows = ask_catalog(connection, kWaitingForArchive, deadline);
  return rows.empty() ? std::nullopt : rows.front().number("bytes");
}

std::vector<WalReader> wal_readers(pg::Connection& connection, pg::Deadline deadline) {
  std::vector<WalReader> readers;
  for (const pg::Row& row : ask_catalog(connection, kWalReaders, deadline)) {
    WalReader reader = read_wal_reader(row);
    if (reader.kind == WalReader::Kind::archiver && !reader.bytes_behind)
      reader.bytes_behind = waiting_for_archive(connection, deadline);
    readers.push_back(reader);
  }
  return readers;
}

/// Who is too far behind now; empty when nobody is.
std::string look(pg::Connection& connection, const CleanupOptions& options) {
  const auto deadline = pg::Deadline::after(options.answer_timeout);
  return too_far_behind(wal_readers(connection, deadline), options.max_lag);
}

/// Autovacuum has no role.
std::string describe_backend(const pg::Row& row) {
  if (row.text("role").empty()) return fmt::format("pid {} (autovacuum)", row.text("name"));
  std::string text = fmt::format("pid {} of role {}", row.text("name"), row.text("role"));
  if (!row.text("application").empty()) text += fmt::format(" ({})", row.text("application"));
  const auto seconds = row.number("seconds");
  return seconds ? text + ", in a transaction for " + format_quantity(*seconds, Unit::seconds)
                 : text;
}

std::string describe_prepared(const pg::Row& row) {
  const auto seconds = row.number("seconds");
  return fmt::format("prepared transaction \"{}\" of role {}", row.text("name"), row.text("role")) +
         (seconds ? ", there for " + format_quantity(*seconds, Unit::seconds) : "");
}

std::string describe_holder(const pg::Row& row) {
  const std::string kind = row.text("kind");
  if (kind == "slot") return fmt::format("replication slot \"{}\"", row.text("name"));
  if (kind == "prepared") return describe_prepared(row);
  if (kind == "walsender")
    return fmt::format("replica \"{}\" (hot_standby_feedback)", row.text("application"));
  return describe_backend(row);
}

/// "a; b; c" of what a query finds; empty where it finds nobody.
std::string describe_holders(pg::Connection& connection, const std::string& query,
                             pg::Deadline deadline) {
  std::string text;
  for (const pg::Row& row : ask_catalog(connection, query, deadline))
    text += (text.empty() ? "" : "; ") + without_controls(describe_holder(row), '?');
  return text;
}

/// Of locks in pg_locks, called l.
std::string holders_of(pg::Connection& connection, const std::string& which,
                       pg::Deadline deadline) {
  const std::string text = describe_holders(connection, fmt::format(kLockHolders, which), deadline);
  return text.empty() ? "somebody who is gone by now" : text;
}

std::vector<std::string> holders(pg::Connection& connection, const std::string& mark,
                                 const char* condition, pg::Deadline deadline) {
  std::vector<std::string> result;
  for (const pg::Row& row :
       ask_catalog(connection, fmt::format(kHolders, mark, condition), deadline))
    result.push_back(without_controls(describe_holder(row), '?'));
  return result;
}

}  // namespace

void pause_for(milliseconds duration, pg::Deadline run_end, CleanupObserver& observer) {
  const auto end = pg::Deadline::after(duration);
  stop_if_wanted(observer, run_end);
  while (!end.passed()) {
    std::this_thread::sleep_for(std::min(kSlice, end.remaining()));
    stop_if_wanted(observer, run_end);
  }
}

void wait_for_calm(pg::Connection& connection, const CleanupOptions& options, pg::Deadline run_end,
                   CleanupObserver& observer, const std::function<void()>& meanwhile) {
  std::string reason = look(connection, options);
  if (reason.empty()) return;
  observer.on_note("waiting: " + reason);
  const auto patience = pg::Deadline::after(kPatience);
  while (!reason.empty()) {
    if (patience.passed() || run_end.remaining() <= kBetweenLooks)
      throw Paused("waited in vain: " + reason);
    try {
      pause_for(kBetweenLooks, run_end, observer);
    } catch (const Paused&) {
      if (observer.stop_requested()) throw;
      throw Paused("waited in vain: " + reason);
    }
    if (meanwhile) meanwhile();
    reason = look(connection, options);
  }
  observer.on_note("all replicas have caught up; resuming");
}

std::vector<std::string> what_hides_from_us(pg::Connection& connection, pg::Deadline deadline) {
  std::vector<std::string> notes;
  for (const pg::Row& row : ask_catalog(connection, kReplicasOutOfSight, deadline))
    notes.push_back(fmt::format("how far replica \"{}\" is behind can't be seen by this role",
                                without_controls(row.text("name"), '?')));
  for (const WalReader& reader : wal_readers(connection, deadline))
    if (reader.kind == WalReader::Kind::archiver && !reader.bytes_behind)
      notes.push_back(
          "how far the WAL archiver is behind can't be seen by this role: its statistics name no "
          "file (they were reset, or archive_command is empty), and its folder is for members of "
          "pg_monitor");
  return notes;
}

std::string missing_synchronous_standby(pg::Connection& connection, pg::Deadline deadline) {
  const pg::Rows rows = ask_catalog(connection, kNoSynchronousStandby, deadline);
  if (rows.empty()) return "";
  return fmt::format(
      "no synchronous standby is connected (synchronous_standby_names = '{}'): commits of others "
      "wait for one, those of this cleanup don't",
      without_controls(rows.front().text("names"), '?'));
}

std::string lock_holders(pg::Connection& connection, const std::string& oid,
                         pg::Deadline deadline) {
  return holders_of(connection, "l.locktype = 'relation' AND l.relation = " + oid, deadline);
}

std::string cleanup_lock_holder(pg::Connection& connection, const std::string& oid,
                                pg::Deadline deadline) {
  const std::string which = fmt::format(
      "l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = {} AND l.objid = "
      "{}",
      kCleanupLock, oid);
  return holders_of(connection, which, deadline);
}

std::string row_lock_holders(pg::Connection& connection, const std::string& oid,
                             const std::vector<std::string>& transactions, pg::Deadline deadline) {
  std::string text;
  if (!transactions.empty()) {
    const std::string ids = fmt::format("'{}'", fmt::join(transactions, "', '"));
    text = describe_holders(connection, fmt::format(kTransactions, ids), deadline);
  }
  return text.empty() ? lock_holders(connection, oid, deadline) : text;
}

std::string snapshot_mark(pg::Connection& connection, pg::Deadline deadline) {
  const pg::Rows rows = ask_catalog(connection, kMark, deadline);
  if (rows.empty()) throw pg::Error(pg::Error::Kind::connection, "the answer ended too early");
  return rows.front().text("mark");
}

std::vector<std::string> older_snapshots(pg::Connection& connection, const std::string& mark,
                                         pg::Deadline deadline) {
  return holders(connection, mark, kAnyAge, deadline);
}

std::vector<std::string> long_transactions(pg::Connection& connection, pg::Deadline deadline) {
  return holders(connection, snapshot_mark(connection, deadline), kAMinuteOld, deadline);
}

}  // namespace django_session::sessions
