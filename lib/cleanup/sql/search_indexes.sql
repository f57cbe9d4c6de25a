-- The indexes that a swap finds sessions by: name, not quoted, and is_key, a row for each.
-- Locks: none.
--   {oid}  the table's
SELECT x.relname AS name, i.indisprimary AS is_key
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_attribute a
  ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indrelid = {oid} AND i.indisvalid
  AND (i.indisprimary OR a.attname = 'expire_date' AND i.indpred IS NULL)
ORDER BY i.indisprimary, x.relname;
