-- Locks on the table that others have held for long, or that don't end by themselves: note, for
-- people.
-- Locks: none.
--   {oid}  the table's
SELECT format('pid %s of role %s (%s) has a lock on the table, in a transaction of %s s: an exclusive '
    'lock has to wait for it',
  a.pid, a.usename, a.application_name, round(extract(epoch FROM now() - a.xact_start))) AS note
FROM pg_stat_activity a
WHERE a.pid <> pg_backend_pid() AND a.xact_start < now() - interval '5 minutes' AND EXISTS (
  SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'relation' AND l.relation = {oid}
    AND l.granted
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
UNION ALL
SELECT format('prepared transaction %L of %s has a lock on the table: an exclusive lock has to '
    'wait for it', x.gid, x.owner)
FROM pg_prepared_xacts x JOIN pg_locks l ON l.transactionid = x.transaction
  AND l.locktype = 'transactionid'
JOIN pg_locks r ON r.virtualtransaction = l.virtualtransaction AND r.relation = {oid}
WHERE x.database = current_database()
UNION ALL
SELECT 'an autovacuum against wraparound is due or running on the table: it yields to nobody'
FROM pg_class c WHERE c.oid = {oid}
  AND age(c.relfrozenxid) > least(current_setting('autovacuum_freeze_max_age')::bigint,
    (SELECT option_value::bigint FROM pg_options_to_table(c.reloptions)
     WHERE option_name = 'autovacuum_freeze_max_age'));
