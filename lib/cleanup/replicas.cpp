// The questions to pg_stat_replication, pg_replication_slots and pg_stat_archiver, and what is made
// of the answers.
#include "cleanup/replicas.hpp"

#include <fmt/format.h>

#include "cleanup/patience.hpp"
#include "cleanup/sql_files.hpp"
#include "core/printable.hpp"
#include "core/sql_text.hpp"

namespace django_session::sessions {
namespace {

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
  for (const pg::Row& row : run.ask(sql::fill<sql::wal_readers>())) {
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

std::string who_delays_us(Run& run) {
  const std::string reason = who_is_behind(run);
  if (reason.empty()) return "";
  return fmt::format("{}: the cleanup stops if that lasts for {} minutes", reason,
                     patience::kForReplicas.count());
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
