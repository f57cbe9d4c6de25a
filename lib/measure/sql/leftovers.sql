-- What a swap of the table has in the database, running or interrupted: one row. Helpers are found
-- by their names (see cleanup/swap_sql.hpp). Others may have tables of such names, and comments can
-- be edited: nothing here is cast that might not be what it looks like. Sizes are of the heaps,
-- since an index that is being built is locked. The start is told by the comment on the state
-- table, which, unlike its row, every role may read.
-- Locks: none on the table; for a moment ACCESS SHARE on helpers that nobody has locked.
--   {oid}  the table's
WITH this AS (
  SELECT c.oid, c.relowner, n.nspname FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {oid}::pg_catalog.oid
), helper AS (  -- in whatever schema: the table's may have changed since
  SELECT c.oid, n.nspname AS schema, c.relname AS name,
    pg_catalog.substring(c.relname::pg_catalog.text, '^djs_([1-9][0-9]{0,9})_(?:state|log|new|old)$')
      AS belongs_to,
    -- Asking for the size of a table that is being exchanged would wait for that.
    CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_locks l
                      WHERE l.relation IN (c.oid, c.reltoastrelid) AND l.granted
                        AND l.mode = 'AccessExclusiveLock')
      THEN c.relpages * pg_catalog.current_setting('block_size')::bigint
      ELSE pg_catalog.pg_relation_size(c.oid)
        + coalesce(pg_catalog.pg_relation_size(nullif(c.reltoastrelid, 0)), 0)
    END AS bytes
  FROM this JOIN pg_catalog.pg_class c ON c.relowner = this.relowner
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'r' AND c.relname LIKE E'djs\\_%'
), note AS (
  SELECT p.oid, p.proname AS name,
    pg_catalog.substring(p.proname::pg_catalog.text, '^djs_([1-9][0-9]{0,9})_note$') AS belongs_to
  FROM this JOIN pg_catalog.pg_proc p ON p.proowner = this.relowner
  WHERE p.proname LIKE E'djs\\_%\\_note' AND p.prorettype = 'pg_catalog.trigger'::pg_catalog.regtype
), mine AS (
  SELECT oid, pg_catalog.format('table %I.%I', schema, name) AS object, schema, name, bytes
    FROM helper WHERE belongs_to = '{oid}'
), object AS (
  SELECT object FROM mine
  UNION ALL
  SELECT pg_catalog.format('trigger %I', t.tgname) FROM pg_catalog.pg_trigger t
  WHERE t.tgrelid = {oid}::pg_catalog.oid AND NOT t.tgisinternal AND t.tgname LIKE E'djs\\_{oid}\\_%'
  UNION ALL
  SELECT pg_catalog.format('function %I()', name) FROM note WHERE belongs_to = '{oid}'
), known AS (  -- those that a swap made: by its state, or by its function
  SELECT h.belongs_to FROM helper h JOIN pg_catalog.pg_attribute a ON a.attrelid = h.oid
  WHERE h.name LIKE E'%\\_state' AND a.attname = 'copied_until'
  UNION
  SELECT note.belongs_to FROM note
), orphan AS (  -- no such table, or (in a restored database) the triggers are on another one
  SELECT k.belongs_to FROM known k
  WHERE k.belongs_to <> '{oid}' AND k.belongs_to::bigint < 4294967296 AND (
    NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = k.belongs_to::bigint
                AND c.relkind = 'r')
    OR EXISTS (SELECT FROM pg_catalog.pg_trigger t JOIN note ON note.oid = t.tgfoid
               JOIN pg_catalog.pg_class r ON r.oid = t.tgrelid
               WHERE note.belongs_to = k.belongs_to
                 AND t.tgrelid <> k.belongs_to::bigint
                 AND r.relname <> 'djs_' || k.belongs_to || '_old'))
), started AS (
  SELECT pg_catalog.substring(pg_catalog.obj_description(oid, 'pg_class'),
    'started ([12][0-9]{3}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01]) '
    '(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9])Z$') AS at,
    pg_catalog.substring(pg_catalog.obj_description(oid, 'pg_class'), 'keeping ([0-9]{1,10}) s,') AS keep
  FROM mine WHERE name = 'djs_{oid}_state'
)
SELECT (SELECT pg_catalog.string_agg(object, E'\n' ORDER BY object) FROM object) AS objects,
  -- What isn't in the table's schema any more can only be removed.
  EXISTS (SELECT FROM mine, this
          WHERE mine.name = 'djs_{oid}_state' AND mine.schema = this.nspname) AS state,
  EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = {oid} AND NOT t.tgisinternal
          AND t.tgname LIKE E'djs\\_{oid}\\_%' AND t.tgenabled <> 'D') AS logging,
  (SELECT bytes FROM mine WHERE name = 'djs_{oid}_log') AS log_bytes,
  (SELECT pg_catalog.sum(bytes) FROM mine) AS bytes,
  -- So that there is no date (the 31st of February) that can't be.
  (SELECT extract(epoch FROM pg_catalog.now() - (
     (pg_catalog.left(at, 8) || '01')::date + (pg_catalog.substr(at, 9, 2)::int - 1)
     + pg_catalog.substr(at, 12)::time) AT TIME ZONE 'UTC') FROM started) AS age,
  (SELECT keep FROM started) AS keep,
  (SELECT pg_catalog.array_agg(belongs_to) FROM orphan) AS orphans;
