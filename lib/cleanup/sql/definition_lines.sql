-- A table's definition as lines of text, but for its name and what is in it: an expression, text[].
-- Two tables with equal lines are the same in pg_dump -s.
--
-- Columns of the catalogues that only some versions have (attcompression: 14) or that changed
-- (attstattarget: -1 or NULL) are read through to_jsonb(). Among a column's options some servers
-- keep a counter of their own (pg_attver, in 15.20), which differs from column to column. regclass
-- and the like write names in full because search_path is pg_catalog.
-- Locks: none.
--   {oid}               the table, an expression
--   {with_indexes}      whether indexes and the primary key count: true, false
--   {index_definition}  what an index is, but for its name
--   {attachments}       attachments.sql
ARRAY(
SELECT line FROM (
  SELECT format('table: owner %s, access method %s, tablespace %s, persistence %s, replica '
      'identity %s, row security %s %s, options %s, TOAST options %s',
    pg_get_userbyid(c.relowner), (SELECT amname FROM pg_am WHERE oid = c.relam), c.reltablespace,
    c.relpersistence, c.relreplident, c.relrowsecurity, c.relforcerowsecurity,
    ARRAY(SELECT unnest(c.reloptions) ORDER BY 1),
    (SELECT ARRAY(SELECT unnest(t.reloptions) ORDER BY 1) FROM pg_class t
      WHERE t.oid = c.reltoastrelid)) AS line
  FROM pg_class c WHERE c.oid = {oid}
  UNION ALL
  SELECT 'schema: ' || c.relnamespace::regnamespace FROM pg_class c WHERE c.oid = {oid}
  UNION ALL
  SELECT 'comment: ' || description FROM pg_description
  WHERE classoid = 'pg_class'::regclass AND objoid = {oid} AND objsubid = 0
  UNION ALL
  SELECT format('grant: %s %s %s by %s', g.grantee::regrole, g.privilege_type, g.is_grantable,
    g.grantor::regrole)
  FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) g WHERE c.oid = {oid}
  UNION ALL
  SELECT format('row type: comment %s, comment of its array type %s',
    obj_description(y.oid, 'pg_type'), obj_description(y.typarray, 'pg_type'))
  FROM pg_class c JOIN pg_type y ON y.oid = c.reltype WHERE c.oid = {oid}
  UNION ALL
  SELECT format('grant: %s USAGE of the row type %s by %s', g.grantee::regrole, g.is_grantable,
    g.grantor::regrole)
  FROM pg_class c JOIN pg_type y ON y.oid = c.reltype,
    aclexplode(coalesce(y.typacl, acldefault('T', y.typowner))) g WHERE c.oid = {oid}
  UNION ALL
  SELECT format('column %s: %I %s, collation %s, not null %s, default %s, identity %s, generated '
      '%s, storage %s, compression %s, statistics %s, options %s, comment %s',
    row_number() OVER (ORDER BY a.attnum), a.attname, format_type(a.atttypid, a.atttypmod),
    a.attcollation::regcollation, a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attidentity,
    a.attgenerated,
    a.attstorage, to_jsonb(a) ->> 'attcompression', coalesce(to_jsonb(a) ->> 'attstattarget', '-1'),
    ARRAY(SELECT o FROM unnest(a.attoptions) o WHERE o NOT LIKE E'pg\\_%' ORDER BY 1),
    col_description(a.attrelid, a.attnum))
  FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT format('grant: %s (%I) %s %s by %s', g.grantee::regrole, a.attname, g.privilege_type,
    g.is_grantable, g.grantor::regrole)
  FROM pg_attribute a, aclexplode(a.attacl) g
  WHERE a.attrelid = {oid} AND NOT a.attisdropped
  UNION ALL
  SELECT format('constraint %I: %s, validated %s, deferrable %s %s, comment %s', n.conname,
    pg_get_constraintdef(n.oid), n.convalidated, n.condeferrable, n.condeferred,
    obj_description(n.oid, 'pg_constraint'))
  FROM pg_constraint n WHERE n.conrelid = {oid} AND (n.conindid = 0 OR {with_indexes})
  UNION ALL
  SELECT format('index %I: unique %s, primary %s, valid %s, clustered %s, replica identity %s, '
      'tablespace %s, statistics %s, comment %s, %s',
    x.relname, i.indisunique, i.indisprimary, i.indisvalid, i.indisclustered, i.indisreplident,
    x.reltablespace,
    ARRAY(SELECT coalesce(to_jsonb(a) ->> 'attstattarget', '-1') FROM pg_attribute a
          WHERE a.attrelid = x.oid ORDER BY a.attnum),
    obj_description(x.oid, 'pg_class'), {index_definition})
  FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = {oid}
    AND {with_indexes}
    -- what REINDEX CONCURRENTLY is making, or has left behind, goes with the old table
    AND (i.indisvalid OR x.relname !~ '_cc(new|old)[0-9]*$')
  UNION ALL
  SELECT format('%s %s', object, reason) FROM ({attachments}) attached
) lines ORDER BY line)
