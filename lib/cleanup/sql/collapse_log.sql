-- Leaves each key in the log once: a site that saves a session at each request notes the same keys
-- over and over. A part of a PL/pgSQL block, as the table's owner.
-- Locks: none on the table.
--   {log}  the log's name
  WITH taken AS (
    DELETE FROM ONLY {log} l WHERE NOT l.truncated RETURNING l.k, l.n, l.live
  )
  INSERT INTO {log} (k, n, live) OVERRIDING SYSTEM VALUE
  SELECT DISTINCT ON (w.k) w.k, w.n, w.live FROM taken w ORDER BY w.k, w.n DESC;
