-- The second half of the exchange. Runs while all clients wait: a few milliseconds. Each statement
-- in it sees all that was committed before the lock was granted. The stamp is compared after the
-- original is renamed and its columns are touched: from then on a GRANT, which takes no lock on the
-- table, waits for us and then fails, instead of being lost.
--
-- A part of a PL/pgSQL block, as the table's owner.
-- Locks: ACCESS EXCLUSIVE on the table, which the message has asked for before.
--   {oid}, {table_literal}          the table's OID, and its name as a string
--   {state}, {log}                  the helpers' names
--   {trigger_mark}, {stamp}         trigger_mark.sql, stamp.sql
--   {touch_columns}                 sets the columns' statistics targets to what they are
--   {drain_rest}                    drain.sql
--   {most_keys}                     with more keys in the log it isn't done now
  SELECT * INTO run FROM {state};
  SELECT c.relname, c.relnamespace INTO table_name, schema FROM pg_class c WHERE c.oid = run.source;
  IF to_regclass({table_literal}) IS DISTINCT FROM run.source
     OR {trigger_mark} IS DISTINCT FROM run.triggers
     OR EXISTS (SELECT FROM ONLY {log} l WHERE l.truncated) THEN
    RAISE EXCEPTION 'the table was truncated or replaced, or a change could not be logged'
      USING ERRCODE = 'DJS03';
  END IF;
  SELECT count(*) AS keys INTO item FROM (SELECT FROM ONLY {log} LIMIT {most_keys} + 1) l;
  IF item.keys > {most_keys} THEN
    RAISE EXCEPTION 'too many sessions changed to bring them up to date under a lock'
      USING ERRCODE = 'DJS02';
  ELSIF item.keys > 0 THEN
    {drain_rest}
  END IF;

  EXECUTE format('ALTER TABLE %s RENAME TO %I', run.source::regclass, 'djs_' || run.shadow || '_old');
  {touch_columns}
  IF {stamp} IS DISTINCT FROM run.stamp THEN
    RAISE EXCEPTION 'the table was altered at the last moment' USING ERRCODE = 'DJS03';
  END IF;
  EXECUTE format('ALTER TABLE %s RENAME TO %I', run.shadow::regclass, table_name);
  EXECUTE format('ALTER TABLE %s RENAME TO %I', run.log::regclass, 'djs_' || run.shadow || '_log');
  EXECUTE format('ALTER FUNCTION %s RENAME TO %I', run.function::regprocedure,
    'djs_' || run.shadow || '_note');
  EXECUTE format('ALTER TABLE %s.djs_{oid}_state RENAME TO %I', schema,
    'djs_' || run.shadow || '_state');
