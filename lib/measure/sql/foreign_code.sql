-- What makes it unsafe to let the planner look at the table with more rights than its owner has:
-- one row, reason, with the first that is found; no row where there is nothing. Code that a
-- superuser owns counts as the system's, and our own is ours. What would be evaluated: what
-- indexes, extended statistics and virtual columns depend on; not CHECKs (constraint_exclusion),
-- policies (row_security), defaults and triggers.
-- Locks: none; the caller may hold one on the table already.
--   {oid}                the table's
--   {schema_literal}, {table_literal}  its names as strings
--   {unless_held}        nothing, or UNION ALL with a reason where our lock isn't on the table
--   {unless_name_stays}  nothing, or UNION ALL with a reason where its schema can be renamed
WITH part AS (
  SELECT 'pg_class'::regclass AS class, i.indexrelid AS object FROM pg_index i WHERE i.indrelid = '{oid}'::oid
  UNION ALL
  SELECT 'pg_statistic_ext'::regclass, x.oid FROM pg_statistic_ext x WHERE x.stxrelid = '{oid}'::oid
  UNION ALL
  SELECT 'pg_attrdef'::regclass, v.oid
  FROM pg_attrdef v JOIN pg_attribute a ON a.attrelid = v.adrelid AND a.attnum = v.adnum
  WHERE v.adrelid = '{oid}'::oid AND a.attgenerated = 'v'
), used AS (
  SELECT p.class, p.object, d.refclassid, d.refobjid,
    CASE d.refclassid
      WHEN 'pg_proc'::regclass THEN (SELECT proowner FROM pg_proc WHERE oid = d.refobjid)
      WHEN 'pg_type'::regclass THEN (SELECT typowner FROM pg_type WHERE oid = d.refobjid)
      WHEN 'pg_operator'::regclass THEN (SELECT oprowner FROM pg_operator WHERE oid = d.refobjid)
      WHEN 'pg_opclass'::regclass THEN (SELECT opcowner FROM pg_opclass WHERE oid = d.refobjid)
      WHEN 'pg_opfamily'::regclass THEN (SELECT opfowner FROM pg_opfamily WHERE oid = d.refobjid)
    END AS owner
  FROM part p JOIN pg_depend d ON d.classid = p.class AND d.objid = p.object
)
SELECT format('%s %s uses %s %s of role %I', a.type, a.identity, b.type, b.identity, r.rolname) AS reason
FROM used u JOIN pg_roles r ON r.oid = u.owner AND NOT r.rolsuper AND r.rolname <> session_user,
LATERAL pg_identify_object(u.class, u.object, 0) a, LATERAL pg_identify_object(u.refclassid, u.refobjid, 0) b
UNION ALL
SELECT 'it has just been changed'
WHERE NOT EXISTS (
  SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute e ON e.attrelid = c.oid AND e.attname = 'expire_date' AND NOT e.attisdropped
  WHERE c.oid = '{oid}'::oid AND c.relkind = 'r' AND n.nspname = {schema_literal} AND c.relname = {table_literal}
    AND e.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype)){unless_held}{unless_name_stays}
ORDER BY 1 LIMIT 1;
