-- Removes from the shadow, before it has indexes, whatever is in the log; it is read as a whole. A
-- part of a PL/pgSQL block, as the table's owner.
-- Locks: none on the table.
--   {shadow}, {log}  the helpers' names
  SET LOCAL enable_nestloop = off;
  DELETE FROM ONLY {shadow} s USING (SELECT DISTINCT l.k FROM ONLY {log} l) changed
  WHERE s.session_key = changed.k;
