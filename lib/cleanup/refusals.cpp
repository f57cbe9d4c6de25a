// The refusals as queries, one line of SQL or two for each.
#include "cleanup/refusals.hpp"

#include <fmt/format.h>

#include <string>

#include "cleanup/table_definition.hpp"
#include "measure/more_rights.hpp"
#include "measure/schema_renamer.hpp"

namespace django_session::sessions {
namespace {

// {oid}. What the refusals look at.
constexpr const char* kThisTable = R"(
WITH t AS (
  SELECT c.*, quote_ident(pg_get_userbyid(c.relowner)) AS owner, n.nspname,
    quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,
    k.attnum AS key, k.atttypid AS key_type,
    e.attnum AS expiry, e.atttypid AS expiry_type, e.attnotnull
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_attribute k ON k.attrelid = c.oid AND k.attname = 'session_key'
    AND NOT k.attisdropped
  LEFT JOIN pg_attribute e ON e.attrelid = c.oid AND e.attname = 'expire_date'
    AND NOT e.attisdropped
  WHERE c.oid = {oid}
)
)";

// {0} schema_renamer() for the owner. A table is found by its name; no lock on it keeps that name.
constexpr const char* kRenamedSchema = R"(
UNION ALL
SELECT 'delete,full,swap', 'schema ' || quote_ident(n.nspname),
  format('can be renamed by %1$I, who could put a table with code of their own in the place of this one, a '
    'superuser''s; ALTER TABLE %2$s OWNER TO %1$I', {0}, t.name)
FROM t JOIN pg_namespace n ON n.oid = t.relnamespace JOIN pg_roles o ON o.oid = t.relowner
WHERE o.rolsuper AND {0} IS NOT NULL
)";

// For all ways: methods (comma-separated), object, reason.
constexpr const char* kRefusals = R"(
SELECT 'delete,full,swap' AS methods, 'the server' AS object,
  'is a standby; clean up on the primary' AS reason
WHERE pg_is_in_recovery()
UNION ALL
SELECT 'delete,full', 'role ' || quote_ident(session_user),
  format('can''t read expire_date; GRANT SELECT (expire_date) ON %s TO %I', t.name, session_user)
FROM t WHERE NOT coalesce(has_column_privilege(t.oid, t.expiry, 'SELECT'), true)
UNION ALL
-- In the jail for the owner, see as_owner.hpp.
SELECT 'delete,full', 'type boolean',
  format('the owner may not use it; GRANT USAGE ON TYPE boolean TO %s', t.owner)
FROM t WHERE NOT has_type_privilege(t.relowner, 'bool'::regtype, 'USAGE')
  AND pg_has_role(t.relowner, 'MEMBER') AND session_user <> pg_get_userbyid(t.relowner)
UNION ALL
SELECT 'delete,full', 'rule ' || quote_ident(r.rulename), 'replaces or follows each DELETE'
FROM t JOIN pg_rewrite r ON r.ev_class = t.oid AND r.ev_type = '4' AND r.ev_enabled <> 'D'
UNION ALL
SELECT 'delete,full', format('foreign key %I of %s', f.conname, f.conrelid::regclass),
  'forbids deleting sessions that are referred to'
FROM t JOIN pg_constraint f ON f.confrelid = t.oid AND f.contype = 'f'
  AND f.confdeltype IN ('a', 'r')
UNION ALL
SELECT 'delete,full,swap', 'column expire_date', 'is not a timestamp with time zone'
FROM t WHERE t.expiry_type IS DISTINCT FROM 'timestamptz'::regtype
UNION ALL
SELECT 'delete,full,swap', 'column expire_date', 'has no valid B-tree index that begins with it'
FROM t WHERE NOT EXISTS (
  SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
  WHERE i.indrelid = t.oid AND i.indkey[0] = t.expiry AND i.indisvalid AND i.indpred IS NULL
    AND m.amname = 'btree')
UNION ALL
SELECT 'full', 'role ' || quote_ident(session_user),
  'is not the owner of the table, which VACUUM FULL needs'
FROM t WHERE NOT pg_has_role(t.relowner, 'USAGE')
  AND NOT CASE WHEN current_setting('server_version_num')::int >= 170000
               THEN has_table_privilege(t.oid, 'MAINTAIN') ELSE false END
)";

// What a swap calls as the owner; each may have been revoked from PUBLIC.
constexpr const char* kFunctions =
    "'aclexplode', 'acldefault', 'array_agg', 'array_position', 'clock_timestamp', "
    "'col_description', 'concat', 'concat_ws', 'count', 'current_setting', 'extract', 'format', "
    "'format_type', 'has_schema_privilege', 'has_sequence_privilege', 'hashtextextended', 'left', "
    "'length', 'max', 'min', "
    "'nextval', 'now', 'obj_description', 'pg_backend_pid', 'pg_describe_object', "
    "'pg_get_constraintdef', "
    "'pg_get_expr', 'pg_get_indexdef', 'pg_get_serial_sequence', 'pg_get_userbyid', "
    "'pg_options_to_table', 'pg_relation_size', 'pg_sequence_last_value', 'pg_sleep', "
    "'pg_stat_force_next_flush', "
    "'quote_ident', 'replace', 'right', 'row_number', 'set_config', 'string_agg', 'substr', "
    "'substring', 'sum', 'to_char', 'to_jsonb', 'to_regclass', 'to_regproc', 'to_regprocedure', "
    "'unnest'";

// {oid}, {functions}, {set_role}: kSetRole. Of the swap alone.
constexpr const char* kSwapRefusals = R"(
SELECT 'role ' || quote_ident(session_user) AS object,
  CASE WHEN EXISTS (SELECT FROM pg_roles r WHERE r.rolsuper AND pg_has_role(t.relowner, r.oid, 'MEMBER'))
    THEN format('is not a member of the owner, %s, and must not be: that is a superuser, or a member of '
      'one; ALTER TABLE %s OWNER TO the site''s role', t.owner, t.name)
    WHEN pg_has_role(t.relowner, 'MEMBER')
    THEN format('may not become the owner; GRANT %s TO %I WITH SET TRUE', t.owner, session_user)
    ELSE format('is not a member of the owner, %s: run it as the owner, or as the swapping role of '
      'conf.d/roles.sql', t.owner) END AS reason
FROM t WHERE NOT pg_has_role(t.relowner, {set_role})
UNION ALL
SELECT 'schema ' || quote_ident(t.nspname),
  format('the owner can''t create in it; GRANT USAGE, CREATE ON SCHEMA %I TO %s', t.nspname,
    t.owner)
FROM t WHERE NOT (has_schema_privilege(t.relowner, t.relnamespace, 'CREATE')
                  AND has_schema_privilege(t.relowner, t.relnamespace, 'USAGE'))
UNION ALL
SELECT DISTINCT 'tablespace ' || quote_ident(s.spcname),
  format('the owner can''t create in it; GRANT CREATE ON TABLESPACE %I TO %s', s.spcname, t.owner)
FROM t LEFT JOIN pg_index i ON i.indrelid = t.oid LEFT JOIN pg_class x ON x.oid = i.indexrelid
JOIN pg_tablespace s ON s.oid IN (t.reltablespace, x.reltablespace)
WHERE NOT has_tablespace_privilege(t.relowner, s.oid, 'CREATE')
UNION ALL
SELECT 'role ' || t.owner, format('the owner has no right to %s; GRANT %1$s ON %s TO %s', needed, t.name, t.owner) FROM t,
  unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRIGGER']) AS needed
WHERE NOT has_table_privilege(t.relowner, t.oid, needed)
UNION ALL
SELECT 'language plpgsql', 'is missing'
WHERE NOT EXISTS (SELECT FROM pg_language WHERE lanname = 'plpgsql')
UNION ALL
SELECT 'language plpgsql',
  format('the owner may not use it; GRANT USAGE ON LANGUAGE plpgsql TO %s', t.owner)
FROM t JOIN pg_language l ON l.lanname = 'plpgsql'
WHERE NOT has_language_privilege(t.relowner, l.oid, 'USAGE')
UNION ALL
-- Of the table's columns, and of those of the swap's own tables.
SELECT DISTINCT 'type ' || y.oid::regtype,
  format('the owner may not use it; GRANT USAGE ON TYPE %s TO %s', y.oid::regtype, t.owner)
FROM t, pg_type y
WHERE NOT has_type_privilege(t.relowner, y.oid, 'USAGE') AND (
  y.oid IN ('text'::regtype, 'name'::regtype, 'bool'::regtype, 'oid'::regtype, 'int4'::regtype,
            'int8'::regtype, 'float8'::regtype, 'timestamptz'::regtype)
  OR y.oid IN (SELECT a.atttypid FROM pg_attribute a
               WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped))
UNION ALL
SELECT 'function ' || p.oid::regprocedure, format('the owner may not call it; GRANT EXECUTE ON '
  'FUNCTION %s TO %s', p.oid::regprocedure, t.owner)
FROM t, pg_proc p
WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind <> 'p'
  AND NOT has_function_privilege(t.relowner, p.oid, 'EXECUTE') AND p.proname IN ({functions})
UNION ALL
SELECT 'the table', 'is not an ordinary, logged heap table' FROM t
WHERE t.relpersistence <> 'p' OR t.reloftype <> 0
  OR t.relam <> (SELECT oid FROM pg_am WHERE amname = 'heap')
UNION ALL
SELECT 'replica identity', 'is not the primary key' FROM t WHERE t.relreplident <> 'd'
UNION ALL
SELECT 'primary key', 'is not exactly session_key, checked at once' FROM t WHERE NOT EXISTS (
  SELECT FROM pg_index i WHERE i.indrelid = t.oid AND i.indisprimary AND i.indisvalid
    AND i.indimmediate
    AND i.indnatts = 1 AND i.indkey[0] = t.key)
UNION ALL
SELECT 'column session_key', 'is not of a character type'
FROM t JOIN pg_type y ON y.oid = t.key_type WHERE y.typcategory <> 'S'
UNION ALL
SELECT 'column expire_date', 'may be NULL' FROM t WHERE NOT t.attnotnull
UNION ALL
SELECT 'column ' || quote_ident(a.attname), 'is generated' FROM pg_attribute a
WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped
  AND (a.attidentity <> '' OR a.attgenerated <> '')
UNION ALL
SELECT 'index ' || quote_ident(x.relname), CASE WHEN NOT i.indisvalid
  THEN 'is invalid; REINDEX or DROP it'
    ELSE 'is unique or excludes: sessions can''t be copied in any order' END
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
WHERE i.indrelid = {oid}
  AND (NOT i.indisvalid OR (NOT i.indisprimary AND (i.indisunique OR i.indisexclusion)))
UNION ALL
SELECT 'constraint ' || quote_ident(n.conname), 'has not been validated; VALIDATE CONSTRAINT'
FROM pg_constraint n WHERE n.conrelid = {oid} AND NOT n.convalidated
UNION ALL
SELECT 'grant by ' || g.grantor::regrole, 'was not made by the owner and can''t be repeated'
FROM t, LATERAL (SELECT grantor FROM aclexplode(t.relacl)
  UNION SELECT x.grantor FROM pg_type y, aclexplode(y.typacl) x WHERE y.oid = t.reltype
  UNION SELECT x.grantor FROM pg_attribute a, aclexplode(a.attacl) x WHERE a.attrelid = t.oid) g
WHERE g.grantor <> t.relowner
UNION ALL
SELECT 'encoding ' || pg_encoding_to_char(b.encoding), 'has no conversion to UTF8'
FROM pg_database b WHERE b.datname = current_database() AND pg_encoding_to_char(b.encoding) NOT IN ('UTF8', 'SQL_ASCII')
  AND NOT EXISTS (SELECT FROM pg_conversion n WHERE n.condefault AND n.conforencoding = b.encoding
                  AND pg_encoding_to_char(n.contoencoding) = 'UTF8')
UNION ALL
SELECT 'event trigger ' || quote_ident(v.evtname), 'would fire'
FROM pg_event_trigger v
WHERE v.evtenabled <> 'D' AND v.evtevent IN ('ddl_command_start', 'ddl_command_end', 'sql_drop')
  AND (v.evttags IS NULL OR v.evttags && ARRAY[  -- all that a swap does
    'ALTER FUNCTION', 'ALTER INDEX', 'ALTER TABLE', 'COMMENT', 'CREATE FUNCTION', 'CREATE INDEX',
    'CREATE MATERIALIZED VIEW', 'CREATE SEQUENCE', 'CREATE TABLE', 'CREATE TABLE AS',
    'CREATE TRIGGER', 'DROP FUNCTION', 'DROP INDEX', 'DROP MATERIALIZED VIEW', 'DROP SEQUENCE',
    'DROP TABLE', 'DROP TRIGGER', 'GRANT', 'REVOKE', 'ALTER SEQUENCE'])
UNION ALL
SELECT 'replication slot ' || quote_ident(s.slot_name),
  'decodes this database: it would see another table'
FROM pg_replication_slots s WHERE s.slot_type = 'logical' AND s.database = current_database()
  AND s.wal_status IS DISTINCT FROM 'lost'
UNION ALL
SELECT 'name ' || quote_ident(part), 'has a $ or a backslash in it' FROM (
  SELECT t.nspname AS part FROM t UNION ALL SELECT t.relname FROM t
  UNION ALL SELECT a.attname FROM pg_attribute a WHERE a.attrelid = {oid}) p
WHERE part LIKE '%$%' OR part LIKE '%\\%'
UNION ALL
SELECT 'publication ' || quote_ident(p.pubname), 'publishes the table''s schema'
FROM t JOIN pg_publication_tables p ON p.schemaname = t.nspname AND p.tablename = t.relname
WHERE NOT EXISTS (SELECT FROM pg_publication q WHERE q.pubname = p.pubname AND (q.puballtables
  OR EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = q.oid AND r.prrelid = t.oid)))
UNION ALL
SELECT object, reason FROM ({attachments}) attached
)";

std::vector<Method> methods_of(const std::string& list) {
  std::vector<Method> methods;
  for (const Method method : {Method::swap, Method::remove, Method::full})
    if (list.find(method_name(method)) != std::string::npos) methods.push_back(method);
  return methods;
}

}  // namespace

std::vector<Refusal> general_refusals(Run& run, const DeleteAccess& access) {
  std::vector<Refusal> refusals;
  const std::string query = fmt::format(kThisTable, fmt::arg("oid", run.target().oid)) + kRefusals +
                            fmt::format(kRenamedSchema, schema_renamer("o")) + ";";
  for (const pg::Row& row : run.ask(query))
    for (const Method method : methods_of(row.text("methods")))
      refusals.push_back({method, row.text("object"), row.text("reason")});
  for (const auto& obstacle : access.obstacles)
    for (const Method method : {Method::remove, Method::full})
      refusals.push_back({method, obstacle.object, obstacle.reason});
  return refusals;
}

std::vector<Refusal> swap_refusals(Run& run) {
  const std::string& oid = run.target().oid;
  // The triggers of a swap that was interrupted are not the user's; in a database that was restored
  // from a dump, their names have the OID that the table had before.
  const std::string own_function = fmt::format(
      "coalesce((SELECT min(g.tgfoid::oid) FROM pg_trigger g "
      "WHERE g.tgrelid = {0} AND g.tgname ~ '^djs_[1-9][0-9]*_(changed|deleted|truncated)$'), 0)",
      oid);
  const std::string query =
      fmt::format(kThisTable, fmt::arg("oid", oid)) +
      fmt::format(kSwapRefusals, fmt::arg("oid", oid), fmt::arg("functions", kFunctions),
                  fmt::arg("set_role", kSetRole),
                  fmt::arg("attachments", attachments_query(oid, own_function)));
  std::vector<Refusal> refusals;
  for (const pg::Row& row : run.ask(query + ";"))
    refusals.push_back({Method::swap, row.text("object"), row.text("reason")});
  return refusals;
}

}  // namespace django_session::sessions
