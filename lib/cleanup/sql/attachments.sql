-- Whatever depends on the table, or on its row type, and isn't a part of it: object and reason, for
-- each thing that would stay behind with the old table if a new table took its place. A dependency
-- through a rewrite rule is that of a view. A SELECT.
-- Locks: none.
--   {oid}           the table, an expression
--   {own_function}  the OID of the trigger function whose triggers don't count, an expression
--   {parts}         table_parts.sql
  SELECT 'trigger ' || quote_ident(t.tgname) AS object, 'would have to be recreated' AS reason
    FROM pg_trigger t
  WHERE t.tgrelid = {oid} AND NOT t.tgisinternal AND t.tgfoid <> {own_function}
  UNION ALL
  SELECT 'rule ' || quote_ident(r.rulename), 'would have to be recreated'
    FROM pg_rewrite r WHERE r.ev_class = {oid}
  UNION ALL
  SELECT 'row security', 'its policies would be lost' FROM pg_class c
  WHERE c.oid = {oid} AND (c.relrowsecurity OR c.relforcerowsecurity)
  UNION ALL
  SELECT 'policy ' || quote_ident(p.polname), 'would have to be recreated'
    FROM pg_policy p WHERE p.polrelid = {oid}
  UNION ALL
  SELECT format('foreign key %I of %s', n.conname, n.conrelid::regclass), 'refers to the table'
  FROM pg_constraint n WHERE n.confrelid = {oid} AND n.contype = 'f'
  UNION ALL
  SELECT format('foreign key %I', n.conname),
    format('refers to %s, which would be locked too', n.confrelid::regclass)
  FROM pg_constraint n WHERE n.conrelid = {oid} AND n.confrelid <> {oid} AND n.contype = 'f'
  UNION ALL
  SELECT 'table ' || i.inhrelid::regclass, 'inherits from the table'
    FROM pg_inherits i WHERE i.inhparent = {oid}
  UNION ALL
  SELECT 'table ' || i.inhparent::regclass, 'is what the table inherits from or is a partition of'
  FROM pg_inherits i WHERE i.inhrelid = {oid}
  UNION ALL
  SELECT 'publication ' || quote_ident(p.pubname),
    'would publish the shadow table, or lose the table'
  FROM pg_publication p
  WHERE p.puballtables OR p.oid IN (SELECT r.prpubid FROM pg_publication_rel r
    WHERE r.prrelid = {oid})
  UNION ALL
  SELECT 'subscription', 'writes to the table' FROM pg_subscription_rel s WHERE s.srrelid = {oid}
  UNION ALL
  SELECT DISTINCT 'security label of ' || pg_describe_object(p.classid, p.objid, s.objsubid),
    'would be lost'
  FROM ({parts}) p JOIN pg_seclabel s ON s.classoid = p.classid AND s.objoid = p.objid
  UNION ALL
  SELECT 'initial privileges of ' || pg_describe_object(p.classid, p.objid, s.objsubid),
    'would be lost'
  FROM ({parts}) p JOIN pg_init_privs s ON s.classoid = p.classid AND s.objoid = p.objid
  UNION ALL
  SELECT 'extension ' || quote_ident(e.extname), CASE WHEN d.deptype = 'x'
      THEN format('would be forgotten as what %s depends on',
                  pg_describe_object(d.classid, d.objid, 0))
      WHEN d.objid = {oid} THEN 'owns the table'
      ELSE 'owns ' || pg_describe_object(d.classid, d.objid, 0) END
  FROM ({parts}) p JOIN pg_depend d ON d.classid = p.classid AND d.objid = p.objid
  JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
  WHERE d.deptype IN ('e', 'x')
  UNION ALL
  SELECT DISTINCT CASE WHEN d.classid = 'pg_rewrite'::regclass
      THEN (SELECT CASE v.relkind WHEN 'm' THEN 'materialized view ' ELSE 'view ' END
              || v.oid::regclass
            FROM pg_rewrite r JOIN pg_class v ON v.oid = r.ev_class WHERE r.oid = d.objid)
      ELSE pg_describe_object(d.classid, d.objid, 0) END, 'depends on the table'
  FROM pg_class c
  JOIN pg_type t ON t.oid = c.reltype
  JOIN pg_depend d ON (d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid)
                   OR (d.refclassid = 'pg_type'::regclass AND d.refobjid IN (t.oid, t.typarray))
  WHERE c.oid = {oid} AND d.deptype <> 'e'
    AND NOT (d.classid = 'pg_class'::regclass AND (d.objid = c.reltoastrelid
             OR d.objid IN (SELECT i.indexrelid FROM pg_index i WHERE i.indrelid = c.oid)))
    AND NOT (d.classid = 'pg_type'::regclass AND d.objid IN (t.oid, t.typarray))
    AND NOT (d.classid = 'pg_attrdef'::regclass
             AND d.objid IN (SELECT a.oid FROM pg_attrdef a WHERE a.adrelid = c.oid))
    AND NOT (d.classid = 'pg_constraint'::regclass
             AND d.objid IN (SELECT n.oid FROM pg_constraint n
               WHERE c.oid IN (n.conrelid, n.confrelid)))
    AND NOT (d.classid = 'pg_trigger'::regclass
             AND d.objid IN (SELECT g.oid FROM pg_trigger g WHERE g.tgrelid = c.oid))
    AND NOT (d.classid = 'pg_rewrite'::regclass
             AND d.objid IN (SELECT r.oid FROM pg_rewrite r WHERE r.ev_class = c.oid))
    AND NOT (d.classid = 'pg_policy'::regclass
             AND d.objid IN (SELECT p.oid FROM pg_policy p WHERE p.polrelid = c.oid))
    AND NOT (d.classid = 'pg_publication_rel'::regclass)
