"""The method "swap" of django_session_cleanup: same table afterwards, nobody notices, and whatever happens
in the middle is taken up or cleaned up by the next run."""

import contextlib
import random
import re
import signal
import subprocess
import time

import psycopg
import psycopg2
import pytest

import sanitizer
from catalogue import catalogue
from cluster import SUPERUSER
from conftest import DEBIANS
from django_site import OWNER, DjangoSite
from gate import BEFORE_A_DRAIN, Gate
from paths import BUILD
from processes import (PLAIN_ENVIRONMENT, Process, ordinary, private_folder, program, readable_copy, run, wait_for)
from traffic import Traffic

DONE, STOPPED, FAILED, REFUSED = 0, 1, 2, 3

HELPERS = """
SELECT relname FROM pg_class WHERE relname ~ '^djs_'
UNION ALL SELECT tgname FROM pg_trigger WHERE tgname ~ '^djs_'
UNION ALL SELECT proname FROM pg_proc WHERE proname ~ '^djs_'
UNION ALL SELECT typname FROM pg_type WHERE typname ~ 'djs_'
UNION ALL SELECT conname FROM pg_constraint WHERE conname ~ 'djs_'
"""


@pytest.fixture(scope="session")
def cleanup_program(session_folder):
    return readable_copy(BUILD / "nagios" / "django_session_cleanup", session_folder)


@pytest.fixture
def cleanup(cleanup_program, site, cluster):
    """Runs the command as the owner: cleanup("--keep", "7d"); code=None takes any exit code."""
    def call(*options, code=DONE, conninfo=None, database=None, user=OWNER):
        target = conninfo or cluster.conninfo(database or site.database, user)
        method = [] if "--abort" in options else ["--method", "swap"]
        done = run([cleanup_program, "-d", target, *method, "--no-progress", *options], check=False,
                   environment=sanitizer.environment(), timeout=120)
        assert not sanitizer.reports(done.stdout + done.stderr), done.stderr
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr
    return call


@pytest.fixture
def start_cleanup(cleanup_program, site, cluster, folder):
    """Starts the command and returns the running process."""
    running = []

    def start(*options, conninfo=None, user=OWNER):
        log = folder / f"cleanup-{len(running)}.log"
        running.append(Process(
            [cleanup_program, "-d", conninfo or cluster.conninfo(site.database, user), "--method",
             "swap", "--no-progress", "-v", *options], log, environment=sanitizer.environment()))
        return running[-1]
    yield start
    for process in running:
        if process.running:
            process.end(signal.SIGKILL)


def ended(process, timeout=60):
    wait_for(lambda: not process.running, "the cleanup's end", timeout)
    return process.returncode


def create_role(cluster, name):
    with contextlib.suppress(psycopg2.errors.DuplicateObject):
        cluster.psql(f"CREATE ROLE {name} LOGIN")


def helpers(site):
    return [name for (name,) in site.psql(HELPERS)]


def oid(site, table="django_session"):
    return site.value(f"SELECT '{table}'::regclass::oid::int")


def live(site):
    """The sessions that will live for the next hours, whenever this is asked."""
    site.horizon = getattr(site, "horizon", None) or site.value("SELECT (now() + '1 hour')::text")
    return site.psql(f"SELECT * FROM django_session WHERE expire_date > '{site.horizon}' "
                     "ORDER BY session_key")


def schema_of(cluster, database):
    """As pg_dump writes it; as the catalogues have it on a server too new for Debian's."""
    if cluster.version > int(DEBIANS):
        return str(catalogue(cluster, database))
    return pg_dump(cluster, database)


def pg_dump(cluster, database):
    dump = subprocess.run([program("pg_dump"), "-s", "-d", cluster.conninfo(database)], text=True,
                          check=True, stdout=subprocess.PIPE).stdout
    return re.sub(r"(?m)^\\(un)?restrict .*$", "", dump)  # a word of its own in each dump


def phase(site, ask=None):
    """The running swap's phase, or None. ask: on a connection that is there already."""
    ask = ask or site.psql
    found = ask(r"SELECT relname FROM pg_class WHERE relname LIKE 'djs\_%\_state'")
    if not found:
        return None
    try:
        return (ask(f"SELECT phase FROM {found[0][0]}") or [(None,)])[0][0]
    except psycopg2.errors.UndefinedTable:
        return None


def wait_for_phase(site, *wanted):
    with site.cluster.asking(site.database) as ask:
        return wait_for(lambda: phase(site, ask) in wanted, f"phase {wanted}", pause=0.005)


def wait_for_begin(site):
    with site.cluster.asking(site.database) as ask:
        wait_for(lambda: phase(site, ask), "the swap's begin", pause=0.005)


@contextlib.contextmanager
def held_in_the_copy(site, start_cleanup, *options, user=OWNER):
    """A swap that has copied a thousand sessions or some more, and goes on at the end of the `with`."""
    with Gate(site.cluster) as gate:
        process = start_cleanup(*options, conninfo=gate.conninfo(site.database, user))
        gate.wait()
        assert phase(site) == "copying" and site.value(f"SELECT copied FROM djs_{oid(site)}_state") >= 1000
        yield process


@contextlib.contextmanager
def held_before_it_catches_up(site, start_cleanup, user=OWNER):
    with Gate(site.cluster, BEFORE_A_DRAIN, passing=0) as gate:
        process = start_cleanup(conninfo=gate.conninfo(site.database, user))
        gate.wait()
        assert phase(site) == "catching up"
        yield process


def interrupt(site, start_cleanup):
    with held_in_the_copy(site, start_cleanup) as process:
        process.end(signal.SIGKILL)
    assert helpers(site) != []


def clients(site, **options):
    parameters = site.cluster.parameters(site.database, OWNER)
    return Traffic(lambda: psycopg2.connect(**parameters), **options)


# -- The same table ------------------------------------------------------------------------------


FURNISH = """
CREATE SCHEMA "odd 'schema"; GRANT ALL ON SCHEMA "odd 'schema" TO {owner};
SET ROLE {owner};
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO reader;
CREATE TABLE "odd 'schema"."odd.session" (
  dropped int,
  session_key varchar(40) NOT NULL CONSTRAINT "odd pk" PRIMARY KEY WITH (fillfactor = 80),
  session_data text NOT NULL,
  expire_date timestamptz NOT NULL,
  ip inet DEFAULT '127.0.0.1',
  "user Agent" varchar(200) COLLATE "C" DEFAULT 'none' CHECK (length("user Agent") < 200),
  visits int NOT NULL DEFAULT 1 CONSTRAINT "positive visits" CHECK (visits > 0),
  extra jsonb
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_enabled = true,
        toast.autovacuum_vacuum_threshold = 123);
ALTER TABLE "odd 'schema"."odd.session" DROP COLUMN dropped;
CREATE INDEX "odd like" ON "odd 'schema"."odd.session" (session_key varchar_pattern_ops);
CREATE INDEX "odd expiry" ON "odd 'schema"."odd.session" (expire_date) WITH (fillfactor = 95);
CREATE INDEX extra_index ON "odd 'schema"."odd.session" (lower("user Agent"), ip) WHERE visits > 1;
CREATE INDEX same_1 ON "odd 'schema"."odd.session" (ip);
CREATE INDEX same_2 ON "odd 'schema"."odd.session" (ip);
CREATE INDEX gin_index ON "odd 'schema"."odd.session" USING gin (extra);
ALTER INDEX "odd 'schema".extra_index ALTER COLUMN 1 SET STATISTICS 77;
ALTER TABLE "odd 'schema"."odd.session" CLUSTER ON "odd expiry";
ALTER TABLE "odd 'schema"."odd.session" ALTER expire_date SET STATISTICS 1000;
ALTER TABLE "odd 'schema"."odd.session" ALTER ip SET (n_distinct = 50);
ALTER TABLE "odd 'schema"."odd.session" ALTER session_data SET STORAGE EXTERNAL;
COMMENT ON TABLE "odd 'schema"."odd.session" IS 'sessions; don''t look';
COMMENT ON COLUMN "odd 'schema"."odd.session".ip IS 'the first one';
COMMENT ON INDEX "odd 'schema".extra_index IS 'for the report';
COMMENT ON CONSTRAINT "positive visits" ON "odd 'schema"."odd.session" IS 'or why keep it';
COMMENT ON CONSTRAINT "odd pk" ON "odd 'schema"."odd.session" IS 'the key';
REVOKE SELECT ON "odd 'schema"."odd.session" FROM reader;
GRANT SELECT, UPDATE ON "odd 'schema"."odd.session" TO auditor WITH GRANT OPTION;
GRANT INSERT ON "odd 'schema"."odd.session" TO reader;
GRANT SELECT (expire_date, ip) ON "odd 'schema"."odd.session" TO reader;
GRANT UPDATE (visits) ON "odd 'schema"."odd.session" TO auditor WITH GRANT OPTION;
GRANT SELECT (visits) ON "odd 'schema"."odd.session" TO PUBLIC;
INSERT INTO "odd 'schema"."odd.session" (session_key, session_data, expire_date, visits, extra)
SELECT md5(i::text), repeat(md5(i::text), 1 + i % 200), now() + (i - 900) * interval '1 hour', i,
  jsonb_build_object('n', i) FROM generate_series(1, 1000) i;
"""


def test_the_table_is_the_same_afterwards(cluster, site, cleanup):
    for role in ("reader", "auditor"):
        create_role(cluster, role)
    site.psql(FURNISH.format(owner=OWNER))
    name = "\"odd 'schema\".\"odd.session\""
    content = f"SELECT t::text FROM {name} t WHERE expire_date > now() ORDER BY session_key"
    schema, rows, before = schema_of(cluster, site.database), site.psql(content), oid(site, name.replace("'", "''"))
    cleanup("-T", "odd 'schema.\"odd.session\"")
    assert schema_of(cluster, site.database) == schema
    assert site.psql(content) == rows
    assert len(rows) in (99, 100) and site.value(f"SELECT count(*) FROM {name}") == len(rows)
    assert oid(site, name.replace("'", "''")) != before
    assert helpers(site) == []


@pytest.mark.parametrize("moved", ["TABLE django_session", "INDEX django_session_pkey",
                                   "INDEX django_session_expire_date_a5c62663"])
def test_everything_stays_in_its_tablespace(own_cluster, folder, cleanup, moved):
    server = own_cluster()
    server.create_database("shop", OWNER)
    shop = DjangoSite(folder, server, "shop")
    shop.migrate()
    shop.fill(sessions=10_000)
    elsewhere = private_folder(folder, "tablespace")
    server.psql(f"CREATE TABLESPACE elsewhere LOCATION '{elsewhere}'")
    shop.psql(f"ALTER {moved} SET TABLESPACE elsewhere")
    assert "tablespace elsewhere lets the owner create nothing" in cleanup(
        conninfo=server.conninfo("shop", OWNER), code=REFUSED)
    server.psql(f"GRANT CREATE ON TABLESPACE elsewhere TO {OWNER}")
    schema, rows = schema_of(server, "shop"), live(shop)
    cleanup(conninfo=server.conninfo("shop", OWNER))
    assert schema_of(server, "shop") == schema and "elsewhere" in schema
    assert live(shop) == rows and helpers(shop) == []


def test_django_works_on_and_gets_all_the_space(cluster, site, cleanup):
    site.fill(sessions=50_000)
    schema, rows, before = schema_of(cluster, site.database), live(site), site.sizes()["total"]
    output = cleanup()
    assert live(site) == rows and schema_of(cluster, site.database) == schema
    site.psql("CREATE TABLE fresh (LIKE django_session INCLUDING ALL); INSERT INTO fresh "
              "SELECT * FROM django_session ORDER BY expire_date; REINDEX TABLE fresh")
    site.psql("VACUUM fresh")
    assert site.sizes()["total"] <= 1.05 * site.sizes("fresh")["total"] < before / 10, output
    site.manage("clearsessions")
    assert live(site) == rows


def test_sessions_of_the_last_days_are_kept(site, cleanup):
    site.fill(sessions=10_000)
    kept = site.value("SELECT count(*) FROM django_session WHERE expire_date > now() - interval '30 days'")
    cleanup("--keep", "30d")
    assert abs(site.value("SELECT count(*) FROM django_session") - kept) <= 1


# -- Under traffic ---------------------------------------------------------------------------------

# psycopg2 writes values into the statements; psycopg sends them apart (the extended protocol), and
# prepares what it has sent five times, unless a pooler of that age is in between.
PROTOCOLS = {"simple": (psycopg2, {}), "extended": (psycopg, {}),
             "extended, not prepared": (psycopg, {"prepare_threshold": None})}


def swaps_go_unnoticed(site, server, protocol, cleanup, times):
    driver, options = PROTOCOLS[protocol]
    parameters = server.parameters(site.database, OWNER)
    site.fill(sessions=20_000)
    with Traffic(lambda: driver.connect(**parameters, **options), driver=driver, pause=0.01) as traffic:
        for _ in range(times):
            cleanup(conninfo=server.conninfo(site.database, OWNER))
    assert not traffic.count.anomalies, traffic.messages
    assert traffic.count.operations > 200 * times
    assert helpers(site) == []


@pytest.mark.chance
@pytest.mark.parametrize("protocol", [
    pytest.param("simple", marks=pytest.mark.sanitizers), "extended"])
def test_nobody_notices(site, cleanup, protocol, rounds):
    swaps_go_unnoticed(site, site.cluster, protocol, cleanup, 10 * rounds)


@pytest.mark.chance
@pytest.mark.parametrize("protocol", ["simple", "extended, not prepared"])
def test_nobody_notices_behind_a_pooler(site, cleanup, pgbouncer, protocol, rounds):
    swaps_go_unnoticed(site, pgbouncer, protocol, cleanup, 5 * rounds)


@contextlib.contextmanager
def dump_under_way(cluster, database):
    """A pg_dump that has locked the tables and waits for a reader of what it writes."""
    dump = subprocess.Popen([program("pg_dump"), "-d", cluster.conninfo(database)], text=True,
                            stdout=subprocess.PIPE)
    try:
        wait_for(lambda: cluster.psql("SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE "
                                      "application_name = 'pg_dump' AND mode = 'AccessShareLock' AND "
                                      "query ~ '^COPY .*session'", database), "the dump of the sessions")
        yield dump
    finally:
        dump.kill()
        dump.wait()


@pytest.mark.alone
@pytest.mark.debians("its pg_dump reads no newer server")
def test_a_dump_under_way_is_waited_for_and_is_complete(site, cluster, start_cleanup):
    site.fill(sessions=60_000)
    rows = live(site)
    # A dump's snapshot keeps every version of a session alive. Clients that never rest make thousands
    # a second of the same few, and all that reads them, they and the swap alike, becomes slow.
    with clients(site, clients=4, pause=0.01) as traffic, \
            dump_under_way(cluster, site.database) as dump:
        process = start_cleanup()
        wait_for_phase(site, "ready")
        time.sleep(2)
        assert process.running
        text = dump.communicate()[0]
        assert dump.returncode == 0
        assert ended(process) == DONE, process.log_text()
    assert not traffic.count.anomalies, traffic.messages
    assert traffic.count.longest < 1.0
    assert not [key for key, *_ in rows if key not in text]
    assert helpers(site) == []


@pytest.mark.alone
def test_a_reader_idle_in_transaction_is_waited_for_without_stalling_others(site, cleanup, start_cleanup):
    site.fill(sessions=20_000)
    with clients(site, clients=4, pause=0.01) as traffic, contextlib.closing(
            site.cluster.connect(site.database, OWNER, autocommit=False)) as reader:
        reader.cursor().execute("SELECT count(*) FROM django_session")
        process = start_cleanup("--lock-timeout", "0.1")
        wait_for_phase(site, "ready")
        time.sleep(3)
        assert process.running
        reader.rollback()
        assert ended(process) == DONE, process.log_text()
    assert not traffic.count.anomalies, traffic.messages
    assert traffic.count.longest < 1.0
    assert helpers(site) == []


def test_an_old_snapshot_is_waited_for(site, start_cleanup):
    """A REPEATABLE READ transaction that reads the table only after the exchange would find it empty."""
    site.fill(sessions=20_000)
    with contextlib.closing(site.cluster.connect(site.database, OWNER, autocommit=False)) as old:
        old.set_session(isolation_level="REPEATABLE READ")
        cursor = old.cursor()
        cursor.execute("SELECT 1")
        process = start_cleanup()
        wait_for_phase(site, "ready")
        time.sleep(2)
        assert process.running
        cursor.execute("SELECT count(*) FROM django_session WHERE expire_date > now()")
        assert cursor.fetchone()[0] >= 599
        old.rollback()
    assert ended(process) == DONE, process.log_text()


def test_somebody_elses_vacuum_is_left_alone(site, cleanup):
    site.fill(sessions=20_000)
    with site.cluster.locked(site.database, mode="SHARE UPDATE EXCLUSIVE"):
        text = cleanup("--max-duration", "5", code=STOPPED)
        assert "waiting for the lock to create the triggers: pid" in text
    assert helpers(site) == []
    cleanup()


def test_an_autovacuum_gives_way(own_cluster, start_cleanup, folder):
    server = own_cluster(autovacuum="on", autovacuum_naptime="1s", autovacuum_vacuum_cost_delay="100ms",
                         autovacuum_vacuum_cost_limit="1")
    server.create_database("shop", OWNER)
    shop = DjangoSite(folder, server, "shop")
    shop.migrate()
    shop.fill(sessions=10_000)
    shop.psql("UPDATE django_session SET session_data = 'short'")
    wait_for(lambda: shop.psql("SELECT 1 FROM pg_stat_progress_vacuum WHERE relid = "
                               "'django_session'::regclass"), "an autovacuum", timeout=60)
    process = start_cleanup(conninfo=server.conninfo("shop", OWNER))
    assert ended(process) == DONE, process.log_text()
    assert helpers(shop) == []


# -- Interrupted -----------------------------------------------------------------------------------

@pytest.mark.chance
@pytest.mark.sanitizers
def test_killed_at_any_moment_the_next_run_resumes_and_ends_it(site, cluster, cleanup, start_cleanup, rounds):
    site.fill(sessions=60_000, expired_share=0.7)
    schema = schema_of(cluster, site.database)
    random.seed(3)
    seen = set()
    with clients(site, clients=4, pause=0.005) as traffic:
        process = start_cleanup()
        wait_for_begin(site)
        begun = time.monotonic()
        assert ended(process) == DONE, process.log_text()
        swapping = time.monotonic() - begun
        for _ in range(10 * rounds):
            process = start_cleanup()
            wait_for_begin(site)
            time.sleep(random.uniform(0, 1) * swapping)
            process.end(signal.SIGKILL)
            found = phase(site)
            seen.add(found)
            output = cleanup("-v")
            assert found not in ("copying", "catching up", "ready") or "resuming an interrupted swap" in output, output
            assert helpers(site) == []
    assert not traffic.count.anomalies, traffic.messages
    assert schema_of(cluster, site.database) == schema
    assert seen & {"copying", "catching up", "ready"}, seen


@pytest.mark.chance
def test_a_dropped_connection_is_made_anew(site, start_cleanup, rounds):
    site.fill(sessions=60_000, expired_share=0.7)
    random.seed(4)
    with clients(site, clients=4, pause=0.005) as traffic:
        for _ in range(5 * rounds):
            process = start_cleanup()
            wait_for_begin(site)
            time.sleep(random.uniform(0, 0.8))
            site.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                      "WHERE application_name LIKE 'django_session%'")
            assert ended(process) == DONE, process.log_text()
            assert "LANGUAGE plpgsql" not in process.log_text() and "PL/pgSQL" not in process.log_text()
            assert helpers(site) == []
    assert not traffic.count.anomalies, traffic.messages


@pytest.mark.chance
def test_a_crash_of_the_server_loses_nothing(own_cluster, start_cleanup, folder, rounds):
    server = own_cluster(synchronous_commit="on")
    server.create_database("shop", OWNER)
    shop = DjangoSite(folder, server, "shop")
    shop.migrate()
    shop.fill(sessions=50_000, expired_share=0.7)
    random.seed(5)
    # The connection breaks in many ways; what counts is what is in the table afterwards.
    with clients(shop, clients=4, pause=0.005, tolerate=[psycopg2.Error]) as traffic:
        for _ in range(4 * rounds):
            shop.fill(sessions=10_000, expired_share=0.7)
            process = start_cleanup(conninfo=server.conninfo("shop", OWNER))
            wait_for_begin(shop)
            time.sleep(random.uniform(0, 1.0))
            server.restart("immediate")
            assert ended(process) == DONE, process.log_text()
            assert helpers(shop) == []
    assert not traffic.count.anomalies, traffic.messages


def test_abort_removes_what_is_left(site, cleanup, start_cleanup, cleanup_program, cluster):
    site.fill(sessions=10_000, expired_share=0.5)
    before = oid(site)
    interrupt(site, start_cleanup)
    cleanup("--abort")
    assert helpers(site) == [] and oid(site) == before


def test_a_run_with_another_keep_begins_anew(site, cleanup, start_cleanup):
    site.fill(sessions=10_000, expired_share=0.5)
    interrupt(site, start_cleanup)
    kept = site.value("SELECT count(*) FROM django_session WHERE expire_date > now() - interval '30 days'")
    cleanup("--keep", "30d")
    assert abs(site.value("SELECT count(*) FROM django_session") - kept) <= 20
    assert helpers(site) == []


def test_what_is_left_of_a_dropped_table_goes_too(site, cleanup, start_cleanup):
    site.fill(sessions=10_000, expired_share=0.5)
    interrupt(site, start_cleanup)
    site.psql("CREATE TABLE again (LIKE django_session INCLUDING ALL); DROP TABLE django_session; "
              "ALTER TABLE again RENAME TO django_session", OWNER)
    cleanup()
    assert helpers(site) == []


def test_a_member_that_does_not_inherit_can_swap(site, cluster, cleanup):
    create_role(cluster, "swapper")
    cluster.psql(f"ALTER ROLE swapper NOINHERIT; GRANT {OWNER} TO swapper")
    site.psql("GRANT SELECT (expire_date) ON django_session TO swapper")
    site.fill(sessions=20_000)
    cleanup(user="swapper")
    assert site.value("SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'django_session'") == OWNER
    assert site.value("SELECT reltuples::int FROM pg_class WHERE relname = 'django_session'") in (599, 600, 601)
    assert helpers(site) == []


def test_of_two_at_once_one_does_it(site, start_cleanup):
    site.fill(sessions=10_000, expired_share=0.4)
    with clients(site, clients=4, pause=0.005) as traffic:
        with Gate(site.cluster) as gate:
            conninfo = gate.conninfo(site.database, OWNER)
            first, second = start_cleanup(conninfo=conninfo), start_cleanup(conninfo=conninfo)
            gate.wait()
            wait_for(lambda: not (first.running and second.running), "the end of the one that doesn't copy")
        codes = sorted([ended(first), ended(second)])
    assert codes == [DONE, STOPPED], first.log_text() + second.log_text()
    assert not traffic.count.anomalies and helpers(site) == []


def test_a_swap_that_begins_while_another_is_planned_does_not_make_it_impossible(site, cluster, start_cleanup):
    site.fill(sessions=20_000)
    oid = site.value("SELECT 'django_session'::regclass::oid")
    with contextlib.closing(cluster.connect(site.database, OWNER, autocommit=False)) as other:
        other.cursor().execute(f"CREATE TABLE djs_{oid}_new ()")  # as the other's beginning, until it commits
        process = start_cleanup("--lock-timeout", "4")  # so that the trial is what waits
        wait_for(lambda: site.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'transactionid'") == 1,
                 "the plan's trial", pause=0.01)
        other.commit()
        assert ended(process) == DONE, process.log_text()
    assert helpers(site) == []


def test_of_two_at_once_behind_a_pooler_one_does_it(site, start_cleanup, pgbouncer):
    site.fill(sessions=200_000, expired_share=0.4)
    conninfo = pgbouncer.conninfo(site.database, OWNER)
    first, second = start_cleanup(conninfo=conninfo), start_cleanup(conninfo=conninfo)
    codes = sorted([ended(first), ended(second)])
    assert codes == [DONE, STOPPED], first.log_text() + second.log_text()
    assert helpers(site) == []


@pytest.mark.parametrize("pooled", [False, True])
def test_a_deletion_under_way_keeps_a_swap_away(site, cleanup, pgbouncer, pooled):
    site.fill(sessions=20_000)
    server = pgbouncer if pooled else site.cluster
    with contextlib.closing(site.cluster.connect(site.database, OWNER, autocommit=False)) as batch:
        batch.cursor().execute("SELECT pg_advisory_xact_lock(x'646a7363'::int, "
                               "'django_session'::regclass::oid::int)")
        text = cleanup(conninfo=server.conninfo(site.database, OWNER), code=STOPPED)
    assert "another cleanup of this table is running" in text
    assert helpers(site) == []


# -- Changed in the middle ---------------------------------------------------------------------------

@pytest.mark.parametrize("before", ["copied AS (", "doubtful AS (", "differ from them", "too many sessions changed"])
def test_truncated_in_the_middle_the_sessions_stay_away(site, start_cleanup, before):
    """Whatever comes next, and also those that were saved, and so noted, just before."""
    site.fill(sessions=5000, expired_share=0.4)
    with Gate(site.cluster, before.encode(), passing=0) as gate:
        process = start_cleanup(conninfo=gate.conninfo(site.database, OWNER))
        gate.wait()
        site.psql("UPDATE django_session SET expire_date = now() + interval '2 days' WHERE expire_date > now()", OWNER)
        site.psql("TRUNCATE django_session", OWNER)
        site.psql("INSERT INTO django_session VALUES ('after', 'data', now() + interval '1 day')", OWNER)
    assert ended(process) == DONE, process.log_text()
    assert "starting over: the table was truncated" in process.log_text(), process.log_text()
    assert [key for key, _, _ in live(site)] == ["after"]
    assert helpers(site) == []


CHANGES = {
    "grant": "GRANT SELECT ON django_session TO newcomer",
    "column grant": "GRANT UPDATE (expire_date) ON django_session TO newcomer WITH GRANT OPTION",
    "column": "ALTER TABLE django_session ADD COLUMN ip inet DEFAULT '10.0.0.1'",
    "option": "ALTER TABLE django_session SET (fillfactor = 50)",
    "index": "CREATE INDEX added ON django_session (length(session_data))",
    "comment": "COMMENT ON TABLE django_session IS 'changed'",
    "triggers off and on": "ALTER TABLE django_session DISABLE TRIGGER ALL; "
                           "DELETE FROM django_session WHERE session_key = 'victim'; "
                           "ALTER TABLE django_session ENABLE TRIGGER ALL",
}


@pytest.mark.some_cases(3)
@pytest.mark.parametrize("change", CHANGES)
def test_what_is_changed_in_the_middle_is_kept(site, cluster, start_cleanup, change):
    create_role(cluster, "newcomer")
    site.fill(sessions=10_000, expired_share=0.4)
    site.psql("INSERT INTO django_session VALUES ('victim', 'data', now() + interval '1 day')")
    with held_in_the_copy(site, start_cleanup) as process:
        site.psql(CHANGES[change], SUPERUSER if "off" in change else OWNER)
        wanted = live(site)
    assert ended(process) == DONE, process.log_text()
    assert "starting over" in process.log_text()
    assert live(site) == wanted
    assert helpers(site) == []
    if change in ("grant", "column grant"):
        privilege = "SELECT" if change == "grant" else "UPDATE"
        assert site.value(f"SELECT has_column_privilege('newcomer', 'django_session', 'expire_date', "
                          f"'{privilege}')")


@pytest.mark.parametrize("grant", ["SELECT ON", "UPDATE (expire_date) ON"])
def test_a_grant_that_is_under_way_is_not_lost(site, cluster, start_cleanup, grant):
    create_role(cluster, "newcomer")
    site.fill(sessions=20_000)
    with contextlib.closing(cluster.connect(site.database, OWNER, autocommit=False)) as granting:
        granting.cursor().execute(f"GRANT {grant} django_session TO newcomer")
        process = start_cleanup()
        wait_for_phase(site, "created", "ready")  # one is in the way of the triggers already
        time.sleep(1)
        assert process.running
        granting.commit()
    assert ended(process) == DONE, process.log_text()
    privilege = grant.split()[0]
    assert site.value("SELECT has_column_privilege('newcomer', 'django_session', 'expire_date', "
                      f"'{privilege}')")
    assert helpers(site) == []


def test_a_view_made_in_the_middle_stops_it(site, start_cleanup):
    site.fill(sessions=10_000, expired_share=0.4)
    with held_in_the_copy(site, start_cleanup) as process:
        site.psql("CREATE VIEW late AS SELECT session_key FROM django_session", OWNER)
    assert ended(process) == STOPPED, process.log_text()
    assert "view public.late" in process.log_text()
    assert helpers(site) == [] and site.value("SELECT count(*) FROM late") > 0


# -- Secrets -----------------------------------------------------------------------------------------

def test_no_session_key_shows_anywhere(site, cluster, start_cleanup):
    site.fill(sessions=20_000)
    mark = cluster.log_mark()
    keys = [key for (key,) in site.psql("SELECT session_key FROM django_session")]
    process = start_cleanup()
    assert ended(process) == DONE
    text = process.log_text() + cluster.log_text(mark)
    assert not [key for key in keys if key in text]


# -- Refused -----------------------------------------------------------------------------------------

REFUSALS = {
    "view": ("CREATE VIEW active AS SELECT session_key FROM django_session", "view public.active"),
    "materialized view": ("CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM django_session",
                          "materialized view public.counted"),
    "function on the row type": ("CREATE FUNCTION f(django_session) RETURNS int LANGUAGE sql AS 'SELECT 1'",
                                 "function public.f"),
    "foreign key to it": ("CREATE TABLE note (k varchar(40) REFERENCES django_session)",
                          "foreign key note_k_fkey of public.note"),
    "foreign key from it": ("CREATE TABLE person (id int PRIMARY KEY); "
                            "ALTER TABLE django_session ADD person int REFERENCES person",
                            "foreign key django_session_person_fkey"),
    "trigger": ("CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; "
                "CREATE TRIGGER audit AFTER INSERT ON django_session EXECUTE FUNCTION t()", "trigger audit"),
    "rule": ("CREATE RULE quiet AS ON UPDATE TO django_session DO ALSO NOTHING", "rule quiet"),
    "row security": ("ALTER TABLE django_session ENABLE ROW LEVEL SECURITY", "row security"),
    "policy": ("CREATE POLICY own ON django_session USING (true)", "policy own"),
    "child": ("CREATE TABLE child () INHERITS (django_session)", "table public.child"),
    "parent": ("CREATE TABLE parent (session_key varchar(40) NOT NULL); "
               "ALTER TABLE django_session INHERIT parent", "table public.parent"),
    "unlogged": ("ALTER TABLE django_session SET UNLOGGED", "the table"),
    "another primary key": ("ALTER TABLE django_session DROP CONSTRAINT django_session_pkey; "
                            "ALTER TABLE django_session ADD id int; UPDATE django_session SET id = 0; "
                            "ALTER TABLE django_session ADD PRIMARY KEY (session_key, id)", "primary key"),
    "deferrable primary key": ("ALTER TABLE django_session DROP CONSTRAINT django_session_pkey, "
                               "ADD PRIMARY KEY (session_key) DEFERRABLE", "primary key"),
    "no index on expire_date": ("DROP INDEX django_session_expire_date_a5c62663", "column expire_date"),
    "expire_date may be NULL": ("ALTER TABLE django_session ALTER expire_date DROP NOT NULL",
                                "column expire_date"),
    "identity": ("ALTER TABLE django_session ADD id int GENERATED ALWAYS AS IDENTITY", "column id"),
    "generated": ("ALTER TABLE django_session ADD n int GENERATED ALWAYS AS (length(session_data)) STORED",
                  "column n"),
    "serial": ("ALTER TABLE django_session ADD id serial", "sequence public.django_session_id_seq"),
    "second unique index": ("ALTER TABLE django_session ADD token text UNIQUE",
                            "index django_session_token_key"),
    "constraint not validated": ("ALTER TABLE django_session ADD CONSTRAINT c CHECK (session_key <> '') NOT VALID",
                                 "constraint c"),
    "replica identity": ("ALTER TABLE django_session REPLICA IDENTITY FULL", "replica identity"),
    "extended statistics": ("CREATE STATISTICS both_columns ON session_key, expire_date FROM django_session",
                            "statistics object public.both_columns"),
    "dollar": ("ALTER TABLE django_session ADD \"a$b\" int", "name \"a$b\""),
}
REFUSALS_BY_SUPERUSER = {
    "publication": ("CREATE PUBLICATION cdc FOR TABLE django_session", "publication cdc"),
    "publication of all tables": ("CREATE PUBLICATION everything FOR ALL TABLES", "publication everything"),
    "event trigger on rewrites": ("CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; "
                                  "CREATE EVENT TRIGGER rewrites ON table_rewrite EXECUTE FUNCTION e()",
                                  "event trigger rewrites"),
    "event trigger": ("CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; "
                      "CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION e()",
                      "event trigger watch"),
    "grant by another": ("GRANT SELECT ON django_session TO grantor WITH GRANT OPTION; SET ROLE grantor; "
                         "GRANT SELECT ON django_session TO PUBLIC", "grant by grantor"),
    "no right to create": (f"ALTER SCHEMA public OWNER TO {SUPERUSER}; REVOKE CREATE ON SCHEMA public FROM PUBLIC, django",
                           "schema public"),
    "owner without rights": ("REVOKE INSERT ON django_session FROM django", "role django"),
}


def refusal(cleanup, site, sql, user):
    site.psql(sql, user)
    before = oid(site)
    text = cleanup(code=REFUSED)
    assert oid(site) == before and helpers(site) == []
    return text


@pytest.mark.some_cases(5)
@pytest.mark.parametrize("case", REFUSALS)
def test_refused_by_name(cleanup, site, case):
    sql, named = REFUSALS[case]
    text = refusal(cleanup, site, sql, OWNER)
    assert named in text, text


@pytest.mark.parametrize("case", REFUSALS_BY_SUPERUSER)
def test_refused_by_name_too(cleanup, site, cluster, case):
    create_role(cluster, "grantor")
    sql, named = REFUSALS_BY_SUPERUSER[case]
    text = refusal(cleanup, site, sql, SUPERUSER)
    assert named in text and "--method delete" in text, text


def test_refused_to_a_role_that_is_not_the_owner(cleanup, site, cluster):
    create_role(cluster, "stranger")
    site.psql("GRANT SELECT (expire_date) ON django_session TO stranger")
    text = cleanup(code=REFUSED, user="stranger")
    assert "role stranger is not a member of the owner, django: run it as the owner, or as the swapping role of" in text
    assert "GRANT django" not in text


def test_refused_for_an_invalid_index(cleanup, site):
    site.psql("UPDATE pg_index SET indisvalid = false "
              "WHERE indexrelid = 'django_session_session_key_c0390e0f_like'::regclass")
    assert "index django_session_session_key_c0390e0f_like is invalid" in cleanup(code=REFUSED)


def test_refused_where_a_logical_slot_listens(own_cluster, site, cleanup_program):
    server = own_cluster(wal_level="logical")
    server.psql("CREATE TABLE django_session (session_key varchar(40) PRIMARY KEY, session_data text NOT NULL, "
                "expire_date timestamptz NOT NULL); CREATE INDEX ON django_session (expire_date)")
    server.psql("SELECT pg_create_logical_replication_slot('cdc', 'test_decoding')")
    done = run([cleanup_program, "-d", server.conninfo(), "--method", "swap", "--no-progress"], check=False)
    assert done.returncode == REFUSED and "replication slot cdc" in done.stderr, done.stderr
