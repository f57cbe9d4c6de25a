// The table itself; the rest is asked elsewhere.
#include "cleanup/preflight.hpp"

#include <fmt/format.h>

#include "cleanup/bystanders.hpp"
#include "cleanup/delete_access.hpp"
#include "cleanup/refusals.hpp"
#include "cleanup/replicas.hpp"
#include "cleanup/server_room.hpp"
#include "measure/probe.hpp"

namespace django_session::sessions {
namespace {

constexpr const char* kTarget = R"(
SELECT c.oid, n.nspname AS schema, c.relname AS "table", pg_get_userbyid(c.relowner) AS owner,
  coalesce(pg_total_relation_size(c.oid), 0) AS bytes,
  pg_size_bytes(current_setting('maintenance_work_mem')) AS sort_memory,
  nullif(pg_size_bytes(current_setting('temp_file_limit')), -1) AS temporary_max,
  -- Nothing if a pooler is connected by TCP, and nothing for a role that may not see where the server keeps its data.
  CASE WHEN inet_server_addr() IS NULL THEN
    (SELECT setting FROM pg_settings WHERE name = 'data_directory') END AS data_folder,
  current_setting('port') AS port, extract(epoch FROM pg_postmaster_start_time()) AS started
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = {0} AND c.relname = {1} AND c.relkind = 'r';
)";

// Of what receives this server's WAL, as far as this role may see it; a base backup replays
// nothing, nor does a logical decoder. A standby that is away has its slot.
constexpr const char* kStandbys = R"(
SELECT DISTINCT format('standby %I', r.application_name) AS name FROM pg_stat_replication r
WHERE r.state IS DISTINCT FROM 'backup' AND NOT EXISTS (
  SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')
UNION ALL
SELECT format('the standby of replication slot %I, which is away,', s.slot_name)
FROM pg_replication_slots s
WHERE s.slot_type = 'physical' AND NOT s.active AND s.restart_lsn IS NOT NULL ORDER BY 1;
)";

CleanupTarget read_target(const pg::Connection& connection, const pg::Row& row) {
  const std::string schema = row.text("schema"), table = row.text("table");
  return {row.oid("oid"),
          schema,
          table,
          connection.identifier(schema) + "." + connection.identifier(table),
          row.text("owner"),
          row.number("bytes").value_or(0)};
}

}  // namespace

Preflight look(Run& run, const TableName& table) {
  const pg::Connection& connection = run.connection();
  const pg::Rows found = run.ask(
      fmt::format(kTarget, connection.literal(table.schema), connection.literal(table.table)));
  if (found.empty())
    throw NoSuchTable(fmt::format("no table {} in this database", table.display()));
  const pg::Row& row = found.front();
  run.work_on(read_target(connection, row));
  Preflight preflight;
  preflight.room = look_at_disks(
      run, {row.text("data_folder"), row.text("port"), row.number("started").value_or(0)});
  preflight.sorting = read_sort_space(row);
  for (const pg::Row& standby : run.ask(kStandbys))
    preflight.standbys.push_back(standby.text("name"));
  const DeleteAccess access = delete_access(run);
  preflight.refusals = general_refusals(run, access);
  for (Refusal& refusal : swap_refusals(run)) preflight.refusals.push_back(std::move(refusal));
  preflight.notes = long_lock_holders(run);
  if (std::string note = who_delays_us(run); !note.empty())
    preflight.notes.push_back(std::move(note));
  if (!access.triggers.empty()) preflight.notes.push_back(access.about_triggers());
  preflight.leftovers = look_for_leftovers(run);
  return preflight;
}

SortSpace read_sort_space(const pg::Row& row) {
  return {row.number("sort_memory", pg::kAmount).value_or(0),
          row.number("temporary_max", pg::kAmount)};
}

Leftovers look_for_leftovers(Run& run) {
  return read_leftovers(run.ask(leftovers_query(run.target().oid)).front());
}

}  // namespace django_session::sessions
