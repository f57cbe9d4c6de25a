-- Counts the rows of random pages, always the same ones, so that they are in the cache the next
-- time and the figures don't jump; but only where core/row_estimate.hpp would not believe the
-- counters or the statistics alone, else there is one empty row.
-- Locks: ACCESS SHARE on the table.
--   {table}, {oid}          its name as in FROM, and its OID
--   {pages}                 how many to read
--   {counters_stand_still}  why the counters don't follow the table c, or NULL
--   {changes_to_bear}       the share of rows that may have changed since ANALYZE; below 0: the
--                           sample is wanted in any case
WITH counted AS MATERIALIZED (
  SELECT pg_stat_get_live_tuples(c.oid) AS live, pg_stat_get_dead_tuples(c.oid) AS dead,
    pg_stat_get_tuples_inserted(c.oid) AS inserted, pages,
    CASE WHEN c.reltuples >= 0 AND c.relpages > 0 THEN c.reltuples / c.relpages * pages END AS expected,
    coalesce(pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid),
             pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)) IS NOT NULL AS anchored,
    coalesce(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)) IS NOT NULL AS analyzed,
    pg_stat_get_mod_since_analyze(c.oid) AS changed, {counters_stand_still} IS NOT NULL AS stand_still
  FROM pg_class c, LATERAL (SELECT pg_relation_size(c.oid, 'main') / 8192 AS pages) size
  WHERE c.oid = '{oid}'::oid
), doubt AS MATERIALIZED (
  SELECT pages > 0 AND (stand_still
      OR analyzed AND changed > {changes_to_bear} * live + 50 OR anchored AND NOT analyzed OR {changes_to_bear} < 0
      OR NOT anchored AND (expected IS NOT NULL OR inserted + live = 0)
      OR anchored AND (expected < 1 AND live < 1 AND dead > 0
                       OR live NOT BETWEEN expected * 0.95 - 1 AND expected * 1.1 + 50)) AS is_due,
    least(1::float8, {pages}::float8 / greatest(pages, 1)::float8) AS share
  FROM counted
)
SELECT (SELECT is_due FROM doubt) AS sampled, (SELECT share FROM doubt) AS share,
  count(*) AS rows, count(*) FILTER (WHERE expire_date < now()) AS expired
FROM ONLY {table} TABLESAMPLE SYSTEM ((SELECT 100 * share FROM doubt)) REPEATABLE (0)
WHERE (SELECT is_due FROM doubt);
