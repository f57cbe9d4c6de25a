"""What the catalogues say of everything that isn't the server's own, to be compared before and after a swap."""

# Without OIDs and files.
CATALOGUE = """
SELECT 'comment', pg_describe_object(classoid, objoid, objsubid), description FROM pg_description WHERE objoid >= 16384
UNION ALL
SELECT 'label', pg_describe_object(classoid, objoid, objsubid), label FROM pg_seclabel
UNION ALL
SELECT 'initial', pg_describe_object(classoid, objoid, objsubid), initprivs::text FROM pg_init_privs
WHERE objoid >= 16384
UNION ALL
SELECT 'of extension', pg_describe_object(classid, objid, objsubid), deptype::text FROM pg_depend
WHERE refclassid = 'pg_extension'::regclass AND objid >= 16384
UNION ALL
SELECT 'needs', pg_describe_object(classid, objid, objsubid),
  pg_describe_object(refclassid, refobjid, refobjsubid) || deptype::text FROM pg_depend
WHERE objid >= 16384 AND refobjid >= 16384
UNION ALL
SELECT 'type', format('%s %s', typname, typnamespace::regnamespace),
  ARRAY(SELECT a::text FROM unnest(coalesce(typacl, acldefault('T', typowner))) a ORDER BY 1)::text
FROM pg_type WHERE oid >= 16384
UNION ALL
SELECT 'class', oid::regclass::text, concat_ws(' ', relkind, relowner,
  (SELECT spcname FROM pg_tablespace t WHERE t.oid = reltablespace), relpersistence, relreplident, relrowsecurity,
  relforcerowsecurity, ARRAY(SELECT unnest(reloptions) ORDER BY 1),
  ARRAY(SELECT a::text FROM unnest(coalesce(relacl, acldefault('r', relowner))) a ORDER BY 1))
FROM pg_class WHERE oid >= 16384 AND relname !~ 'pg_toast'
UNION ALL
SELECT 'toast', t.oid::regclass::text, (SELECT reloptions::text FROM pg_class WHERE oid = t.reltoastrelid)
FROM pg_class t WHERE t.reltoastrelid > 16384
UNION ALL
SELECT 'column', format('%s.%s', attrelid::regclass, attname), concat_ws(' ',
  row_number() OVER (PARTITION BY attrelid, attnum > 0 ORDER BY attnum), atttypid::regtype, atttypmod,
  attnotnull, attstorage, to_jsonb(a) ->> 'attcompression', coalesce(to_jsonb(a) ->> 'attstattarget', '-1'), attacl,
  attcollation, ARRAY(SELECT o FROM unnest(attoptions) o WHERE o NOT LIKE 'pg\\_%'),
  (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum))
FROM pg_attribute a WHERE attrelid >= 16384 AND NOT attisdropped AND attrelid::regclass::text !~ 'pg_toast'
UNION ALL
SELECT 'index', indexrelid::regclass::text, concat_ws(' ', pg_get_indexdef(indexrelid), indisclustered, indisreplident,
  indisvalid, indisprimary, indimmediate)
FROM pg_index WHERE indexrelid >= 16384 AND indexrelid::regclass::text !~ 'pg_toast'
UNION ALL
SELECT 'constraint', format('%s of %s', conname, conrelid::regclass), concat_ws(' ', pg_get_constraintdef(oid), convalidated, condeferrable) FROM pg_constraint
WHERE oid >= 16384
ORDER BY 1, 2, 3"""


def catalogue(cluster, database):
    rows = cluster.psql(CATALOGUE, database)
    return [row for row in rows if "toast" not in str(row[1]) or row[0] == "toast"]
