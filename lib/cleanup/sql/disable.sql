-- Stops the log and drops the shadow, where remove_triggers.sql can't get its lock. If
-- something depends on the shadow, it is emptied.
--
-- A part of a PL/pgSQL block, as the table's owner.
-- Locks: SHARE ROW EXCLUSIVE on the table, which the message has asked for before.
--   {oid}                     the table's
--   {state}, {shadow}, {log}  the helpers' names
--   {stopped}                 a phase, see swap_phase.hpp
  FOR item IN SELECT g.tgname FROM pg_trigger g
    WHERE g.tgrelid = {oid} AND g.tgname LIKE E'djs\\_{oid}\\_%' AND NOT g.tgisinternal
  LOOP
    EXECUTE format('ALTER TABLE %s DISABLE TRIGGER %I', {oid}::oid::regclass, item.tgname);
  END LOOP;
  BEGIN
    DROP TABLE {shadow};
  EXCEPTION WHEN dependent_objects_still_exist THEN
    TRUNCATE {shadow};
  END;
  TRUNCATE {log};
  UPDATE ONLY {state} SET phase = '{stopped}';
