-- The planner's statistics of the table's columns: one row for each column. Only expire_date's are
-- more than two numbers. What the table's owner makes up (a function of his, or since PostgreSQL 18
-- pg_restore_attribute_stats()) is at least numbers, in order, and not too many: PostgreSQL's limit
-- on a column's statistics target is 10,000.
-- Locks: none on the table.
--   {oid}     the table's
--   {source}  where they come from, with column_name, average_width, null_fraction, n_distinct,
--             common_values, common_frequencies and histogram
SELECT a.attname AS name, a.attlen AS length,
  coalesce(nullif(a.attstattarget, -1), current_setting('default_statistics_target')::int4) = 0 AS never_analyzed,
  CASE a.attalign WHEN 'd' THEN 8 WHEN 'i' THEN 4 WHEN 's' THEN 2 ELSE 1 END AS alignment,
  CASE WHEN s.average_width BETWEEN 0 AND 1000000000 THEN s.average_width::int4 END AS average_width,
  CASE WHEN s.null_fraction BETWEEN 0 AND 1 THEN s.null_fraction::float8 END AS null_fraction,
  CASE WHEN s.n_distinct BETWEEN -1 AND 1e15 THEN s.n_distinct::float8 END AS n_distinct,
  common.values AS common_values, common.frequencies AS common_frequencies,
  ARRAY(SELECT v::float8 FROM unnest(s.histogram) v WHERE v <> 'NaN' ORDER BY v LIMIT 10001) AS histogram
FROM pg_catalog.pg_attribute a
LEFT JOIN (SELECT DISTINCT ON (q.column_name) q.* FROM {source} q) s ON s.column_name = a.attname
LEFT JOIN LATERAL (
  SELECT array_agg(x.v::float8) AS values, array_agg(x.f::float8) AS frequencies
  FROM (SELECT u.v, u.f FROM unnest(s.common_values, s.common_frequencies) AS u(v, f)
        WHERE u.v <> 'NaN' AND u.f BETWEEN 0 AND 1 LIMIT 10000) x) common ON true
WHERE a.attrelid = '{oid}'::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum;
