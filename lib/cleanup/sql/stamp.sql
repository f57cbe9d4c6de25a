-- What may change between the comparison and the exclusive lock: all that the catalogues have about
-- the table, its indexes and what depends on them. Of the rows that the exchange itself writes, all
-- but names and statistics; of the others, the transactions that wrote them. Quicker than to
-- compare once more. Some servers keep a counter of their own among a column's options, see
-- definition_lines.sql. An expression, text.
-- Locks: none.
--   {oid}  the table's
(WITH related AS MATERIALIZED (
    SELECT 'pg_class'::regclass AS class, {oid}::oid AS object
    UNION ALL SELECT 'pg_class'::regclass, i.indexrelid FROM pg_index i WHERE i.indrelid = {oid}
    UNION ALL SELECT 'pg_type'::regclass, y.oid FROM pg_type y WHERE y.typrelid = {oid}
    UNION ALL SELECT 'pg_type'::regclass, y.typarray FROM pg_type y WHERE y.typrelid = {oid}
    UNION ALL SELECT 'pg_constraint'::regclass, n.oid FROM pg_constraint n WHERE n.conrelid = {oid}
    UNION ALL SELECT 'pg_trigger'::regclass, g.oid FROM pg_trigger g WHERE g.tgrelid = {oid}
    UNION ALL SELECT 'pg_rewrite'::regclass, w.oid FROM pg_rewrite w WHERE w.ev_class = {oid}
    UNION ALL SELECT 'pg_policy'::regclass, l.oid FROM pg_policy l WHERE l.polrelid = {oid}
    UNION ALL SELECT 'pg_statistic_ext'::regclass, x.oid FROM pg_statistic_ext x WHERE x.stxrelid = {oid})
  SELECT concat_ws(' ',
      (SELECT string_agg((to_jsonb(c) - ARRAY['relname', 'relpages', 'reltuples', 'relallvisible',
           'relallfrozen', 'relfrozenxid', 'relminmxid', 'relhasindex'])::text, ' ' ORDER BY c.oid)
       FROM pg_class c WHERE c.oid IN (SELECT object FROM related WHERE class = 'pg_class'::regclass)),
      (SELECT t.reloptions FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid WHERE c.oid = {oid}),
      (SELECT string_agg(concat(to_jsonb(a) - 'attoptions',
         ARRAY(SELECT o FROM unnest(a.attoptions) o WHERE o NOT LIKE E'pg\\_%')), ' '
         ORDER BY a.attrelid, a.attnum)
       FROM pg_attribute a WHERE a.attrelid IN (SELECT object FROM related WHERE class = 'pg_class'::regclass)),
      (SELECT string_agg(format('%s %s', d.oid, d.xmin), ' ' ORDER BY d.oid)
       FROM pg_attrdef d WHERE d.adrelid = {oid}),
      -- an index that is renamed takes its constraint along
      (SELECT string_agg((CASE WHEN n.contype IN ('p', 'u', 'x') THEN to_jsonb(n) - 'conname'
         ELSE to_jsonb(n) END)::text, ' ' ORDER BY n.oid)
       FROM pg_constraint n WHERE {oid} IN (n.conrelid, n.confrelid)),
      (SELECT string_agg(format('%s %s', i.indexrelid, i.xmin), ' ' ORDER BY i.indexrelid)
       FROM pg_index i WHERE i.indrelid = {oid}),
      (SELECT string_agg(format('%s %s', g.oid, g.xmin), ' ' ORDER BY g.oid)
       FROM pg_trigger g WHERE g.tgrelid = {oid}),
      (SELECT string_agg(format('%s %s', w.oid, w.xmin), ' ' ORDER BY w.oid)
       FROM pg_rewrite w WHERE w.ev_class = {oid}),
      (SELECT string_agg(format('%s %s', l.oid, l.xmin), ' ' ORDER BY l.oid)
       FROM pg_policy l WHERE l.polrelid = {oid}),
      (SELECT string_agg(format('%s %s', x.oid, x.xmin), ' ' ORDER BY x.oid)
       FROM pg_statistic_ext x WHERE x.stxrelid = {oid}),
      (SELECT count(*) FROM pg_inherits i WHERE {oid} IN (i.inhrelid, i.inhparent)),
      (SELECT string_agg(format('%s %s', p.oid, p.xmin), ' ' ORDER BY p.oid) FROM pg_publication p),
      (SELECT string_agg(format('%s %s', r.oid, r.xmin), ' ' ORDER BY r.oid)
       FROM pg_publication_rel r WHERE r.prrelid = {oid}),
      (SELECT y.typacl FROM pg_type y WHERE y.typrelid = {oid}),
      (SELECT string_agg(format('%s %s %s', l.objoid, l.objsubid, l.xmin), ' '
         ORDER BY l.objoid, l.objsubid, l.provider)
       FROM pg_seclabel l JOIN related r ON l.classoid = r.class AND l.objoid = r.object),
      (SELECT string_agg(format('%s %s %s %s %s', d.refobjid, d.classid, d.objid, d.objsubid, d.deptype),
         ' ' ORDER BY d.refobjid, d.refobjsubid, d.classid, d.objid, d.objsubid, d.deptype)
       FROM pg_depend d JOIN related r ON d.refclassid = r.class AND d.refobjid = r.object),
      (SELECT string_agg(format('%s %s', d.objid, d.refobjid), ' ' ORDER BY d.objid, d.refobjid)
       FROM pg_depend d JOIN related r ON d.classid = r.class AND d.objid = r.object
       WHERE d.refclassid = 'pg_extension'::regclass),
      (SELECT string_agg(format('%s %s %s', d.objoid, d.objsubid, d.xmin), ' '
         ORDER BY d.classoid, d.objoid, d.objsubid)
       FROM pg_description d JOIN related r ON d.classoid = r.class AND d.objoid = r.object)))
