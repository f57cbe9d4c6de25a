-- A session that has read the table, and waits for an index that we have renamed, is cancelled
-- after deadlock_timeout if we wait for the table then. So we don't, from the moment it may wait. A
-- statement of the exchange, before it asks for the table's lock; djs.locked_at is when the indexes
-- were locked.
-- Locks: none.
--   {lock_ms}  the limit as it is else, milliseconds
SELECT set_config('lock_timeout', greatest(1, least({lock_ms}, 1000 * (
    0.8 * extract(epoch FROM current_setting('deadlock_timeout')::interval)
    - (extract(epoch FROM clock_timestamp()) - current_setting('djs.locked_at')::numeric)
  )))::int::text, true);
