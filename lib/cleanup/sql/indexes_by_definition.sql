-- A table's indexes, by what they are: two tables' indexes with the same definition, and the same
-- n-th of such, correspond. A SELECT.
-- Locks: none.
--   {relation}  the table, an expression
      SELECT i.indexrelid, d.definition,
        row_number() OVER (PARTITION BY d.definition ORDER BY i.indexrelid) AS nth
      FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid,
        LATERAL (SELECT format('%s %s %s', i.indisunique, i.indisprimary,
          right(pg_get_indexdef(x.oid), -length(format('CREATE %sINDEX %I ON %s ',
            CASE WHEN i.indisunique THEN 'UNIQUE ' END, x.relname, i.indrelid::regclass))))
          AS definition) d
      WHERE i.indrelid = {relation}
