-- What is in the way of each method, or of delete and full: methods (comma-separated), object and
-- reason, for each thing that is.
-- Locks: none on the table.
--   {this_table}      this_table.sql
--   {schema_renamer}  who can rename the schema of the table's owner o, but no superuser: a table is
--                     found by its name, and no lock on it keeps that
WITH RECURSIVE t AS (
{this_table}), foreign_keys AS (  -- that do something; there is conenforced since PostgreSQL 18
  SELECT * FROM pg_constraint n WHERE n.contype = 'f' AND to_jsonb(n) ->> 'conenforced' IS DISTINCT FROM 'false'
), goes AS (  -- tables whose rows go with a session
  SELECT t.oid AS relation FROM t
  UNION
  SELECT f.conrelid FROM goes JOIN foreign_keys f ON f.confrelid = goes.relation AND f.confdeltype = 'c'
)
SELECT 'delete,full,swap' AS methods, 'the server' AS object,
  'is a standby; clean up on the primary' AS reason
WHERE pg_is_in_recovery()
UNION ALL
SELECT 'delete,full', 'role ' || quote_ident(session_user),
  format('can''t read expire_date; GRANT SELECT (expire_date) ON %s TO %I', t.name, session_user)
FROM t WHERE NOT coalesce(has_column_privilege(t.oid, t.expiry, 'SELECT'), true)
UNION ALL
-- In the jail for the owner, see as_owner.hpp.
SELECT 'delete,full', 'type boolean',
  format('may not be used by the owner; GRANT USAGE ON TYPE boolean TO %s', t.owner)
FROM t WHERE NOT has_type_privilege(t.relowner, 'bool'::regtype, 'USAGE')
  AND pg_has_role(t.relowner, 'MEMBER') AND session_user <> pg_get_userbyid(t.relowner)
UNION ALL
-- In that jail functions are known by their names, which the server's messages quote.
SELECT 'delete,full', 'name ' || quote_ident(t.nspname), 'has a newline in it'
FROM t WHERE strpos(t.nspname, E'\n') > 0
  AND pg_has_role(t.relowner, 'MEMBER') AND session_user <> pg_get_userbyid(t.relowner)
UNION ALL
SELECT 'delete,full', 'replica identity', format('is missing, and publication %I publishes what is deleted; '
  'ALTER TABLE %s REPLICA IDENTITY DEFAULT', min(p.pubname), t.name)
FROM t JOIN pg_publication_tables m ON m.schemaname = t.nspname AND m.tablename = t.relname
JOIN pg_publication p ON p.pubname = m.pubname AND p.pubdelete
WHERE t.relreplident = 'n' GROUP BY t.name
UNION ALL
SELECT 'delete,full', 'rule ' || quote_ident(r.rulename), 'replaces or follows each DELETE'
FROM t JOIN pg_rewrite r ON r.ev_class = t.oid AND r.ev_type = '4' AND r.ev_enabled <> 'D'
UNION ALL
SELECT 'delete,full', format('foreign key %I of %s', f.conname, f.conrelid::regclass),
  CASE WHEN f.confrelid = t.oid THEN 'forbids deleting sessions that are referred to'
    ELSE format('forbids deleting rows of %s, which go with their sessions', f.confrelid::regclass) END
FROM t, goes JOIN foreign_keys f ON f.confrelid = goes.relation AND f.confdeltype IN ('a', 'r')
UNION ALL
SELECT 'delete,full,swap', 'column expire_date', 'is not a timestamp with time zone'
FROM t WHERE t.expiry_type IS DISTINCT FROM 'timestamptz'::regtype
UNION ALL
SELECT 'delete,full,swap', 'column expire_date', 'has no valid B-tree index that begins with it'
FROM t WHERE NOT EXISTS (
  SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
  WHERE i.indrelid = t.oid AND i.indkey[0] = t.expiry AND i.indisvalid AND i.indpred IS NULL
    AND m.amname = 'btree')
UNION ALL
-- The planner asks for indisvalid alone, and would miss rows.
SELECT 'delete,full,swap', 'index ' || quote_ident(x.relname),
  'is marked as valid, but writes don''t keep it up to date; REINDEX it'
FROM t JOIN pg_index i ON i.indrelid = t.oid JOIN pg_class x ON x.oid = i.indexrelid
WHERE i.indisvalid AND NOT (i.indisready AND i.indislive)
UNION ALL
SELECT 'full', 'role ' || quote_ident(session_user),
  'is not the owner of the table, which VACUUM FULL needs'
FROM t WHERE NOT pg_has_role(t.relowner, 'USAGE')
  AND NOT CASE WHEN current_setting('server_version_num')::int >= 170000
               THEN has_table_privilege(t.oid, 'MAINTAIN') ELSE false END
UNION ALL
SELECT 'delete,full,swap', 'schema ' || quote_ident(n.nspname),
  format('can be renamed by %1$I, who could put a table with code of their own in the place of this one, a '
    'superuser''s; ALTER TABLE %2$s OWNER TO %1$I', {schema_renamer}, t.name)
FROM t JOIN pg_namespace n ON n.oid = t.relnamespace JOIN pg_roles o ON o.oid = t.relowner
WHERE o.rolsuper AND {schema_renamer} IS NOT NULL;
