-- Finds, deletes and counts a batch of expired sessions; conf.d/roles.sql has the same in a
-- function, for roles that have no right to delete. The cutoff is repeated in the DELETE: it is
-- checked again on the newest version of a row that another session has changed since the snapshot.
-- A session renewed in that moment stays. A SELECT of one row, without its semicolon.
-- Locks: ROW EXCLUSIVE on the table, row locks on what is deleted, and the cleanup's advisory lock:
-- of two cleanups of the same table one stops.
--   {table}    the table's name
--   {is_ours}  tries to take the advisory lock
--   {cutoff}   what expired before this moment is to go
--   {which}    a condition on the row s, order and limit
--   {free}     a SELECT of the addresses in seen that nobody else has locked
--   {lockers}  an array of the transactions that have the others
WITH turn AS MATERIALIZED (
  SELECT {is_ours} AS is_ours
), seen AS MATERIALIZED (
  SELECT s.ctid AS address, s.expire_date AS moment FROM ONLY {table} s
  WHERE (SELECT turn.is_ours FROM turn) AND s.expire_date < {cutoff} AND {which}
), free AS MATERIALIZED ({free}
), deleted AS (
  DELETE FROM ONLY {table} s
  WHERE s.ctid = ANY (ARRAY(SELECT free.address FROM free)) AND s.expire_date < {cutoff}
  RETURNING s.ctid AS address
), left_over AS MATERIALIZED (
  SELECT seen.address, seen.moment FROM seen
  WHERE NOT EXISTS (SELECT FROM deleted WHERE deleted.address = seen.address)
)
SELECT (SELECT turn.is_ours FROM turn) AS is_ours, (SELECT count(*) FROM seen) AS seen,
  (SELECT count(*) FROM free) AS free, (SELECT count(*) FROM deleted) AS deleted,
  coalesce(replace(((SELECT max(seen.moment) FROM seen) AT TIME ZONE 'UTC')::text, ' ', '_'), '')
    AS moment,
  ARRAY(SELECT l.address FROM left_over l)::text AS left_over,
  ARRAY(SELECT l.address FROM left_over l WHERE l.moment = (SELECT max(seen.moment) FROM seen))::text
    AS left_last,
  ({lockers})::text AS lockers,
  pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0') AS wal_after
