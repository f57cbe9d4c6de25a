-- Brings the oldest of the changed sessions up to date. Not what happened is repeated but what is
-- true now is copied, for the sessions whose keys were noted: in whatever order, twice, or after a
-- crash, the outcome is the same. One statement, so that the log and the table are seen at the same
-- moment: a change that isn't committed yet is in neither. Oldest first, so that no entry is left
-- behind that a later one for its key has outdated.
--
-- Two checks. That a session is found by the primary key exactly if its latest entry in the log
-- says that it is there: else the index lacks it, and to believe the index would log a user out.
-- And that the shadow has stored what was read.
--
-- A part of a PL/pgSQL block, as the table's owner. It leaves keys, their number, in item.
-- Locks: ACCESS SHARE on the table; no row locks.
--   {oid}, {table}             the table's OID and its name
--   {state}, {shadow}, {log}   the helpers' names
--   {columns}, {t_as_c}, {c}   the table's: a, b; t.a AS c1, t.b AS c2; and c1, c2
--   {excluded}                 EXCLUDED.a, EXCLUDED.b
--   {c_hash}, {shadow_hash}    a number for a row of present, and for one of the shadow
--   {rows}                     how many entries of the log
--   {check_unchanged}          fails if the table was truncated, or a change could not be logged
  WITH taken AS (
    DELETE FROM ONLY {log} l
    WHERE l.ctid = ANY (ARRAY(SELECT x.ctid FROM ONLY {log} x WHERE NOT x.truncated
                              ORDER BY x.n LIMIT {rows}))
    RETURNING l.k, l.n, l.live
  ), noted AS MATERIALIZED (
    SELECT DISTINCT ON (w.k) w.k, w.n, w.live FROM taken w ORDER BY w.k, w.n DESC
  ), present AS MATERIALIZED (
    SELECT noted.k, noted.n, noted.live, t.session_key IS NOT NULL AS there, {t_as_c}
    FROM noted LEFT JOIN ONLY {table} t
      ON t.session_key = noted.k AND t.expire_date >= (SELECT m.cutoff FROM {state} m)
  ), gone AS (
    DELETE FROM ONLY {shadow} s USING present p WHERE s.session_key = p.k AND NOT p.there
  ), saved AS (
    INSERT INTO {shadow} ({columns}) SELECT {c} FROM present p WHERE p.there
    ON CONFLICT (session_key) DO UPDATE SET ({columns}) = ROW ({excluded})
    RETURNING {shadow_hash} AS hash
  ), doubtful AS (
    SELECT p.k, p.n FROM present p WHERE p.live <> p.there
  ), latest AS (  -- IS TRUE: by a hash table, whatever the planner is set to
    SELECT x.k, max(x.n) AS n FROM ONLY {log} x
    WHERE (x.k IN (SELECT d.k FROM doubtful d)) IS TRUE GROUP BY x.k
  )
  SELECT (SELECT count(*) FROM taken) AS keys,
    (SELECT count(*) FROM doubtful d JOIN latest o ON o.k = d.k AND o.n = d.n) AS missing,
    (SELECT sum({c_hash}) FROM present p WHERE p.there) AS read,
    (SELECT sum(saved.hash) FROM saved) AS stored
  INTO item;
  IF item.missing > 0 THEN
    {check_unchanged}
    RAISE EXCEPTION 'the primary key of % does not find % of its sessions: REINDEX it',
      {oid}::oid::regclass, item.missing USING ERRCODE = 'DJS05';
  ELSIF item.read IS DISTINCT FROM item.stored THEN
    RAISE EXCEPTION 'the new table does not store what was copied into it' USING ERRCODE = 'DJS04';
  END IF;
