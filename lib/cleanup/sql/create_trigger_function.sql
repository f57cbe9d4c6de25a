-- The first half of the message "create the triggers": the trigger function that writes the log.
--
-- It runs as the owner (SECURITY DEFINER): those who write sessions have no rights on the log.
--
-- Whatever became of the log, its schema or the function (renamed, dropped, locked, not restored
-- from a dump, another owner, rights revoked, constraints, triggers or indexes added) and of the
-- disk, no client's statement may fail for it, or wait for longer than we would make it wait. So
-- every error is caught, and the run finds out that a change is missing:
-- - by a sequence, which a rollback doesn't set back, which needs no room, and of which no number
--   is ever drawn but here;
-- - where not even that can be reached, by the catalogue: both are in trigger_mark.sql. An error
--   that neither would show is not caught: a sequence that others keep locked together with the log.
-- A lock that wasn't granted is not waited for again in the same transaction, or a statement of many
-- sessions would wait for each of them: its other changes are missed at once. The transaction's id
-- tells it from one whose client has set the same.
-- What is deferred to the client's COMMIT couldn't be caught there, so it isn't let in. A failure
-- to serialize is the client's own, and the server relies on that it is obeyed.
--
-- A part of a PL/pgSQL block, as the table's owner, with the table locked.
-- Locks: none; the function's are ROW EXCLUSIVE on the log, for at most {lock_ms}.
--   {oid}                           the table's
--   {state}, {state_literal}        the state's name, and that as a string
--   {log_literal}                   the log's as a string
--   {function_literal}              the function's
--   {lock_ms}                       milliseconds
  EXECUTE format($create$
    CREATE FUNCTION %1$s.djs_{oid}_note() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET lock_timeout = {lock_ms} SET exit_on_error = off AS $body$
    BEGIN
      IF current_setting('djs.locked_{oid}', true) = pg_current_xact_id()::text THEN
        RAISE lock_not_available;
      END IF;
      IF to_regclass(%4$L) = %2$s::oid THEN  -- once it is locked, its name can't become another's
        LOCK TABLE ONLY %1$s.djs_{oid}_log IN ROW EXCLUSIVE MODE;
      END IF;
      IF to_regclass(%4$L) IS DISTINCT FROM %2$s::oid THEN
        RETURN NULL;
      END IF;
      IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO %1$s.djs_{oid}_log (live, truncated) VALUES (false, true);
      END IF;
      IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND NEW.session_key <> OLD.session_key) THEN
        INSERT INTO %1$s.djs_{oid}_log (k, live) VALUES (OLD.session_key, false);
      END IF;
      IF TG_OP IN ('INSERT', 'UPDATE') THEN
        INSERT INTO %1$s.djs_{oid}_log (k, live)
        VALUES (NEW.session_key, NEW.expire_date >= %3$L::timestamptz);
      END IF;
      IF EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = %2$s::oid AND g.tgdeferrable) THEN
        RAISE EXCEPTION 'something might fail at COMMIT';
      END IF;
      RETURN NULL;
    EXCEPTION WHEN OTHERS OR assert_failure THEN
      IF SQLSTATE = '40001' AND current_setting('transaction_isolation') = 'serializable' THEN
        RAISE;
      END IF;
      IF SQLSTATE = '55P03' THEN
        PERFORM set_config('djs.locked_{oid}', pg_current_xact_id()::text, true);
      END IF;
      BEGIN
        PERFORM nextval(%5$s::oid::regclass);
      EXCEPTION
        WHEN insufficient_privilege OR sequence_generator_limit_exceeded THEN
          NULL;  -- the rights show, and to reach a limit it must have been called
        WHEN internal_error THEN
          IF has_sequence_privilege(%5$s::oid, 'USAGE') IS NOT NULL THEN
            RAISE;
          END IF;  -- it was dropped
      END;
      RETURN NULL;
    END $body$ $create$, (SELECT c.relnamespace::regnamespace FROM pg_class c WHERE c.oid = {oid}),
    to_regclass({log_literal})::oid, (SELECT m.cutoff FROM {state} m), {log_literal},
    pg_get_serial_sequence({state_literal}, 'missed')::regclass::oid);
  FOR item IN
    SELECT p.oid::regprocedure AS function,
      CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END AS grantee
    FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g
    WHERE p.oid = to_regprocedure({function_literal} || '()') AND g.grantee <> p.proowner
  LOOP
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', item.function, item.grantee);
  END LOOP;
