-- What others have under the names that a swap of the table needs, in the table's schema: object
-- and reason, a row for each. Tables and types share their names; tables and indexes do, too, and
-- the shadow's indexes are called ..._i1 and so on until the exchange. A SELECT without its
-- semicolon: it is part of create_state_and_log.sql, too.
-- Locks: none.
--   {oid}  the table's
SELECT CASE WHEN o.is_function THEN 'function ' ELSE 'name ' END
    || pg_catalog.quote_ident(o.name) AS object,
  pg_catalog.format('belongs to %s and is needed for the new table: rename or drop it',
    pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(o.owner))) AS reason
FROM pg_catalog.pg_class t, LATERAL (
  SELECT c.relname AS name, c.relowner AS owner, c.relnamespace AS schema, false AS is_function,
    c.relkind = 'r' AND c.relname !~ '_i[0-9]+$' AS is_ours
  FROM pg_catalog.pg_class c WHERE c.relname LIKE E'djs\\_{oid}\\_%'
  UNION ALL
  SELECT y.typname, y.typowner, y.typnamespace, false, y.typrelid <> 0 OR y.typelem <> 0
  FROM pg_catalog.pg_type y WHERE y.typname LIKE E'djs\\_{oid}\\_%' AND y.typname !~ '_i[0-9]+$'
  UNION ALL
  SELECT p.proname, p.proowner, p.pronamespace, true,
    p.prorettype = 'pg_catalog.trigger'::pg_catalog.regtype
  FROM pg_catalog.pg_proc p WHERE p.proname = 'djs_{oid}_note' AND p.pronargs = 0) o
WHERE t.oid = {oid}::pg_catalog.oid AND o.schema = t.relnamespace
  AND o.name ~ '^djs_{oid}_(state|new|log|old|note|i[1-9][0-9]*)$'
  AND NOT (o.owner = t.relowner AND o.is_ours)
