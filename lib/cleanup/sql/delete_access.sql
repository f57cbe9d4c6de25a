-- How this role may delete, and what the table's owner may do: one row. The function is the
-- owner's, or it isn't the one of conf.d/roles.sql.
-- Locks: none.
--   {oid}       the table's
--   {set_role}  the privilege for pg_has_role() that lets a role SET ROLE to another
SELECT quote_ident(session_user) AS role, quote_ident(owner.rolname) AS owner,
  quote_ident(n.nspname) AS schema,
  owner.rolname = session_user AS is_owner,
  pg_has_role(session_user, owner.oid, {set_role}) AS may_become_owner,
  has_schema_privilege(owner.oid, n.oid, 'CREATE') AND has_schema_privilege(owner.oid, n.oid, 'USAGE')
    AS owner_may_create,
  EXISTS (SELECT FROM pg_language l WHERE l.lanname = 'plpgsql'
          AND has_language_privilege(owner.oid, l.oid, 'USAGE')) AS has_plpgsql,
  (SELECT string_agg(needed, ', ') FROM unnest(ARRAY['SELECT', 'UPDATE', 'DELETE']) needed
   WHERE NOT has_table_privilege(owner.oid, c.oid, needed)) AS owner_lacks,
  c.relrowsecurity AND c.relforcerowsecurity AND NOT (owner.rolsuper OR owner.rolbypassrls)
    AS rows_are_hidden,
  (SELECT string_agg(quote_ident(v.evtname), ', ' ORDER BY v.evtname) FROM pg_event_trigger v
   WHERE v.evtenabled IN ('O', 'A')
     AND v.evtevent IN ('ddl_command_start', 'ddl_command_end', 'sql_drop')
     AND (v.evttags IS NULL OR v.evttags && ARRAY['CREATE FUNCTION', 'CREATE MATERIALIZED VIEW',
       'DROP FUNCTION', 'DROP MATERIALIZED VIEW'])) AS event_triggers,  -- see as_owner.hpp
  (SELECT min(quote_ident(g.tgname)) FROM pg_trigger g WHERE g.tgrelid = c.oid AND g.tginitdeferred
     AND g.tgenabled <> 'D' AND g.tgtype & 8 <> 0) AS deferred_trigger,  -- in the jail
  -- From PostgreSQL 18 on a trigger runs with the rights of the role that has set it off.
  (SELECT min(quote_ident(g.tgname)) FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid
   WHERE g.tgrelid = c.oid AND g.tginitdeferred AND NOT g.tgisinternal
     AND g.tgenabled IN ('O', 'A') AND g.tgtype & 8 <> 0 AND NOT p.prosecdef
     AND current_setting('server_version_num')::int < 180000) AS trigger_with_our_rights,
  quote_ident(n.nspname) || '.' || quote_ident(f.proname) AS function,
  f.oid AS function_oid
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_roles owner ON owner.oid = c.relowner
LEFT JOIN LATERAL (
  SELECT p.oid, p.proname FROM pg_proc p
  WHERE p.pronamespace = c.relnamespace AND p.proowner = c.relowner AND p.prosecdef
    AND p.proname IN ('django_session_delete_expired',
                      ('django_session_delete_expired_' || owner.rolname)::name)
    AND ARRAY(SELECT unnest(p.proargtypes)) = ARRAY[
      'regclass', 'timestamptz', 'timestamptz', 'int4', 'tid[]', 'tid[]', 'bool']::regtype[]::oid[]
    AND has_function_privilege(session_user, p.oid, 'EXECUTE')
  ORDER BY length(p.proname) LIMIT 1) f ON true
WHERE c.oid = {oid};
