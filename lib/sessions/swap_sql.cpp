// The messages. Every one begins with kBegin and kGuard and ends with COMMIT.
//
// Inside DO blocks names are made from OIDs (oid::regclass, format('%I')), never pasted into a
// string: a schema may be called anything.
#include "sessions/swap_sql.hpp"

#include <fmt/format.h>

#include "core/sql_name.hpp"
#include "sessions/table_definition.hpp"

namespace django_session::sessions {
namespace {

// A run that hasn't renewed its lease for so long may be taken over. It needn't outlast a
// statement: a run that was taken over finds out, by kGuard, before it does anything further.
constexpr int kLeaseSeconds = 30;
// More changed sessions than this aren't brought up to date under the exclusive lock.
constexpr int kMostKeysUnderLock = 500;
// In the exchange, before the exclusive lock is asked for.
constexpr int kMostKeysBeforeLock = 10000;

// SET LOCAL and not SET: behind a pooler the next transaction is somebody else's. A lock, once
// granted, is held until COMMIT, so the message is sent as one and nothing waits for the network.
constexpr const char* kBegin = R"(
BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL lock_timeout = {lock_ms};
SET LOCAL statement_timeout = {statement_ms};
SET LOCAL datestyle = 'ISO';
SET LOCAL jit = off;
SET LOCAL ROLE {owner};
)";

// Locks the state's row until the end of the transaction: two runs never act at the same time, on
// whatever host or connection, and one that was taken over ends here.
constexpr const char* kGuard = R"(
DO $guard$
BEGIN
  IF current_setting('transaction_timeout', true) IS NOT NULL THEN  -- from PostgreSQL 17 on
    PERFORM set_config('transaction_timeout', '0', true);
  END IF;
  IF {state_oid} IS NULL THEN
    RAISE EXCEPTION 'another cleanup of this table has just ended' USING ERRCODE = 'DJS01';
  END IF;
  UPDATE {state} SET lease_until = clock_timestamp() + interval '{lease} seconds',
    backend = pg_backend_pid()
  WHERE run_id = {run_id};
  IF NOT FOUND THEN
    RAISE EXCEPTION 'another cleanup of this table has taken over' USING ERRCODE = 'DJS01';
  END IF;
END $guard$;
)";

// An autovacuum of the table gives way to SHARE UPDATE EXCLUSIVE after deadlock_timeout, and only
// to a wait that lasts that long. Clients don't notice this lock, so it may be waited for.
constexpr const char* kLockAgainstVacuum = R"(
DO $patience$
BEGIN
  PERFORM set_config('lock_timeout',
    (2000 + 1000 * extract(epoch FROM current_setting('deadlock_timeout')::interval))::int::text,
    true);
END $patience$;
LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE;
SET LOCAL lock_timeout = {lock_ms};
)";

// The types and the collation of the key are the table's own. LOGGED: after a crash of the server
// they must still be there.
constexpr const char* kCreateStateAndLog = R"(
DO $same$
BEGIN
  IF to_regclass({table_literal}) IS DISTINCT FROM {oid} THEN
    RAISE EXCEPTION 'the table was replaced' USING ERRCODE = 'DJS03';
  END IF;
END $same$;
SET LOCAL default_tablespace = '';
CREATE TABLE {state} WITH (autovacuum_enabled = off) AS
SELECT NULL::text AS run_id, NULL::text AS phase,
  NULL::oid AS source, NULL::oid AS twin, NULL::oid AS log, NULL::oid AS function,
  NULL::int AS backend, NULL::timestamptz AS started, NULL::timestamptz AS lease_until,
  NULL::bigint AS keep_seconds, NULL::timestamptz AS cutoff, t.expire_date AS copied_until,
  NULL::bigint AS copied,
  NULL::float8 AS rows_before, NULL::float8 AS bytes_before,
  NULL::text[] AS definition, NULL::text AS triggers, NULL::text AS stamp,
  NULL::text[] AS deferred_indexes
FROM {table} t WITH NO DATA;
CREATE TABLE {log} WITH (autovacuum_enabled = off, vacuum_truncate = off) AS
SELECT t.session_key AS k, false AS truncated FROM {table} t WITH NO DATA;
INSERT INTO {state}
  (run_id, started, source, log, lease_until, backend, keep_seconds, rows_before, bytes_before)
VALUES ({run_id}, now(), {oid}, {log_oid}, clock_timestamp() + interval '{lease} seconds',
  pg_backend_pid(), {keep_seconds}, {rows_before}, {bytes_before});
DO $private$
DECLARE
  item record;
BEGIN
  -- The site's default privileges may have granted something to somebody.
  FOR item IN
    SELECT c.oid::regclass AS relation,
      CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END AS grantee
    FROM pg_class c, aclexplode(c.relacl) g
    WHERE c.oid IN ({state_oid}, {log_oid}) AND g.grantee <> c.relowner
  LOOP
    EXECUTE format('REVOKE ALL ON %s FROM %s', item.relation, item.grantee);
  END LOOP;
  EXECUTE format('COMMENT ON TABLE %s IS %L', {state_oid}::regclass,
    'django_session_cleanup, started '
      || to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS"Z"'));
END $private$;
)";

// The twin: columns, defaults, CHECK constraints, indexes and column comments by LIKE; what LIKE
// doesn't copy one by one. The indexes wait until the sessions are copied: their definitions, as
// the server wrote them for the twin, are kept in the state.
constexpr const char* kCreateShadow = R"(
DO $shadow$
DECLARE
  original regclass := {oid}::oid;
  shadow regclass;
  shadow_name text;
  tablespace text;
  options text;
  item record;
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

  -- An index's name says which one of the original's it is the twin of, until the exchange.
  FOR item IN
    SELECT o.indexrelid AS original_index, n.indexrelid AS twin_index
    FROM ({original_indexes}) o FULL JOIN ({twin_indexes}) n USING (definition, nth)
  LOOP
    IF item.original_index IS NULL OR item.twin_index IS NULL THEN
      RAISE EXCEPTION 'index % has no twin',
        coalesce(item.original_index, item.twin_index)::regclass
        USING ERRCODE = 'DJS04';
    END IF;
    EXECUTE format('ALTER INDEX %s RENAME TO %I', item.twin_index::regclass,
      'djs_{oid}_i' || item.original_index);
  END LOOP;
  UPDATE {state} SET deferred_indexes = ARRAY(
    SELECT format('SET LOCAL default_tablespace = %L; %s', coalesce(s.spcname, ''),
        pg_get_indexdef(i.indexrelid))
      || CASE WHEN i.indisprimary THEN
        format('; ALTER TABLE %s ADD CONSTRAINT %I PRIMARY KEY USING INDEX %2$I', shadow, x.relname)
        ELSE '' END
    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
    JOIN pg_class o ON x.relname = 'djs_{oid}_i' || o.oid
    LEFT JOIN pg_tablespace s ON s.oid = o.reltablespace
    WHERE i.indrelid = shadow);
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

  -- An autovacuum of the twin would be in the way of the exchange.
  EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = off)', shadow);
  UPDATE {state} SET twin = shadow_name::regclass, definition = {all_original_lines},
    phase = 'created', copied = 0,
    cutoff = now() - keep_seconds * interval '1 second',
    copied_until = now() - keep_seconds * interval '1 second' - interval '1 microsecond';
END $shadow$;
)";

constexpr const char* kIndexes = R"(
      SELECT i.indexrelid, d.definition,
        row_number() OVER (PARTITION BY d.definition ORDER BY i.indexrelid) AS nth
      FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid,
        LATERAL (SELECT format('%s %s %s', i.indisunique, i.indisprimary,
          right(pg_get_indexdef(x.oid), -length(format('CREATE %sINDEX %I ON %s ',
            CASE WHEN i.indisunique THEN 'UNIQUE ' END, x.relname, i.indrelid::regclass))))
          AS definition) d
      WHERE i.indrelid = {relation})";

// The functions run as the owner (SECURITY DEFINER): those who write sessions have no rights on the
// log. ENABLE ALWAYS: sessions with session_replication_role = replica count too. Expired sessions
// were never copied, so their deletion (a clearsessions that runs meanwhile) needn't be noted.
// synchronous_commit = off, here and in the other short messages: writers wait for this lock, and
// shall not wait for a disk or a replica, too. What is lost in a crash is lost with all that came
// later.
constexpr const char* kCreateTriggers = R"(
SET LOCAL synchronous_commit = off;
DO $function$
DECLARE
  item record;
BEGIN
  EXECUTE format($create$
    CREATE FUNCTION %1$s.djs_{oid}_note() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
    BEGIN
      IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO %1$s.djs_{oid}_log (truncated) VALUES (true);
        RETURN NULL;
      END IF;
      IF TG_OP <> 'INSERT' THEN
        INSERT INTO %1$s.djs_{oid}_log (k, truncated) VALUES (OLD.session_key, false);
      END IF;
      IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND NEW.session_key <> OLD.session_key) THEN
        INSERT INTO %1$s.djs_{oid}_log (k, truncated) VALUES (NEW.session_key, false);
      END IF;
      RETURN NULL;
    END $body$ $create$, (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = {oid}));
  FOR item IN
    SELECT p.oid::regprocedure AS function,
      CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END AS grantee
    FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g
    WHERE p.proname = 'djs_{oid}_note' AND p.pronamespace = {schema_literal}::regnamespace
      AND p.proowner = quote_ident(current_user)::regrole AND g.grantee <> p.proowner
  LOOP
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', item.function, item.grantee);
  END LOOP;
END $function$;
{lock_against_vacuum}
SELECT extract(epoch FROM clock_timestamp()) AS asked;
DO $triggers$
DECLARE
  original regclass := {oid}::oid;
  schema regnamespace := (SELECT relnamespace FROM pg_class WHERE oid = {oid});
BEGIN
  EXECUTE format('CREATE TRIGGER djs_{oid}_changed AFTER INSERT OR UPDATE ON %s FOR EACH ROW
    EXECUTE FUNCTION %s.djs_{oid}_note()', original, schema);
  EXECUTE format('CREATE TRIGGER djs_{oid}_deleted AFTER DELETE ON %s FOR EACH ROW
    WHEN (OLD.expire_date >= %L::timestamptz) EXECUTE FUNCTION %s.djs_{oid}_note()',
    original, (SELECT cutoff FROM {state}), schema);
  EXECUTE format('CREATE TRIGGER djs_{oid}_truncated AFTER TRUNCATE ON %s FOR EACH STATEMENT
    EXECUTE FUNCTION %s.djs_{oid}_note()', original, schema);
  EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER djs_{oid}_changed,
    ENABLE ALWAYS TRIGGER djs_{oid}_deleted, ENABLE ALWAYS TRIGGER djs_{oid}_truncated', original);
  UPDATE {state} SET phase = 'copying', function = (
    SELECT tgfoid FROM pg_trigger WHERE tgrelid = original AND tgname = 'djs_{oid}_changed');
  UPDATE {state} SET triggers = {trigger_mark};
END $triggers$;
SELECT extract(epoch FROM clock_timestamp()) AS ended;
)";

// Changes when a trigger is dropped, disabled or, in between, enabled again: then changes were
// missed.
constexpr const char* kTriggerMark =
    R"((SELECT string_agg(format('%s %s %s', g.oid, g.xmin, g.tgenabled), ', ' ORDER BY g.oid)
    FROM pg_trigger g JOIN {state} m ON m.function = g.tgfoid WHERE g.tgrelid = {oid}))";

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

// Whatever the planner believes about the number of rows: never read the whole table, and never
// twice.
constexpr const char* kByIndex = R"(
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
SET LOCAL max_parallel_workers_per_gather = 0;
)";

// The place reached is kept in the state, in the same transaction. It is a date alone, as the index
// is: sessions that expire at the same moment (a site that sets a fixed date has many) are copied
// together, so that none of them is read again to find the next. A session that is renewed
// meanwhile may be met twice: the copy has no primary key yet, see kBuildIndexes.
constexpr const char* kCopy = R"(
WITH chunk AS MATERIALIZED (
  SELECT {columns} FROM {table} t
  WHERE t.expire_date > (SELECT copied_until FROM {state})
  ORDER BY t.expire_date FETCH FIRST {rows} ROWS WITH TIES
), copied AS (
  INSERT INTO {shadow} ({columns}) SELECT {columns} FROM chunk
), reached AS (
  SELECT expire_date FROM chunk ORDER BY expire_date DESC LIMIT 1
), noted AS (
  UPDATE {state} s SET copied_until = reached.expire_date,
    copied = s.copied + (SELECT count(*) FROM chunk)
  FROM reached
)
SELECT (SELECT count(*) FROM chunk) AS rows, copied + (SELECT count(*) FROM chunk) AS copied,
  pg_relation_size(log) AS log_bytes
FROM {state};
)";

// Not what happened is repeated but what is true now is copied, for the sessions whose keys were
// noted: in whatever order, twice, or after a crash, the outcome is the same. One statement, so
// that the log and the table are seen at the same moment: a change that isn't committed yet is in
// neither. Log rows are taken by their place (ctid); there is no order among them that could be
// relied on.
constexpr const char* kDrain = R"(
WITH taken AS (
  DELETE FROM {log} l
  WHERE l.ctid = ANY (ARRAY(SELECT ctid FROM {log} WHERE NOT truncated LIMIT {rows}))
  RETURNING l.k
), noted AS MATERIALIZED (
  SELECT DISTINCT k FROM taken
), present AS MATERIALIZED (
  SELECT noted.k, {t_columns} FROM noted LEFT JOIN {table} t
    ON t.session_key = noted.k AND t.expire_date >= (SELECT cutoff FROM {state})
), gone AS (
  DELETE FROM {shadow} s USING present p WHERE s.session_key = p.k AND p.session_key IS NULL
), saved AS (
  INSERT INTO {shadow} ({columns}) SELECT {columns} FROM present WHERE session_key IS NOT NULL
  ON CONFLICT (session_key) DO UPDATE SET ({columns}) = ROW ({excluded_columns})
)
SELECT (SELECT count(*) FROM taken) AS keys{into}
)";

// A site that saves a session at each request notes the same keys over and over.
constexpr const char* kCollapseLog = R"(
WITH taken AS (
  DELETE FROM {log} WHERE NOT truncated RETURNING k
)
INSERT INTO {log} (k, truncated) SELECT DISTINCT k, false FROM taken;
)";

// The copy has no index yet, and is read as a whole.
constexpr const char* kForgetChanged = R"(
SET LOCAL enable_nestloop = off;
DELETE FROM {shadow} s USING (SELECT DISTINCT k FROM {log}) changed WHERE s.session_key = changed.k;
)";

constexpr const char* kTruncated =
    "SELECT EXISTS (SELECT FROM {log} WHERE truncated) AS truncated;\n";

// What changed since it was copied, or was copied twice for that reason, is in the log: it is
// copied anew, so that no key is there twice. In one statement, as in kDrain; the copy is read as a
// whole, having no index yet, and the table by its primary key (LATERAL). All in one transaction,
// so that there is nothing in between to take up again.
constexpr const char* kBuildIndexes = R"(
SET LOCAL max_parallel_maintenance_workers = 0;
SET LOCAL enable_nestloop = off;
WITH taken AS (
  DELETE FROM {log} WHERE NOT truncated RETURNING k
), changed AS MATERIALIZED (
  SELECT DISTINCT k FROM taken
), gone AS (
  DELETE FROM {shadow} s USING changed WHERE s.session_key = changed.k
)
INSERT INTO {shadow} ({columns})
SELECT {now_columns} FROM changed CROSS JOIN LATERAL (
  SELECT {columns} FROM {table} t
  WHERE t.session_key = changed.k AND t.expire_date >= (SELECT cutoff FROM {state}) LIMIT 1) AS now;
DO $indexes$
DECLARE
  run record;
  item record;
BEGIN
  SELECT twin, deferred_indexes INTO run FROM {state};
  FOR item IN SELECT unnest(run.deferred_indexes) AS statement LOOP
    EXECUTE item.statement;
  END LOOP;
  FOR item IN
    SELECT o.indexrelid::regclass AS original, n.oid::regclass AS twin,
      o.indisclustered AS clustered,
      obj_description(o.indexrelid, 'pg_class') AS comment
    FROM pg_index o JOIN pg_class n ON n.relname = 'djs_{oid}_i' || o.indexrelid
      AND n.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = run.twin)
    WHERE o.indrelid = {oid}
  LOOP
    EXECUTE format('COMMENT ON INDEX %s IS %L', item.twin, item.comment);
    IF item.clustered THEN
      EXECUTE format('ALTER TABLE %s CLUSTER ON %I', run.twin::regclass,
        (SELECT relname FROM pg_class WHERE oid = item.twin));
    END IF;
  END LOOP;
  FOR item IN
    SELECT n.oid::regclass AS twin, a.attnum, to_jsonb(a) ->> 'attstattarget' AS target
    FROM pg_index o JOIN pg_class n ON n.relname = 'djs_{oid}_i' || o.indexrelid
      AND n.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = run.twin)
    JOIN pg_attribute a ON a.attrelid = o.indexrelid
    WHERE o.indrelid = {oid} AND coalesce(to_jsonb(a) ->> 'attstattarget', '-1') <> '-1'
  LOOP
    EXECUTE format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS %s', item.twin, item.attnum,
      item.target);
  END LOOP;
  FOR item IN
    SELECT n.conname, obj_description(o.oid, 'pg_constraint') AS comment
    FROM pg_constraint o JOIN pg_constraint n ON n.conrelid = run.twin
      AND (n.conname = o.conname OR n.conname = 'djs_{oid}_i' || o.conindid)
    WHERE o.conrelid = {oid}
  LOOP
    EXECUTE format('COMMENT ON CONSTRAINT %I ON %s IS %L', item.conname, run.twin::regclass,
      item.comment);
  END LOOP;
  UPDATE {state} SET phase = 'catching up', copied = (SELECT count(*) FROM {shadow});
END $indexes$;
SELECT copied FROM {state};
)";

constexpr const char* kVerify = R"(
SET LOCAL max_parallel_workers_per_gather = 0;
DO $verify$
DECLARE
  different bigint;
BEGIN
  IF {trigger_mark} IS DISTINCT FROM (SELECT triggers FROM {state}) THEN
    RAISE EXCEPTION 'a trigger was disabled' USING ERRCODE = 'DJS03';
  END IF;
  SELECT count(*) INTO different FROM (
    SELECT coalesce(t.session_key, s.session_key) AS k
    FROM (SELECT {columns} FROM {table} WHERE expire_date >= (SELECT cutoff FROM {state})) t
    FULL JOIN {shadow} s ON s.session_key = t.session_key
    WHERE ROW ({t_columns}) IS DISTINCT FROM ROW ({s_columns})) d
  WHERE NOT EXISTS (SELECT FROM {log} l WHERE l.k = d.k)
    AND NOT EXISTS (SELECT FROM {log} l WHERE l.truncated);
  IF different > 0 THEN
    RAISE EXCEPTION '% sessions differ from their copies; nothing was exchanged', different
      USING ERRCODE = 'DJS04';
  END IF;
  UPDATE {state} SET phase = 'ready';
END $verify$;
)";

// synchronous_commit = off: nobody waits for this lock while a disk or a replica writes. Safe,
// because whatever is committed later comes later in the WAL: if the exchange is lost in a crash,
// then so is all that was written into the new table. Before the old one is dropped, the WAL is
// written out.
//
// All that needs no exclusive lock comes before it. SHARE UPDATE EXCLUSIVE keeps every ALTER away;
// an index' own lock is enough to rename it. The twin is locked first: nobody else uses it, but
// should somebody (a dump), it must not be waited for under the other lock.
constexpr const char* kPrepareExchange = R"(
SET LOCAL synchronous_commit = off;
{lock_against_vacuum}
LOCK TABLE {shadow} IN ACCESS EXCLUSIVE MODE;
DO $prepare$
DECLARE
  run record;
  item record;
  schema regnamespace := (SELECT relnamespace FROM pg_class WHERE oid = {oid});
  differs text;
  seen text;
BEGIN
  SELECT * INTO run FROM {state};
  -- A GRANT on a column takes no lock on the table, but it can't change a column's row that we have
  -- changed: one that is under way is waited for, and one that comes later fails.
  FOR item IN SELECT attname, coalesce(to_jsonb(a) ->> 'attstattarget', '-1') AS target
              FROM pg_attribute a
              WHERE a.attrelid = run.source AND a.attnum > 0 AND NOT a.attisdropped LOOP
    EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS %s', run.source::regclass,
      item.attname, item.target);
  END LOOP;
  seen := {stamp};
  {compare_original}
  FOR item IN SELECT i.indexrelid, x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
              WHERE i.indrelid = run.source LOOP
    EXECUTE format('ALTER INDEX %s RENAME TO %I', item.indexrelid::regclass,
      'djs_' || run.twin || '_o' || item.indexrelid);
    EXECUTE format('ALTER INDEX %s.%I RENAME TO %I', schema, 'djs_{oid}_i' || item.indexrelid,
      item.relname);
  END LOOP;
  EXECUTE format('ALTER TABLE %s RESET (autovacuum_enabled)', run.twin::regclass);
  FOR item IN SELECT option_value FROM pg_class c, pg_options_to_table(c.reloptions)
              WHERE c.oid = run.source AND option_name = 'autovacuum_enabled' LOOP
    EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = %L)', run.twin::regclass,
      item.option_value);
  END LOOP;
  {compare_twin}
  UPDATE {state} SET stamp = seen, phase = 'exchanged';
END $prepare$;
{drain_before};
SET LOCAL statement_timeout = {short_ms};
SELECT extract(epoch FROM clock_timestamp()) AS asked;
LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE;
)";

// {relation}, {code}, {what}: compares a table with the definition that the swap began with.
constexpr const char* kCompare = R"(
  SELECT line INTO differs FROM (
    (SELECT unnest({lines}) EXCEPT ALL SELECT unnest(run.definition))
    UNION ALL
    (SELECT unnest(run.definition) EXCEPT ALL SELECT unnest({lines}))) d(line) LIMIT 1;
  IF differs IS NOT NULL THEN
    RAISE EXCEPTION '{what}: %', differs USING ERRCODE = '{code}';
  END IF;
)";

// What may change although SHARE UPDATE EXCLUSIVE is held: grants, comments on indexes, and what
// depends on the table. Not its name.
constexpr const char* kStamp = R"((SELECT concat_ws(' ', c.relacl,
      (SELECT string_agg(a.xmin::text, ' ' ORDER BY a.attnum)
        FROM pg_attribute a WHERE a.attrelid = c.oid),
      (SELECT count(*) FROM pg_depend d WHERE d.refclassid = 'pg_class'::regclass
        AND d.refobjid = c.oid),
      (SELECT count(*) FROM pg_depend d WHERE d.refclassid = 'pg_type'::regclass
        AND d.refobjid = c.reltype),
      (SELECT string_agg(d.xmin::text, ' ' ORDER BY d.objoid) FROM pg_description d
       WHERE d.classoid = 'pg_class'::regclass
         AND d.objoid IN (SELECT i.indexrelid FROM pg_index i WHERE i.indrelid = c.oid)))
    FROM pg_class c WHERE c.oid = {oid}))";

// Runs while everybody waits: a few milliseconds. Each statement in it sees all that was committed
// before the lock was granted. The stamp is compared after the original is renamed: from then on a
// GRANT, which takes no lock on the table, waits for us and then fails, instead of being lost.
constexpr const char* kExchange = R"(
DO $exchange$
DECLARE
  run record;
  schema regnamespace;
  table_name name;
  keys bigint;
BEGIN
  SELECT * INTO run FROM {state};
  SELECT relname, relnamespace INTO table_name, schema FROM pg_class WHERE oid = run.source;
  IF to_regclass({table_literal}) IS DISTINCT FROM run.source
     OR {trigger_mark} IS DISTINCT FROM run.triggers
     OR EXISTS (SELECT FROM {log} WHERE truncated) THEN
    RAISE EXCEPTION 'the table was truncated or replaced, or a trigger was disabled'
      USING ERRCODE = 'DJS03';
  END IF;
  SELECT count(*) INTO keys FROM (SELECT FROM {log} LIMIT {most_keys} + 1) l;
  IF keys > {most_keys} THEN
    RAISE EXCEPTION 'too many sessions changed to bring them up to date under a lock'
      USING ERRCODE = 'DJS02';
  ELSIF keys > 0 THEN
    {drain_rest}
  END IF;

  EXECUTE format('ALTER TABLE %s RENAME TO %I', run.source::regclass, 'djs_' || run.twin || '_old');
  IF {stamp} IS DISTINCT FROM run.stamp THEN
    RAISE EXCEPTION 'the table was altered in the last moment' USING ERRCODE = 'DJS03';
  END IF;
  EXECUTE format('ALTER TABLE %s RENAME TO %I', run.twin::regclass, table_name);
  EXECUTE format('ALTER TABLE %s RENAME TO %I', run.log::regclass, 'djs_' || run.twin || '_log');
  EXECUTE format('ALTER FUNCTION %s RENAME TO %I', run.function::regprocedure,
    'djs_' || run.twin || '_note');
  EXECUTE format('ALTER TABLE %s.djs_{oid}_state RENAME TO %I', schema,
    'djs_' || run.twin || '_state');
END $exchange$;
SELECT extract(epoch FROM clock_timestamp()) AS ended;
)";

// The triggers of the names' function, on whatever table: one that was restored from a dump has
// another OID than its helpers' names say. Those on the replaced table are dropped with it.
constexpr const char* kOwnTriggers = R"(
    SELECT g.tgname, g.tgrelid FROM pg_trigger g JOIN pg_class r ON r.oid = g.tgrelid
    WHERE NOT g.tgisinternal AND r.relname <> 'djs_{oid}_old'
      AND (g.tgrelid = {oid} AND g.tgname LIKE 'djs\_{oid}\_%'
        OR g.tgfoid IN (SELECT p.oid FROM pg_proc p WHERE p.proname = 'djs_{oid}_note'
                        AND p.pronamespace = {schema_literal}::regnamespace)))";

// The order matters: while a trigger is on the table, its function and the log must be there. What
// others have made under such names is theirs.
constexpr const char* kRemove = R"(
SET LOCAL synchronous_commit = off;
DO $calm$
DECLARE
  item record;
BEGIN
  FOR item IN SELECT DISTINCT o.tgrelid FROM ({own_triggers}) o LOOP
    PERFORM set_config('lock_timeout',
      (2000 + 1000 * extract(epoch FROM current_setting('deadlock_timeout')::interval))::int::text,
      true);
    EXECUTE format('LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE', item.tgrelid::regclass);
    PERFORM set_config('lock_timeout', '{lock_ms}', true);
  END LOOP;
END $calm$;
SELECT extract(epoch FROM clock_timestamp()) AS asked;
DO $remove$
DECLARE
  item record;
BEGIN
  FOR item IN {own_triggers} LOOP
    EXECUTE format('DROP TRIGGER %I ON %s', item.tgname, item.tgrelid::regclass);
  END LOOP;
  FOR item IN SELECT c.oid::regclass AS name FROM pg_class c
           WHERE c.relnamespace = {schema_literal}::regnamespace AND c.relkind = 'r'
             AND c.relname IN ('djs_{oid}_old', 'djs_{oid}_new')
             AND pg_has_role(c.relowner, 'MEMBER') LOOP
    EXECUTE format('DROP TABLE %s', item.name);
  END LOOP;
  FOR item IN SELECT p.oid::regprocedure AS name FROM pg_proc p
           WHERE p.pronamespace = {schema_literal}::regnamespace
             AND p.proname = 'djs_{oid}_note' AND p.prorettype = 'trigger'::regtype
             AND pg_has_role(p.proowner, 'MEMBER') LOOP
    EXECUTE format('DROP FUNCTION %s', item.name);
  END LOOP;
  FOR item IN SELECT c.oid::regclass AS name FROM pg_class c
           WHERE c.relnamespace = {schema_literal}::regnamespace AND c.relkind = 'r'
             AND c.relname IN ('djs_{oid}_log', 'djs_{oid}_state')
             AND pg_has_role(c.relowner, 'MEMBER') LOOP
    EXECUTE format('DROP TABLE %s', item.name);
  END LOOP;
END $remove$;
SELECT extract(epoch FROM clock_timestamp()) AS ended;
)";

constexpr const char* kDisable = R"(
SET LOCAL synchronous_commit = off;
{lock_against_vacuum}
SELECT extract(epoch FROM clock_timestamp()) AS asked;
DO $disable$
DECLARE
  item record;
BEGIN
  FOR item IN SELECT tgname FROM pg_trigger
           WHERE tgrelid = {oid} AND tgname LIKE 'djs\_{oid}\_%' AND NOT tgisinternal LOOP
    EXECUTE format('ALTER TABLE %s DISABLE TRIGGER %I', {oid}::oid::regclass, item.tgname);
  END LOOP;
END $disable$;
DROP TABLE {shadow};
TRUNCATE {log};
UPDATE {state} SET phase = 'stopped';
SELECT extract(epoch FROM clock_timestamp()) AS ended;
)";

constexpr const char* kReadState = R"(
SELECT run.run_id, run.phase, run.twin, run.keep_seconds, run.copied,
  run.rows_before, run.bytes_before,
  extract(epoch FROM clock_timestamp() - run.started) AS age,
  extract(epoch FROM run.lease_until - clock_timestamp()) AS lease,
  NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = run.backend) AS backend_gone,
  run.source = {oid} AND to_regclass({table_literal}) = run.source
    AND EXISTS (SELECT FROM pg_class c WHERE c.oid = run.twin AND c.relname = 'djs_{oid}_new')
    AND EXISTS (SELECT FROM pg_class c WHERE c.oid = run.log AND c.relname = 'djs_{oid}_log')
    AND (run.phase = 'created' OR {trigger_mark} IS NOT DISTINCT FROM run.triggers)
    AND {original_lines} = run.definition AS intact
FROM {state} run;
)";

constexpr const char* kTakeOver = R"(
UPDATE {state} SET run_id = {run_id}, lease_until = clock_timestamp() + interval '{lease} seconds',
  backend = pg_backend_pid()
WHERE run_id = '{former}' RETURNING run_id;
)";

constexpr const char* kColumns = R"(
SELECT quote_ident(attname) AS name, atttypid = ANY (ARRAY[
    'varchar', 'text', 'bpchar', 'timestamptz', 'timestamp', 'date', 'bool', 'int2', 'int4', 'int8',
    'numeric', 'uuid', 'inet', 'jsonb']::regtype[]) AS comparable
FROM pg_attribute
WHERE attrelid = {oid} AND attnum > 0 AND NOT attisdropped ORDER BY attnum;
)";

std::string list(const Columns& columns, const std::string& prefix = "") {
  std::string text;
  for (const Column& column : columns) text += (text.empty() ? "" : ", ") + prefix + column.name;
  return text;
}

/// The same, for a comparison: json and the like have no equality but that of their text.
std::string comparable_list(const Columns& columns, const std::string& prefix) {
  std::string text;
  for (const Column& column : columns)
    text += (text.empty() ? "" : ", ") + prefix + column.name + (column.comparable ? "" : "::text");
  return text;
}

/// The OID of a helper as an SQL expression.
std::string helper_oid(const SwapNames& names, const std::string& what) {
  return fmt::format(
      "(SELECT h.oid FROM pg_class h JOIN pg_class t ON t.relnamespace = h.relnamespace "
      "WHERE t.oid = {0} AND h.relname = 'djs_{0}_{1}')",
      names.oid, what);
}

/// Fills in what every message may use (names with a backslash or a dollar sign are refused by the
/// pre-flight); `more` are a message's own arguments.
template <typename... More>
std::string fill(const char* text, const SwapNames& names, TransactionLimits limits,
                 const More&... more) {
  return fmt::format(fmt::runtime(text), fmt::arg("oid", names.oid), fmt::arg("table", names.table),
                     fmt::arg("table_literal", sql_string(names.table)),
                     fmt::arg("schema_literal", sql_string(names.schema)),
                     fmt::arg("state", names.state()), fmt::arg("shadow", names.shadow()),
                     fmt::arg("log", names.log()), fmt::arg("owner", names.owner),
                     fmt::arg("run_id", sql_string(names.run_id)), fmt::arg("lease", kLeaseSeconds),
                     fmt::arg("lock_ms", limits.lock.count()),
                     fmt::arg("statement_ms", limits.statement.count()), more...);
}

enum class Guarded { yes, no };

std::string guard(const SwapNames& names, TransactionLimits limits) {
  return fill(kGuard, names, limits, fmt::arg("state_oid", helper_oid(names, "state")));
}

std::string transaction(const SwapNames& names, TransactionLimits limits, const std::string& body,
                        Guarded guarded = Guarded::yes) {
  return fill(kBegin, names, limits) + (guarded == Guarded::yes ? guard(names, limits) : "") +
         body + "COMMIT;\n";
}

std::string drain(const SwapNames& names, TransactionLimits limits, const Columns& columns,
                  long long rows, const std::string& into = "") {
  return fill(kDrain, names, limits, fmt::arg("columns", list(columns)),
              fmt::arg("t_columns", list(columns, "t.")),
              fmt::arg("excluded_columns", list(columns, "EXCLUDED.")), fmt::arg("rows", rows),
              fmt::arg("into", into));
}

}  // namespace

std::string create_sql(const SwapNames& names, TransactionLimits limits, long long keep_seconds,
                       double rows_before, double bytes_before) {
  const std::string state_and_log = fill(
      kCreateStateAndLog, names, limits, fmt::arg("log_oid", helper_oid(names, "log")),
      fmt::arg("state_oid", helper_oid(names, "state")), fmt::arg("keep_seconds", keep_seconds),
      fmt::arg("rows_before", rows_before), fmt::arg("bytes_before", bytes_before));
  const std::string shadow =
      fill(kCreateShadow, names, limits,
           fmt::arg("original_indexes", fmt::format(kIndexes, fmt::arg("relation", "original"))),
           fmt::arg("twin_indexes", fmt::format(kIndexes, fmt::arg("relation", "shadow"))),
           fmt::arg("original_lines", definition_lines("original", "0", true)),
           fmt::arg("twin_lines", definition_lines("shadow", "0", true)),
           fmt::arg("all_original_lines", definition_lines("original", "0")));
  return transaction(names, limits, state_and_log + shadow, Guarded::no);
}

std::string create_triggers_sql(const SwapNames& names, TransactionLimits limits) {
  return transaction(names, limits,
                     fill(kCreateTriggers, names, limits,
                          fmt::arg("lock_against_vacuum", fill(kLockAgainstVacuum, names, limits)),
                          fmt::arg("trigger_mark", fill(kTriggerMark, names, limits))));
}

std::string copy_sql(const SwapNames& names, TransactionLimits limits, const Columns& columns,
                     long long rows) {
  return transaction(names, limits,
                     kByIndex + fill(kCopy, names, limits, fmt::arg("columns", list(columns)),
                                     fmt::arg("rows", rows)));
}

std::string collapse_log_sql(const SwapNames& names, TransactionLimits limits) {
  return transaction(names, limits, fill(kCollapseLog, names, limits));
}

std::string forget_changed_sql(const SwapNames& names, TransactionLimits limits) {
  return transaction(names, limits, fill(kForgetChanged, names, limits));
}

std::string build_indexes_sql(const SwapNames& names, TransactionLimits limits,
                              const Columns& columns) {
  return transaction(names, limits,
                     fill(kBuildIndexes, names, limits, fmt::arg("columns", list(columns)),
                          fmt::arg("now_columns", list(columns, "now."))));
}

std::string analyze_sql(const SwapNames& names, TransactionLimits limits) {
  return transaction(names, limits, fill("ANALYZE {shadow};\n", names, limits));
}

std::string flush_statistics_sql(const SwapNames& names, TransactionLimits limits) {
  return transaction(names, limits, kFlushStatistics);
}

std::string drain_sql(const SwapNames& names, TransactionLimits limits, const Columns& columns,
                      long long rows) {
  return transaction(
      names, limits,
      kByIndex + drain(names, limits, columns, rows) + ";\n" + fill(kTruncated, names, limits));
}

std::string verify_sql(const SwapNames& names, TransactionLimits limits, const Columns& columns) {
  return transaction(
      names, limits,
      fill(kVerify, names, limits, fmt::arg("trigger_mark", fill(kTriggerMark, names, limits)),
           fmt::arg("columns", list(columns)),
           fmt::arg("t_columns", comparable_list(columns, "t.")),
           fmt::arg("s_columns", comparable_list(columns, "s."))));
}

std::string exchange_sql(const SwapNames& names, TransactionLimits limits, const Columns& columns) {
  const auto short_time = limits.lock + std::chrono::seconds(2);
  const auto compare = [](const std::string& relation, const char* code, const char* what) {
    return fmt::format(kCompare, fmt::arg("lines", definition_lines(relation, "run.function")),
                       fmt::arg("code", code), fmt::arg("what", what));
  };
  const std::string stamp = fill(kStamp, names, limits);
  const std::string prepare = fill(
      kPrepareExchange, names, limits, fmt::arg("short_ms", short_time.count()),
      fmt::arg("lock_against_vacuum", fill(kLockAgainstVacuum, names, limits)),
      fmt::arg("compare_original", compare("run.source", kChanged, "the table was altered")),
      fmt::arg("compare_twin", compare("run.twin", kNoTwin, "can''t be reproduced in a new table")),
      fmt::arg("stamp", stamp),
      fmt::arg("drain_before", drain(names, limits, columns, kMostKeysBeforeLock)));
  const std::string exchange = fill(
      kExchange, names, limits, fmt::arg("most_keys", kMostKeysUnderLock),
      fmt::arg("trigger_mark", fill(kTriggerMark, names, limits)), fmt::arg("stamp", stamp),
      fmt::arg("drain_rest", drain(names, limits, columns, kMostKeysUnderLock, " INTO keys;")));
  return transaction(names, limits, kByIndex + prepare + exchange);
}

std::string remove_sql(const SwapNames& names, TransactionLimits limits, bool guarded) {
  const std::string own_triggers = fill(kOwnTriggers, names, limits);
  return transaction(names, limits,
                     fill(kRemove, names, limits, fmt::arg("own_triggers", own_triggers)),
                     guarded ? Guarded::yes : Guarded::no);
}

std::string disable_sql(const SwapNames& names, TransactionLimits limits) {
  return transaction(
      names, limits,
      fill(kDisable, names, limits,
           fmt::arg("lock_against_vacuum", fill(kLockAgainstVacuum, names, limits))));
}

std::string read_state_sql(const SwapNames& names, TransactionLimits limits) {
  return transaction(
      names, limits,
      fill(kReadState, names, limits,
           fmt::arg("original_lines", definition_lines("run.source", "coalesce(run.function, 0)")),
           fmt::arg("trigger_mark", fill(kTriggerMark, names, limits))),
      Guarded::no);
}

std::string take_over_sql(const SwapNames& names, TransactionLimits limits,
                          const std::string& former) {
  return transaction(names, limits, fill(kTakeOver, names, limits, fmt::arg("former", former)),
                     Guarded::no);
}

std::string columns_query(const SwapNames& names) {
  return fmt::format(kColumns, fmt::arg("oid", names.oid));
}

}  // namespace django_session::sessions
