-- Copies the next sessions in the order of expire_date. The place reached is kept in the state, in
-- the same transaction. It is a date alone, as the index is: sessions that expire at the same
-- moment (a site that sets a fixed date has many) are copied together, so that none of them is read
-- again to find the next. A session that is renewed meanwhile may be met twice: the shadow has no
-- primary key yet, see build_indexes.sql.
--
-- How far it goes is looked up before, in the same snapshot: to keep the rows until their last date
-- is known takes temporary files, of which a server may have few, and is slower.
--
-- A part of a PL/pgSQL block, as the table's owner.
-- Locks: ACCESS SHARE on the table; no row locks.
-- Report: rows (of this chunk), copied (so far), log_bytes (of the file).
--   {table}, {state}, {shadow}  names
--   {columns}, {t_columns}      the table's: a, b; and t.a, t.b
--   {rows}                      how many, and those that expire at the same moment as the last
  WITH chunk AS MATERIALIZED (
    SELECT count(*) AS rows, max(ahead.expire_date) AS last FROM (
      SELECT t.expire_date FROM ONLY {table} t
      WHERE t.expire_date > (SELECT m.copied_until FROM {state} m)
      ORDER BY t.expire_date FETCH FIRST {rows} ROWS WITH TIES) ahead
  ), copied AS (
    INSERT INTO {shadow} ({columns}) SELECT {t_columns} FROM ONLY {table} t
    WHERE t.expire_date > (SELECT m.copied_until FROM {state} m)
      AND t.expire_date <= (SELECT chunk.last FROM chunk)
    ORDER BY t.expire_date
  ), noted AS (
    UPDATE ONLY {state} m SET copied_until = chunk.last, copied = m.copied + chunk.rows
    FROM chunk WHERE chunk.rows > 0
  )
  SELECT chunk.rows AS here, m.copied + chunk.rows AS copied,
    coalesce(pg_relation_size(m.log), 0) AS log_bytes  -- it may just have been dropped
  INTO item FROM {state} m, chunk;
  RAISE INFO 'djs: rows=% copied=% log_bytes=%', item.here, item.copied, item.log_bytes;
