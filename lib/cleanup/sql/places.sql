-- Where the table's parts and its owner's temporary files are: kind, name, folder; and wal_kept
-- (bytes), if that has a bound. By the tablespaces' folders; the owner may not create in one that
-- is passed over. WAL that nobody waits for is kept up to two of the server's limits.
-- Locks: none.
--   {oid}  the table's
WITH t AS (
  SELECT * FROM pg_class WHERE oid = {oid}
), place AS (
  SELECT 'table' AS kind, t.relname::text AS name, t.reltablespace AS space FROM t
  UNION ALL
  SELECT 'index', x.relname::text, x.reltablespace
  FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = {oid}
  UNION ALL
  SELECT 'temporary', '', coalesce(s.oid, 0::oid)
  FROM t, unnest(string_to_array(current_setting('temp_tablespaces'), ',')) part
  LEFT JOIN pg_tablespace s ON has_tablespace_privilege(
      (SELECT t.relowner FROM t), s.oid, 'CREATE')
    AND s.spcname = CASE WHEN btrim(part) LIKE '"%"' THEN btrim(part, ' "') ELSE lower(btrim(part)) END
  UNION ALL
  SELECT 'temporary', '', 0 WHERE current_setting('temp_tablespaces') = ''
)
SELECT place.kind, place.name,
  pg_tablespace_location(coalesce(nullif(place.space, 0), d.dattablespace)) AS folder,
  CASE WHEN current_setting('archive_mode') = 'off'
      AND NOT EXISTS (SELECT FROM pg_replication_slots)
    THEN pg_size_bytes(current_setting('max_wal_size'))
      + pg_size_bytes(current_setting('wal_keep_size')) END AS wal_kept
FROM place, pg_database d WHERE d.datname = current_database();
