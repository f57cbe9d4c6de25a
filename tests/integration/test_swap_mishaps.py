"""What administrators do to everything in a schema, done to the helpers of a swap too: no client's statement may fail
for it, no session may be lost, and the next run, or --abort, takes the helpers away."""

import contextlib
import re
import time

import psycopg2
import pytest

from cleanup_command import REFUSED
from cluster import SUPERUSER
from django_site import OWNER
from processes import wait_for
from test_swap import (DONE, FAILED, STOPPED, cleanup, cleanup_program, create_role, ended,  # noqa: F401
                       held_before_it_catches_up, held_in_the_copy, helpers, interrupt, live, oid, start_cleanup, wait_for_phase)
from traffic import Traffic
from wire_proxy import EXCHANGE, BeforeTheFirst, WireProxy

HEIR, WEB = "heir", "web"  # a new owner, and one who may only write sessions

# {oid} is the table's.
MISHAPS = {
    "log dropped": "DROP TABLE djs_{oid}_log",
    "log renamed": "ALTER TABLE djs_{oid}_log RENAME TO keys",
    "log moved": "CREATE SCHEMA aside; ALTER TABLE djs_{oid}_log SET SCHEMA aside",
    "column of the log renamed": "ALTER TABLE djs_{oid}_log RENAME k TO key",
    "column of the log dropped": "ALTER TABLE djs_{oid}_log DROP live",
    "column of the log of another type": "ALTER TABLE djs_{oid}_log ALTER k TYPE int USING 0",
    "log without writers": "REVOKE ALL ON djs_{oid}_log FROM django",
    "log with a rule": "CREATE RULE readonly AS ON INSERT TO djs_{oid}_log DO INSTEAD NOTHING",
    "log of another owner": "ALTER TABLE djs_{oid}_log OWNER TO heir",
    "column of the state of another type": "ALTER TABLE djs_{oid}_state ALTER shadow TYPE text USING 'x'",
    "function of another owner": "ALTER FUNCTION djs_{oid}_note() OWNER TO heir",
    "function as the caller": "ALTER FUNCTION djs_{oid}_note() SECURITY INVOKER",
    "function renamed": "ALTER FUNCTION djs_{oid}_note() RENAME TO noted",
    "schema without the owner": f"ALTER SCHEMA public OWNER TO {SUPERUSER}; REVOKE ALL ON SCHEMA public FROM PUBLIC, django; "
                                "GRANT USAGE ON SCHEMA public TO web",
    "tables of another owner": """DO $$ DECLARE t regclass; BEGIN
        FOR t IN SELECT oid FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace LOOP
          EXECUTE format('ALTER TABLE %s OWNER TO heir', t); END LOOP; END $$""",
    "all of another owner": "REASSIGN OWNED BY django TO heir",
    "table of another owner": "ALTER TABLE django_session OWNER TO heir",
    "strict settings": "ALTER ROLE web SET plpgsql.extra_errors = 'all'; ALTER ROLE web SET row_security = off; "
                       "ALTER ROLE web SET plpgsql.variable_conflict = 'use_variable'",
}
BEGUN_ANEW = ["log dropped", "log renamed", "log without writers", "log with a rule", "function as the caller"]

RAISE = """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$; """
RAISING = "CREATE TRIGGER refuse BEFORE INSERT ON djs_{oid}_log FOR EACH ROW EXECUTE FUNCTION refuse()"
GONE = "DROP FUNCTION refuse CASCADE"
# What keeps the log from being written to, and how it is undone, so that only what was missed can tell.
REFUSALS = {
    "a column that must not be NULL": (
        "ALTER TABLE djs_{oid}_log ADD who text NOT NULL DEFAULT ''; ALTER TABLE djs_{oid}_log ALTER who DROP DEFAULT",
        "ALTER TABLE djs_{oid}_log DROP who"),
    "a CHECK": ("ALTER TABLE djs_{oid}_log ADD CONSTRAINT no CHECK (n < 0) NOT VALID",
                "ALTER TABLE djs_{oid}_log DROP CONSTRAINT no"),
    "a trigger": (RAISE.format(code="P0001") + RAISING, GONE),
    "a trigger that fails to serialize": (RAISE.format(code="40001") + RAISING, GONE),
    "an assertion": (RAISE.format(code="P0004") + RAISING, GONE),
    "a deferred trigger": (
        RAISE.format(code="P0001") + "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON djs_{oid}_log DEFERRABLE "
        "INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()", GONE),
    "a unique index": ("DELETE FROM djs_{oid}_log; CREATE UNIQUE INDEX once ON djs_{oid}_log ((1))",
                       "DROP INDEX once"),
    "a deferred unique constraint": (
        "DELETE FROM djs_{oid}_log; ALTER TABLE djs_{oid}_log ADD CONSTRAINT once UNIQUE (truncated) DEFERRABLE "
        "INITIALLY DEFERRED", "ALTER TABLE djs_{oid}_log DROP CONSTRAINT once"),
    "a row-level policy": (
        "ALTER TABLE djs_{oid}_log ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        "ALTER TABLE djs_{oid}_log DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY"),
    "a sequence at its end": ("ALTER SEQUENCE djs_{oid}_log_n_seq MINVALUE -2 MAXVALUE -1 START -1 RESTART -1",
                              "ALTER SEQUENCE djs_{oid}_log_n_seq MINVALUE 1 MAXVALUE 1000000 START 1 RESTART 1"),
    "nothing of which the owner may write": (
        "REVOKE ALL ON djs_{oid}_log, djs_{oid}_state, djs_{oid}_state_missed_seq FROM django",
        "GRANT ALL ON djs_{oid}_log, djs_{oid}_state, djs_{oid}_state_missed_seq TO django"),
    "nothing to tell it by": ("ALTER TABLE djs_{oid}_state DROP missed; DROP TABLE djs_{oid}_log", "SELECT"),
    "a renamed column of the table": ("ALTER TABLE django_session RENAME session_data TO data",
                                      "ALTER TABLE django_session RENAME data TO session_data"),
}
# Afterwards the owner may do his work again.
REPAIRED = {"schema without the owner": "GRANT ALL ON SCHEMA public TO django"}


@pytest.fixture
def shared_site(site, cluster):
    """A site whose sessions are written by a role that doesn't own them."""
    for role in (HEIR, WEB):
        create_role(cluster, role)
    site.psql(f"GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON django_session TO {WEB}; "
              f"GRANT ALL ON SCHEMA public TO {HEIR}; GRANT USAGE ON SCHEMA public TO {WEB}")
    yield site
    cluster.psql(f"ALTER ROLE {WEB} RESET ALL")


SO_LONG = "SET statement_timeout = '30s'"  # who waits without a limit fails the test, and doesn't hold it up


def write_as_a_client(site):
    for change in ("INSERT INTO django_session VALUES ('new', 'data', now() + interval '1 day'), "
                   "('gone', 'data', now() + interval '1 day')",
                   "UPDATE django_session SET session_data = 'changed' WHERE session_key = 'new'",
                   "UPDATE django_session SET session_key = 'newer' WHERE session_key = 'new'",
                   "DELETE FROM django_session WHERE session_key = 'gone'"):
        with site.cluster.asking(site.database, WEB) as ask:
            ask(SO_LONG)
            ask(change)


@pytest.mark.some_cases(5)
@pytest.mark.parametrize("mishap", MISHAPS)
def test_an_interrupted_swap_stops_no_client(shared_site, cleanup, start_cleanup, mishap):  # noqa: F811
    site = shared_site
    site.fill(sessions=10_000, expired_share=0.3)
    interrupt(site, start_cleanup)
    site.psql(MISHAPS[mishap].format(oid=oid(site)))
    write_as_a_client(site)
    rows = live(site)
    assert any(row[0] == "newer" for row in rows)
    site.psql(REPAIRED.get(mishap, "SELECT"))
    text = cleanup("--abort", user=SUPERUSER)
    assert site.value("SELECT count(*) FROM pg_trigger WHERE tgname ~ '^djs_'") == 0
    left = {name for name in helpers(site) if re.fullmatch("djs_[0-9]+_(state|new|log|old|note)", name)}
    assert all(f"{name} of " in text for name in left), (left, text)
    assert left == set() or "another owner" in mishap or "moved" in mishap, left
    in_the_way = left if "another owner" in mishap else set()
    text = cleanup(user=SUPERUSER, code=REFUSED if in_the_way else DONE)
    assert not in_the_way or any(f"{name} belongs to" in text for name in in_the_way), text
    assert live(site) == rows


@pytest.mark.parametrize("mishap", ["log dropped", "log renamed", "log without writers", "log with a rule",
                                    "log of another owner", "function as the caller", "schema without the owner"])
def test_a_swap_under_way_loses_nothing(shared_site, cluster, cleanup, start_cleanup, mishap):  # noqa: F811
    site = shared_site
    site.fill(sessions=20_000, expired_share=0.2)
    parameters = cluster.parameters(site.database, WEB)
    with Traffic(lambda: psycopg2.connect(**parameters), clients=2, pause=0.005) as traffic:
        with held_in_the_copy(site, start_cleanup, user=SUPERUSER) as process:
            site.psql(MISHAPS[mishap].format(oid=oid(site)))
            time.sleep(0.5)  # so that clients come to a log that can't be written to
        code = ended(process)
    assert not traffic.count.anomalies, traffic.messages
    assert code in ([DONE] if mishap in BEGUN_ANEW else [STOPPED, FAILED]), process.log_text()
    site.psql(REPAIRED.get(mishap, "SELECT"))
    cleanup("--abort", user=SUPERUSER)
    assert site.value("SELECT count(*) FROM pg_trigger WHERE tgname ~ '^djs_'") == 0


@pytest.mark.some_cases(5)
@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_could_not_be_noted_is_not_lost(shared_site, cleanup, start_cleanup, refusal):  # noqa: F811
    """Even if what was in the way is gone before the next run."""
    site = shared_site
    site.fill(sessions=10_000, expired_share=0.3)
    interrupt(site, start_cleanup)
    refuse, undo = (sql.format(oid=oid(site)) for sql in REFUSALS[refusal])
    site.psql(refuse)
    if "renamed column" in refusal:
        site.psql("UPDATE django_session SET data = 'changed' WHERE expire_date > now()", WEB)
    else:
        write_as_a_client(site)
    site.psql(undo)
    rows = live(site)
    text = cleanup("-v", user=SUPERUSER)
    assert "renamed column" in refusal or "resuming an interrupted swap" not in text, text
    assert live(site) == rows and helpers(site) == []


# What a transaction does that has begun, and holds a lock, before the exchange asks for its own, and what it does while that
# one waits: nothing but the exchange itself can notice it.
BEGUN = "INSERT INTO django_session VALUES ('begun', 'data', now() + interval '1 day'); "
WHILE_THE_EXCHANGE_WAITS = {
    "a change that can't be noted": (  # the function's own sign that the log was locked
        BEGUN + "SELECT set_config('djs.locked_{oid}', pg_current_xact_id()::text, true)",
        "INSERT INTO django_session VALUES ('late', 'data', now() + interval '1 day')"),
    "a truncation": ("LOCK TABLE django_session IN ACCESS EXCLUSIVE MODE",
                     "TRUNCATE django_session; INSERT INTO django_session VALUES ('late', 'data', now() + interval '1 day')"),
    "a right": (BEGUN, "GRANT SELECT ON django_session TO web"),
    "a right to a column": (BEGUN, "GRANT UPDATE (session_data) ON django_session TO web"),
    "many changes": (BEGUN, "UPDATE django_session SET session_data = 'late' WHERE expire_date > now()"),
}
RIGHTS = """SELECT relacl::text FROM pg_class WHERE oid = 'django_session'::regclass UNION ALL
    SELECT attname || attacl::text FROM pg_attribute WHERE attrelid = 'django_session'::regclass AND attacl IS NOT NULL"""


def change_while_the_exchange_waits(site, cluster, start_cleanup, begin, go_on):
    """Returned: how many exchanges the run has tried, and its log."""
    site.psql(f"ALTER DATABASE {site.database} SET deadlock_timeout = '20s'")  # bounds the exchange's wait for its lock
    with contextlib.closing(cluster.connect(site.database, autocommit=False)) as writer:
        at = BeforeTheFirst(EXCHANGE, lambda: writer.cursor().execute(begin))
        with WireProxy(cluster, on_step=at) as proxy:
            process = start_cleanup("--lock-timeout", "8", conninfo=proxy.conninfo(site.database, OWNER))
            wait_for(lambda: site.psql("SELECT 1 FROM pg_locks WHERE relation = 'django_session'::regclass AND NOT granted"),
                     "the exchange to wait for its lock", timeout=60)
            writer.cursor().execute(go_on)
            writer.commit()
            assert ended(process) == DONE, process.log_text()
    return at.count, process.log_text()


@pytest.mark.parametrize("what", WHILE_THE_EXCHANGE_WAITS)
def test_what_happens_while_the_exchange_waits_is_noticed(site, cluster, start_cleanup, what):  # noqa: F811
    create_role(cluster, WEB)
    site.fill(sessions=20_000, expired_share=0.5)
    begin, go_on = (sql.format(oid=oid(site)) for sql in WHILE_THE_EXCHANGE_WAITS[what])
    exchanges, log = change_while_the_exchange_waits(site, cluster, start_cleanup, begin, go_on)
    rights = site.psql(RIGHTS)
    keys = {key for key, in site.psql("SELECT session_key FROM django_session")}
    late = site.value("SELECT count(*) FROM django_session WHERE session_data = 'late'")
    assert exchanges > 1, log  # the first one was given up
    assert ("web=r/" in str(rights)) == (what == "a right") and ("web=w/" in str(rights)) == (what == "a right to a column")
    assert len(keys) == {"a truncation": 1, "a change that can't be noted": 10_002}.get(what, 10_001)
    assert late == (10_001 if what == "many changes" else 0) and helpers(site) == []


def test_what_clients_do_while_the_exchange_waits_is_brought_along(site, cluster, start_cleanup):  # noqa: F811
    site.fill(sessions=2000, expired_share=0.5)
    saved, gone = (key for key, in site.psql("SELECT session_key FROM django_session WHERE expire_date > now() LIMIT 2"))
    exchanges, log = change_while_the_exchange_waits(
        site, cluster, start_cleanup, BEGUN,
        f"UPDATE django_session SET session_data = 'late' WHERE session_key = '{saved}'; "
        f"DELETE FROM django_session WHERE session_key = '{gone}'")
    rows = {key: data for key, data in site.psql("SELECT session_key, session_data FROM django_session")}
    assert exchanges == 1, log
    assert len(rows) == 1000 and rows["begun"] == "data" and rows[saved] == "late" and gone not in rows
    assert helpers(site) == []


def test_nobody_waits_for_a_locked_log(shared_site, cluster, start_cleanup):  # noqa: F811
    """As VACUUM FULL of all tables locks it."""
    site = shared_site
    site.fill(sessions=10_000, expired_share=0.3)
    interrupt(site, start_cleanup)
    with cluster.locked(site.database, f"djs_{oid(site)}_log", mode="ACCESS EXCLUSIVE"):
        start = time.monotonic()
        write_as_a_client(site)
        waited = time.monotonic() - start
    rows = live(site)
    process = start_cleanup()
    assert ended(process) == DONE, process.log_text()
    assert waited < 8, waited  # six rows, a lock timeout each
    assert live(site) == rows and helpers(site) == []


@pytest.mark.parametrize("settings", ["SELECT", "SET djs.locked_{oid} = 'set by the client'",
                                      "SET plpgsql.extra_errors = 'all'"])
def test_a_statement_of_many_sessions_waits_once_for_a_locked_log(shared_site, cluster, start_cleanup,  # noqa: F811
                                                                  settings):
    """And what it has changed, in the sessions after the first too, is not lost; nor is what comes after it."""
    site = shared_site
    site.fill(sessions=10_000, expired_share=0.3)
    interrupt(site, start_cleanup)
    forty = "SELECT session_key FROM django_session WHERE expire_date > now() + '2 hours' ORDER BY session_key LIMIT 40"
    with cluster.asking(site.database, WEB) as ask:
        ask(SO_LONG)
        ask(settings.format(oid=oid(site)))
        with cluster.locked(site.database, f"djs_{oid(site)}_log", mode="SHARE"):
            start = time.monotonic()
            ask(f"UPDATE django_session SET session_data = 'changed' WHERE session_key IN ({forty})")
            waited = time.monotonic() - start
        ask(f"DELETE FROM django_session WHERE session_key IN ({forty} OFFSET 40)")
    rows = live(site)
    assert waited < 1, waited
    process = start_cleanup()
    assert ended(process) == DONE, process.log_text()
    assert [row[1] for row in rows].count("changed") == 40 and live(site) == rows and helpers(site) == []


CHANGES = {"renamed": "ALTER TABLE {name} RENAME TO kept", "moved": "ALTER TABLE {name} SET SCHEMA aside",
           "dropped": "DROP TABLE {name} CASCADE"}


@contextlib.contextmanager
def held_at_the_exchange(site, start_cleanup, user):  # noqa: F811
    """By whoever reads the table."""
    with site.cluster.locked(site.database, mode="ACCESS SHARE"):
        process = start_cleanup(conninfo=site.cluster.conninfo(site.database, user))
        wait_for_phase(site, "ready")
        yield process


STEPS = {"copying": held_in_the_copy, "catching up": held_before_it_catches_up, "exchanging": held_at_the_exchange}


@pytest.mark.some_cases(5)
@pytest.mark.parametrize("change, name", [
    ("renamed", "djs_{oid}_log"), ("moved", "djs_{oid}_log"), ("dropped", "djs_{oid}_log"),
    ("renamed", "djs_{oid}_new"), ("renamed", "djs_{oid}_state"), ("dropped", "djs_{oid}_state"),
    ("renamed", "django_session")])
@pytest.mark.parametrize("step", STEPS)
def test_what_changes_while_its_lock_is_waited_for_is_noticed(site, cluster, cleanup, start_cleanup, change, name,  # noqa: F811
                                                              step):
    site.fill(sessions=10_000, expired_share=0.3)
    rows = live(site)
    name = name.format(oid=oid(site))
    site.psql("CREATE SCHEMA aside AUTHORIZATION django")
    with contextlib.closing(cluster.connect(site.database, autocommit=False)) as administrator, \
            cluster.asking(site.database) as ask, contextlib.ExitStack() as hold:
        process = hold.enter_context(STEPS[step](site, start_cleanup, user=SUPERUSER))
        if step == "exchanging" and name == "django_session":
            hold.close()  # the administrator would wait for the reader, too
        administrator.cursor().execute(CHANGES[change].format(name=name))
        hold.close()
        wait_for(lambda: not process.running or ask(
            "SELECT 1 FROM pg_locks WHERE NOT granted AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database())"),
            "somebody who waits", pause=0.002)
        administrator.commit()
    code = ended(process)
    text = process.log_text()
    assert "SQLSTATE" not in text, text
    if name == "django_session":
        assert code in (STOPPED, FAILED), text
        site.psql("ALTER TABLE kept RENAME TO django_session")
    if name.endswith("state"):
        assert code == DONE and "starting over: the swap's state was dropped or renamed" in text, text
    assert live(site) == rows, text
    text = cleanup("--abort", user=SUPERUSER)
    if change == "renamed" and re.fullmatch("djs_[0-9]+_(new|state)", name):
        assert "DROP TABLE public.kept, if nobody needs it" in text, text
    site.psql("DROP TABLE IF EXISTS kept")  # whose indexes still have names that the next run needs
    cleanup(user=SUPERUSER)
    assert live(site) == rows


def test_one_that_another_cleanup_has_removed_meanwhile_is_not_begun_anew(site, cleanup, start_cleanup):  # noqa: F811
    """Its state is gone, too, but with all else."""
    site.fill(sessions=10_000, expired_share=0.3)
    with held_in_the_copy(site, start_cleanup) as process:
        site.psql(f"UPDATE djs_{oid(site)}_state SET lease_until = now() - interval '1 minute'")
        cleanup("--abort")
        assert helpers(site) == []
    assert ended(process) == STOPPED, process.log_text()
    assert "another cleanup of this table has just ended" in process.log_text() and helpers(site) == []


def test_one_whose_state_others_have_made_anew_is_left_to_them(site, start_cleanup):  # noqa: F811
    site.fill(sessions=10_000, expired_share=0.3)
    state = f"djs_{oid(site)}_state"
    with held_in_the_copy(site, start_cleanup) as process:
        site.psql(f"ALTER TABLE {state} RENAME TO kept; CREATE TABLE {state} AS TABLE kept; "
                  f"ALTER TABLE {state} OWNER TO {OWNER}; UPDATE {state} SET run_id = 'of another run'")
        before = helpers(site)
    assert ended(process) == STOPPED, process.log_text()
    assert "another cleanup of this table has taken over" in process.log_text() and helpers(site) == before
