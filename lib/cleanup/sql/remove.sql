-- Drops all but the triggers that is there under the swap's names and belongs to the owner: first
-- what is large. What others have made under such names is theirs. In whatever schema: the table's
-- may have changed. The log may have been renamed, and the function; while a trigger calls it, that
-- stays.
--
-- A role that may make a view, without any right on a helper, can make one that reads it, and so
-- keep it from being dropped. That view is left alone. What it depends on is emptied, so that it takes no
-- room, and given a name that nobody can have foreseen, so that it is in no other swap's way. Later
-- removals try to drop it again.
--
-- Each for itself: what another session has locked keeps nothing before it, and is reported. The state
-- comes last, so that the next run finds the rest.
--
-- A part of a PL/pgSQL block, as the table's owner.
-- Locks: ACCESS EXCLUSIVE on the helpers.
-- Report: locked, if one was.
--   {oid}     the table's
--   {run_id}  of this run
  DECLARE
    kept CONSTANT text := '^djs_kept_[0-9a-f]{8}_[0-9]+$';
    me oid := (SELECT r.oid FROM pg_roles r WHERE r.rolname = current_user);  -- not as a member
    log oid;
    trigger_name name;
    part oid;
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
    FOR item IN
      SELECT c.oid, false AS is_function, c.relname ~ kept AS is_kept,
        CASE WHEN c.relname ~ '^djs_{oid}_(old|new)$' THEN 1
          WHEN c.relname = 'djs_{oid}_state' THEN 4 ELSE 3 END AS place
      FROM pg_class c
      WHERE c.relkind = 'r' AND c.relowner = me AND has_schema_privilege(c.relnamespace, 'USAGE')
        AND (c.relname ~ '^djs_{oid}_(old|new|log|state)$' OR c.relname ~ kept
             OR c.oid = log AND 4 = (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid
               AND NOT a.attisdropped AND a.attname IN ('k', 'n', 'live', 'truncated')))
      UNION ALL
      SELECT p.oid, true, p.proname ~ kept, 2 FROM pg_proc p
      WHERE (p.proname = 'djs_{oid}_note' OR p.proname ~ kept
             OR p.prosrc LIKE E'%INSERT INTO %.djs\\_{oid}\\_log (k, live)%')
        AND p.prorettype = 'trigger'::regtype
        AND p.proowner = me AND has_schema_privilege(p.pronamespace, 'USAGE')
      ORDER BY place
    LOOP
      BEGIN
        BEGIN
          IF item.is_function THEN
            EXECUTE format('DROP FUNCTION %s', item.oid::regprocedure);
          ELSE
            EXECUTE format('DROP TABLE %s', item.oid::regclass);
          END IF;
        EXCEPTION WHEN dependent_objects_still_exist THEN
          IF item.is_kept OR EXISTS (SELECT FROM pg_trigger g WHERE g.tgfoid = item.oid) THEN
            NULL;
          ELSIF item.is_function THEN
            EXECUTE format('ALTER FUNCTION %s RENAME TO %I', item.oid::regprocedure,
              'djs_kept_' || left({run_id}, 8) || '_' || item.oid);
          ELSE
            FOR trigger_name IN SELECT g.tgname FROM pg_trigger g WHERE g.tgrelid = item.oid
                AND g.tgname ~ '^djs_[0-9]+_(changed|deleted|truncated)$' LOOP
              EXECUTE format('DROP TRIGGER %I ON %s', trigger_name, item.oid::regclass);
            END LOOP;
            BEGIN
              EXECUTE format('TRUNCATE ONLY %s', item.oid::regclass);
            EXCEPTION WHEN feature_not_supported OR insufficient_privilege THEN
              NULL;  -- a foreign key refers to it; the owner has taken his own right away
            END;
            FOR part IN
              SELECT item.oid
              UNION ALL SELECT i.indexrelid FROM pg_index i WHERE i.indrelid = item.oid
              UNION ALL SELECT c.oid FROM pg_depend d JOIN pg_class c ON c.oid = d.objid
              WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
                AND d.refobjid = item.oid AND d.deptype = 'i' AND c.relkind = 'S'
            LOOP
              EXECUTE format('ALTER TABLE %s RENAME TO %I', part::regclass,
                'djs_kept_' || left({run_id}, 8) || '_' || part);
            END LOOP;
          END IF;
        END;
      EXCEPTION
        WHEN insufficient_privilege THEN NULL;  -- where the owner may not give a name any more
        WHEN lock_not_available THEN
          RAISE INFO 'djs: locked=true';
          EXIT;
      END;
    END LOOP;
  END;
