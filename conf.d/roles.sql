-- Roles for django_session, each with the least rights that work. Run it with psql as the owner of the table (or as a
-- superuser), in the site's database; run it again after the table has been created anew:
--
--   psql -d site -f roles.sql
--   psql -d site -v table=accounts.custom_session -v monitor=watcher -f roles.sql
--
-- The measuring role is always made. The two that clean up are made on request only, because they can do harm:
--
--   psql -d site -v cleaner=django_session_cleaner -v swapper=django_session_swapper -f roles.sql
--
-- Creating a role needs CREATEROLE. Where you haven't got that, have an administrator run `CREATE ROLE ... LOGIN` first.

\set ON_ERROR_STOP on
\if :{?table} \else \set table public.django_session \endif
\if :{?monitor} \else \set monitor django_session_monitor \endif

BEGIN;

SELECT n.nspname AS schema, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS full_name,
       pg_catalog.pg_get_userbyid(c.relowner) AS owner, pg_catalog.current_database() AS database
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = :'table'::pg_catalog.regclass \gset

-- The measuring role sees sizes, row counts and expiry times. It can read neither a session's key nor its data.
-- Give it a way to log in that fits your pg_hba.conf: a password (\password), peer, or a certificate.
SELECT pg_catalog.format('CREATE ROLE %I LOGIN', :'monitor')
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = :'monitor') \gexec
GRANT CONNECT ON DATABASE :"database" TO :"monitor";
GRANT USAGE ON SCHEMA :"schema" TO :"monitor";
GRANT SELECT (expire_date) ON :full_name TO :"monitor";

-- How wide the columns are on average tells full pages from half-empty ones, but PostgreSQL shows the statistics of a
-- column only to those who may read the column. This function, run as the table's owner, passes on three numbers of each
-- column, and of expire_date, which the role may read anyway, how its values are spread. Nothing of a session's key or data.
-- Without it everything works, but free space in the table is reported as "at least".
CREATE OR REPLACE FUNCTION :"schema".django_session_statistics("table" pg_catalog.regclass)
RETURNS TABLE (column_name pg_catalog.name, average_width pg_catalog.int4, null_fraction pg_catalog.float4,
               n_distinct pg_catalog.float4, common_values pg_catalog.numeric[], common_frequencies pg_catalog.float4[],
               histogram pg_catalog.numeric[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  SELECT s.attname, s.avg_width, s.null_frac, s.n_distinct,
    CASE s.attname WHEN 'expire_date' THEN
      ARRAY(SELECT extract(epoch FROM v)::numeric FROM unnest(s.most_common_vals::text::timestamptz[]) v) END,
    CASE s.attname WHEN 'expire_date' THEN s.most_common_freqs END,
    CASE s.attname WHEN 'expire_date' THEN
      ARRAY(SELECT extract(epoch FROM v)::numeric FROM unnest(s.histogram_bounds::text::timestamptz[]) v) END
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname
  WHERE c.oid = $1 AND NOT s.inherited
    -- of session tables only, not of whatever else the owner has
    AND 3 = (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped
               AND a.attname IN ('session_key', 'session_data', 'expire_date'))
$$;
ALTER FUNCTION :"schema".django_session_statistics(pg_catalog.regclass) OWNER TO :"owner";
REVOKE ALL ON FUNCTION :"schema".django_session_statistics(pg_catalog.regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION :"schema".django_session_statistics(pg_catalog.regclass) TO :"monitor";

\if :{?cleaner}
-- The deleting role, for `django_session_cleanup --method delete`: it deletes rows by their address (ctid) and their expiry
-- time. It can't read a session's key or data; but whoever has it can delete live sessions, too, and so log everybody out.
SELECT pg_catalog.format('CREATE ROLE %I LOGIN', :'cleaner')
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = :'cleaner') \gexec
GRANT CONNECT ON DATABASE :"database" TO :"cleaner";
GRANT USAGE ON SCHEMA :"schema" TO :"cleaner";
GRANT SELECT (expire_date, ctid), DELETE ON :full_name TO :"cleaner";
GRANT EXECUTE ON FUNCTION :"schema".django_session_statistics(pg_catalog.regclass) TO :"cleaner";

-- VACUUM and REINDEX are for the table's owner; since PostgreSQL 17 they can be granted. MAINTAIN reads nothing, but it may
-- lock the table. Before 17 this role leaves the dead rows to autovacuum, and the indexes as large as they are.
SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4 >= 170000 AS has_maintain \gset
\if :has_maintain
GRANT MAINTAIN ON :full_name TO :"cleaner";
\endif

-- Not granted: pg_read_all_stats (or pg_monitor, which has it). With it the cleanup would see how far a replica without a
-- replication slot is behind, and for how long others' transactions have been going on. But it shows every statement that is
-- running, and in those of Django are the keys of sessions.
\endif

\if :{?swapper}
-- The swapping role, for `--method swap`, `full` and `auto`: it makes a new table and puts it in the old one's place, which
-- only a member of the owner can do. So it can do all that the site itself can do with its tables: guard it like the site's
-- own password. To make it a member takes a superuser, or ADMIN on the owner.
SELECT pg_catalog.format('CREATE ROLE %I LOGIN', :'swapper')
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = :'swapper') \gexec
GRANT CONNECT ON DATABASE :"database" TO :"swapper";
GRANT USAGE ON SCHEMA :"schema" TO :"swapper";

-- Membership in a superuser would make it one.
SELECT rolsuper AS owner_is_superuser,
       pg_catalog.has_schema_privilege(rolname, :'schema', 'CREATE') AS owner_may_create
FROM pg_catalog.pg_roles WHERE rolname = :'owner' \gset
\if :owner_is_superuser
\warn 'The table belongs to a superuser, so nobody is made a member of its owner: swap and full stay impossible.'
\warn 'Give it to the site''s role first (ALTER TABLE ... OWNER TO ...), then run this again.'
\else
GRANT :"owner" TO :"swapper";
\if :owner_may_create \else
\warn 'The table''s owner may not create tables in the schema, which the swap needs: GRANT CREATE ON SCHEMA ... TO owner.'
\endif
\endif
\endif

COMMIT;
