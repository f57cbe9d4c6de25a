-- What others have under the names of a swap's helpers, where the table is or where it may have
-- been: object, a row for each.
-- Locks: none.
--   {oid}  the table's
SELECT pg_catalog.format('%s %s.%s of %I', o.kind, o.schema::pg_catalog.regnamespace, o.name,
  pg_catalog.pg_get_userbyid(o.owner)) AS object
FROM pg_catalog.pg_class t, LATERAL (
  SELECT 'table' AS kind, c.relname AS name, c.relowner AS owner, c.relnamespace AS schema
  FROM pg_catalog.pg_class c
  WHERE c.relname IN ('djs_{oid}_state', 'djs_{oid}_new', 'djs_{oid}_log', 'djs_{oid}_old')
  UNION ALL
  SELECT 'function', p.proname, p.proowner, p.pronamespace FROM pg_catalog.pg_proc p
  WHERE p.proname = 'djs_{oid}_note' AND p.pronargs = 0) o
WHERE t.oid = {oid}::pg_catalog.oid AND (o.schema = t.relnamespace OR o.owner = t.relowner)
ORDER BY 1;
