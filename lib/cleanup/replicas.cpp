// The questions to pg_stat_replication, pg_replication_slots and pg_stat_archiver, and what is made
// of the answers.
#include "cleanup/replicas.hpp"

#include <fmt/format.h>

#include "cleanup/patience.hpp"
#include "core/printable.hpp"
#include "core/wal_lag.hpp"

namespace django_session::sessions {
namespace {

// A base backup has no lag. Replicas that show no position to this role have NULL for it. A slot
// has used most of its allowance when what it holds back is four times what it may still hold; one
// that is lost no longer holds back anything. The archiver is asked to begin with a segment when
// that is complete, so the unfinished one is not late; "00000002.history" is no WAL file.
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
// archive_command is empty. Then its folder shows it, to those who may look there.
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
std::optional<double> waiting_for_archive(Run& run) {
  const pg::Rows rights = run.ask(kMayListArchive);
  if (rights.empty() || !rights.front().flag("allowed")) return std::nullopt;
  const pg::Rows rows = run.ask(kWaitingForArchive);
  return rows.empty() ? std::nullopt : rows.front().number("bytes");
}

std::vector<WalReader> wal_readers(Run& run) {
  std::vector<WalReader> readers;
  for (const pg::Row& row : run.ask(kWalReaders)) {
    WalReader reader = read_wal_reader(row);
    if (reader.kind == WalReader::Kind::archiver && !reader.bytes_behind)
      reader.bytes_behind = waiting_for_archive(run);
    readers.push_back(reader);
  }
  return readers;
}

/// Who is too far behind now; empty when nobody is.
std::string who_is_behind(Run& run) {
  return too_far_behind(wal_readers(run), run.options().max_lag);
}

}  // namespace

void wait_for_replicas(Run& run, const std::function<void()>& meanwhile) {
  std::string reason = who_is_behind(run);
  if (reason.empty()) return;
  run.note("waiting: " + reason);
  const auto given_up = pg::Deadline::after(patience::kForReplicas);
  while (!reason.empty()) {
    if (given_up.passed() || run.end().remaining() <= patience::kBetweenReplicaLooks)
      throw Paused("gave up waiting: " + reason);
    try {
      run.rest(patience::kBetweenReplicaLooks);
    } catch (const Paused&) {
      if (run.observer().stop_requested()) throw;
      throw Paused("gave up waiting: " + reason);
    }
    if (meanwhile) meanwhile();
    reason = who_is_behind(run);
  }
  run.note("all replicas have caught up; resuming");
}

std::vector<std::string> what_hides_from_us(Run& run) {
  std::vector<std::string> notes;
  for (const pg::Row& row : run.ask(kReplicasOutOfSight))
    notes.push_back(fmt::format("this role can't see how far replica \"{}\" is behind",
                                without_controls(row.text("name"), '?')));
  for (const WalReader& reader : wal_readers(run))
    if (reader.kind == WalReader::Kind::archiver && !reader.bytes_behind)
      notes.push_back(
          "this role can't see how far the WAL archiver is behind: its statistics name no file "
          "(they were reset, or archive_command is empty), and only members of pg_monitor may see "
          "its folder");
  return notes;
}

std::string missing_synchronous_standby(Run& run) {
  const pg::Rows rows = run.ask(kNoSynchronousStandby);
  if (rows.empty()) return "";
  return fmt::format(
      "no synchronous standby is connected (synchronous_standby_names = '{}'): other sessions' "
      "commits wait for one, this cleanup's don't",
      without_controls(rows.front().text("names"), '?'));
}

}  // namespace django_session::sessions
