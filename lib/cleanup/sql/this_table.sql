-- What the refusals look at: one row, the beginning of general_refusals.sql and swap_refusals.sql.
-- Locks: none.
--   {oid}  the table's
SELECT c.*, quote_ident(pg_get_userbyid(c.relowner)) AS owner, n.nspname,
  quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,
  k.attnum AS key, k.atttypid AS key_type,
  e.attnum AS expiry, e.atttypid AS expiry_type, e.attnotnull
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute k ON k.attrelid = c.oid AND k.attname = 'session_key'
  AND NOT k.attisdropped
LEFT JOIN pg_attribute e ON e.attrelid = c.oid AND e.attname = 'expire_date'
  AND NOT e.attisdropped
WHERE c.oid = {oid}
