-- The second half of the message "create the triggers": from its COMMIT on every change is noted.
--
-- ENABLE ALWAYS: sessions with session_replication_role = replica count too, and for each row,
-- since a subscription's worker fires no other triggers. Expired sessions were never copied, so
-- their deletion (a clearsessions that runs meanwhile) needn't be noted.
--
-- A part of a PL/pgSQL block, as the table's owner.
-- Locks: SHARE ROW EXCLUSIVE on the table, which the message has asked for before.
--   {oid}                        the table's
--   {state}, {function_literal}  the helpers' names
--   {trigger_mark}               trigger_mark.sql
--   {copying}                    a phase, see swap_phase.hpp
  original := {oid}::oid;
  EXECUTE format('CREATE TRIGGER djs_{oid}_changed AFTER INSERT OR UPDATE ON %s FOR EACH ROW
    EXECUTE FUNCTION %s()', original, {function_literal});
  EXECUTE format('CREATE TRIGGER djs_{oid}_deleted AFTER DELETE ON %s FOR EACH ROW
    WHEN (OLD.expire_date >= %L::timestamptz) EXECUTE FUNCTION %s()',
    original, (SELECT m.cutoff FROM {state} m), {function_literal});
  EXECUTE format('CREATE TRIGGER djs_{oid}_truncated AFTER TRUNCATE ON %s FOR EACH STATEMENT
    EXECUTE FUNCTION %s()', original, {function_literal});
  EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER djs_{oid}_changed,
    ENABLE ALWAYS TRIGGER djs_{oid}_deleted, ENABLE ALWAYS TRIGGER djs_{oid}_truncated', original);
  UPDATE ONLY {state} m SET phase = '{copying}', function = (
    SELECT g.tgfoid FROM pg_trigger g
    WHERE g.tgrelid = original AND g.tgname = 'djs_{oid}_changed');
  UPDATE ONLY {state} SET triggers = {trigger_mark};
