// Found by name: swap_sql.hpp says how the helpers are called. Others may have tables of such
// names, and comments can be edited: nothing here is cast that might not be what it looks like.
// Sizes are of the heaps, since an index that is being built is locked. The start is told by the
// comment on the state table, which, unlike its row, everybody may read.
#include "measure/leftovers.hpp"

#include <fmt/format.h>

#include "core/quantity.hpp"

namespace django_session::sessions {
namespace {

constexpr const char* kLeftovers = R"(
WITH this AS (
  SELECT c.oid, c.relowner, n.nspname FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {0}::pg_catalog.oid
), helper AS (  -- in whatever schema: the table's may have changed since
  SELECT c.oid, n.nspname AS schema, c.relname AS name,
    pg_catalog.substring(c.relname::pg_catalog.text, '^djs_([1-9][0-9]{{0,9}})_(?:state|log|new|old)$')
      AS belongs_to,
    -- Asking for the size of a table that is being exchanged would wait for that.
    CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_locks l
                      WHERE l.relation IN (c.oid, c.reltoastrelid) AND l.granted
                        AND l.mode = 'AccessExclusiveLock')
      THEN c.relpages * pg_catalog.current_setting('block_size')::bigint
      ELSE pg_catalog.pg_relation_size(c.oid)
        + coalesce(pg_catalog.pg_relation_size(nullif(c.reltoastrelid, 0)), 0)
    END AS bytes
  FROM this JOIN pg_catalog.pg_class c ON c.relowner = this.relowner
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'r' AND c.relname LIKE 'djs\_%'
), note AS (
  SELECT p.oid, p.proname AS name,
    pg_catalog.substring(p.proname::pg_catalog.text, '^djs_([1-9][0-9]{{0,9}})_note$') AS belongs_to
  FROM this JOIN pg_catalog.pg_proc p ON p.proowner = this.relowner
  WHERE p.proname LIKE 'djs\_%\_note' AND p.prorettype = 'pg_catalog.trigger'::pg_catalog.regtype
), mine AS (
  SELECT oid, pg_catalog.format('table %I.%I', schema, name) AS object, schema, name, bytes
    FROM helper WHERE belongs_to = '{0}'
), object AS (
  SELECT object FROM mine
  UNION ALL
  SELECT pg_catalog.format('trigger %I', t.tgname) FROM pg_catalog.pg_trigger t
  WHERE t.tgrelid = {0}::pg_catalog.oid AND NOT t.tgisinternal AND t.tgname LIKE 'djs\_{0}\_%'
  UNION ALL
  SELECT pg_catalog.format('function %I()', name) FROM note WHERE belongs_to = '{0}'
), known AS (  -- those that a swap made: by its state, or by its function
  SELECT h.belongs_to FROM helper h JOIN pg_catalog.pg_attribute a ON a.attrelid = h.oid
  WHERE h.name LIKE '%\_state' AND a.attname = 'copied_until'
  UNION
  SELECT note.belongs_to FROM note
), orphan AS (  -- no such table, or (in a restored database) the triggers are on another one
  SELECT k.belongs_to FROM known k
  WHERE k.belongs_to <> '{0}' AND k.belongs_to::bigint < 4294967296 AND (
    NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = k.belongs_to::bigint
                AND c.relkind = 'r')
    OR EXISTS (SELECT FROM pg_catalog.pg_trigger t JOIN note ON note.oid = t.tgfoid
               JOIN pg_catalog.pg_class r ON r.oid = t.tgrelid
               WHERE note.belongs_to = k.belongs_to
                 AND t.tgrelid <> k.belongs_to::bigint
                 AND r.relname <> 'djs_' || k.belongs_to || '_old'))
), keeper AS (  -- what uses the row type of the replaced table, or reads it: it can't be dropped
  SELECT DISTINCT i.type, i.identity
  FROM mine JOIN pg_catalog.pg_class c ON c.oid = mine.oid
  JOIN pg_catalog.pg_type y ON y.oid = c.reltype
  JOIN pg_catalog.pg_depend d
    ON d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.refobjid IN (y.oid, y.typarray)
    OR d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = c.oid
      AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
  LEFT JOIN pg_catalog.pg_rewrite r
    ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND r.oid = d.objid,
  LATERAL pg_catalog.pg_identify_object(
    CASE WHEN r.oid IS NULL THEN d.classid ELSE 'pg_catalog.pg_class'::pg_catalog.regclass END,
    coalesce(r.ev_class, d.objid), d.objsubid) i
  WHERE mine.name = 'djs_{0}_old' AND NOT (d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass
    AND d.objid IN (y.oid, y.typarray))
), started AS (
  SELECT pg_catalog.substring(pg_catalog.obj_description(oid, 'pg_class'),
    'started ([12]\d{{3}}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01]) '
    '(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d)Z$') AS at,
    pg_catalog.substring(pg_catalog.obj_description(oid, 'pg_class'), 'keeping (\d{{1,10}}) s,') AS keep
  FROM mine WHERE name = 'djs_{0}_state'
)
SELECT (SELECT pg_catalog.string_agg(object, E'\n' ORDER BY object) FROM object) AS objects,
  -- What isn't in the table's schema any more can only be removed.
  EXISTS (SELECT FROM mine, this
          WHERE mine.name = 'djs_{0}_state' AND mine.schema = this.nspname) AS state,
  EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = {0} AND NOT t.tgisinternal
          AND t.tgname LIKE 'djs\_{0}\_%' AND t.tgenabled <> 'D') AS logging,
  (SELECT bytes FROM mine WHERE name = 'djs_{0}_log') AS log_bytes,
  (SELECT pg_catalog.sum(bytes) FROM mine) AS bytes,
  (SELECT pg_catalog.string_agg(type || ' ' || identity, E'\n' ORDER BY type || ' ' || identity) FROM keeper) AS keepers,
  (SELECT pg_catalog.string_agg(CASE
     WHEN type IN ('function', 'procedure', 'aggregate', 'view', 'materialized view')
     THEN 'DROP ' || pg_catalog.upper(type) ELSE 'drop or change ' || type END
     || ' ' || identity, E'\n' ORDER BY type || ' ' || identity) FROM keeper) AS remedies,
  -- So that there is no date (the 31st of February) that can't be.
  (SELECT extract(epoch FROM pg_catalog.now() - (
     (pg_catalog.left(at, 8) || '01')::date + (pg_catalog.substr(at, 9, 2)::int - 1)
     + pg_catalog.substr(at, 12)::time) AT TIME ZONE 'UTC') FROM started) AS age,
  (SELECT keep FROM started) AS keep,
  (SELECT pg_catalog.string_agg(belongs_to, E'\n') FROM orphan) AS orphans;
)";

// Of the names that a swap needs, in the table's schema. Tables and types share their names; tables
// and indexes do, too, and the copy's indexes are called ..._i1 and so on until the exchange.
constexpr const char* kTakenNames = R"(
SELECT CASE WHEN o.is_function THEN 'function ' ELSE 'name ' END
    || pg_catalog.quote_ident(o.name) AS object,
  pg_catalog.format('belongs to %s and is needed for the new table: rename or drop it',
    pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(o.owner))) AS reason
FROM pg_catalog.pg_class t, LATERAL (
  SELECT c.relname AS name, c.relowner AS owner, c.relnamespace AS schema, false AS is_function,
    c.relkind = 'r' AND c.relname !~ '_i[0-9]+$' AS is_ours
  FROM pg_catalog.pg_class c WHERE c.relname LIKE 'djs\_{0}\_%'
  UNION ALL
  SELECT y.typname, y.typowner, y.typnamespace, false, y.typrelid <> 0 OR y.typelem <> 0
  FROM pg_catalog.pg_type y WHERE y.typname LIKE 'djs\_{0}\_%' AND y.typname !~ '_i[0-9]+$'
  UNION ALL
  SELECT p.proname, p.proowner, p.pronamespace, true,
    p.prorettype = 'pg_catalog.trigger'::pg_catalog.regtype
  FROM pg_catalog.pg_proc p WHERE p.proname = 'djs_{0}_note' AND p.pronargs = 0) o
WHERE t.oid = {0}::pg_catalog.oid AND o.schema = t.relnamespace
  AND o.name ~ '^djs_{0}_(state|new|log|old|note|i[1-9][0-9]*)$'
  AND NOT (o.owner = t.relowner AND o.is_ours))";

// What somebody has under the names of helpers, where the table is or where it may have been.
constexpr const char* kLeftBehind = R"(
SELECT pg_catalog.format('%s %s.%s of %I', o.kind, o.schema::pg_catalog.regnamespace, o.name,
  pg_catalog.pg_get_userbyid(o.owner)) AS object
FROM pg_catalog.pg_class t, LATERAL (
  SELECT 'table' AS kind, c.relname AS name, c.relowner AS owner, c.relnamespace AS schema
  FROM pg_catalog.pg_class c
  WHERE c.relname IN ('djs_{0}_state', 'djs_{0}_new', 'djs_{0}_log', 'djs_{0}_old')
  UNION ALL
  SELECT 'function', p.proname, p.proowner, p.pronamespace FROM pg_catalog.pg_proc p
  WHERE p.proname = 'djs_{0}_note' AND p.pronargs = 0) o
WHERE t.oid = {0}::pg_catalog.oid AND (o.schema = t.relnamespace OR o.owner = t.relowner)
ORDER BY 1;
)";

}  // namespace

std::string left_behind_query(const std::string& oid) { return fmt::format(kLeftBehind, oid); }

std::string taken_names_query(const std::string& oid) { return fmt::format(kTakenNames, oid); }

std::string leftovers_query(const std::string& oid) { return fmt::format(kLeftovers, oid); }

Leftovers read_leftovers(const pg::Row& row) {
  Leftovers leftovers;
  leftovers.objects = row.lines("objects");
  leftovers.state = row.flag("state");
  leftovers.logging = row.flag("logging");
  leftovers.log_bytes = row.number("log_bytes").value_or(0);
  leftovers.bytes = row.number("bytes").value_or(0);
  leftovers.age = row.number("age");
  leftovers.keep = row.number("keep");
  leftovers.orphans = row.lines("orphans");
  leftovers.keepers = row.lines("keepers");
  leftovers.remedies = row.lines("remedies");
  return leftovers;
}

std::string why_it_stays(const Leftovers& leftovers) {
  if (leftovers.keepers.empty()) return "";
  return fmt::format(
      "the replaced table can't be dropped ({}): {} depends on it; {}, then run "
      "django_session_cleanup --abort",
      format_quantity(leftovers.bytes, Unit::bytes), fmt::join(leftovers.keepers, ", "),
      fmt::join(leftovers.remedies, "; "));
}

std::string describe_leftovers(const Leftovers& leftovers) {
  if (!leftovers.any()) return "";
  std::string text = fmt::format("a swap that is under way or was interrupted: {}",
                                 fmt::join(leftovers.objects, ", "));
  text += fmt::format("; {}", format_quantity(leftovers.bytes, Unit::bytes));
  if (leftovers.age) text += ", started " + format_quantity(*leftovers.age, Unit::seconds) + " ago";
  if (const std::string why = why_it_stays(leftovers); !why.empty()) text += "; " + why;
  return text;
}

}  // namespace django_session::sessions
