// One look at the catalogue, and what is said where it doesn't allow anything.
#include "cleanup/reclaim_rights.hpp"

#include <fmt/format.h>

#include "core/sql_name.hpp"

namespace django_session::sessions {
namespace {

// {0} the table's OID. MAINTAIN came with PostgreSQL 17. The owner of the database may VACUUM all
// that is in it, but not more.
constexpr const char* kRights = R"(
SELECT current_user AS role, pg_get_userbyid(c.relowner) AS owner,
  pg_has_role(c.relowner, 'USAGE') AS is_owner,
  pg_has_role(d.datdba, 'USAGE') AS is_database_owner,
  CASE WHEN current_setting('server_version_num')::int >= 170000
       THEN has_table_privilege(c.oid, 'MAINTAIN') ELSE false END AS may_maintain,
  current_setting('server_version_num') AS version
FROM pg_class c, pg_database d
WHERE c.oid = {0} AND d.datname = current_database();
)";

}  // namespace

ReclaimRights reclaim_rights(Run& run) {
  const pg::Rows rows = run.ask(fmt::format(kRights, run.target().oid));
  if (rows.empty()) throw pg::Error(pg::Error::Kind::statement, "the table is gone");
  const pg::Row& row = rows.front();
  ReclaimRights rights{row.text("role"), row.text("owner")};
  rights.drop = row.flag("is_owner");
  rights.reindex = row.flag("is_owner") || row.flag("may_maintain");
  rights.vacuum = rights.reindex || row.flag("is_database_owner");
  rights.version = static_cast<int>(row.number("version").value_or(0));
  return rights;
}

std::string why_nothing_is_reclaimed(const ReclaimRights& rights, const CleanupTarget& target) {
  if (rights.vacuum) return "";
  const std::string role = sql_identifier(rights.role);
  std::string text = fmt::format(
      "not vacuumed: role {} may neither VACUUM nor REINDEX {}; that is left to autovacuum, or to "
      "{}",
      role, target.sql_name, sql_identifier(rights.owner));
  if (rights.version >= 170000)
    text += fmt::format(", or GRANT MAINTAIN ON {} TO {}", target.sql_name, role);
  return text;
}

}  // namespace django_session::sessions
