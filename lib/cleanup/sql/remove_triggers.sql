-- Drops the swap's triggers: all of that name, on whatever table of the owner's and with whatever
-- function. A table that was restored from a dump has another OID than its helpers' names say, and
-- the function may have been renamed, or have another owner by now. In a transaction of its own, so
-- that nothing that keeps the rest of the helpers keeps these: they slow down the site and make the
-- log grow. Those on the replaced table are dropped with it.
--
-- A part of a PL/pgSQL block, as the table's owner.
-- Locks: ACCESS EXCLUSIVE on the tables with triggers, which the message has asked for before.
--   {oid}  the table's
  FOR item IN SELECT g.tgname, g.tgrelid
    FROM pg_trigger g JOIN pg_class r ON r.oid = g.tgrelid JOIN pg_roles o ON o.oid = r.relowner
    WHERE NOT g.tgisinternal AND r.relname <> 'djs_{oid}_old'
      AND g.tgname ~ '^djs_{oid}_(changed|deleted|truncated)$'
      AND o.rolname = current_user  -- not as a member
      AND has_schema_privilege(r.relnamespace, 'USAGE')
  LOOP
    EXECUTE format('DROP TRIGGER %I ON %s', item.tgname, item.tgrelid::regclass);
  END LOOP;
