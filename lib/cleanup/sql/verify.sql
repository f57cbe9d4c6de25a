-- Compares all live sessions with their copies. The table is read as it lies on the disk and not by
-- the index that was copied from, which may lack entries: all its rows are asked for, so that those
-- that have expired are counted, too. Both sides are added up as hashes of their rows, at one
-- moment, which needs neither memory nor temporary files; what is in the log, and so may differ, is
-- looked up by key and subtracted again. EXECUTE, since only then the server may use parallel
-- workers.
--
-- A part of a PL/pgSQL block, as the table's owner.
-- Locks: ACCESS SHARE on the table.
-- Report: copied, rows_before (sessions).
--   {table}, {state}, {shadow}, {log}  names
--   {t_hash}, {s_hash}                 a number for a row of the table t, of the shadow s
--   {ready}                            a phase, see swap_phase.hpp
--   {check_unchanged}                  fails if the table was truncated, or a change could not be
--                                      logged
  EXECUTE $compare$
    WITH changed AS MATERIALIZED (
      SELECT DISTINCT l.k FROM ONLY {log} l WHERE NOT l.truncated
    )
    SELECT t_all.all_rows - t_all.rows AS expired, s_all.rows AS copied,
      t_all.rows - t_changed.rows AS t_rows, s_all.rows - s_changed.rows AS s_rows,
      t_all.hashes - t_changed.hashes AS t_hashes, s_all.hashes - s_changed.hashes AS s_hashes
    FROM (SELECT count(*) AS all_rows, count(*) FILTER (WHERE t.expire_date >= $1) AS rows,
            coalesce(sum({t_hash}) FILTER (WHERE t.expire_date >= $1), 0) AS hashes
          FROM ONLY {table} t) t_all,
      (SELECT count(*) AS rows, coalesce(sum({s_hash}), 0) AS hashes FROM ONLY {shadow} s) s_all,
      (SELECT count(*) AS rows, coalesce(sum(x.hash), 0) AS hashes
       FROM changed CROSS JOIN LATERAL (
         SELECT {t_hash} AS hash FROM ONLY {table} t
         WHERE t.session_key = changed.k AND t.expire_date >= $1 LIMIT 1) x) t_changed,
      (SELECT count(*) AS rows, coalesce(sum(x.hash), 0) AS hashes
       FROM changed CROSS JOIN LATERAL (
         SELECT {s_hash} AS hash FROM ONLY {shadow} s
         WHERE s.session_key = changed.k LIMIT 1) x) s_changed
  $compare$ INTO item USING (SELECT m.cutoff FROM {state} m);
  IF item.t_rows <> item.s_rows OR item.t_hashes <> item.s_hashes THEN
    {check_unchanged}
    RAISE EXCEPTION 'the table has % live sessions, their copies are % and differ from them',
      item.t_rows, item.s_rows USING ERRCODE = 'DJS05';
  END IF;
  UPDATE ONLY {state} SET phase = '{ready}', copied = item.copied,
    rows_before = item.copied + item.expired;
  RAISE INFO 'djs: copied=% rows_before=%', item.copied, item.copied + item.expired;
