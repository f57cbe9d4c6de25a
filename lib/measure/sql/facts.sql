-- What the catalogue and the server's counters say of the table and its TOAST table: one row. The
-- functions on the TOAST table's OID are NULL where there is none.
-- Locks: none on the table.
--   {oid}                   the table's
--   {counters_stand_still}  why the counters don't follow the table c, or NULL
SELECT c.relnamespace AS schema_oid, c.relname AS "table", c.relpages, c.reltuples,
  c.reltoastrelid AS toast_oid, t.relpages AS toast_relpages, t.reltuples AS toast_reltuples,
  (SELECT pg_catalog.array_agg(indexrelid) FROM pg_catalog.pg_index WHERE indrelid = c.oid) AS index_oids,
  {counters_stand_still} AS counters_stand_still,
  pg_catalog.pg_is_in_recovery() AS standby, extract(epoch FROM pg_catalog.now()) AS now,
  pg_catalog.pg_stat_get_live_tuples(c.oid) AS live, pg_catalog.pg_stat_get_dead_tuples(c.oid) AS dead,
  pg_catalog.pg_stat_get_tuples_inserted(c.oid) AS inserted, pg_catalog.pg_stat_get_tuples_updated(c.oid) AS updated,
  pg_catalog.pg_stat_get_tuples_deleted(c.oid) AS deleted,
  pg_catalog.pg_stat_get_mod_since_analyze(c.oid) AS changed,
  extract(epoch FROM greatest(pg_catalog.pg_stat_get_last_vacuum_time(c.oid),
                              pg_catalog.pg_stat_get_last_autovacuum_time(c.oid))) AS last_vacuum,
  extract(epoch FROM greatest(pg_catalog.pg_stat_get_last_analyze_time(c.oid),
                              pg_catalog.pg_stat_get_last_autoanalyze_time(c.oid))) AS last_analyze,
  pg_catalog.pg_stat_get_live_tuples(t.oid) AS toast_live, pg_catalog.pg_stat_get_dead_tuples(t.oid) AS toast_dead,
  pg_catalog.pg_stat_get_tuples_inserted(t.oid) AS toast_inserted,
  greatest(pg_catalog.pg_stat_get_last_vacuum_time(t.oid),
           pg_catalog.pg_stat_get_last_autovacuum_time(t.oid)) IS NOT NULL AS toast_anchored
FROM pg_catalog.pg_class c
LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
WHERE c.oid = '{oid}'::oid;
