-- Who may still want to see what was there at a moment: kind, name, role, application, age
-- (transactions) and seconds, oldest first. Transactions of other databases don't matter to a table
-- of this one; those of walsenders (hot_standby_feedback) have no database. A transaction holds
-- back by its snapshot or by its own id. The age in time is hidden from roles without
-- pg_read_all_stats, the ids are not. Transactions of VACUUM itself (and autovacuum's, which have
-- no role) hold back nothing.
-- Locks: none.
--   {mark}       the moment, a snapshot_mark()
--   {condition}  what else must hold of the row holder
WITH mark AS (
  SELECT pg_snapshot_xmax(pg_current_snapshot())::text::numeric - '{mark}'::numeric AS age
), holder AS (
  SELECT CASE WHEN a.datname IS NULL THEN 'walsender' ELSE 'backend' END AS kind,
    a.pid::text AS name, coalesce(a.usename::text, a.usesysid::text) AS role, a.application_name AS application,
    greatest(age(a.backend_xmin), age(a.backend_xid)) AS age,
    extract(epoch FROM now() - a.xact_start) AS seconds
  FROM pg_stat_activity a
  WHERE a.pid <> pg_backend_pid() AND coalesce(a.datname, current_database()) = current_database()
    AND (a.usesysid IS NOT NULL OR a.datname IS NULL)
    AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.pid = a.pid)
  UNION ALL
  SELECT 'slot', slot_name, NULL, NULL, age(xmin), NULL FROM pg_replication_slots
  WHERE wal_status IS DISTINCT FROM 'lost'
  UNION ALL
  SELECT 'prepared', gid, owner, NULL, age(transaction), extract(epoch FROM now() - prepared)
  FROM pg_prepared_xacts WHERE database = current_database()
)
SELECT holder.* FROM holder, mark
WHERE holder.age IS NOT NULL AND holder.age >= mark.age AND ({condition})
ORDER BY holder.age DESC;
