-- Drops all that is there under the swap's names and belongs to the owner. The order matters: while
-- a trigger is on the table, its function and the log must be there. What others have made under
-- such names is theirs. In whatever schema: the table's may have changed. The triggers are those of
-- that name, on whatever table and with whatever function: a table that was restored from a dump
-- has another OID than its helpers' names say, and the function may have been renamed, or have
-- another owner by now. Those on the replaced table are dropped with it. The log may have been
-- renamed, too.
--
-- A part of a PL/pgSQL block, as the table's owner.
-- Locks: ACCESS EXCLUSIVE on the tables with triggers, which the message has asked for before, and
-- on the helpers.
--   {oid}  the table's
  DECLARE
    me oid := (SELECT r.oid FROM pg_roles r WHERE r.rolname = current_user);  -- not as a member
    log oid;
    functions oid[];
  BEGIN
    BEGIN
      -- In another schema, if the table has moved. See kHold.
      FOR item IN SELECT c.oid, c.oid::regclass::text AS name FROM pg_class c
        WHERE c.relname = 'djs_{oid}_state' AND c.relkind = 'r' AND c.relowner = me
          AND has_schema_privilege(c.relnamespace, 'USAGE')
      LOOP
        EXECUTE format('LOCK TABLE ONLY %s IN ACCESS SHARE MODE', item.name);
        IF EXISTS (SELECT FROM pg_class c WHERE c.oid = item.oid AND c.oid = to_regclass(item.name)
                     AND c.relkind = 'r' AND c.relowner = me) THEN
          EXECUTE format('SELECT m.log FROM ONLY %s m', item.name) INTO log;
        END IF;
      END LOOP;
    EXCEPTION WHEN OTHERS THEN NULL;  -- one that was changed
    END;
    SELECT array_agg(g.tgfoid) INTO functions FROM pg_trigger g
    WHERE g.tgname ~ '^djs_{oid}_(changed|deleted|truncated)$';
    FOR item IN SELECT g.tgname, g.tgrelid FROM pg_trigger g JOIN pg_class r ON r.oid = g.tgrelid
      WHERE NOT g.tgisinternal AND r.relname <> 'djs_{oid}_old'
        AND g.tgname ~ '^djs_{oid}_(changed|deleted|truncated)$'
        AND r.relowner = me AND has_schema_privilege(r.relnamespace, 'USAGE')
    LOOP
      EXECUTE format('DROP TRIGGER %I ON %s', item.tgname, item.tgrelid::regclass);
    END LOOP;
    FOR item IN SELECT c.oid FROM pg_class c
      WHERE c.relkind = 'r' AND c.relowner = me AND has_schema_privilege(c.relnamespace, 'USAGE')
        AND c.relname IN ('djs_{oid}_old', 'djs_{oid}_new')
    LOOP
      EXECUTE format('DROP TABLE %s', item.oid::regclass);
    END LOOP;
    FOR item IN SELECT p.oid FROM pg_proc p
      WHERE (p.proname = 'djs_{oid}_note'
             OR p.oid = ANY (functions) AND p.prosrc LIKE '%djs\_{oid}\_log%')
        AND p.prorettype = 'trigger'::regtype
        AND p.proowner = me AND has_schema_privilege(p.pronamespace, 'USAGE')
        AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgfoid = p.oid)
    LOOP
      EXECUTE format('DROP FUNCTION %s', item.oid::regprocedure);
    END LOOP;
    FOR item IN SELECT c.oid FROM pg_class c
      WHERE c.relkind = 'r' AND c.relowner = me AND has_schema_privilege(c.relnamespace, 'USAGE')
        AND (c.relname IN ('djs_{oid}_log', 'djs_{oid}_state')
             OR c.oid = log AND 4 = (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid
               AND NOT a.attisdropped AND a.attname IN ('k', 'n', 'live', 'truncated')))
    LOOP
      EXECUTE format('DROP TABLE %s', item.oid::regclass);
    END LOOP;
  END;
