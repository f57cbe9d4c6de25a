-- Copies again what changed meanwhile, then builds the shadow's indexes. What changed since it was
-- copied, or was copied twice for that reason, is in the log: it is copied again, so that no key is
-- there twice. In one statement, as in drain.sql; the copy is read as a whole, having no index yet,
-- and the table by its primary key (LATERAL). All in one transaction, so that there is nothing in
-- between to resume.
--
-- A part of a PL/pgSQL block, as the table's owner.
-- Locks: ACCESS SHARE on the table.
-- Report: copied (sessions).
--   {oid}, {table}            the table's OID and its name
--   {state}, {shadow}, {log}  the helpers' names
--   {columns}, {t_as_c}       the table's: a, b; and t.a AS c1, t.b AS c2
--   {c}                       present.c1, present.c2
--   {catching_up}             a phase, see swap_phase.hpp
  SET LOCAL enable_nestloop = off;
  WITH taken AS (
    DELETE FROM ONLY {log} l WHERE NOT l.truncated RETURNING l.k
  ), changed AS MATERIALIZED (
    SELECT DISTINCT w.k FROM taken w
  ), gone AS (
    DELETE FROM ONLY {shadow} s USING changed WHERE s.session_key = changed.k
  )
  INSERT INTO {shadow} ({columns})
  SELECT {c} FROM changed CROSS JOIN LATERAL (
    SELECT {t_as_c} FROM ONLY {table} t
    WHERE t.session_key = changed.k AND t.expire_date >= (SELECT m.cutoff FROM {state} m)
    LIMIT 1) AS present;
  DECLARE
    run record;
  BEGIN
    SELECT m.shadow, m.source, m.index_names, m.deferred_indexes INTO run FROM {state} m;
    FOR item IN SELECT unnest(run.deferred_indexes) AS statement LOOP
      EXECUTE item.statement;
    END LOOP;
    FOR item IN
      SELECT n.oid AS shadow, n.relname AS shadow_name, o.indexrelid AS original,
        o.indisclustered AS clustered, obj_description(o.indexrelid, 'pg_class') AS comment
      FROM pg_index o JOIN pg_class x ON x.oid = o.indexrelid
      JOIN pg_class n ON n.relname = 'djs_{oid}_i' || array_position(run.index_names, x.relname)
      JOIN pg_index i ON i.indexrelid = n.oid AND i.indrelid = run.shadow
      WHERE o.indrelid = run.source
    LOOP
      EXECUTE format('COMMENT ON INDEX %s IS %L', item.shadow::regclass, item.comment);
      IF item.clustered THEN
        EXECUTE format('ALTER TABLE %s CLUSTER ON %I', run.shadow::regclass, item.shadow_name);
      END IF;
    END LOOP;
    FOR item IN
      SELECT n.oid AS shadow, a.attnum, to_jsonb(a) ->> 'attstattarget' AS target
      FROM pg_index o JOIN pg_class x ON x.oid = o.indexrelid
      JOIN pg_class n ON n.relname = 'djs_{oid}_i' || array_position(run.index_names, x.relname)
      JOIN pg_index i ON i.indexrelid = n.oid AND i.indrelid = run.shadow
      JOIN pg_attribute a ON a.attrelid = o.indexrelid
      WHERE o.indrelid = run.source AND coalesce(to_jsonb(a) ->> 'attstattarget', '-1') <> '-1'
    LOOP
      EXECUTE format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS %s', item.shadow::regclass,
        item.attnum, item.target);
    END LOOP;
    FOR item IN
      SELECT n.conname, obj_description(o.oid, 'pg_constraint') AS comment
      FROM pg_constraint o JOIN pg_constraint n ON n.conrelid = run.shadow
        AND (n.conname = o.conname OR n.conname = 'djs_{oid}_i' || array_position(
               run.index_names, (SELECT x.relname FROM pg_class x WHERE x.oid = o.conindid)))
      WHERE o.conrelid = run.source
    LOOP
      EXECUTE format('COMMENT ON CONSTRAINT %I ON %s IS %L', item.conname, run.shadow::regclass,
        item.comment);
    END LOOP;
    EXECUTE format('ALTER TABLE %s REPLICA IDENTITY DEFAULT', run.shadow::regclass);
  END;
  UPDATE ONLY {state} m SET phase = '{catching_up}',
    copied = (SELECT count(*) FROM ONLY {shadow} s);
  RAISE INFO 'djs: copied=%', (SELECT m.copied FROM {state} m);
