-- Who reads this server's WAL, and how far behind it is: kind, name, bytes_behind, seconds_behind
-- and about_to_be_lost. A base backup has no lag. Replicas that show no position to this role have
-- NULL for it. A slot has used most of its allowance when what it holds back is four times what it
-- may still hold; one that is lost no longer holds back anything. The archiver is asked to begin
-- with a segment when that is complete, so the unfinished one is not late; "00000002.history" is no
-- WAL file.
-- Locks: none.
SELECT 'replica' AS kind, application_name AS name,
  pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) AS bytes_behind,
  extract(epoch FROM replay_lag) AS seconds_behind, false AS about_to_be_lost
FROM pg_stat_replication WHERE state IS DISTINCT FROM 'backup'
UNION ALL
SELECT 'slot', slot_name, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), NULL,
  wal_status = 'unreserved'
    OR coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) > 4 * safe_wal_size, false)
FROM pg_replication_slots
WHERE restart_lsn IS NOT NULL AND wal_status IS DISTINCT FROM 'lost'
UNION ALL
SELECT 'archiver', '', CASE WHEN file IS NOT NULL THEN greatest(0,
  trunc(pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') / segment.bytes) * segment.bytes
    - ('x' || substr(file, 9, 8))::bit(32)::bigint * 4294967296
    - (('x' || substr(file, 17, 8))::bit(32)::bigint + is_archived::int) * segment.bytes) END,
  NULL, false
FROM (SELECT coalesce(substring(last_archived_wal FROM '^[0-9A-F]{24}'),
                      substring(last_failed_wal FROM '^[0-9A-F]{24}')) AS file,
        last_archived_wal ~ '^[0-9A-F]{24}' IS TRUE AS is_archived
      FROM pg_stat_archiver) archived,
  (SELECT pg_size_bytes(current_setting('wal_segment_size')) AS bytes) segment
WHERE current_setting('archive_mode') <> 'off';
