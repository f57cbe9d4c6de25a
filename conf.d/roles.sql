-- Roles for django_session, each with the least rights that work. Run it with psql as the owner of the table (or as a
-- superuser), in the site's database; run it again after the table has been recreated:
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

-- The table's name may leave it to the session's search_path where the table is. For all else only pg_catalog is looked into,
-- so that no function and no operator is called that a stranger has put into another schema. Names are compared as text below:
-- quote_all_identifiers would write them otherwise than the catalogue has them.
SELECT pg_catalog.set_config('django_session.table', :'table'::pg_catalog.regclass::pg_catalog.oid::pg_catalog.text, true)
  AS ignored \gset
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL quote_all_identifiers = off;

SELECT n.nspname AS schema, n.oid AS schema_oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS full_name,
       pg_get_userbyid(c.relowner) AS owner, c.relowner AS owner_oid, current_database() AS database,
       current_setting('server_version_num')::int4 >= 160000 AS has_set_option,
       current_setting('server_version_num')::int4 >= 170000 AS has_maintain
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = current_setting('django_session.table')::oid \gset

-- The measuring role sees sizes, row counts and expiry times. It can read neither a session's key nor its data.
-- Give it a way to log in that fits your pg_hba.conf: a password (\password), peer, or a certificate.
SELECT format('CREATE ROLE %I LOGIN', :'monitor')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'monitor') \gexec
GRANT CONNECT ON DATABASE :"database" TO :"monitor";
GRANT USAGE ON SCHEMA :"schema" TO :"monitor";
GRANT SELECT (expire_date) ON :full_name TO :"monitor";

-- How wide the columns are on average distinguishes full pages from half-empty ones, but PostgreSQL shows the statistics of a
-- column only to those who may read the column. This function, run as the table's owner, passes on three numbers of each
-- column, and of expire_date, which the role may read anyway, how its values are spread. Nothing of a session's key or data.
-- Without it everything works, but free space in the table is reported as "at least".
--
-- It is called django_session_statistics, and serves all session tables of its owner. Where another role has a function of
-- that name in this schema (he has session tables of his own there, say), his is left alone, and ours has the owner's name
-- behind its own.
WITH candidate AS (
  SELECT wanted.place, wanted.name, p.proowner
  FROM (VALUES (1, 'django_session_statistics'::name), (2, ('django_session_statistics_' || :'owner')::name)) AS wanted(place, name)
  LEFT JOIN pg_proc p ON p.proname = wanted.name AND p.pronamespace = :schema_oid AND p.pronargs = 1
    AND p.proargtypes[0] = 'regclass'::regtype
), chosen AS (
  SELECT name, proowner FROM candidate WHERE proowner IS NULL OR proowner = :owner_oid ORDER BY place LIMIT 1
)
SELECT (SELECT quote_ident(:'schema') || '.' || quote_ident(name) FROM chosen) AS statistics,
       (SELECT CASE WHEN proowner IS NULL THEN 'CREATE' ELSE 'CREATE OR REPLACE' END FROM chosen) AS create_it \gset
\if :{?statistics}
:create_it FUNCTION :statistics("table" regclass)
RETURNS TABLE (column_name name, average_width int4, null_fraction float4, n_distinct float4, common_values numeric[],
               common_frequencies float4[], histogram numeric[])
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
ALTER FUNCTION :statistics(regclass) OWNER TO :"owner";
REVOKE ALL ON FUNCTION :statistics(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION :statistics(regclass) TO :"monitor";
\else
\warn 'Others have all the names for the function with the statistics: it is not made.'
\endif

\if :{?cleaner}
-- The deleting role, for `django_session_cleanup --method delete`. It has no right to delete: it calls a function of the
-- table's owner that deletes expired sessions, and nothing else. It can't read a session's key or data. Use a role of its own
-- for each owner of session tables, in whatever database: what an owner's code does could otherwise be done with rights on another's.
SELECT format('CREATE ROLE %I LOGIN', :'cleaner')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'cleaner') \gexec
GRANT CONNECT ON DATABASE :"database" TO :"cleaner";
GRANT USAGE ON SCHEMA :"schema" TO :"cleaner";
REVOKE SELECT (ctid), DELETE ON :full_name FROM :"cleaner"; -- former versions of this script have granted it
GRANT SELECT (expire_date) ON :full_name TO :"cleaner";
\if :{?statistics}
GRANT EXECUTE ON FUNCTION :statistics(regclass) TO :"cleaner";
\endif

-- Deletes sessions that expired before `cutoff`, and before now, from any session table of its owner: at most `most`, from
-- those on that expired at `beginning`, but for those at the addresses `passing_over`; or those at the addresses `only`.
-- Where another role has a function of that name in this schema, his is left alone, and ours has the owner's name behind it.
WITH candidate AS (
  SELECT wanted.place, wanted.name, p.proowner
  FROM (VALUES (1, 'django_session_delete_expired'::name),
               (2, ('django_session_delete_expired_' || :'owner')::name)) AS wanted(place, name)
  LEFT JOIN pg_proc p ON p.proname = wanted.name AND p.pronamespace = :schema_oid
    AND ARRAY(SELECT unnest(p.proargtypes)) = ARRAY['regclass'::regtype, 'timestamptz'::regtype, 'timestamptz'::regtype,
      'int4'::regtype, 'tid[]'::regtype, 'tid[]'::regtype, 'bool'::regtype]::oid[]
), chosen AS (
  SELECT name, proowner FROM candidate WHERE proowner IS NULL OR proowner = :owner_oid ORDER BY place LIMIT 1
)
SELECT (SELECT quote_ident(:'schema') || '.' || quote_ident(name) FROM chosen) AS delete_expired,
       (SELECT CASE WHEN proowner IS NULL THEN 'CREATE' ELSE 'CREATE OR REPLACE' END FROM chosen) AS create_it \gset
\if :{?delete_expired}
:create_it FUNCTION :delete_expired(
  "table" regclass, cutoff timestamptz, beginning timestamptz, most int4,
  passing_over tid[], "only" tid[], skip_locked bool,
  OUT is_ours bool, OUT is_locked bool, OUT swap_lives bool, OUT seen int4,
  OUT free int4, OUT deleted int4, OUT moment timestamptz, OUT left_over tid[],
  OUT left_last tid[], OUT lockers text[], OUT wal_bytes numeric)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  name text;
  state text;
  state_oid oid;
  me oid;
  wal_before pg_lsn := pg_current_wal_insert_lsn();
BEGIN
  SELECT format('%I.%I', n.nspname, c.relname), format('%I.djs_%s_state', n.nspname, c.oid), r.oid INTO name, state, me
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles r ON r.oid = c.relowner
  WHERE c.oid = $1 AND c.relkind = 'r' AND r.rolname = current_user
    AND 3 = (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped
               AND (a.attname IN ('session_key', 'session_data')
                    OR a.attname = 'expire_date' AND a.atttypid = 'timestamptz'::regtype));
  IF name IS NULL THEN
    RAISE EXCEPTION 'that is no session table of %', current_user;
  END IF;
  SELECT false, false, false, 0, 0, 0, '{}', '{}', '{}', 0
  INTO is_ours, is_locked, swap_lives, seen, free, deleted, left_over, left_last, lockers, wal_bytes;

  -- A running exchange of the whole table must not be disturbed. Its state is an ordinary table of this owner:
  -- others may have put something of that name here, a view that runs code of theirs. What is locked keeps its name.
  BEGIN
    SELECT c.oid INTO state_oid FROM pg_class c WHERE c.oid = to_regclass(state) AND c.relkind = 'r' AND c.relowner = me;
    IF state_oid IS NOT NULL THEN
      EXECUTE format('LOCK TABLE ONLY %s IN ACCESS SHARE MODE', state);
    END IF;
    IF EXISTS (SELECT FROM pg_class c WHERE c.oid = state_oid AND c.oid = to_regclass(state) AND c.relkind = 'r'
                 AND c.relowner = me) THEN
      EXECUTE format($sql$SELECT count(*) > 0 FROM ONLY %s m WHERE m.lease_until > clock_timestamp()
        AND EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = m.backend)
        OR EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid  -- VACUUM or ANALYZE
                   WHERE l.relation IN (m.shadow, m.log) AND l.mode = 'ShareUpdateExclusiveLock'
                     AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
                     AND a.usesysid IS NOT NULL)$sql$, state) INTO swap_lives;
    END IF;
  EXCEPTION
    WHEN lock_not_available THEN swap_lives := true;
    WHEN undefined_table OR undefined_column OR insufficient_privilege OR wrong_object_type THEN swap_lives := false;
  END;
  BEGIN
    EXECUTE format('LOCK TABLE ONLY %s IN ROW EXCLUSIVE MODE', name);
  EXCEPTION WHEN lock_not_available THEN
    is_locked := true;
  END;
  IF NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = $1 AND c.relowner = me AND (is_locked OR c.oid = to_regclass(name))) THEN
    RAISE EXCEPTION 'the table was replaced' USING ERRCODE = 'DJS03';  -- which the program knows
  END IF;
  is_ours := NOT is_locked AND pg_try_advisory_xact_lock(1684697955, $1::oid::int8::bit(32)::int4);  -- the cleanup's
  IF swap_lives OR NOT is_ours THEN
    RETURN;
  END IF;

  -- An error that is caught is not in the server's log, where it would be with keys of sessions.
  BEGIN
    EXECUTE format($sql$
      WITH seen AS MATERIALIZED (
        SELECT s.ctid AS address, s.expire_date AS moment FROM ONLY %1$s s WHERE s.expire_date < $1 AND %2$s
      ), free AS MATERIALIZED (%3$s
      ), deleted AS (
        DELETE FROM ONLY %1$s s
        WHERE s.ctid = ANY (ARRAY(SELECT free.address FROM free)) AND s.expire_date < $1
        RETURNING s.ctid AS address
      ), left_over AS MATERIALIZED (
        SELECT seen.address, seen.moment FROM seen
        WHERE NOT EXISTS (SELECT FROM deleted WHERE deleted.address = seen.address)
      )
      SELECT (SELECT count(*) FROM seen), (SELECT count(*) FROM free), (SELECT count(*) FROM deleted),
        (SELECT max(seen.moment) FROM seen), ARRAY(SELECT l.address FROM left_over l),
        ARRAY(SELECT l.address FROM left_over l WHERE l.moment = (SELECT max(seen.moment) FROM seen)), %4$s
      $sql$, name,
      CASE WHEN cardinality("only") > 0 THEN 's.ctid = ANY ($5)'
           WHEN cardinality(passing_over) > 0
           THEN 's.expire_date >= $2 AND s.ctid <> ALL ($4) ORDER BY s.expire_date LIMIT $3'
           ELSE 's.expire_date >= $2 ORDER BY s.expire_date LIMIT $3' END,
      CASE WHEN skip_locked THEN format('SELECT s.ctid AS address FROM ONLY %s s
             WHERE s.ctid = ANY (ARRAY(SELECT seen.address FROM seen)) AND s.expire_date < $1
             FOR UPDATE SKIP LOCKED', name)
           ELSE 'SELECT seen.address FROM seen' END,
      CASE WHEN skip_locked THEN format('ARRAY(SELECT DISTINCT s.xmax::text FROM ONLY %s s
             WHERE s.ctid = ANY (ARRAY(SELECT l.address FROM left_over l LIMIT 1000)) LIMIT 5)', name)
           ELSE 'ARRAY[]::text[]' END)
    INTO seen, free, deleted, moment, left_over, left_last, lockers
    USING least(cutoff, now()), beginning, greatest(0, least(most, 50000)), passing_over, "only";
  EXCEPTION
    WHEN integrity_constraint_violation OR data_exception OR syntax_error_or_access_rule_violation OR invalid_catalog_name
      OR invalid_schema_name OR undefined_file OR feature_not_supported OR invalid_cursor_name
      OR invalid_sql_statement_name OR program_limit_exceeded THEN
    RAISE EXCEPTION 'a constraint, a type or a function refuses a session, SQLSTATE %', SQLSTATE USING ERRCODE = SQLSTATE;
  END;
  wal_bytes := pg_wal_lsn_diff(pg_current_wal_insert_lsn(), wal_before);
END
$$;
ALTER FUNCTION :delete_expired(regclass, timestamptz, timestamptz, int4,
  tid[], tid[], bool) OWNER TO :"owner";
REVOKE ALL ON FUNCTION :delete_expired(regclass, timestamptz, timestamptz, int4,
  tid[], tid[], bool) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION :delete_expired(regclass, timestamptz, timestamptz, int4,
  tid[], tid[], bool) TO :"cleaner";
\else
\warn 'Others have all the names for the function that deletes: it is not made, and the role can''t delete.'
\endif

-- VACUUM and REINDEX are for the table's owner; since PostgreSQL 17 they can be granted. MAINTAIN reads nothing, but it may
-- lock the table and, since 18, set its statistics to what it likes: that makes queries slow and figures wrong until the next
-- ANALYZE. There is no other way to VACUUM, which no function can do. Where that is too much, REVOKE it: as before 17, this role
-- then leaves the dead rows to autovacuum, and the indexes as large as they are.
\if :has_maintain
GRANT MAINTAIN ON :full_name TO :"cleaner";
\endif

-- Not granted: pg_read_all_stats (or pg_monitor, which has it). With it the cleanup would see how far a replica without a
-- replication slot is behind, and for how long others' transactions have been open. But it shows every statement that is
-- running, and in those of Django are the keys of sessions; and the table's owner, whose code this role calls, hasn't got it.
\endif

\if :{?swapper}
-- The swapping role, for `--method swap`, `full` and `auto`: it makes a new table and puts it in the old one's place, which
-- only a member of the owner can do. So it can do all that the site itself can do with its tables: guard it like the site's
-- own password. To make it a member takes a superuser, or ADMIN on the owner.
SELECT format('CREATE ROLE %I LOGIN', :'swapper')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'swapper') \gexec
GRANT CONNECT ON DATABASE :"database" TO :"swapper";
GRANT USAGE ON SCHEMA :"schema" TO :"swapper";

-- Membership in a superuser, or in a member of one, would make it one. And each member of this role, or role
-- that may make itself one, would be a member of the owner, too. (Since PostgreSQL 16 that takes ADMIN on it, which CREATEROLE
-- gives to its maker; before, CREATEROLE suffices, for every role.)
WITH RECURSIVE of_owner AS (  -- without those who are it by this role
  SELECT :owner_oid::oid AS member
  UNION
  SELECT m.member FROM of_owner o JOIN pg_auth_members m ON m.roleid = o.member JOIN pg_roles r ON r.oid = m.member
  WHERE r.rolname <> :'swapper'
)
SELECT EXISTS (SELECT FROM pg_roles WHERE rolsuper AND pg_has_role(:'owner'::name, oid, 'MEMBER')) AS owner_is_superuser,
       has_schema_privilege(:'owner'::name, :'schema', 'CREATE') AS owner_may_create,
       string_agg(quote_ident(r.rolname), ', ' ORDER BY r.rolname) AS others, count(*) > 0 AS others_would_gain
FROM pg_roles r
WHERE r.rolname <> :'swapper' AND NOT r.rolsuper AND pg_has_role(r.oid, :'swapper'::name, 'MEMBER')
  AND NOT EXISTS (SELECT FROM of_owner o WHERE o.member = r.oid) \gset
\if :owner_is_superuser
\warn 'The table belongs to a superuser (or to a member of one), so nobody is made a member of its owner: swap and full stay impossible.'
\warn 'Give it to the site''s role first (ALTER TABLE ... OWNER TO ...), then run this again.'
\elif :others_would_gain
\warn 'The role that swaps is not made a member of the owner: that would make members of him of those who are, or may make themselves,'
\warn 'its members:' :others
\warn 'REVOKE it from them (and their ADMIN OPTION), or choose a role that a superuser has made; then run this again.'
\else
\if :has_set_option
GRANT :"owner" TO :"swapper" WITH INHERIT TRUE, SET TRUE;
\else
GRANT :"owner" TO :"swapper";
\endif
\if :owner_may_create \else
\warn 'The table''s owner may not create tables in the schema, which the swap needs: GRANT CREATE ON SCHEMA ... TO owner.'
\endif
\endif
\endif

COMMIT;
