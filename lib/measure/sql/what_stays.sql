-- The helpers of a swap that can't be dropped because something else depends on them, and those that
-- were kept for such a reason (see cleanup/sql/remove.sql), a row for each: object, for people;
-- bytes; keepers and remedies, what depends on it and what ends that, or NULL where nothing does
-- any more. Also, without keepers, what someone has renamed: a table with indexes of a shadow's
-- names, or, as long as it has none, made like one, and a state. Of many that depend on one, some.
-- Locks: none.
--   {oid}  the table's
WITH thing AS (
  SELECT 'pg_class'::regclass AS classid, c.oid AS objid, 'table ' || c.oid::regclass AS object,
    c.relname ~ '^djs_kept_' AS is_kept
  FROM pg_class t JOIN pg_class c ON c.relowner = t.relowner AND c.relkind = 'r'
  WHERE t.oid = {oid}
    AND c.relname ~ '^djs_({oid}_(state|new|log|old)|kept_[0-9a-f]{8}_[0-9]+)$'
  UNION ALL
  SELECT 'pg_proc'::regclass, p.oid, 'function ' || p.oid::regprocedure, p.proname ~ '^djs_kept_'
  FROM pg_class t JOIN pg_proc p ON p.proowner = t.relowner AND p.prorettype = 'trigger'::regtype
  WHERE t.oid = {oid} AND p.proname ~ '^djs_({oid}_note|kept_[0-9a-f]{8}_[0-9]+)$'
), part AS (
  SELECT object, classid, objid FROM thing
  UNION ALL
  SELECT g.object, 'pg_type'::regclass, unnest(ARRAY[y.oid, y.typarray])
  FROM thing g JOIN pg_type y ON y.typrelid = g.objid WHERE g.classid = 'pg_class'::regclass
  UNION ALL
  SELECT g.object, 'pg_class'::regclass, i.indexrelid
  FROM thing g JOIN pg_index i ON i.indrelid = g.objid WHERE g.classid = 'pg_class'::regclass
  UNION ALL
  SELECT g.object, 'pg_class'::regclass, s.oid
  FROM thing g JOIN pg_depend d ON d.refclassid = g.classid AND d.refobjid = g.objid
    AND d.classid = 'pg_class'::regclass AND d.deptype = 'i'
  JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
  WHERE g.classid = 'pg_class'::regclass
), dependent AS (  -- host: the relation that it is a part of; a view is made of a rule and of columns
  SELECT DISTINCT part.object, d.classid, d.objid, d.objsubid, h.oid AS host, h.relkind, h.reltype,
    n.conname, n.contypid AS domain, f.adnum,
    pg_get_userbyid(coalesce(h.relowner, p.proowner, y.typowner,
      (SELECT o.refobjid FROM pg_shdepend o JOIN pg_database b ON b.oid = o.dbid
       WHERE b.datname = current_database() AND o.classid = d.classid AND o.objid = d.objid
         AND o.deptype = 'o'))) AS owner
  FROM part JOIN pg_depend d ON d.refclassid = part.classid AND d.refobjid = part.objid
    AND d.deptype = 'n'
  LEFT JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
  LEFT JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
  LEFT JOIN pg_constraint n ON d.classid = 'pg_constraint'::regclass AND n.oid = d.objid
  LEFT JOIN pg_policy l ON d.classid = 'pg_policy'::regclass AND l.oid = d.objid
  LEFT JOIN pg_trigger g ON d.classid = 'pg_trigger'::regclass AND g.oid = d.objid
  LEFT JOIN pg_class h ON h.oid = coalesce(w.ev_class, f.adrelid, n.conrelid, l.polrelid, g.tgrelid,
    CASE WHEN d.classid = 'pg_class'::regclass THEN d.objid END)
  LEFT JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
  LEFT JOIN pg_type y ON y.oid
    = coalesce(n.contypid, CASE WHEN d.classid = 'pg_type'::regclass THEN d.objid END)
  WHERE NOT (p.oid IS NOT NULL AND EXISTS (  -- goes with a type, say
      SELECT FROM pg_depend o WHERE o.classid = d.classid AND o.objid = p.oid AND o.deptype = 'i'))
    AND NOT EXISTS (SELECT FROM part o WHERE o.classid = 'pg_class'::regclass AND o.objid = h.oid)
    AND g.tgname IS DISTINCT FROM 'djs_{oid}_changed' AND g.tgname IS DISTINCT FROM 'djs_{oid}_deleted'
    AND g.tgname IS DISTINCT FROM 'djs_{oid}_truncated'
), named AS (
  SELECT DISTINCT e.object, e.owner, i.type, i.identity,
    CASE
      WHEN i.type = 'default value' AND a.attgenerated = ''
        THEN format('ALTER TABLE %s ALTER %I DROP DEFAULT', e.host::regclass, a.attname)
      WHEN i.type IN ('default value', 'table column')
        THEN format('ALTER TABLE %s DROP %I', e.host::regclass, a.attname)
      WHEN i.type = 'table constraint'
        THEN format('ALTER TABLE %s DROP CONSTRAINT %I', e.host::regclass, e.conname)
      WHEN i.type = 'domain constraint'
        THEN format('ALTER DOMAIN %s DROP CONSTRAINT %I', e.domain::regtype, e.conname)
      WHEN i.type = 'statistics object' THEN 'DROP STATISTICS ' || i.identity
      WHEN i.type IN ('aggregate', 'cast', 'foreign table', 'function', 'index', 'operator',
          'materialized view', 'policy', 'procedure', 'rule', 'table', 'trigger', 'type', 'view')
        THEN format('DROP %s %s', upper(i.type), i.identity)
      ELSE format('drop or change %s %s', i.type, i.identity) END AS remedy
  FROM dependent e
  LEFT JOIN pg_attribute a ON a.attrelid = e.host AND a.attnum
    = coalesce(e.adnum, CASE WHEN e.classid = 'pg_class'::regclass AND e.objsubid > 0 THEN e.objsubid END),
  LATERAL pg_identify_object(
    CASE WHEN e.relkind IN ('v', 'm') THEN 'pg_class'::regclass
      WHEN e.relkind = 'c' THEN 'pg_type'::regclass ELSE e.classid END,
    CASE WHEN e.relkind IN ('v', 'm') THEN e.host
      WHEN e.relkind = 'c' THEN e.reltype ELSE e.objid END,
    CASE WHEN e.relkind IN ('v', 'm', 'c') THEN 0 ELSE e.objsubid END) i
), numbered AS (  -- a function after the operators that are made of it
  SELECT *, row_number() OVER (PARTITION BY object
    ORDER BY type = 'function', type, identity) AS nth
  FROM named
)
SELECT thing.object,
  -- As the server last counted: to ask would wait for a session that has locked it.
  (SELECT sum(c.relpages) * current_setting('block_size')::bigint
   FROM pg_class t JOIN pg_class c ON c.oid IN (t.oid, t.reltoastrelid)
   WHERE thing.classid = 'pg_class'::regclass AND t.oid = thing.objid) AS bytes,
  string_agg(concat(n.type, ' ', n.identity, ' of ' || quote_ident(n.owner)), ', ' ORDER BY n.nth)
    FILTER (WHERE n.nth IS NOT NULL) AS keepers,
  string_agg(n.remedy, '; ' ORDER BY n.nth) AS remedies
FROM thing LEFT JOIN numbered n ON n.object = thing.object AND n.nth <= 3
GROUP BY thing.object, thing.classid, thing.objid, thing.is_kept
HAVING thing.is_kept OR count(n.nth) > 0
UNION ALL
SELECT 'table ' || c.oid::regclass, c.relpages * current_setting('block_size')::bigint, NULL,
  'DROP TABLE ' || c.oid::regclass
FROM pg_class t JOIN pg_class c ON c.relowner = t.relowner AND c.relkind = 'r' AND c.oid <> t.oid
WHERE t.oid = {oid} AND c.relname !~ '^djs_' AND (
  EXISTS (SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
          WHERE i.indrelid = c.oid AND x.relname ~ '^djs_{oid}_i[0-9]+$')
  OR c.relreplident = 'f' AND 'autovacuum_enabled=off' = ANY (c.reloptions)
    AND ((SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped
          AND a.attname IN ('session_key', 'session_data', 'expire_date')) = 3
      OR (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped
          AND a.attname IN ('run_id', 'shadow', 'lease_until', 'copied_until')) = 4))
ORDER BY 1;
