-- Copies the next sessions in the order of expire_date. The place reached is kept in the state, in
-- the same transaction. It is a date alone, as the index is: sessions that expire at the same
-- moment (a site that sets a fixed date has many) are copied together, so that none of them is read
-- again to find the next. A session that is renewed meanwhile may be met twice: the shadow has no
-- primary key yet, see build_indexes.sql.
--
-- A part of a PL/pgSQL block, as the table's owner.
-- Locks: ACCESS SHARE on the table; no row locks.
-- Report: rows (of this chunk), copied (so far), log_bytes (of the file).
--   {table}, {state}, {shadow}  names
--   {columns}                   the table's: a, b
--   {t_as_c}, {c}               the same as t.a AS c1, t.b AS c2; and c1, c2
--   {rows}                      how many, and those that expire at the same moment as the last
  WITH chunk AS MATERIALIZED (
    SELECT {t_as_c}, t.expire_date AS moment FROM ONLY {table} t
    WHERE t.expire_date > (SELECT m.copied_until FROM {state} m)
    ORDER BY t.expire_date FETCH FIRST {rows} ROWS WITH TIES
  ), copied AS (
    INSERT INTO {shadow} ({columns}) SELECT {c} FROM chunk
  ), reached AS (
    SELECT chunk.moment FROM chunk ORDER BY chunk.moment DESC LIMIT 1
  ), noted AS (
    UPDATE ONLY {state} m SET copied_until = reached.moment,
      copied = m.copied + (SELECT count(*) FROM chunk)
    FROM reached
  )
  SELECT (SELECT count(*) FROM chunk) AS here, m.copied + (SELECT count(*) FROM chunk) AS copied,
    coalesce(pg_relation_size(m.log), 0) AS log_bytes  -- it may just have been dropped
  INTO item FROM {state} m;
  RAISE INFO 'djs: rows=% copied=% log_bytes=%', item.here, item.copied, item.log_bytes;
