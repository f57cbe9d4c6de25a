-- What the size of each plain B-tree of the table follows from, one row for each: of each column
-- the width as stored, the alignment (values of varying length have none as long as they are
-- short), and how its values repeat. -1 for a width that isn't known. Django's keys have 32
-- characters and a length byte.
-- Locks: none on the table; ACCESS SHARE on its indexes.
--   {oid}  the table's
SELECT c.relname AS name, pg_relation_size(c.oid) AS bytes, t.reltuples AS rows,
  i.indisunique AS "unique", k.widths, k.alignments, k.null_fractions, k.distinct_values,
  coalesce((SELECT option_value FROM pg_options_to_table(c.reloptions)
            WHERE option_name = 'fillfactor'), '90') AS fillfactor
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_am am ON am.oid = c.relam
JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace n ON n.oid = t.relnamespace,
LATERAL (
  SELECT array_agg(w.width ORDER BY key.place) AS widths,
    array_agg(CASE WHEN a.attlen < 0 AND w.width < 127 THEN 1
                   ELSE CASE a.attalign WHEN 'd' THEN 8 WHEN 'i' THEN 4 WHEN 's' THEN 2 ELSE 1 END
              END ORDER BY key.place) AS alignments,
    array_agg(coalesce(s.null_frac, 0) ORDER BY key.place) AS null_fractions,
    array_agg(coalesce(s.n_distinct, 0) ORDER BY key.place) AS distinct_values
  FROM unnest(i.indkey) WITH ORDINALITY key(attnum, place)
  JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = key.attnum
  LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = t.relname
    AND s.attname = a.attname AND NOT s.inherited,
  LATERAL (SELECT CASE WHEN a.attlen > 0 THEN a.attlen
                       WHEN a.attname = 'session_key' THEN coalesce(s.avg_width, 33)
                       ELSE coalesce(s.avg_width, -1) END AS width) w) k
WHERE i.indrelid = {oid} AND i.indisvalid AND NOT i.indisexclusion
  AND i.indexprs IS NULL AND i.indpred IS NULL AND am.amname = 'btree';
