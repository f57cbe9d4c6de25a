-- What the table is, who owns it, and what this role may do with it: one row, or none where there
-- is no such table. A swap that is running, or was left behind, is known by the names of
-- cleanup/swap_sql.hpp.
-- Locks: none on the table.
--   {where}                  which row of pg_class c and pg_namespace n is meant
--   {more_rights}            more_rights.sql
--   {could_rule_the_server}  a condition on me, the session's role
--   {is_cleanup_lock}        is_cleanup_lock() of pg_locks k and the table
SELECT c.oid, n.oid AS schema_oid, n.nspname AS schema, c.relname AS "table", c.relkind, c.reltuples,
  c.reltoastrelid AS toast_oid,
  (SELECT pg_catalog.sum(ic.relpages) FROM pg_catalog.pg_index i
   JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid WHERE i.indrelid = nullif(c.reltoastrelid, 0))
    AS toast_index_pages,
  coalesce((SELECT option_value FROM pg_catalog.pg_options_to_table(c.reloptions)
            WHERE option_name = 'fillfactor'), '100') AS fillfactor,
  pg_catalog.current_database() AS database, current_user AS role, o.rolname AS owner,
  e.attnum IS NOT NULL AS has_expire_date,
  e.atttypid = 'timestamptz'::pg_catalog.regtype AS expire_date_has_zone,
  e.atttypid IN ('timestamptz'::pg_catalog.regtype, 'timestamp'::pg_catalog.regtype) AS expire_date_is_time,
  pg_catalog.has_schema_privilege(n.oid, 'USAGE') AS may_use_schema,
  coalesce(pg_catalog.has_column_privilege(c.oid, e.attnum, 'SELECT'), false) AS may_read_expire_date,
  row_security_active(c.oid) AS row_security, me.rolsuper AS is_superuser,
  {more_rights} IS NOT NULL AS has_more_rights, {could_rule_the_server} AS could_rule_the_server,
  has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE') AS may_lock, pg_is_in_recovery() AS standby,
  f.oid AS statistics_oid, f.name AS statistics_function,
  swap.logs AS swap_logs, swap.logs AND EXISTS (SELECT FROM pg_locks k WHERE {is_cleanup_lock}) AS swap_runs,
  (SELECT pg_catalog.pg_stat_get_tuples_inserted(l.oid) FROM pg_catalog.pg_class l
   WHERE l.relnamespace = n.oid AND l.relowner = c.relowner AND l.relname = 'djs_' || c.oid || '_log') AS swap_logged,
  (SELECT pg_catalog.obj_description(l.oid, 'pg_class') FROM pg_catalog.pg_class l
   WHERE l.relnamespace = n.oid AND l.relowner = c.relowner AND l.relname = 'djs_' || c.oid || '_state') AS swap_comment
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_roles me ON me.rolname = session_user
JOIN pg_roles o ON o.oid = c.relowner
JOIN pg_database d ON d.datname = current_database()
CROSS JOIN LATERAL (
  SELECT count(*) > 0 AS logs FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal
    AND g.tgname ~ '^djs_[1-9][0-9]*_(changed|deleted|truncated)$') swap
LEFT JOIN pg_catalog.pg_attribute e ON e.attrelid = c.oid AND e.attname = 'expire_date' AND e.attnum > 0
  AND NOT e.attisdropped
LEFT JOIN LATERAL (
  SELECT p.oid, format('%I.%I', n.nspname, p.proname) AS name FROM pg_proc p
  WHERE p.proname LIKE E'django\\_session\\_statistics%' AND p.pronamespace = n.oid AND p.proowner = c.relowner
    AND p.prosecdef AND p.pronargs = 1 AND p.proargtypes[0] = 'regclass'::regtype
    AND has_function_privilege(p.oid, 'EXECUTE')
  ORDER BY p.proname LIMIT 1) f ON true
WHERE {where};
