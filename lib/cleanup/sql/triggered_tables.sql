-- Which tables a trigger of ours is on: name, quoted, a row for each.
-- Locks: none.
--   {oid}            the table's
--   {owner_literal}  its owner, as a string
SELECT DISTINCT g.tgrelid::regclass AS name
FROM pg_trigger g JOIN pg_class r ON r.oid = g.tgrelid
WHERE NOT g.tgisinternal AND g.tgname ~ '^djs_{oid}_(changed|deleted|truncated)$'
  AND r.relname <> 'djs_{oid}_old' AND r.relowner = {owner_literal}::regrole
ORDER BY 1;
