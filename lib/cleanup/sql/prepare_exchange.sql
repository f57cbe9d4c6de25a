-- The first half of the exchange: all of it that needs no exclusive lock on the table. It takes
-- none, so that nobody who has one waits for us; what others alter meanwhile shows in the stamp. An
-- index' own lock is enough to rename it.
--
-- A part of a PL/pgSQL block, as the table's owner, with shadow and state locked.
-- Locks: on the table's and the shadow's indexes, SHARE UPDATE EXCLUSIVE; ACCESS SHARE on the
-- table.
--   {oid}                                the table's
--   {state}                              the state's name
--   {taken_later}                        taken_later.sql
--   {stamp}                              stamp.sql
--   {compare_original}, {compare_shadow}   the table's, and the shadow's definition with the one that
--                                        the swap began with
--   {exchanged}                          a phase, see swap_phase.hpp
  SELECT c.relnamespace INTO schema FROM pg_class c WHERE c.oid = {oid};
  SELECT * INTO run FROM {state};
  IF {taken_later} IS NOT NULL THEN
    RAISE EXCEPTION '%', {taken_later} USING ERRCODE = 'DJS06';
  END IF;
  seen := {stamp};
  {compare_original}
  FOR item IN SELECT u.name, u.place FROM unnest(run.index_names) WITH ORDINALITY u(name, place) LOOP
    EXECUTE format('ALTER INDEX %s.%I RENAME TO %I', schema, item.name,
      'djs_' || run.shadow || '_o' || item.place);
    EXECUTE format('ALTER INDEX %s.%I RENAME TO %I', schema, 'djs_{oid}_i' || item.place,
      item.name);
  END LOOP;
  EXECUTE format('ALTER TABLE %s RESET (autovacuum_enabled)', run.shadow::regclass);
  FOR item IN SELECT o.option_value FROM pg_class c, pg_options_to_table(c.reloptions) o
              WHERE c.oid = run.source AND o.option_name = 'autovacuum_enabled' LOOP
    EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = %L)', run.shadow::regclass,
      item.option_value);
  END LOOP;
  {compare_shadow}
  UPDATE ONLY {state} SET stamp = seen, phase = '{exchanged}';
