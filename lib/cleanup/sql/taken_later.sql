-- The first of the names that the helpers will have after the exchange, made with the shadow's OID,
-- that is taken; an expression, a complaint for people or NULL.
-- Locks: none.
--   {oid}   the table's
--   {shadow_oid}  the shadow's, an expression
(SELECT format('name %I belongs to %s and is needed for the '
      'new table: rename or drop it', o.name, pg_get_userbyid(o.owner))
    FROM (SELECT relname AS name, relowner AS owner, relnamespace AS schema FROM pg_class
          UNION ALL SELECT typname, typowner, typnamespace FROM pg_type
          UNION ALL SELECT proname, proowner, pronamespace FROM pg_proc WHERE pronargs = 0) o
    WHERE o.schema = (SELECT c.relnamespace FROM pg_class c WHERE c.oid = {oid})
      AND o.name ~ format('^djs_%s_(state|log|old|note|o[0-9]+)$', {shadow_oid}::oid) LIMIT 1)
