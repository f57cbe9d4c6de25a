-- Who has locked the table, or awaits the lock that makes everybody behind it wait; who is at the
-- head of that queue; and how long the first of it has waited (before PostgreSQL 14 since its statement
-- began): NULL if nobody waits who reads, writes or wants all for himself, as no work beside
-- the clients does.
-- One row at most. Without pg_read_all_stats the state and age of others are hidden.
-- Locks: none.
--   {oid}  the table's
WITH ours AS (
  SELECT '{oid}'::oid AS oid UNION ALL SELECT indexrelid FROM pg_index WHERE indrelid = '{oid}'::oid
), lock AS (
  SELECT l.*, (to_jsonb(l) ->> 'waitstart')::timestamptz AS since
  FROM pg_locks l JOIN pg_database d ON d.oid = l.database
  WHERE l.locktype = 'relation' AND d.datname = current_database() AND l.relation IN (SELECT oid FROM ours)
), exclusive AS (
  SELECT pid, granted FROM lock WHERE mode = 'AccessExclusiveLock' ORDER BY granted DESC LIMIT 1
), head AS (
  SELECT pid, granted, CASE WHEN granted THEN pid ELSE (pg_blocking_pids(pid))[1] END AS head FROM exclusive
), prepared AS (
  SELECT x.gid FROM lock l JOIN pg_locks t ON t.virtualtransaction = l.virtualtransaction
    JOIN pg_prepared_xacts x ON x.transaction = t.transactionid
  WHERE l.pid IS NULL AND t.locktype = 'transactionid' LIMIT 1
)
SELECT h.pid, a.usename AS role, a.application_name AS application, h.granted, p.command,
  extract(epoch FROM now() - a.xact_start)::int8 AS age,
  nullif(h.head, 0) AS head, b.usename AS head_role, b.application_name AS head_application,
  b.state AS head_state, extract(epoch FROM now() - b.xact_start)::int8 AS head_age,
  CASE WHEN coalesce(h.head, 0) = 0 THEN (SELECT gid FROM prepared) END AS prepared,
  (SELECT coalesce(extract(epoch FROM now() - min(coalesce(l.since, w.query_start))), 0)::int8
   FROM lock l LEFT JOIN pg_stat_activity w ON w.pid = l.pid
   WHERE NOT l.granted AND l.mode IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock', 'AccessExclusiveLock')
   HAVING count(*) > 0) AS waited
FROM head h LEFT JOIN pg_stat_activity a ON a.pid = h.pid LEFT JOIN pg_stat_activity b ON b.pid = h.head
LEFT JOIN pg_stat_progress_cluster p ON p.pid = h.pid;
