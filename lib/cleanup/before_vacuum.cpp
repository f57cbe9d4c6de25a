// Two waits, and a name.
#include "cleanup/before_vacuum.hpp"

#include <algorithm>

#include "cleanup/bystanders.hpp"
#include "cleanup/patience.hpp"
#include "measure/catalog_query.hpp"

namespace django_session::sessions {
namespace {

// The server's counters learn of deletions up to seconds after their commit. If that were after
// VACUUM has reported, they would be counted twice: live rows that are there would be missing, and
// dead ones that are gone would be there, until the next VACUUM.
constexpr const char* kFlushStatistics = "SELECT pg_stat_force_next_flush();";
// Before PostgreSQL 15, at the end of a transaction if the last time was half a second before it.
constexpr const char* kFlushStatisticsBefore15 = "SELECT pg_sleep(0.6);";

}  // namespace

std::string wait_for_old_snapshots(Run& run, std::chrono::milliseconds longest) {
  run.show("waiting for older transactions");
  const std::string mark = snapshot_mark(run);
  const auto given_up =
      pg::Deadline::after(std::min<std::chrono::milliseconds>(patience::kForOldSnapshots, longest));
  for (;;) {
    const auto holders = older_snapshots(run, mark);
    if (holders.empty()) return "";
    if (given_up.passed()) return holders.front();
    run.rest(patience::kBetweenSnapshotLooks);
  }
}

std::string table_alone(const Run& run, int version) {
  return (version >= 180000 ? "ONLY " : "") + run.target().sql_name;
}

void flush_statistics(Run& run, int version) {
  const auto asleep = std::chrono::seconds(1);  // at most, and no sign of a slow server
  ask_catalog(run.connection(), version >= 150000 ? kFlushStatistics : kFlushStatisticsBefore15,
              pg::Deadline::after(run.options().answer_timeout + asleep));
}

}  // namespace django_session::sessions
