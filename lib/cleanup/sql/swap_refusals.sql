-- What is in the way of a swap alone: object and reason, for each thing that is. Rights are those of
-- the table's owner, as whom a swap works; each function may have been revoked from PUBLIC.
-- Locks: none on the table.
--   {oid}          the table's
--   {this_table}   this_table.sql
--   {set_role}     the privilege for pg_has_role() that lets a role SET ROLE to another
--   {attachments}  attachments.sql
WITH t AS (
{this_table})
SELECT 'role ' || quote_ident(session_user) AS object,
  CASE WHEN EXISTS (SELECT FROM pg_roles r WHERE r.rolsuper AND pg_has_role(t.relowner, r.oid, 'MEMBER'))
    THEN format('is not a member of the owner, %s, and must not be: that is a superuser, or a member of '
      'one; ALTER TABLE %s OWNER TO the site''s role', t.owner, t.name)
    WHEN pg_has_role(t.relowner, 'MEMBER')
    THEN format('may not become the owner; GRANT %s TO %I WITH SET TRUE', t.owner, session_user)
    ELSE format('is not a member of the owner, %s: run it as the owner, or as the swapping role of '
      'conf.d/roles.sql', t.owner) END AS reason
FROM t WHERE NOT pg_has_role(t.relowner, {set_role})
UNION ALL
SELECT 'schema ' || quote_ident(t.nspname),
  format('lets the owner create nothing; GRANT USAGE, CREATE ON SCHEMA %I TO %s', t.nspname,
    t.owner)
FROM t WHERE NOT (has_schema_privilege(t.relowner, t.relnamespace, 'CREATE')
                  AND has_schema_privilege(t.relowner, t.relnamespace, 'USAGE'))
UNION ALL
SELECT DISTINCT 'tablespace ' || quote_ident(s.spcname),
  format('lets the owner create nothing; GRANT CREATE ON TABLESPACE %I TO %s', s.spcname, t.owner)
FROM t LEFT JOIN pg_index i ON i.indrelid = t.oid LEFT JOIN pg_class x ON x.oid = i.indexrelid
JOIN pg_tablespace s ON s.oid IN (t.reltablespace, x.reltablespace)
WHERE NOT has_tablespace_privilege(t.relowner, s.oid, 'CREATE')
UNION ALL
SELECT 'role ' || t.owner, format('owns the table, but has no right to %s; GRANT %1$s ON %s TO %s', needed, t.name, t.owner) FROM t,
  unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRIGGER']) AS needed
WHERE NOT has_table_privilege(t.relowner, t.oid, needed)
UNION ALL
SELECT 'language plpgsql', 'is missing'
WHERE NOT EXISTS (SELECT FROM pg_language WHERE lanname = 'plpgsql')
UNION ALL
SELECT 'language plpgsql',
  format('may not be used by the owner; GRANT USAGE ON LANGUAGE plpgsql TO %s', t.owner)
FROM t JOIN pg_language l ON l.lanname = 'plpgsql'
WHERE NOT has_language_privilege(t.relowner, l.oid, 'USAGE')
UNION ALL
-- Of the table's columns, and of those of the swap's own tables.
SELECT DISTINCT 'type ' || y.oid::regtype,
  format('may not be used by the owner; GRANT USAGE ON TYPE %s TO %s', y.oid::regtype, t.owner)
FROM t, pg_type y
WHERE NOT has_type_privilege(t.relowner, y.oid, 'USAGE') AND (
  y.oid IN ('text'::regtype, 'name'::regtype, 'bool'::regtype, 'oid'::regtype, 'int4'::regtype,
            'int8'::regtype, 'float8'::regtype, 'timestamptz'::regtype)
  OR y.oid IN (SELECT a.atttypid FROM pg_attribute a
               WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped))
UNION ALL
SELECT 'function ' || p.oid::regprocedure, format('may not be called by the owner; GRANT EXECUTE ON '
  'FUNCTION %s TO %s', p.oid::regprocedure, t.owner)
FROM t, pg_proc p
WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind <> 'p'
  AND NOT has_function_privilege(t.relowner, p.oid, 'EXECUTE') AND p.proname IN (  -- all that a swap calls
    'aclexplode', 'acldefault', 'array_position', 'clock_timestamp', 'col_description', 'concat',
    'concat_ws', 'count', 'current_database', 'current_setting', 'extract',
    'format', 'format_type', 'has_schema_privilege', 'has_sequence_privilege',
    'hashtextextended', 'left', 'length', 'max', 'min', 'nextval', 'now', 'obj_description',
    'pg_backend_pid', 'pg_current_xact_id', 'pg_describe_object', 'pg_get_constraintdef', 'pg_get_expr',
    'pg_get_indexdef', 'pg_get_serial_sequence', 'pg_get_userbyid', 'pg_options_to_table',
    'pg_relation_size', 'pg_sequence_last_value', 'pg_sleep', 'pg_stat_force_next_flush',
    'quote_ident', 'replace', 'right', 'row_number', 'set_config', 'string_agg', 'strpos', 'substr',
    'substring', 'sum', 'to_char', 'to_jsonb', 'to_regclass', 'to_regproc',
    'to_regprocedure', 'unnest')
UNION ALL
-- What the server then passes over would be gone with the replaced table.
SELECT 'setting ' || name, 'is on: sessions on a damaged page would be passed over; turn it off'
FROM pg_settings WHERE name IN ('zero_damaged_pages', 'ignore_checksum_failure') AND setting = 'on'
UNION ALL
SELECT 'the table', 'is not an ordinary, logged heap table' FROM t
WHERE t.relpersistence <> 'p' OR t.reloftype <> 0
  OR t.relam <> (SELECT oid FROM pg_am WHERE amname = 'heap')
UNION ALL
-- PostgreSQL has no INSERT ... ON CONFLICT for such a table.
SELECT 'storage parameter user_catalog_table', format('is set; ALTER TABLE %s RESET (user_catalog_table)', t.name)
FROM t, pg_options_to_table(t.reloptions)
WHERE CASE option_name WHEN 'user_catalog_table' THEN option_value::bool END
UNION ALL
SELECT 'replica identity', 'is not the primary key' FROM t WHERE t.relreplident <> 'd'
UNION ALL
SELECT 'primary key', 'is not exactly session_key, checked at once' FROM t WHERE NOT EXISTS (
  SELECT FROM pg_index i WHERE i.indrelid = t.oid AND i.indisprimary AND i.indisvalid
    AND i.indimmediate
    AND i.indnatts = 1 AND i.indkey[0] = t.key)
UNION ALL
SELECT 'column session_key', 'is not of a character type'
FROM t JOIN pg_type y ON y.oid = t.key_type WHERE y.typcategory <> 'S'
UNION ALL
-- Which `=` compares keys is looked up in pg_catalog alone: of citext it would be text's, and no use of the index.
SELECT 'column session_key', format('compares by %s.%I, which is not PostgreSQL''s own',
  o.opcnamespace::regnamespace, o.opcname)
FROM pg_index i JOIN pg_opclass o ON o.oid = i.indclass[0]
WHERE i.indrelid = {oid} AND i.indisprimary AND o.opcnamespace <> 'pg_catalog'::regnamespace
UNION ALL
SELECT 'column expire_date', 'may be NULL' FROM t WHERE NOT t.attnotnull
UNION ALL
SELECT 'column ' || quote_ident(a.attname), 'is generated' FROM pg_attribute a
WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped
  AND (a.attidentity <> '' OR a.attgenerated <> '')
UNION ALL
SELECT 'index ' || quote_ident(x.relname), CASE WHEN NOT i.indisvalid
  THEN 'is invalid; REINDEX or DROP it'
    ELSE 'is unique or excludes: sessions can''t be copied in any order' END
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
WHERE i.indrelid = {oid}
  AND (NOT i.indisvalid OR (NOT i.indisprimary AND (i.indisunique OR i.indisexclusion)))
UNION ALL
-- There is conenforced since PostgreSQL 18.
SELECT 'constraint ' || quote_ident(n.conname),
  CASE WHEN to_jsonb(n) ->> 'conenforced' = 'false' THEN 'is not enforced; DROP CONSTRAINT'
    ELSE 'has not been validated; VALIDATE CONSTRAINT' END
FROM pg_constraint n WHERE n.conrelid = {oid} AND NOT n.convalidated
UNION ALL
SELECT 'grant by ' || g.grantor::regrole, 'was not made by the owner and can''t be repeated'
FROM t, LATERAL (SELECT grantor FROM aclexplode(t.relacl)
  UNION SELECT x.grantor FROM pg_type y, aclexplode(y.typacl) x WHERE y.oid = t.reltype
  UNION SELECT x.grantor FROM pg_attribute a, aclexplode(a.attacl) x WHERE a.attrelid = t.oid) g
WHERE g.grantor <> t.relowner
UNION ALL
SELECT 'encoding ' || pg_encoding_to_char(b.encoding), 'has no conversion to UTF8'
FROM pg_database b WHERE b.datname = current_database() AND pg_encoding_to_char(b.encoding) NOT IN ('UTF8', 'SQL_ASCII')
  AND NOT EXISTS (SELECT FROM pg_conversion n WHERE n.condefault AND n.conforencoding = b.encoding
                  AND pg_encoding_to_char(n.contoencoding) = 'UTF8')
UNION ALL
SELECT 'event trigger ' || quote_ident(v.evtname), 'would fire'
FROM pg_event_trigger v
WHERE v.evtenabled <> 'D' AND v.evtevent IN ('ddl_command_start', 'ddl_command_end', 'sql_drop', 'table_rewrite')
  AND (v.evttags IS NULL OR v.evttags && ARRAY[  -- all that a swap does
    'ALTER FUNCTION', 'ALTER INDEX', 'ALTER TABLE', 'COMMENT', 'CREATE FUNCTION', 'CREATE INDEX',
    'CREATE MATERIALIZED VIEW', 'CREATE SEQUENCE', 'CREATE TABLE', 'CREATE TABLE AS',
    'CREATE TRIGGER', 'DROP FUNCTION', 'DROP INDEX', 'DROP MATERIALIZED VIEW', 'DROP SEQUENCE',
    'DROP TABLE', 'DROP TRIGGER', 'GRANT', 'REVOKE', 'ALTER SEQUENCE'])
UNION ALL
SELECT 'replication slot ' || quote_ident(s.slot_name),
  'decodes this database: it would see another table'
FROM pg_replication_slots s WHERE s.slot_type = 'logical' AND s.database = current_database()
  AND s.wal_status IS DISTINCT FROM 'lost'
UNION ALL
SELECT 'name ' || quote_ident(t.nspname), 'has a newline in it' FROM t WHERE strpos(t.nspname, E'\n') > 0
UNION ALL
SELECT 'name ' || quote_ident(part), 'has a $ or a backslash in it' FROM (
  SELECT t.nspname AS part FROM t UNION ALL SELECT t.relname FROM t
  UNION ALL SELECT a.attname FROM pg_attribute a WHERE a.attrelid = {oid}) p
WHERE part LIKE '%$%' OR part LIKE E'%\\\\%'
UNION ALL
SELECT 'publication ' || quote_ident(p.pubname), 'publishes the table''s schema'
FROM t JOIN pg_publication_tables p ON p.schemaname = t.nspname AND p.tablename = t.relname
WHERE NOT EXISTS (SELECT FROM pg_publication q WHERE q.pubname = p.pubname AND (q.puballtables
  OR EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = q.oid AND r.prrelid = t.oid)))
UNION ALL
SELECT object, reason FROM ({attachments}) attached;
