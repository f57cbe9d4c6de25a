// Found by name: swap_sql.hpp says how the helpers are called. The start is told by the comment on the
// state table, which, unlike its row, everybody may read.
#include "sessions/leftovers.hpp"

#include <fmt/format.h>

#include <sstream>

#include "core/quantity.hpp"

namespace django_session::sessions {
namespace {

constexpr const char* kLeftovers = R"(
WITH this AS (
  SELECT c.oid, c.relnamespace, c.relowner FROM pg_catalog.pg_class c WHERE c.oid = {0}
), helper AS (
  SELECT c.oid, n.nspname AS schema, c.relname AS name,
    pg_catalog.substring(c.relname, '^djs_([0-9]+)_(?:state|log|new|old)$') AS belongs_to
  FROM this JOIN pg_catalog.pg_class c ON c.relnamespace = this.relnamespace AND c.relowner = this.relowner
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'r' AND c.relname LIKE 'djs\_%'
), mine AS (
  SELECT oid, pg_catalog.format('table %I.%I', schema, name) AS object, name FROM helper WHERE belongs_to = '{0}'
), object AS (
  SELECT object FROM mine
  UNION ALL
  SELECT pg_catalog.format('trigger %I', t.tgname) FROM pg_catalog.pg_trigger t
  WHERE t.tgrelid = {0} AND NOT t.tgisinternal AND t.tgname LIKE 'djs\_{0}\_%'
  UNION ALL
  SELECT pg_catalog.format('function %I()', p.proname) FROM this JOIN pg_catalog.pg_proc p
    ON p.pronamespace = this.relnamespace AND p.proowner = this.relowner
  WHERE p.proname = 'djs_{0}_note'
)
SELECT (SELECT pg_catalog.string_agg(object, E'\n' ORDER BY object) FROM object) AS objects,
  EXISTS (SELECT FROM mine WHERE name = 'djs_{0}_state') AS state,
  EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = {0} AND NOT t.tgisinternal
          AND t.tgname LIKE 'djs\_{0}\_%' AND t.tgenabled <> 'D') AS logging,
  (SELECT pg_catalog.pg_total_relation_size(oid) FROM mine WHERE name = 'djs_{0}_log') AS log_bytes,
  (SELECT pg_catalog.sum(pg_catalog.pg_total_relation_size(oid)) FROM mine) AS bytes,
  (SELECT extract(epoch FROM pg_catalog.now() - pg_catalog.substring(
            pg_catalog.obj_description(oid, 'pg_class'), 'started (.*)$')::timestamptz)
   FROM mine WHERE name = 'djs_{0}_state') AS age,
  (SELECT pg_catalog.string_agg(DISTINCT belongs_to, E'\n') FROM helper
   WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = belongs_to::oid)) AS orphans;
)";

std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> result;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) result.push_back(line);
  return result;
}

}  // namespace

std::string leftovers_query(const std::string& oid) { return fmt::format(kLeftovers, oid); }

Leftovers read_leftovers(const pg::Row& row) {
  Leftovers leftovers;
  leftovers.objects = lines(row.text("objects"));
  leftovers.state = row.flag("state");
  leftovers.logging = row.flag("logging");
  leftovers.log_bytes = row.number("log_bytes").value_or(0);
  leftovers.bytes = row.number("bytes").value_or(0);
  leftovers.age = row.number("age");
  leftovers.orphans = lines(row.text("orphans"));
  return leftovers;
}

std::string describe_leftovers(const Leftovers& leftovers) {
  if (!leftovers.any()) return "";
  std::string text = fmt::format("a swap that is under way or was interrupted: {}",
                                 fmt::join(leftovers.objects, ", "));
  text += fmt::format("; {}", format_quantity(leftovers.bytes, Unit::bytes));
  if (leftovers.age) text += ", since " + format_quantity(*leftovers.age, Unit::seconds);
  return text;
}

}  // namespace django_session::sessions
