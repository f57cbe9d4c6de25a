-- Waits until no autovacuum is on the table. One gives way to SHARE UPDATE EXCLUSIVE after
-- deadlock_timeout, and only to a wait that lasts that long. Clients don't notice this lock, so it
-- may be waited for. It is given back before a stronger one is asked for: to wait for that while
-- holding this makes the server cancel, at once, any session that has read the table and then runs
-- ANALYZE or builds an index.
--
-- Statements of a message, before those that ask for the stronger lock.
-- Locks: SHARE UPDATE EXCLUSIVE on the table, given back.
--   {locked}          the table
--   {lock_ms}         the limit of what comes then, milliseconds
--   {prepare}, {run}  work as the owner that is done meanwhile, and undone: see as_owner.hpp
SAVEPOINT against_vacuum;
{prepare}
SELECT set_config('lock_timeout',
  least(2147483647, 2000 + 1000 * extract(epoch FROM current_setting('deadlock_timeout')::interval))
    ::int::text,
  true);
LOCK TABLE ONLY {locked} IN SHARE UPDATE EXCLUSIVE MODE;
SET LOCAL lock_timeout = {lock_ms};
{run}
ROLLBACK TO SAVEPOINT against_vacuum;
