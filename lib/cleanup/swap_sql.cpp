// The messages. Each is one transaction: the settings, the role of the table's owner, the locks,
// and then its work as a PL/pgSQL block in the owner's jail (see as_owner.hpp), which begins with
// kGuard.
//
// Locks are asked for by LOCK TABLE, as statements of their own: while a block waits it holds a
// snapshot, and whoever builds an index CONCURRENTLY waits for that.
//
// Names of the table's columns always have the table's alias before them, and variables the block's
// label, djs: a column may be called anything. Names of objects are made from OIDs (oid::regclass,
// format('%I')) where they stand in a string.
#include "cleanup/swap_sql.hpp"

#include <fmt/format.h>

#include "cleanup/as_owner.hpp"
#include "cleanup/table_definition.hpp"
#include "core/sql_name.hpp"
#include "measure/catalog_query.hpp"
#include "measure/leftovers.hpp"
#include "measure/transaction.hpp"

namespace django_session::sessions {
namespace {

// A run that hasn't renewed its lease for so long may be taken over. It needn't outlast a
// statement: a run that was taken over finds out, by kGuard, before it does anything further.
constexpr int kLeaseSeconds = 30;
// In the exchange, before the exclusive lock is asked for.
constexpr int kMostKeysBeforeLock = 10000;

// A lock, once granted, is held until COMMIT, so the message is sent as one and nothing waits for
// the network.
constexpr const char* kBegin = R"({begin}
SET LOCAL plpgsql.extra_errors = 'none';
SET LOCAL timezone = 'UTC';
{usual_plans}
SELECT pg_catalog.set_config(name, '0', true) FROM pg_catalog.pg_settings
WHERE name = 'transaction_timeout';  -- from PostgreSQL 17 on
SET LOCAL ROLE {owner};
)";

// {0} a helper's name as a string: its OID if it is a table of the owner's; else NULL. Where the
// helpers are gone, or their table has moved, others may have put something under their names (a
// view, say): to read that would run their code with the owner's rights.
constexpr const char* kOurs = R"((SELECT c.oid FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
    WHERE c.oid = to_regclass({0}) AND c.relkind = 'r' AND r.rolname = current_user))";

// {name} a helper's, {ours} kOurs of it, {otherwise} what to raise. Once it is locked
// its name can't become another's. Only what is ours is locked: others could hold their locks for
// ever. {denied}: what to do where its owner has taken his own rights away.
constexpr const char* kHold = R"(
  IF {ours} IS NOT NULL THEN
    BEGIN
      LOCK TABLE ONLY {name} IN ACCESS SHARE MODE;
    EXCEPTION WHEN insufficient_privilege THEN
      {denied};
    END;
  END IF;
  IF {ours} IS NULL THEN
    RAISE EXCEPTION {otherwise};
  END IF;
)";

// Locks the state's row until the end of the transaction: two runs never act at the same time, on
// whatever host or connection, and one that was taken over ends here.
constexpr const char* kGuard = R"(
  UPDATE ONLY {state} m SET lease_until = clock_timestamp() + interval '{lease} seconds',
    backend = pg_backend_pid()
  WHERE m.run_id = {run_id};
  IF NOT FOUND THEN
    RAISE EXCEPTION 'another cleanup of this table has taken over' USING ERRCODE = 'DJS01';
  END IF;
)";

// An autovacuum of the table gives way to SHARE UPDATE EXCLUSIVE after deadlock_timeout, and only
// to a wait that lasts that long. Clients don't notice this lock, so it may be waited for. It is
// given back before a stronger one is asked for: to wait for that while holding this makes the
// server cancel, at once, whoever has read the table and then runs ANALYZE or builds an index.
constexpr const char* kLockAgainstVacuum = R"(
SAVEPOINT against_vacuum;
{prepare}
SELECT set_config('lock_timeout',
  least(2147483647, 2000 + 1000 * extract(epoch FROM current_setting('deadlock_timeout')::interval))
    ::int::text,
  true);
LOCK TABLE ONLY {locked} IN SHARE UPDATE EXCLUSIVE MODE;
SET LOCAL lock_timeout = {lock_ms};
{run}
ROLLBACK TO SAVEPOINT against_vacuum;
)";

// Whoever has read the table, and waits for an index that we have renamed, is cancelled after
// deadlock_timeout if we wait for the table then. So we don't, from when on he may wait.
constexpr const char* kNoteWhen =
    "SELECT set_config('djs.locked_at', extract(epoch FROM clock_timestamp())::text, true);\n";
constexpr const char* kShortenWait = R"(
SELECT set_config('lock_timeout', greatest(1, least({lock_ms}, 1000 * (
    0.8 * extract(epoch FROM current_setting('deadlock_timeout')::interval)
    - (extract(epoch FROM clock_timestamp()) - current_setting('djs.locked_at')::numeric)
  )))::int::text, true);
)";

// Nobody waits for our locks while a disk or a replica writes. What is lost in a crash is lost with
// all that came later.
constexpr const char* kQuickCommit = "SET LOCAL synchronous_commit = off;\n";

constexpr const char* kAsked = "SELECT extract(epoch FROM clock_timestamp()) AS asked;\n";
constexpr const char* kEnded = "SELECT extract(epoch FROM clock_timestamp()) AS ended;\n";

// The type and the collation of the key are the table's own, but for what a domain may refuse:
// coalesce() is of its base type. LOGGED: after a crash of the server
// they must still be there. REPLICA IDENTITY FULL: a publication of all tables that is made
// meanwhile must not forbid us to change them.
//
// In the log, k is a session's key; n says which of two entries for one key is the later one: the
// second waits for the first's row; live, whether the session was there and had not expired then.
constexpr const char* kCreateStateAndLog = R"(
  IF to_regclass({table_literal}) IS DISTINCT FROM {oid}::oid THEN
    RAISE EXCEPTION 'the table was replaced' USING ERRCODE = 'DJS03';
  END IF;
  FOR item IN {taken_names} LOOP
    RAISE EXCEPTION '% %', item.object, item.reason USING ERRCODE = 'DJS06';
  END LOOP;
  CREATE TABLE {state} WITH (autovacuum_enabled = off) AS
  SELECT NULL::text AS run_id, NULL::text AS phase,
    NULL::oid AS source, NULL::oid AS twin, NULL::oid AS log, NULL::oid AS function,
    NULL::int AS backend, NULL::timestamptz AS started, NULL::timestamptz AS lease_until,
    NULL::bigint AS keep_seconds, NULL::timestamptz AS cutoff, t.expire_date AS copied_until,
    NULL::bigint AS copied,
    NULL::float8 AS rows_before, NULL::float8 AS bytes_before,
    NULL::text[] AS definition, NULL::text AS triggers, NULL::text AS stamp,
    NULL::name[] AS index_names, NULL::text[] AS deferred_indexes
  FROM ONLY {table} t WITH NO DATA;
  -- Its sequence, which nothing else draws from, tells of changes that couldn't be noted.
  ALTER TABLE {state} ADD missed int GENERATED BY DEFAULT AS IDENTITY, REPLICA IDENTITY FULL;
  CREATE TABLE {log} WITH (autovacuum_enabled = off, vacuum_truncate = off) AS
  SELECT coalesce(t.session_key, NULL) AS k, false AS live, false AS truncated
  FROM ONLY {table} t WITH NO DATA;
  ALTER TABLE {log} ADD n bigint GENERATED ALWAYS AS IDENTITY,
    ALTER truncated SET DEFAULT false, REPLICA IDENTITY FULL;
  INSERT INTO {state}
    (run_id, started, source, log, lease_until, backend, keep_seconds, rows_before, bytes_before,
     missed)
  VALUES ({run_id}, now(), {oid}, to_regclass({log_literal}),
    clock_timestamp() + interval '{lease} seconds', pg_backend_pid(), {keep_seconds},
    {rows_before}, {bytes_before}, 0);
  -- The site's default privileges may have granted something to somebody.
  FOR item IN
    SELECT c.oid::regclass AS relation, c.relkind,
      CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END AS grantee
    FROM pg_class c, aclexplode(c.relacl) g
    WHERE c.oid IN (to_regclass({state_literal}), to_regclass({log_literal}),
                    pg_get_serial_sequence({log_literal}, 'n')::regclass,
                    pg_get_serial_sequence({state_literal}, 'missed')::regclass)
      AND g.grantee <> c.relowner
  LOOP
    EXECUTE format('REVOKE ALL ON %s %s FROM %s',
      CASE item.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, item.relation, item.grantee);
  END LOOP;
  EXECUTE format('COMMENT ON TABLE %s IS %L', to_regclass({state_literal}),
    'django_session_cleanup, keeping {keep_seconds} s, started '
      || to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS"Z"'));
)";

// The twin: columns, defaults, CHECK constraints, indexes and column comments by LIKE; what LIKE
// doesn't copy one by one. The indexes wait until the sessions are copied: their definitions, as
// the server wrote them for the twin, are kept in the state.
constexpr const char* kCreateShadow = R"(
DECLARE
  original regclass := {oid}::oid;
  shadow regclass;
  shadow_name text;
  tablespace text;
  options text;
  differs text;
BEGIN
  SELECT format('%s.%I', c.relnamespace::regnamespace, 'djs_{oid}_new'),
    coalesce(s.spcname, ''),
    (SELECT string_agg(format('%s = %L', o.name, o.value), ', ') FROM (
       SELECT quote_ident(option_name) AS name, option_value AS value
       FROM pg_options_to_table(c.reloptions)
       UNION ALL
       SELECT 'toast.' || quote_ident(option_name), option_value
       FROM pg_class t, pg_options_to_table(t.reloptions) WHERE t.oid = c.reltoastrelid) o)
  INTO shadow_name, tablespace, options
  FROM pg_class c LEFT JOIN pg_tablespace s ON s.oid = c.reltablespace WHERE c.oid = original;
  PERFORM set_config('default_tablespace', tablespace, true);
  EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL)%s', shadow_name, original,
    ' WITH (' || options || ')');
  shadow := shadow_name::regclass;

  -- Statistics targets and options of columns, the table's comment
  FOR item IN
    SELECT a.attname, to_jsonb(a) ->> 'attstattarget' AS target,
      (SELECT string_agg(format('%I = %L', option_name, option_value), ', ')
       FROM pg_options_to_table(a.attoptions)
       WHERE option_name NOT LIKE 'pg\_%') AS options
    FROM pg_attribute a WHERE a.attrelid = original AND a.attnum > 0 AND NOT a.attisdropped
  LOOP
    IF coalesce(item.target, '-1') <> '-1' THEN
      EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS %s', shadow, item.attname,
        item.target);
    END IF;
    IF item.options IS NOT NULL THEN
      EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET (%s)', shadow, item.attname, item.options);
    END IF;
  END LOOP;
  EXECUTE format('COMMENT ON TABLE %s IS %L', shadow, obj_description(original, 'pg_class'));
  SELECT y.oid::regtype AS name, y.typarray::regtype AS array_name,
    obj_description(c.reltype, 'pg_type') AS comment,
    obj_description((SELECT o.typarray FROM pg_type o WHERE o.oid = c.reltype), 'pg_type')
      AS array_comment
  INTO item FROM pg_class c, pg_type y WHERE c.oid = original AND y.typrelid = shadow;
  IF item.comment IS NOT NULL THEN
    EXECUTE format('COMMENT ON TYPE %s IS %L', item.name, item.comment);
  END IF;
  IF item.array_comment IS NOT NULL THEN
    EXECUTE format('COMMENT ON TYPE %s IS %L', item.array_name, item.array_comment);
  END IF;

  -- Grants, in their order; first take away what the site's default privileges gave
  FOR item IN
    SELECT DISTINCT CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END AS grantee
    FROM pg_class c, pg_class o, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) g
    WHERE c.oid = shadow AND o.oid = original AND (c.relacl IS NOT NULL OR o.relacl IS NOT NULL)
  LOOP
    EXECUTE format('REVOKE ALL ON %s FROM %s', shadow, item.grantee);
  END LOOP;
  FOR item IN
    SELECT CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END AS grantee,
      string_agg(g.privilege_type, ', ' ORDER BY g.n) AS privileges,
      CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' END AS option
    FROM pg_class c, pg_class o,
      aclexplode(coalesce(o.relacl, acldefault('r', o.relowner)))
        WITH ORDINALITY g(grantor, grantee, privilege_type, is_grantable, n)
    WHERE c.oid = shadow AND o.oid = original AND (c.relacl IS NOT NULL OR o.relacl IS NOT NULL)
    GROUP BY g.grantee, g.is_grantable ORDER BY min(g.n)
  LOOP
    EXECUTE format('GRANT %s ON %s TO %s%s', item.privileges, shadow, item.grantee, item.option);
  END LOOP;
  FOR item IN
    SELECT a.attname,
      CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END AS grantee,
      g.privilege_type, CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' END AS option
    FROM pg_attribute a, aclexplode(a.attacl)
      WITH ORDINALITY g(grantor, grantee, privilege_type, is_grantable, n)
    WHERE a.attrelid = original AND NOT a.attisdropped ORDER BY a.attnum, g.n
  LOOP
    EXECUTE format('GRANT %s (%I) ON %s TO %s%s', item.privilege_type, item.attname, shadow,
      item.grantee, item.option);
  END LOOP;

  FOR item IN
    SELECT y.oid::regtype AS name,
      CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END AS grantee
    FROM pg_type o, pg_type y, aclexplode(acldefault('T', y.typowner)) g
    WHERE o.typrelid = original AND o.typacl IS NOT NULL AND y.typrelid = shadow
  LOOP
    EXECUTE format('REVOKE ALL ON TYPE %s FROM %s', item.name, item.grantee);
  END LOOP;
  FOR item IN
    SELECT y.oid::regtype AS name,
      CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END AS grantee,
      CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' END AS option
    FROM pg_type o, pg_type y, aclexplode(o.typacl)
      WITH ORDINALITY g(grantor, grantee, privilege_type, is_grantable, n)
    WHERE o.typrelid = original AND y.typrelid = shadow ORDER BY g.n
  LOOP
    EXECUTE format('GRANT USAGE ON TYPE %s TO %s%s', item.name, item.grantee, item.option);
  END LOOP;

  -- An index's name says which one of the original's it is the twin of, until the exchange: the
  -- n-th of index_names. By name, for REINDEX CONCURRENTLY changes OIDs.
  UPDATE ONLY {state} m SET index_names = ARRAY(
    SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
    WHERE i.indrelid = original ORDER BY x.relname);
  FOR item IN
    SELECT o.indexrelid AS original_index, n.indexrelid AS twin_index,
      (SELECT array_position(m.index_names, x.relname) FROM {state} m, pg_class x
       WHERE x.oid = o.indexrelid) AS place
    FROM ({original_indexes}) o FULL JOIN ({twin_indexes}) n USING (definition, nth)
  LOOP
    IF item.original_index IS NULL OR item.twin_index IS NULL THEN
      RAISE EXCEPTION 'index % has no twin',
        coalesce(item.original_index, item.twin_index)::regclass
        USING ERRCODE = 'DJS04';
    END IF;
    EXECUTE format('ALTER INDEX %s RENAME TO %I', item.twin_index::regclass,
      'djs_{oid}_i' || item.place);
  END LOOP;
  UPDATE ONLY {state} m SET deferred_indexes = ARRAY(
    SELECT format('SET LOCAL default_tablespace = %L; %s', coalesce(s.spcname, ''),
        pg_get_indexdef(i.indexrelid))
      || CASE WHEN i.indisprimary THEN
        format('; ALTER TABLE %s ADD CONSTRAINT %I PRIMARY KEY USING INDEX %2$I', shadow, x.relname)
        ELSE '' END
    FROM unnest(m.index_names) WITH ORDINALITY u(name, place)
    JOIN pg_class x ON x.relname = 'djs_{oid}_i' || u.place
    JOIN pg_index i ON i.indexrelid = x.oid AND i.indrelid = shadow
    JOIN pg_class o ON o.relname = u.name
    JOIN pg_index oi ON oi.indexrelid = o.oid AND oi.indrelid = original
    LEFT JOIN pg_tablespace s ON s.oid = o.reltablespace
    ORDER BY u.place);
  FOR item IN SELECT x.relname, i.indexrelid::regclass AS name, i.indisprimary
              FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = shadow LOOP
    IF item.indisprimary THEN
      EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', shadow, item.relname);
    ELSE
      EXECUTE format('DROP INDEX %s', item.name);
    END IF;
  END LOOP;

  SELECT line INTO differs FROM (
    (SELECT unnest({original_lines}) EXCEPT ALL SELECT unnest({twin_lines}))
    UNION ALL
    (SELECT unnest({twin_lines}) EXCEPT ALL SELECT unnest({original_lines}))) d(line) LIMIT 1;
  IF differs IS NOT NULL THEN
    RAISE EXCEPTION 'can''t be reproduced in a new table: %', differs USING ERRCODE = 'DJS04';
  END IF;

  -- The names that all this will have after the exchange
  IF {taken_later} IS NOT NULL THEN
    RAISE EXCEPTION '%', {taken_later} USING ERRCODE = 'DJS06';
  END IF;

  -- An autovacuum of the twin would be in the way of the exchange. The replica identity is for the
  -- time without a primary key.
  EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = off)', shadow);
  EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', shadow);
  UPDATE ONLY {state} m SET twin = shadow_name::regclass, definition = {all_original_lines},
    phase = 'created', copied = 0,
    cutoff = now() - m.keep_seconds * interval '1 second',
    copied_until = now() - m.keep_seconds * interval '1 second' - interval '1 microsecond';
END;
)";

// {twin}: the first of the names with the twin's OID that is taken.
constexpr const char* kTakenLater = R"((SELECT format('name %I belongs to %s and is needed for the '
      'new table: rename or drop it', o.name, pg_get_userbyid(o.owner))
    FROM (SELECT relname AS name, relowner AS owner, relnamespace AS schema FROM pg_class
          UNION ALL SELECT typname, typowner, typnamespace FROM pg_type
          UNION ALL SELECT proname, proowner, pronamespace FROM pg_proc WHERE pronargs = 0) o
    WHERE o.schema = (SELECT c.relnamespace FROM pg_class c WHERE c.oid = {oid})
      AND o.name ~ format('^djs_%s_(state|log|old|note|o[0-9]+)$', {twin}::oid) LIMIT 1))";

constexpr const char* kIndexes = R"(
      SELECT i.indexrelid, d.definition,
        row_number() OVER (PARTITION BY d.definition ORDER BY i.indexrelid) AS nth
      FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid,
        LATERAL (SELECT format('%s %s %s', i.indisunique, i.indisprimary,
          right(pg_get_indexdef(x.oid), -length(format('CREATE %sINDEX %I ON %s ',
            CASE WHEN i.indisunique THEN 'UNIQUE ' END, x.relname, i.indrelid::regclass))))
          AS definition) d
      WHERE i.indrelid = {relation})";

// The function runs as the owner (SECURITY DEFINER): those who write sessions have no rights on the
// log. ENABLE ALWAYS: sessions with session_replication_role = replica count too, and for each row,
// since a subscription's worker fires no other triggers. Expired sessions were never copied, so
// their deletion (a clearsessions that runs meanwhile) needn't be noted.
//
// Whatever became of the log, its schema or the function (renamed, dropped, locked, not restored
// from a dump, another owner, rights taken away, constraints, triggers or indexes added) and of the
// disk, no client's statement may fail for it, or wait for longer than we would make it wait. So
// every error is caught, and the run finds out that a change is missing:
// - by a sequence, which a rollback doesn't set back, which needs no room, and of which no number
//   is ever drawn but here;
// - where not even that can be reached, by the catalogue: both are in kTriggerMark. An error that
//   neither would tell is not caught: a sequence that somebody keeps locked together with the log.
// What is deferred to the client's COMMIT couldn't be caught there, so it isn't let in. A failure
// to serialize is the client's own, and the server relies on that it is obeyed.
constexpr const char* kCreateFunction = R"(
  EXECUTE format($create$
    CREATE FUNCTION %1$s.djs_{oid}_note() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET lock_timeout = {lock_ms} SET exit_on_error = off AS $body$
    BEGIN
      IF to_regclass(%4$L) = %2$s::oid THEN  -- once it is locked, its name can't become another's
        LOCK TABLE ONLY %1$s.djs_{oid}_log IN ROW EXCLUSIVE MODE;
      END IF;
      IF to_regclass(%4$L) IS DISTINCT FROM %2$s::oid THEN
        RETURN NULL;
      END IF;
      IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO %1$s.djs_{oid}_log (live, truncated) VALUES (false, true);
      END IF;
      IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND NEW.session_key <> OLD.session_key) THEN
        INSERT INTO %1$s.djs_{oid}_log (k, live) VALUES (OLD.session_key, false);
      END IF;
      IF TG_OP IN ('INSERT', 'UPDATE') THEN
        INSERT INTO %1$s.djs_{oid}_log (k, live)
        VALUES (NEW.session_key, NEW.expire_date >= %3$L::timestamptz);
      END IF;
      IF EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = %2$s::oid AND g.tgdeferrable) THEN
        RAISE EXCEPTION 'something might fail at COMMIT';
      END IF;
      RETURN NULL;
    EXCEPTION WHEN OTHERS OR assert_failure THEN
      IF SQLSTATE = '40001' AND current_setting('transaction_isolation') = 'serializable' THEN
        RAISE;
      END IF;
      BEGIN
        PERFORM nextval(%5$s::oid::regclass);
      EXCEPTION
        WHEN insufficient_privilege OR sequence_generator_limit_exceeded THEN
          NULL;  -- the rights show, and to reach a limit it must have been called
        WHEN internal_error THEN
          IF has_sequence_privilege(%5$s::oid, 'USAGE') IS NOT NULL THEN
            RAISE;
          END IF;  -- it was dropped
      END;
      RETURN NULL;
    END $body$ $create$, (SELECT c.relnamespace::regnamespace FROM pg_class c WHERE c.oid = {oid}),
    to_regclass({log_literal})::oid, (SELECT m.cutoff FROM {state} m), {log_literal},
    pg_get_serial_sequence({state_literal}, 'missed')::regclass::oid);
  FOR item IN
    SELECT p.oid::regprocedure AS function,
      CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END AS grantee
    FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g
    WHERE p.oid = to_regprocedure({function_literal} || '()') AND g.grantee <> p.proowner
  LOOP
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', item.function, item.grantee);
  END LOOP;
)";

constexpr const char* kCreateTriggers = R"(
  original := {oid}::oid;
  EXECUTE format('CREATE TRIGGER djs_{oid}_changed AFTER INSERT OR UPDATE ON %s FOR EACH ROW
    EXECUTE FUNCTION %s()', original, {function_literal});
  EXECUTE format('CREATE TRIGGER djs_{oid}_deleted AFTER DELETE ON %s FOR EACH ROW
    WHEN (OLD.expire_date >= %L::timestamptz) EXECUTE FUNCTION %s()',
    original, (SELECT m.cutoff FROM {state} m), {function_literal});
  EXECUTE format('CREATE TRIGGER djs_{oid}_truncated AFTER TRUNCATE ON %s FOR EACH STATEMENT
    EXECUTE FUNCTION %s()', original, {function_literal});
  EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER djs_{oid}_changed,
    ENABLE ALWAYS TRIGGER djs_{oid}_deleted, ENABLE ALWAYS TRIGGER djs_{oid}_truncated', original);
  UPDATE ONLY {state} m SET phase = 'copying', function = (
    SELECT g.tgfoid FROM pg_trigger g
    WHERE g.tgrelid = original AND g.tgname = 'djs_{oid}_changed');
  UPDATE ONLY {state} SET triggers = {trigger_mark};
)";

// Changes when the function couldn't note a change, when a trigger is dropped, disabled or, in
// between, enabled again, and when anything is done that could keep the function from noting: to
// it, to the log, to the sequences, to the schema or to the owner's memberships. Then changes may
// have been missed.
constexpr const char* kTriggerMark = R"((SELECT concat_ws(', ',
      (SELECT string_agg(format('%s %s %s', g.oid, g.xmin, g.tgenabled), ' ' ORDER BY g.oid)
       FROM pg_trigger g WHERE g.tgfoid = m.function AND g.tgrelid = {oid}),
      (SELECT p.xmin FROM pg_proc p WHERE p.oid = m.function),
      (SELECT format('%s %s %s', c.xmin, n.oid, n.xmin)
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = m.log),
      (SELECT string_agg(a.xmin::text, ' ' ORDER BY a.attnum) FROM pg_attribute a
       WHERE a.attrelid = m.log AND a.attnum > 0),
      (SELECT count(*) FROM pg_depend d
       WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = m.log),
      (SELECT string_agg(format('%s %s %s %s', c.oid, c.xmin, q.xmin,
          CASE WHEN d.refobjid <> m.log AND has_sequence_privilege(c.oid, 'SELECT')
            THEN pg_sequence_last_value(c.oid::regclass) END), ' ' ORDER BY c.oid)
       FROM pg_depend d JOIN pg_class c ON c.oid = d.objid JOIN pg_sequence q ON q.seqrelid = c.oid
       WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
         AND d.refobjid IN (m.log, m.tableoid) AND d.deptype = 'i'),
      (SELECT string_agg(format('%s %s', h.roleid, h.xmin), ' ' ORDER BY h.roleid, h.xmin::text)
       FROM pg_auth_members h JOIN pg_class c ON c.relowner = h.member WHERE c.oid = m.log))
    FROM {state} m))";

// Where the function, or what it writes to, was altered.
constexpr const char* kCheckMark = R"(
  IF {trigger_mark} IS DISTINCT FROM (SELECT m.triggers FROM {state} m) THEN
    RAISE EXCEPTION 'a trigger of the swap could not note a change, or was altered'
      USING ERRCODE = 'DJS03';
  END IF;
)";

// The server counts inserted rows at leisure, and would count those of the copy after VACUUM has:
// twice.
constexpr const char* kFlushStatistics = R"(
DO $flush$
BEGIN
  IF to_regproc('pg_catalog.pg_stat_force_next_flush') IS NOT NULL THEN
    EXECUTE 'SELECT pg_stat_force_next_flush()';
  ELSE  -- before PostgreSQL 15, at the next statement if the last time was half a second ago
    PERFORM pg_sleep(0.6);
  END IF;
END $flush$;
)";

// Nor is an index read as a whole to be joined.
constexpr const char* kNoOtherJoins = R"(
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
)";

// The place reached is kept in the state, in the same transaction. It is a date alone, as the index
// is: sessions that expire at the same moment (a site that sets a fixed date has many) are copied
// together, so that none of them is read again to find the next. A session that is renewed
// meanwhile may be met twice: the copy has no primary key yet, see kBuildIndexes.
constexpr const char* kCopy = R"(
  WITH chunk AS MATERIALIZED (
    SELECT {t_as_c}, t.expire_date AS moment FROM ONLY {table} t
    WHERE t.expire_date > (SELECT m.copied_until FROM {state} m)
    ORDER BY t.expire_date FETCH FIRST {rows} ROWS WITH TIES
  ), copied AS (
    INSERT INTO {shadow} ({columns}) SELECT {c} FROM chunk
  ), reached AS (
    SELECT chunk.moment FROM chunk ORDER BY chunk.moment DESC LIMIT 1
  ), noted AS (
    UPDATE ONLY {state} m SET copied_until = reached.moment,
      copied = m.copied + (SELECT count(*) FROM chunk)
    FROM reached
  )
  SELECT (SELECT count(*) FROM chunk) AS here, m.copied + (SELECT count(*) FROM chunk) AS copied,
    coalesce(pg_relation_size(m.log), 0) AS log_bytes  -- it may just have been dropped
  INTO item FROM {state} m;
  RAISE INFO 'djs: rows=% copied=% log_bytes=%', item.here, item.copied, item.log_bytes;
)";

// Not what happened is repeated but what is true now is copied, for the sessions whose keys were
// noted: in whatever order, twice, or after a crash, the outcome is the same. One statement, so
// that the log and the table are seen at the same moment: a change that isn't committed yet is in
// neither. Oldest first, so that no entry is left behind that a later one for its key has outdated.
//
// Two checks. That a session is found by the primary key exactly if its latest entry in the log
// says that it is there: else the index lacks it, and to believe the index would log somebody out.
// And that the copy has stored what was read.
constexpr const char* kDrain = R"(
  WITH taken AS (
    DELETE FROM ONLY {log} l
    WHERE l.ctid = ANY (ARRAY(SELECT x.ctid FROM ONLY {log} x WHERE NOT x.truncated
                              ORDER BY x.n LIMIT {rows}))
    RETURNING l.k, l.n, l.live
  ), noted AS MATERIALIZED (
    SELECT DISTINCT ON (w.k) w.k, w.n, w.live FROM taken w ORDER BY w.k, w.n DESC
  ), present AS MATERIALIZED (
    SELECT noted.k, noted.n, noted.live, t.session_key IS NOT NULL AS there, {t_as_c}
    FROM noted LEFT JOIN ONLY {table} t
      ON t.session_key = noted.k AND t.expire_date >= (SELECT m.cutoff FROM {state} m)
  ), gone AS (
    DELETE FROM ONLY {shadow} s USING present p WHERE s.session_key = p.k AND NOT p.there
  ), saved AS (
    INSERT INTO {shadow} ({columns}) SELECT {c} FROM present p WHERE p.there
    ON CONFLICT (session_key) DO UPDATE SET ({columns}) = ROW ({excluded})
    RETURNING {shadow_hash} AS hash
  ), doubtful AS (
    SELECT p.k, p.n FROM present p WHERE p.live <> p.there
  ), latest AS (  -- IS TRUE: by a hash table, whatever the planner is set to
    SELECT x.k, max(x.n) AS n FROM ONLY {log} x
    WHERE (x.k IN (SELECT d.k FROM doubtful d)) IS TRUE GROUP BY x.k
  )
  SELECT (SELECT count(*) FROM taken) AS keys,
    (SELECT count(*) FROM doubtful d JOIN latest o ON o.k = d.k AND o.n = d.n) AS missing,
    (SELECT sum({c_hash}) FROM present p WHERE p.there) AS read,
    (SELECT sum(saved.hash) FROM saved) AS stored
  INTO item;
  IF item.missing > 0 THEN
    RAISE EXCEPTION 'the primary key of % does not find % of its sessions: REINDEX it',
      {oid}::oid::regclass, item.missing USING ERRCODE = 'DJS05';
  ELSIF item.read IS DISTINCT FROM item.stored THEN
    RAISE EXCEPTION 'the new table does not store what was copied into it' USING ERRCODE = 'DJS04';
  END IF;
)";

constexpr const char* kStartClock = "  started := clock_timestamp();\n";
constexpr const char* kReportDrain = R"(
  RAISE INFO 'djs: keys=% truncated=% ms=%', item.keys,
    EXISTS (SELECT FROM ONLY {log} l WHERE l.truncated),
    extract(epoch FROM clock_timestamp() - started) * 1000;
)";

// A site that saves a session at each request notes the same keys over and over.
constexpr const char* kCollapseLog = R"(
  WITH taken AS (
    DELETE FROM ONLY {log} l WHERE NOT l.truncated RETURNING l.k, l.n, l.live
  )
  INSERT INTO {log} (k, n, live) OVERRIDING SYSTEM VALUE
  SELECT DISTINCT ON (w.k) w.k, w.n, w.live FROM taken w ORDER BY w.k, w.n DESC;
)";

// The copy has no index yet, and is read as a whole.
constexpr const char* kForgetChanged = R"(
  SET LOCAL enable_nestloop = off;
  DELETE FROM ONLY {shadow} s USING (SELECT DISTINCT l.k FROM ONLY {log} l) changed
  WHERE s.session_key = changed.k;
)";

// What changed since it was copied, or was copied twice for that reason, is in the log: it is
// copied again, so that no key is there twice. In one statement, as in kDrain; the copy is read as
// a whole, having no index yet, and the table by its primary key (LATERAL). All in one transaction,
// so that there is nothing in between to take up again.
constexpr const char* kBuildIndexes = R"(
  SET LOCAL enable_nestloop = off;
  WITH taken AS (
    DELETE FROM ONLY {log} l WHERE NOT l.truncated RETURNING l.k
  ), changed AS MATERIALIZED (
    SELECT DISTINCT w.k FROM taken w
  ), gone AS (
    DELETE FROM ONLY {shadow} s USING changed WHERE s.session_key = changed.k
  )
  INSERT INTO {shadow} ({columns})
  SELECT {c} FROM changed CROSS JOIN LATERAL (
    SELECT {t_as_c} FROM ONLY {table} t
    WHERE t.session_key = changed.k AND t.expire_date >= (SELECT m.cutoff FROM {state} m)
    LIMIT 1) AS present;
  DECLARE
    run record;
  BEGIN
    SELECT m.twin, m.source, m.index_names, m.deferred_indexes INTO run FROM {state} m;
    FOR item IN SELECT unnest(run.deferred_indexes) AS statement LOOP
      EXECUTE item.statement;
    END LOOP;
    FOR item IN
      SELECT n.oid AS twin, n.relname AS twin_name, o.indexrelid AS original,
        o.indisclustered AS clustered, obj_description(o.indexrelid, 'pg_class') AS comment
      FROM pg_index o JOIN pg_class x ON x.oid = o.indexrelid
      JOIN pg_class n ON n.relname = 'djs_{oid}_i' || array_position(run.index_names, x.relname)
      JOIN pg_index i ON i.indexrelid = n.oid AND i.indrelid = run.twin
      WHERE o.indrelid = run.source
    LOOP
      EXECUTE format('COMMENT ON INDEX %s IS %L', item.twin::regclass, item.comment);
      IF item.clustered THEN
        EXECUTE format('ALTER TABLE %s CLUSTER ON %I', run.twin::regclass, item.twin_name);
      END IF;
    END LOOP;
    FOR item IN
      SELECT n.oid AS twin, a.attnum, to_jsonb(a) ->> 'attstattarget' AS target
      FROM pg_index o JOIN pg_class x ON x.oid = o.indexrelid
      JOIN pg_class n ON n.relname = 'djs_{oid}_i' || array_position(run.index_names, x.relname)
      JOIN pg_index i ON i.indexrelid = n.oid AND i.indrelid = run.twin
      JOIN pg_attribute a ON a.attrelid = o.indexrelid
      WHERE o.indrelid = run.source AND coalesce(to_jsonb(a) ->> 'attstattarget', '-1') <> '-1'
    LOOP
      EXECUTE format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS %s', item.twin::regclass,
        item.attnum, item.target);
    END LOOP;
    FOR item IN
      SELECT n.conname, obj_description(o.oid, 'pg_constraint') AS comment
      FROM pg_constraint o JOIN pg_constraint n ON n.conrelid = run.twin
        AND (n.conname = o.conname OR n.conname = 'djs_{oid}_i' || array_position(
               run.index_names, (SELECT x.relname FROM pg_class x WHERE x.oid = o.conindid)))
      WHERE o.conrelid = run.source
    LOOP
      EXECUTE format('COMMENT ON CONSTRAINT %I ON %s IS %L', item.conname, run.twin::regclass,
        item.comment);
    END LOOP;
    EXECUTE format('ALTER TABLE %s REPLICA IDENTITY DEFAULT', run.twin::regclass);
  END;
  UPDATE ONLY {state} m SET phase = 'catching up',
    copied = (SELECT count(*) FROM ONLY {shadow} s);
  RAISE INFO 'djs: copied=%', (SELECT m.copied FROM {state} m);
)";

// The table is read as it lies on the disk and not by the index that the copy was read by, which
// may lack entries: all its rows are asked for, so that those that have expired are counted, too.
// Both sides are added up as hashes of their rows, at one moment, which needs neither memory nor
// temporary files; what is in the log, and so may differ, is looked up by key and subtracted again.
// EXECUTE, since only then the server may use parallel workers.
constexpr const char* kVerify = R"(
  EXECUTE $compare$
    WITH changed AS MATERIALIZED (
      SELECT DISTINCT l.k FROM ONLY {log} l WHERE NOT l.truncated
    )
    SELECT t_all.expired, s_all.rows AS copied, t_all.rows - t_changed.rows AS t_rows, s_all.rows - s_changed.rows AS s_rows,
      t_all.hashes - t_changed.hashes AS t_hashes, s_all.hashes - s_changed.hashes AS s_hashes
    FROM (SELECT count(*) FILTER (WHERE t.expire_date >= $1) AS rows,
            count(*) FILTER (WHERE t.expire_date < $1) AS expired,
            coalesce(sum({t_hash}) FILTER (WHERE t.expire_date >= $1), 0) AS hashes
          FROM ONLY {table} t) t_all,
      (SELECT count(*) AS rows, coalesce(sum({s_hash}), 0) AS hashes FROM ONLY {shadow} s) s_all,
      (SELECT count(*) AS rows, coalesce(sum(x.hash), 0) AS hashes
       FROM changed CROSS JOIN LATERAL (
         SELECT {t_hash} AS hash FROM ONLY {table} t
         WHERE t.session_key = changed.k AND t.expire_date >= $1 LIMIT 1) x) t_changed,
      (SELECT count(*) AS rows, coalesce(sum(x.hash), 0) AS hashes
       FROM changed CROSS JOIN LATERAL (
         SELECT {s_hash} AS hash FROM ONLY {shadow} s
         WHERE s.session_key = changed.k LIMIT 1) x) s_changed
  $compare$ INTO item USING (SELECT m.cutoff FROM {state} m);
  IF item.t_rows <> item.s_rows OR item.t_hashes <> item.s_hashes THEN
    RAISE EXCEPTION 'the table has % live sessions, their copies are % and differ from them',
      item.t_rows, item.s_rows USING ERRCODE = 'DJS05';
  END IF;
  UPDATE ONLY {state} SET phase = 'ready', copied = item.copied,
    rows_before = item.copied + item.expired;
  RAISE INFO 'djs: copied=% rows_before=%', item.copied, item.copied + item.expired;
)";

// TABLESAMPLE is a way of its own to read all pages, whatever the planner is set to prefer.
constexpr const char* kCountByHeap = R"(
  SELECT count(*) AS rows INTO item FROM ONLY {table} t TABLESAMPLE SYSTEM (100)
  WHERE t.expire_date >= (SELECT m.cutoff FROM {state} m);
  RAISE INFO 'djs: heap=%', item.rows;
)";
constexpr const char* kCountByIndex = R"(
  SELECT count(*) AS rows INTO item FROM ONLY {table} t
  WHERE t.expire_date >= (SELECT m.cutoff FROM {state} m);
  RAISE INFO 'djs: index=%', item.rows;
)";
constexpr const char* kCountByKey = R"(
  SELECT count(*) AS rows INTO item FROM ONLY {table} t TABLESAMPLE SYSTEM (100)
  WHERE t.expire_date >= (SELECT m.cutoff FROM {state} m)
    AND EXISTS (SELECT FROM ONLY {table} p WHERE p.session_key = t.session_key);
  RAISE INFO 'djs: key=%', item.rows;
)";

// synchronous_commit = off: nobody waits for this lock while a disk or a replica writes. Safe,
// because whatever is committed later comes later in the WAL: if the exchange is lost in a crash,
// then so is all that was written into the new table. Before the old one is dropped, the WAL is
// written out.
//
// All that needs no exclusive lock comes before it, and takes none on the table, so that nobody who
// has one waits for us; what others alter meanwhile shows in the stamp. An index' own lock is
// enough to rename it. The twin is locked first: nobody else uses it, but should somebody (a dump),
// it must not be waited for under the other lock.
constexpr const char* kPrepareExchange = R"(
  SELECT c.relnamespace INTO schema FROM pg_class c WHERE c.oid = {oid};
  SELECT * INTO run FROM {state};
  IF {taken_later} IS NOT NULL THEN
    RAISE EXCEPTION '%', {taken_later} USING ERRCODE = 'DJS06';
  END IF;
  seen := {stamp};
  {compare_original}
  FOR item IN SELECT u.name, u.place FROM unnest(run.index_names) WITH ORDINALITY u(name, place) LOOP
    EXECUTE format('ALTER INDEX %s.%I RENAME TO %I', schema, item.name,
      'djs_' || run.twin || '_o' || item.place);
    EXECUTE format('ALTER INDEX %s.%I RENAME TO %I', schema, 'djs_{oid}_i' || item.place,
      item.name);
  END LOOP;
  EXECUTE format('ALTER TABLE %s RESET (autovacuum_enabled)', run.twin::regclass);
  FOR item IN SELECT o.option_value FROM pg_class c, pg_options_to_table(c.reloptions) o
              WHERE c.oid = run.source AND o.option_name = 'autovacuum_enabled' LOOP
    EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = %L)', run.twin::regclass,
      item.option_value);
  END LOOP;
  {compare_twin}
  UPDATE ONLY {state} SET stamp = seen, phase = 'exchanged';
)";

// {relation}, {code}, {what}: compares a table with the definition that the swap began with.
constexpr const char* kCompare = R"(
  lines := {lines};
  SELECT d.line INTO differs FROM (
    (SELECT unnest(lines) EXCEPT ALL SELECT unnest(run.definition))
    UNION ALL
    (SELECT unnest(run.definition) EXCEPT ALL SELECT unnest(lines))) d(line) LIMIT 1;
  IF differs IS NOT NULL THEN
    RAISE EXCEPTION '{what}: %', differs USING ERRCODE = '{code}';
  END IF;
)";

// Sets what is set already.
constexpr const char* kTouchColumns = R"(
  EXECUTE (SELECT format('ALTER TABLE %s %s', {oid}::oid::regclass,
      string_agg(format('ALTER COLUMN %I SET STATISTICS %s', a.attname,
        coalesce(to_jsonb(a) ->> 'attstattarget', '-1')), ', '))
    FROM pg_attribute a WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped);
)";

// What may change between the comparison and the exclusive lock: all that the catalogues have about
// the table, its indexes and what depends on them. Of the rows that the exchange itself writes, all
// but names and statistics; of the others, the transactions that wrote them. Quicker than to
// compare once more. Some servers keep a counter of their own among a column's options, see kLines.
constexpr const char* kStamp = R"((WITH related AS MATERIALIZED (
    SELECT 'pg_class'::regclass AS class, {oid}::oid AS object
    UNION ALL SELECT 'pg_class'::regclass, i.indexrelid FROM pg_index i WHERE i.indrelid = {oid}
    UNION ALL SELECT 'pg_type'::regclass, y.oid FROM pg_type y WHERE y.typrelid = {oid}
    UNION ALL SELECT 'pg_type'::regclass, y.typarray FROM pg_type y WHERE y.typrelid = {oid}
    UNION ALL SELECT 'pg_constraint'::regclass, n.oid FROM pg_constraint n WHERE n.conrelid = {oid}
    UNION ALL SELECT 'pg_trigger'::regclass, g.oid FROM pg_trigger g WHERE g.tgrelid = {oid}
    UNION ALL SELECT 'pg_rewrite'::regclass, w.oid FROM pg_rewrite w WHERE w.ev_class = {oid}
    UNION ALL SELECT 'pg_policy'::regclass, l.oid FROM pg_policy l WHERE l.polrelid = {oid}
    UNION ALL SELECT 'pg_statistic_ext'::regclass, x.oid FROM pg_statistic_ext x WHERE x.stxrelid = {oid})
  SELECT concat_ws(' ',
      (SELECT string_agg((to_jsonb(c) - ARRAY['relname', 'relpages', 'reltuples', 'relallvisible',
           'relallfrozen', 'relfrozenxid', 'relminmxid', 'relhasindex'])::text, ' ' ORDER BY c.oid)
       FROM pg_class c WHERE c.oid IN (SELECT object FROM related WHERE class = 'pg_class'::regclass)),
      (SELECT t.reloptions FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid WHERE c.oid = {oid}),
      (SELECT string_agg(concat(to_jsonb(a) - 'attoptions',
         ARRAY(SELECT o FROM unnest(a.attoptions) o WHERE o NOT LIKE 'pg\_%')), ' '
         ORDER BY a.attrelid, a.attnum)
       FROM pg_attribute a WHERE a.attrelid IN (SELECT object FROM related WHERE class = 'pg_class'::regclass)),
      (SELECT string_agg(format('%s %s', d.oid, d.xmin), ' ' ORDER BY d.oid)
       FROM pg_attrdef d WHERE d.adrelid = {oid}),
      -- an index that is renamed takes its constraint along
      (SELECT string_agg((CASE WHEN n.contype IN ('p', 'u', 'x') THEN to_jsonb(n) - 'conname'
         ELSE to_jsonb(n) END)::text, ' ' ORDER BY n.oid)
       FROM pg_constraint n WHERE {oid} IN (n.conrelid, n.confrelid)),
      (SELECT string_agg(format('%s %s', i.indexrelid, i.xmin), ' ' ORDER BY i.indexrelid)
       FROM pg_index i WHERE i.indrelid = {oid}),
      (SELECT string_agg(format('%s %s', g.oid, g.xmin), ' ' ORDER BY g.oid)
       FROM pg_trigger g WHERE g.tgrelid = {oid}),
      (SELECT string_agg(format('%s %s', w.oid, w.xmin), ' ' ORDER BY w.oid)
       FROM pg_rewrite w WHERE w.ev_class = {oid}),
      (SELECT string_agg(format('%s %s', l.oid, l.xmin), ' ' ORDER BY l.oid)
       FROM pg_policy l WHERE l.polrelid = {oid}),
      (SELECT string_agg(format('%s %s', x.oid, x.xmin), ' ' ORDER BY x.oid)
       FROM pg_statistic_ext x WHERE x.stxrelid = {oid}),
      (SELECT count(*) FROM pg_inherits i WHERE {oid} IN (i.inhrelid, i.inhparent)),
      (SELECT string_agg(format('%s %s', p.oid, p.xmin), ' ' ORDER BY p.oid) FROM pg_publication p),
      (SELECT string_agg(format('%s %s', r.oid, r.xmin), ' ' ORDER BY r.oid)
       FROM pg_publication_rel r WHERE r.prrelid = {oid}),
      (SELECT y.typacl FROM pg_type y WHERE y.typrelid = {oid}),
      (SELECT string_agg(format('%s %s %s', l.objoid, l.objsubid, l.xmin), ' '
         ORDER BY l.objoid, l.objsubid, l.provider)
       FROM pg_seclabel l JOIN related r ON l.classoid = r.class AND l.objoid = r.object),
      (SELECT string_agg(format('%s %s %s %s %s', d.refobjid, d.classid, d.objid, d.objsubid, d.deptype),
         ' ' ORDER BY d.refobjid, d.refobjsubid, d.classid, d.objid, d.objsubid, d.deptype)
       FROM pg_depend d JOIN related r ON d.refclassid = r.class AND d.refobjid = r.object),
      (SELECT string_agg(format('%s %s', d.objid, d.refobjid), ' ' ORDER BY d.objid, d.refobjid)
       FROM pg_depend d JOIN related r ON d.classid = r.class AND d.objid = r.object
       WHERE d.refclassid = 'pg_extension'::regclass),
      (SELECT string_agg(format('%s %s %s', d.objoid, d.objsubid, d.xmin), ' '
         ORDER BY d.classoid, d.objoid, d.objsubid)
       FROM pg_description d JOIN related r ON d.classoid = r.class AND d.objoid = r.object))))";

// Runs while everybody waits: a few milliseconds. Each statement in it sees all that was committed
// before the lock was granted. The stamp is compared after the original is renamed and its columns
// are touched: from then on a GRANT, which takes no lock on the table, waits for us and then fails,
// instead of being lost.
constexpr const char* kExchange = R"(
  SELECT * INTO run FROM {state};
  SELECT c.relname, c.relnamespace INTO table_name, schema FROM pg_class c WHERE c.oid = run.source;
  IF to_regclass({table_literal}) IS DISTINCT FROM run.source
     OR {trigger_mark} IS DISTINCT FROM run.triggers
     OR EXISTS (SELECT FROM ONLY {log} l WHERE l.truncated) THEN
    RAISE EXCEPTION 'the table was truncated or replaced, or a change could not be noted'
      USING ERRCODE = 'DJS03';
  END IF;
  SELECT count(*) AS keys INTO item FROM (SELECT FROM ONLY {log} LIMIT {most_keys} + 1) l;
  IF item.keys > {most_keys} THEN
    RAISE EXCEPTION 'too many sessions changed to bring them up to date under a lock'
      USING ERRCODE = 'DJS02';
  ELSIF item.keys > 0 THEN
    {drain_rest}
  END IF;

  EXECUTE format('ALTER TABLE %s RENAME TO %I', run.source::regclass, 'djs_' || run.twin || '_old');
  {touch_columns}
  IF {stamp} IS DISTINCT FROM run.stamp THEN
    RAISE EXCEPTION 'the table was altered in the last moment' USING ERRCODE = 'DJS03';
  END IF;
  EXECUTE format('ALTER TABLE %s RENAME TO %I', run.twin::regclass, table_name);
  EXECUTE format('ALTER TABLE %s RENAME TO %I', run.log::regclass, 'djs_' || run.twin || '_log');
  EXECUTE format('ALTER FUNCTION %s RENAME TO %I', run.function::regprocedure,
    'djs_' || run.twin || '_note');
  EXECUTE format('ALTER TABLE %s.djs_{oid}_state RENAME TO %I', schema,
    'djs_' || run.twin || '_state');
)";

// The order matters: while a trigger is on the table, its function and the log must be there. What
// others have made under such names is theirs. In whatever schema: the table's may have changed.
// The triggers are those of that name, on whatever table and with whatever function: a table that
// was restored from a dump has another OID than its helpers' names say, and the function may have
// been renamed, or have another owner by now. Those on the replaced table are dropped with it. The
// log may have been renamed, too.
constexpr const char* kRemove = R"(
  DECLARE
    me oid := (SELECT r.oid FROM pg_roles r WHERE r.rolname = current_user);  -- not as a member
    log oid;
    functions oid[];
  BEGIN
    BEGIN
      -- In another schema, if the table has moved. See kHold.
      FOR item IN SELECT c.oid, c.oid::regclass::text AS name FROM pg_class c
        WHERE c.relname = 'djs_{oid}_state' AND c.relkind = 'r' AND c.relowner = me
          AND has_schema_privilege(c.relnamespace, 'USAGE')
      LOOP
        EXECUTE format('LOCK TABLE ONLY %s IN ACCESS SHARE MODE', item.name);
        IF EXISTS (SELECT FROM pg_class c WHERE c.oid = item.oid AND c.oid = to_regclass(item.name)
                     AND c.relkind = 'r' AND c.relowner = me) THEN
          EXECUTE format('SELECT m.log FROM ONLY %s m', item.name) INTO log;
        END IF;
      END LOOP;
    EXCEPTION WHEN OTHERS THEN NULL;  -- one that somebody has changed
    END;
    SELECT array_agg(g.tgfoid) INTO functions FROM pg_trigger g
    WHERE g.tgname ~ '^djs_{oid}_(changed|deleted|truncated)$';
    FOR item IN SELECT g.tgname, g.tgrelid FROM pg_trigger g JOIN pg_class r ON r.oid = g.tgrelid
      WHERE NOT g.tgisinternal AND r.relname <> 'djs_{oid}_old'
        AND g.tgname ~ '^djs_{oid}_(changed|deleted|truncated)$'
        AND r.relowner = me AND has_schema_privilege(r.relnamespace, 'USAGE')
    LOOP
      EXECUTE format('DROP TRIGGER %I ON %s', item.tgname, item.tgrelid::regclass);
    END LOOP;
    FOR item IN SELECT c.oid FROM pg_class c
      WHERE c.relkind = 'r' AND c.relowner = me AND has_schema_privilege(c.relnamespace, 'USAGE')
        AND c.relname IN ('djs_{oid}_old', 'djs_{oid}_new')
    LOOP
      EXECUTE format('DROP TABLE %s', item.oid::regclass);
    END LOOP;
    FOR item IN SELECT p.oid FROM pg_proc p
      WHERE (p.proname = 'djs_{oid}_note'
             OR p.oid = ANY (functions) AND p.prosrc LIKE '%djs\_{oid}\_log%')
        AND p.prorettype = 'trigger'::regtype
        AND p.proowner = me AND has_schema_privilege(p.pronamespace, 'USAGE')
        AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgfoid = p.oid)
    LOOP
      EXECUTE format('DROP FUNCTION %s', item.oid::regprocedure);
    END LOOP;
    FOR item IN SELECT c.oid FROM pg_class c
      WHERE c.relkind = 'r' AND c.relowner = me AND has_schema_privilege(c.relnamespace, 'USAGE')
        AND (c.relname IN ('djs_{oid}_log', 'djs_{oid}_state')
             OR c.oid = log AND 4 = (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid
               AND NOT a.attisdropped AND a.attname IN ('k', 'n', 'live', 'truncated')))
    LOOP
      EXECUTE format('DROP TABLE %s', item.oid::regclass);
    END LOOP;
  END;
)";

constexpr const char* kDisable = R"(
  FOR item IN SELECT g.tgname FROM pg_trigger g
    WHERE g.tgrelid = {oid} AND g.tgname LIKE 'djs\_{oid}\_%' AND NOT g.tgisinternal
  LOOP
    EXECUTE format('ALTER TABLE %s DISABLE TRIGGER %I', {oid}::oid::regclass, item.tgname);
  END LOOP;
  DROP TABLE {shadow};
  TRUNCATE {log};
  UPDATE ONLY {state} SET phase = 'stopped';
)";

constexpr const char* kReadState = R"(
  SELECT m.*,
    extract(epoch FROM clock_timestamp() - m.started) AS age,
    extract(epoch FROM m.lease_until - clock_timestamp()) AS lease,
    NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = m.backend) AS backend_gone,
    {is_vacuumed} AS is_vacuumed,
    m.source = {oid} AND to_regclass({table_literal}) = m.source
      AND EXISTS (SELECT FROM pg_class c WHERE c.oid = m.twin AND c.relname = 'djs_{oid}_new')
      AND EXISTS (SELECT FROM pg_class c WHERE c.oid = m.log AND c.relname = 'djs_{oid}_log'
                  AND c.relnamespace = (SELECT o.relnamespace FROM pg_class o WHERE o.oid = {oid}))
      AND (m.phase = 'created' OR {trigger_mark} IS NOT DISTINCT FROM m.triggers)
      AND {original_lines} = m.definition AS intact
  INTO item FROM {state} m;
  RAISE INFO 'djs: run_id=% phase=% twin=% keep_seconds=% copied=% rows_before=% bytes_before=%',
    item.run_id, replace(item.phase, ' ', '_'), item.twin, item.keep_seconds, item.copied,
    item.rows_before, item.bytes_before;
  RAISE INFO 'djs: age=% lease=% backend_gone=% is_vacuumed=% intact=%', item.age, item.lease,
    item.backend_gone, item.is_vacuumed, coalesce(item.intact, false);
)";

// VACUUM and ANALYZE can't renew the lease, however long they take: what shows is their lock on the
// copy or the log, which they hold or wait for. Those of autovacuum have no role.
constexpr const char* kIsVacuumed = R"(EXISTS (
      SELECT FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
      WHERE l.locktype = 'relation' AND l.relation IN (m.twin, m.log)
        AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
        AND l.mode = 'ShareUpdateExclusiveLock' AND a.usesysid IS NOT NULL))";

constexpr const char* kTakeOver = R"(
  UPDATE ONLY {state} m SET run_id = {run_id},
    lease_until = clock_timestamp() + interval '{lease} seconds', backend = pg_backend_pid()
  WHERE m.run_id = {former};
  RAISE INFO 'djs: taken=%', FOUND;
)";

// Which tables a trigger of ours is on.
constexpr const char* kTriggeredTables = R"(
SELECT DISTINCT g.tgrelid::regclass AS name
FROM pg_trigger g JOIN pg_class r ON r.oid = g.tgrelid
WHERE NOT g.tgisinternal AND g.tgname ~ '^djs_{oid}_(changed|deleted|truncated)$'
  AND r.relname <> 'djs_{oid}_old' AND r.relowner = {owner_literal}::regrole
ORDER BY 1;
)";

constexpr const char* kSearchIndexes = R"(
SELECT x.relname AS name, i.indisprimary AS is_key
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_attribute a
  ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indrelid = {oid} AND i.indisvalid
  AND (i.indisprimary OR a.attname = 'expire_date' AND i.indpred IS NULL)
ORDER BY i.indisprimary, x.relname;
)";

constexpr const char* kColumns = R"(
SELECT quote_ident(a.attname) AS name FROM pg_attribute a
WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum;
)";

/// "t.a, t.b"; `as`: "t.a AS c1, t.b AS c2".
std::string list(const Columns& columns, const std::string& prefix, bool renamed = false) {
  std::string text;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    text += (i == 0 ? "" : ", ") + prefix + columns[i];
    if (renamed) text += fmt::format(" AS c{}", i + 1);
  }
  return text;
}

/// "c1, c2", as list(..., true) has named them.
Columns renamed(const Columns& columns) {
  Columns names;
  for (std::size_t i = 0; i < columns.size(); ++i) names.push_back(fmt::format("c{}", i + 1));
  return names;
}

/// A row as a number of 64 bits: each column's text, seeded with the hash of those before it. NULL
/// counts as a text that no column has.
std::string hash_of_row(const Columns& columns, const std::string& prefix) {
  std::string hash = "0";
  for (const std::string& column : columns)
    hash = fmt::format(R"(hashtextextended(coalesce({}{}::text, E'\x01NULL') COLLATE "C", {}))",
                       prefix, column, hash);
  return hash;
}

/// Fills in what every message may use (names with a backslash or a dollar sign are refused by the
/// pre-flight); `more` are a message's own arguments.
template <typename... More>
std::string fill(const char* text, const SwapNames& names, TransactionLimits limits,
                 const More&... more) {
  return fmt::format(
      fmt::runtime(text), fmt::arg("oid", names.oid), fmt::arg("table", names.table),
      fmt::arg("table_literal", sql_string(names.table)), fmt::arg("state", names.state()),
      fmt::arg("state_literal", sql_string(names.state())), fmt::arg("shadow", names.shadow()),
      fmt::arg("log", names.log()), fmt::arg("log_literal", sql_string(names.log())),
      fmt::arg("function_literal", sql_string(names.function())), fmt::arg("owner", names.owner),
      fmt::arg("owner_literal", sql_string(names.owner)), fmt::arg("usual_plans", kUsualPlans),
      fmt::arg("begin", begin_transaction(Access::read_write, limits.lock, limits.statement)),
      fmt::arg("run_id", sql_string(names.run_id)), fmt::arg("lease", kLeaseSeconds),
      fmt::arg("lock_ms", limits.lock.count()), fmt::arg("statement_ms", limits.statement.count()),
      more...);
}

std::string by_index() { return std::string(kByIndex) + kNoOtherJoins; }

/// hold_state: the state is a table of the owner's, and stays that. yes: and it is our run's.
/// with_helpers: so are log and shadow, of which only then anything may be read or written by name.
/// with_triggers: and what the triggers note is complete.
enum class Guarded { no, hold_state, yes, with_helpers, with_triggers };

std::string hold(const std::string& name, const std::string& otherwise, const std::string& denied) {
  const std::string ours = fmt::format(kOurs, sql_string(name));
  return fmt::format(kHold, fmt::arg("ours", ours), fmt::arg("name", name),
                     fmt::arg("otherwise", otherwise), fmt::arg("denied", denied));
}

std::string guard(const SwapNames& names, TransactionLimits limits, Guarded guarded) {
  if (guarded == Guarded::no) return "";
  std::string text =
      hold(names.state(), "'another cleanup of this table has just ended' USING ERRCODE = 'DJS01'",
           "RAISE");
  if (guarded == Guarded::hold_state) return text;
  text += fill(kGuard, names, limits);
  if (guarded == Guarded::yes) return text;
  for (const std::string& helper : {names.log(), names.shadow()})
    text += hold(helper, "'a table of the swap is gone' USING ERRCODE = 'DJS03'",
                 "RAISE EXCEPTION 'a table of the swap is closed to us' USING ERRCODE = 'DJS03'");
  if (guarded == Guarded::with_helpers) return text;
  return text + fill(kCheckMark, names, limits,
                     fmt::arg("trigger_mark", fill(kTriggerMark, names, limits)));
}

/// The work of one message as the owner; `nth` tells two of one message apart.
OwnersWork work(const SwapNames& names, TransactionLimits limits, const std::string& body,
                Guarded guarded = Guarded::yes, int nth = 1) {
  constexpr const char* kBlock = R"(
<<djs>>
DECLARE
  item record;
  run record;
  original regclass;
  schema regnamespace;
  table_name name;
  lines text[];
  differs text;
  seen text;
  started timestamptz;
BEGIN
{}{}
END;)";
  return as_owner(names.schema, fmt::format("djs_{}_{}", names.run_id, nth),
                  fmt::format(kBlock, guard(names, limits, guarded), body));
}

/// `locks`: statements, with or without a look at the clock before and after.
std::string transaction(const SwapNames& names, TransactionLimits limits, const std::string& locks,
                        const OwnersWork& work, const std::string& after = "") {
  return fill(kBegin, names, limits) + work.define + locks + work.run + after + "COMMIT;\n";
}

std::string transaction(const SwapNames& names, TransactionLimits limits, const std::string& body) {
  return transaction(names, limits, "", work(names, limits, body, Guarded::with_triggers));
}

/// `meanwhile`: undone with it.
std::string lock_against_vacuum(const SwapNames& names, TransactionLimits limits,
                                const std::string& table, const OwnersWork& meanwhile = {}) {
  return fill(kLockAgainstVacuum, names, limits, fmt::arg("locked", table),
              fmt::arg("prepare", meanwhile.define), fmt::arg("run", meanwhile.run));
}

std::string drain(const SwapNames& names, TransactionLimits limits, const Columns& columns,
                  long long rows) {
  return fill(kDrain, names, limits, fmt::arg("columns", list(columns, "")),
              fmt::arg("t_as_c", list(columns, "t.", true)),
              fmt::arg("c", list(renamed(columns), "")),
              fmt::arg("excluded", list(columns, "EXCLUDED.")),
              fmt::arg("c_hash", hash_of_row(renamed(columns), "p.")),
              fmt::arg("shadow_hash", hash_of_row(columns, names.shadow_name() + ".")),
              fmt::arg("rows", rows));
}

std::string taken_later(const SwapNames& names, const std::string& twin) {
  return fmt::format(kTakenLater, fmt::arg("oid", names.oid), fmt::arg("twin", twin));
}

}  // namespace

std::string create_sql(const SwapNames& names, TransactionLimits limits, long long keep_seconds,
                       double rows_before, double bytes_before) {
  const std::string state_and_log =
      fill(kCreateStateAndLog, names, limits, fmt::arg("keep_seconds", keep_seconds),
           fmt::arg("rows_before", rows_before), fmt::arg("bytes_before", bytes_before),
           fmt::arg("taken_names", taken_names_query(names.oid)));
  const std::string shadow =
      fill(kCreateShadow, names, limits,
           fmt::arg("original_indexes", fmt::format(kIndexes, fmt::arg("relation", "original"))),
           fmt::arg("twin_indexes", fmt::format(kIndexes, fmt::arg("relation", "shadow"))),
           fmt::arg("original_lines", definition_lines("original", "0", true)),
           fmt::arg("twin_lines", definition_lines("shadow", "0", true)),
           fmt::arg("all_original_lines", definition_lines("original", "0")),
           fmt::arg("taken_later", taken_later(names, "shadow")));
  return transaction(names, limits, "", work(names, limits, state_and_log + shadow, Guarded::no));
}

std::string try_create_sql(const SwapNames& names, TransactionLimits limits) {
  constexpr std::string_view kCommit = "COMMIT;\n";
  const std::string sql = create_sql(names, limits, 0, 0, 0);
  return sql.substr(0, sql.size() - kCommit.size()) + "ROLLBACK;\n";
}

std::string create_triggers_sql(const SwapNames& names, TransactionLimits limits) {
  const std::string body = fill(kCreateFunction, names, limits) +
                           fill(kCreateTriggers, names, limits,
                                fmt::arg("trigger_mark", fill(kTriggerMark, names, limits)));
  const std::string locks =
      kQuickCommit + lock_against_vacuum(names, limits, names.table) + kAsked +
      fmt::format("LOCK TABLE ONLY {} IN SHARE ROW EXCLUSIVE MODE;\n", names.table);
  return transaction(names, limits, locks, work(names, limits, body, Guarded::with_helpers),
                     kEnded);
}

std::string copy_sql(const SwapNames& names, TransactionLimits limits, const Columns& columns,
                     long long rows) {
  const std::string body = fill(kCopy, names, limits, fmt::arg("columns", list(columns, "")),
                                fmt::arg("t_as_c", list(columns, "t.", true)),
                                fmt::arg("c", list(renamed(columns), "")), fmt::arg("rows", rows));
  return transaction(names, limits, by_index(), work(names, limits, body, Guarded::with_triggers));
}

std::string collapse_log_sql(const SwapNames& names, TransactionLimits limits) {
  return transaction(names, limits, fill(kCollapseLog, names, limits));
}

std::string forget_changed_sql(const SwapNames& names, TransactionLimits limits) {
  return transaction(names, limits, fill(kForgetChanged, names, limits));
}

std::string build_indexes_sql(const SwapNames& names, TransactionLimits limits,
                              const Columns& columns) {
  const std::string body =
      fill(kBuildIndexes, names, limits, fmt::arg("columns", list(columns, "")),
           fmt::arg("t_as_c", list(columns, "t.", true)),
           fmt::arg("c", list(renamed(columns), "present.")));
  return transaction(names, limits, "SET LOCAL max_parallel_maintenance_workers = 0;\n",
                     work(names, limits, body, Guarded::with_triggers));
}

std::string analyze_sql(const SwapNames& names, TransactionLimits limits) {
  return fill(kBegin, names, limits) + fill("ANALYZE {shadow};\nCOMMIT;\n", names, limits);
}

std::string flush_statistics_sql(const SwapNames& names, TransactionLimits limits) {
  return fill(kBegin, names, limits) + kFlushStatistics + "COMMIT;\n";
}

std::string drain_sql(const SwapNames& names, TransactionLimits limits, const Columns& columns,
                      long long rows) {
  const std::string body =
      kStartClock + drain(names, limits, columns, rows) + fill(kReportDrain, names, limits);
  return transaction(names, limits, by_index(), work(names, limits, body, Guarded::with_triggers));
}

std::string verify_sql(const SwapNames& names, TransactionLimits limits, const Columns& columns) {
  return transaction(names, limits,
                     fill(kVerify, names, limits, fmt::arg("t_hash", hash_of_row(columns, "t.")),
                          fmt::arg("s_hash", hash_of_row(columns, "s."))));
}

std::string count_live_sql(const SwapNames& names, TransactionLimits limits, CountBy by) {
  const char* const body = by == CountBy::heap    ? kCountByHeap
                           : by == CountBy::index ? kCountByIndex
                                                  : kCountByKey;
  return transaction(names, limits, by_index(), work(names, limits, fill(body, names, limits)));
}

std::string exchange_sql(const SwapNames& names, TransactionLimits limits, const Columns& columns,
                         ExchangeLimits most) {
  const auto compare = [](const std::string& relation, const char* code, const char* what) {
    return fmt::format(kCompare, fmt::arg("lines", definition_lines(relation, "run.function")),
                       fmt::arg("code", code), fmt::arg("what", what));
  };
  const std::string stamp = fill(kStamp, names, limits);
  const std::string touch = fill(kTouchColumns, names, limits);
  // Whoever grants something on a column is waited for here, and not under the exclusive lock.
  const OwnersWork wait_for_grants = work(names, limits, touch, Guarded::no);
  const OwnersWork prepare = work(
      names, limits,
      fill(kPrepareExchange, names, limits,
           fmt::arg("compare_original", compare("run.source", kChanged, "the table was altered")),
           fmt::arg("compare_twin",
                    compare("run.twin", kNoTwin, "can''t be reproduced in a new table")),
           fmt::arg("stamp", stamp), fmt::arg("taken_later", taken_later(names, "run.twin"))),
      Guarded::with_helpers);
  const OwnersWork exchange =
      work(names, limits,
           fill(kExchange, names, limits, fmt::arg("most_keys", most.keys),
                fmt::arg("trigger_mark", fill(kTriggerMark, names, limits)),
                fmt::arg("stamp", stamp), fmt::arg("touch_columns", touch),
                fmt::arg("drain_rest", drain(names, limits, columns, most.keys))),
           Guarded::no, 2);
  const std::string locks = by_index() + kQuickCommit +
                            fmt::format("LOCK TABLE ONLY {}, {} IN ACCESS EXCLUSIVE MODE;\n",
                                        names.shadow(), names.state()) +
                            kNoteWhen;
  const std::string rest =
      exchange.define + fill(kShortenWait, names, limits) +
      fmt::format(
          "SET LOCAL statement_timeout = {};\n{}LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE "
          "MODE;\n",
          std::max(most.held, limits.lock).count() + 1, kAsked, names.table) +
      exchange.run + kEnded;
  return fill(kBegin, names, limits) +
         lock_against_vacuum(names, limits, names.table, wait_for_grants) + "COMMIT;\n" +
         drain_sql(names, limits, columns, kMostKeysBeforeLock) +
         transaction(names, limits, locks, prepare, rest);
}

std::string remove_sql(const SwapNames& names, TransactionLimits limits, bool guarded,
                       const std::vector<std::string>& tables) {
  std::string locks = kQuickCommit;
  for (const std::string& table : tables) locks += lock_against_vacuum(names, limits, table);
  locks += kAsked;
  for (const std::string& table : tables)
    locks += fmt::format("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE;\n", table);
  return transaction(
      names, limits, locks,
      work(names, limits, fill(kRemove, names, limits), guarded ? Guarded::yes : Guarded::no),
      kEnded);
}

std::string disable_sql(const SwapNames& names, TransactionLimits limits) {
  const std::string locks =
      kQuickCommit + lock_against_vacuum(names, limits, names.table) + kAsked +
      fmt::format("LOCK TABLE ONLY {} IN SHARE ROW EXCLUSIVE MODE;\n", names.table);
  return transaction(names, limits, locks,
                     work(names, limits, fill(kDisable, names, limits), Guarded::with_helpers),
                     kEnded);
}

std::string read_state_sql(const SwapNames& names, TransactionLimits limits) {
  const std::string body =
      fill(kReadState, names, limits,
           fmt::arg("original_lines", definition_lines("m.source", "coalesce(m.function, 0)")),
           fmt::arg("is_vacuumed", kIsVacuumed),
           fmt::arg("trigger_mark", fill(kTriggerMark, names, limits)));
  return transaction(names, limits, "", work(names, limits, body, Guarded::hold_state));
}

std::string take_over_sql(const SwapNames& names, TransactionLimits limits,
                          const std::string& former) {
  const std::string body = fill(kTakeOver, names, limits, fmt::arg("former", sql_string(former)));
  return transaction(names, limits, "", work(names, limits, body, Guarded::hold_state));
}

std::string renew_sql(const SwapNames& names, TransactionLimits limits) {
  return transaction(names, limits, kQuickCommit, work(names, limits, ""));
}

std::string triggered_tables_query(const SwapNames& names) {
  return fill(kTriggeredTables, names, {});
}

std::string search_indexes_query(const SwapNames& names) { return fill(kSearchIndexes, names, {}); }

std::string columns_query(const SwapNames& names) { return fill(kColumns, names, {}); }

}  // namespace django_session::sessions
