"""What a stranger has put under the names that a swap's helpers have: none of it is read or written, so that no code of his
runs with anybody else's rights, and but for the swap, which needs the names, all goes on as if they were free."""

import contextlib
import re
import signal
import threading

import pytest

from check import run_check
from cleanup_command import CLEANER, DONE, FAILED, REFUSED, STOPPED, SWAPPER
from cluster import SUPERUSER
from django_site import MONITOR, OWNER, TABLE
from processes import wait_for
from test_swap import helpers, oid
from wire_proxy import REMOVAL, BeforeTheFirst, WireProxy

STRANGER = "name_taker"
RELATIONS, FUNCTION = ("state", "log", "new", "old"), "note"
NAMES = (*RELATIONS, "i2", FUNCTION)

# Whose columns each has that is read; each of his functions says as whom it was called.
COLUMNS = """'x'::text AS run_id, 'ready'::text AS phase, now() + interval '1 day' AS lease_until, {pid} AS backend,
  0::oid AS shadow, 0::oid AS log, 0::oid AS source, 'x'::text AS k, 1::bigint AS n, true AS live, false AS truncated,
  'x'::varchar(40) AS session_key, 'x'::text AS session_data, now() AS expire_date"""
CODE = """
CREATE FUNCTION public.spy() RETURNS bool LANGUAGE plpgsql AS
  $$BEGIN RAISE LOG 'spy: as %', current_user; RETURN true; END$$;
CREATE FUNCTION public.spy_when_planned() RETURNS bool LANGUAGE plpgsql IMMUTABLE AS
  $$BEGIN RAISE LOG 'spy: as %', current_user; RETURN true; END$$;
CREATE FUNCTION public.spy_trigger() RETURNS trigger LANGUAGE plpgsql AS
  $$BEGIN PERFORM public.spy(); RETURN NULL; END$$;
"""
GRANT = "GRANT ALL ON {name} TO PUBLIC;"
TRIGGERS = """
CREATE TRIGGER before_all BEFORE INSERT OR UPDATE OR DELETE ON {name} EXECUTE FUNCTION public.spy_trigger();
CREATE TRIGGER each BEFORE INSERT OR UPDATE OR DELETE ON {name} FOR EACH ROW EXECUTE FUNCTION public.spy_trigger();
"""
PLAIN = f"CREATE TABLE {{name}} AS SELECT {COLUMNS};" + TRIGGERS + """
CREATE TRIGGER emptied BEFORE TRUNCATE ON {name} EXECUTE FUNCTION public.spy_trigger();
CREATE INDEX ON {name} (n) WHERE public.spy_when_planned();
CREATE POLICY spy ON {name} USING (public.spy()); ALTER TABLE {name} ENABLE ROW LEVEL SECURITY;
"""
KINDS = {
    "view": f"CREATE VIEW {{name}} AS SELECT {COLUMNS} WHERE public.spy() AND public.spy_when_planned();" + """
        CREATE TRIGGER io INSTEAD OF INSERT OR UPDATE OR DELETE ON {name} FOR EACH ROW EXECUTE FUNCTION public.spy_trigger();
        """ + GRANT,
    "materialized view": f"CREATE MATERIALIZED VIEW {{name}} AS SELECT {COLUMNS};" + GRANT,
    "foreign table": "CREATE FOREIGN TABLE {name} (run_id text, n int, log oid, lease_until timestamptz, backend int) "
                     "SERVER nowhere;" + TRIGGERS + GRANT,
    "partitioned table": "CREATE TABLE {name} (run_id text, n int, log oid, lease_until timestamptz, backend int) "
                         "PARTITION BY LIST (n);" + TRIGGERS.replace("CREATE TRIGGER each BEFORE", "CREATE TRIGGER each AFTER")
                         + GRANT,
    "sequence": "CREATE SEQUENCE {name};" + GRANT,
    "composite type": "CREATE TYPE {name} AS (i int);",
    "plain table": PLAIN + GRANT,
    "plain table without grants": PLAIN,
}
A_FUNCTION = "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM public.spy(); RETURN NULL; END$$;"
WITH_CODE = ("view", "partitioned table", "plain table")
TRIGGERS, EXCHANGE = "triggers", "exchange"  # what a run waits for, and the lock that makes it wait
WAITS = {TRIGGERS: "ROW EXCLUSIVE", EXCHANGE: "ACCESS SHARE"}


@pytest.fixture
def taken(cleaned_site):
    """A site with few sessions, and a stranger with CREATE on the table's schema."""
    site = cleaned_site
    site.schema, site.table = "public", TABLE
    site.cluster.create_role(STRANGER)
    site.psql(f"""CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere;
        GRANT USAGE ON FOREIGN SERVER nowhere TO {STRANGER};
        CREATE SCHEMA moved; GRANT CREATE, USAGE ON SCHEMA moved TO {OWNER}, {STRANGER};
        GRANT CREATE ON SCHEMA public TO {STRANGER}""")
    site.psql(CODE, STRANGER)
    site.fill(sessions=1000)
    site.mark = site.cluster.log_mark()
    return site


def take(site, kind, names=NAMES):
    for name in names:
        full_name = f"{site.schema}.djs_{oid(site, site.table)}_{name}"
        code = A_FUNCTION if name == FUNCTION else KINDS[kind]
        site.psql(code.replace("{name}", full_name).replace("{pid}", "pg_backend_pid()"), STRANGER)
    site.taken = helpers(site)


def give_back(site):
    site.psql(f"DROP OWNED BY {STRANGER} CASCADE; GRANT CREATE ON SCHEMA public, moved TO {STRANGER}; "
              f"GRANT USAGE ON FOREIGN SERVER nowhere TO {STRANGER}")
    site.psql(CODE, STRANGER)


def nobody_was_used(site):
    """His own functions run for him: when he makes his index, say."""
    assert set(re.findall(r"LOG:  spy: as (.*)", site.cluster.log_text(site.mark))) <= {STRANGER}


def clean(site, run_cleanup, *options, user):
    """900 expired sessions and 30 live ones, cleaned up."""
    site.fill(sessions=930, expired_share=0.9677, table=site.table, vacuum=False)
    return run_cleanup(*options, "--no-progress", "-T", site.table, user=user)


def is_as_with_free_names(site, run_cleanup, check_program):
    """All that may be done without these names."""
    def deletes(method, user):
        result = clean(site, run_cleanup, "--method", method, user=user)
        assert result.code == DONE and result.deleted >= 900, f"{method} {user} {result}"
    environment = site.cluster.environment(site.database, MONITOR)
    assert run_check(check_program, "-T", site.table, "-c", "overdue=9999d", environment=environment).state == "OK"
    for user in (CLEANER, SUPERUSER, OWNER):
        deletes("delete", user)
    deletes("full", OWNER)
    assert clean(site, run_cleanup, "--dry-run", "--method", "auto", user=SWAPPER).code in (DONE, REFUSED)
    nobody_was_used(site)


@pytest.mark.some_cases(3)
@pytest.mark.parametrize("kind", KINDS)
def test_what_others_have_under_the_names_is_not_touched(taken, run_cleanup, check_program, kind):
    for name in NAMES:
        take(taken, kind, [name])
        plan = run_cleanup("--dry-run", "--method", "swap", user=SWAPPER)
        named = rf"djs_{oid(taken)}_{name}\S* belongs to {STRANGER}"
        assert plan.code == REFUSED and re.search(named, plan.stdout + plan.stderr), (name, plan)
        give_back(taken)
    take(taken, kind)
    is_as_with_free_names(taken, run_cleanup, check_program)
    for user in (SUPERUSER, SWAPPER):
        result = run_cleanup("--method", "swap", user=user)
        assert result.code == REFUSED and f"belongs to {STRANGER}" in result.stdout + result.stderr, result
        result = run_cleanup("--abort", user=user)
        assert result.code == DONE and "no interrupted cleanup left anything" in result.message, str(result)
    nobody_was_used(taken)
    assert helpers(taken) == taken.taken


def start_swap(site, start_cleanup, wait, user):
    """Until it waits, with its helpers made, and stops; what it waited for is over."""
    with site.cluster.locked(site.database, site.table, WAITS[wait]):
        run = start_cleanup("--method", "swap", "-v", "--no-progress", "-T", site.table, user=user)
        wait_for(lambda: site.psql(r"SELECT 1 FROM pg_class WHERE relname LIKE 'djs\_%\_state'"), "the state")
        if wait == EXCHANGE:
            wait_for(lambda: site.psql(f"SELECT 1 FROM djs_{oid(site)}_state WHERE phase = 'ready'"), "the copy")
        run.send(signal.SIGSTOP)
        wait_for(lambda: not site.psql("SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'django_session%' "
                                       "AND state = 'active'"), "its statement to end")
    return run


def leave_a_swap(site, start_cleanup):
    """One that was killed before it exchanged the tables."""
    run = start_swap(site, start_cleanup, EXCHANGE, OWNER)
    run.send(signal.SIGKILL)
    with contextlib.suppress(AssertionError):
        run.result()


@pytest.mark.some_cases(3)
@pytest.mark.parametrize("kind", KINDS)
def test_the_helpers_of_a_table_that_has_moved_are_not_looked_for_by_name(taken, run_cleanup, start_cleanup, check_program,
                                                                          kind):
    leave_a_swap(taken, start_cleanup)
    taken.psql("ALTER TABLE django_session SET SCHEMA moved", OWNER)
    taken.schema, taken.table = "moved", "moved.django_session"
    taken.apply_roles(table=taken.table, cleaner=CLEANER, swapper=SWAPPER)
    ours = len(helpers(taken))
    take(taken, kind)
    assert clean(taken, run_cleanup, "--dry-run", user=SUPERUSER).code in (DONE, REFUSED)
    deleted = clean(taken, run_cleanup, "--method", "delete", user=CLEANER)
    assert deleted.code == DONE and deleted.deleted >= 900, deleted
    result = run_cleanup("--abort", "-T", taken.table, user=SUPERUSER)
    assert result.code == DONE and "removed what an interrupted cleanup left" in result.message, str(result)
    nobody_was_used(taken)
    assert len(helpers(taken)) == len(taken.taken) - ours
    is_as_with_free_names(taken, run_cleanup, check_program)


@pytest.mark.some_cases(5)
@pytest.mark.parametrize("kind,wait", [*((kind, EXCHANGE) for kind in KINDS), *((kind, TRIGGERS) for kind in WITH_CODE)])
def test_a_run_that_was_removed_touches_nothing_that_has_come_instead(taken, run_cleanup, start_cleanup, kind, wait):
    """It hangs for as long as that takes."""
    run = start_swap(taken, start_cleanup, wait, SUPERUSER)
    taken.psql(f"UPDATE djs_{oid(taken)}_state SET lease_until = now() - interval '1 day'")
    assert run_cleanup("--abort", user=OWNER).code == DONE
    take(taken, kind)
    run.send(signal.SIGCONT)
    result = run.result()
    assert result.code == STOPPED and "another cleanup of this table has just ended" in result.message, str(result)
    nobody_was_used(taken)
    assert helpers(taken) == taken.taken


@pytest.mark.some_cases(2)
@pytest.mark.parametrize("wait,name", [(TRIGGERS, "log"), (EXCHANGE, "log"), (EXCHANGE, "new")])
@pytest.mark.parametrize("kind", WITH_CODE)
def test_a_helper_that_is_replaced_under_a_run_is_refused_by_name(taken, run_cleanup, start_cleanup, kind, wait, name):
    """The owner drops the log, or the copy, and a stranger comes before the run looks."""
    run = start_swap(taken, start_cleanup, wait, SUPERUSER)
    taken.psql(f"DROP TABLE djs_{oid(taken)}_{name}", OWNER)
    take(taken, kind, [name])
    run.send(signal.SIGCONT)
    result = run.result()
    assert result.code in (STOPPED, FAILED) and f"belongs to {STRANGER}" in result.message, str(result)
    nobody_was_used(taken)
    give_back(taken)
    assert helpers(taken) == []


def test_whoever_holds_the_cleanups_lock_is_named(taken, run_cleanup):
    """Its keys are no secret."""
    with contextlib.closing(taken.cluster.connect(taken.database, STRANGER)) as other:
        cursor = other.cursor()
        cursor.execute("SELECT pg_advisory_lock(x'646a7363'::int, %s)", (oid(taken),))
        for method, user in (("delete", CLEANER), ("swap", SWAPPER)):
            result = run_cleanup("--method", method, user=user)
            assert result.code == STOPPED, str(result)
            assert f"its lock is held by pid {other.info.backend_pid} of role {STRANGER}" in result.message, str(result)


def test_a_name_that_is_taken_in_the_last_moment_is_named(taken, start_cleanup):
    """After the plan, which has tried it, and not yet committed when we look."""
    def activity(condition):
        return taken.psql(f"SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'django_session%' AND {condition}")
    with contextlib.closing(taken.cluster.connect(taken.database, STRANGER)) as lock, \
            contextlib.closing(taken.cluster.connect(taken.database, STRANGER, autocommit=False)) as other:
        lock.cursor().execute("SELECT pg_advisory_lock(x'646a7363'::int, %s)", (oid(taken),))
        mark = taken.cluster.log_mark()
        run = start_cleanup("--method", "swap", user=SWAPPER)
        wait_for(lambda: "pg_try_advisory_lock" in taken.cluster.log_text(mark), "the end of the plan", pause=0.005)
        other.cursor().execute(f"CREATE TABLE public.djs_{oid(taken)}_i2 (i int)")
        lock.close()
        wait_for(lambda: activity("wait_event = 'transactionid'"), "its wait for the name", pause=0.005)
        other.commit()
        result = run.result()
    assert result.code == FAILED and f"djs_{oid(taken)}_i2 belongs to {STRANGER}" in result.message, str(result)
    assert len(helpers(taken)) == 3  # the stranger's, and its types


def test_a_client_who_waits_for_the_log_writes_into_nothing_that_has_come_instead(taken, start_cleanup, run_cleanup):
    """Its name goes from one to the other while he waits."""
    leave_a_swap(taken, start_cleanup)
    update = f"UPDATE {TABLE} SET session_data = 'new' WHERE expire_date > now()"
    log = f"public.djs_{oid(taken)}_log"
    with contextlib.closing(taken.cluster.connect(taken.database, autocommit=False)) as other:
        cursor = other.cursor()
        cursor.execute(f"ALTER TABLE {log} RENAME TO moved_log")
        cursor.execute(f"SET ROLE {STRANGER}")
        cursor.execute((KINDS["plain table"]).replace("{name}", log).replace("{pid}", "0"))
        client = threading.Thread(target=taken.psql, args=(update, OWNER))
        client.start()
        wait_for(lambda: taken.psql("SELECT 1 FROM pg_locks WHERE NOT granted"), "his wait", pause=0.002)
        other.commit()
        client.join()
    nobody_was_used(taken)
    assert taken.value(f"SELECT count(*) FROM {TABLE} WHERE session_data = 'new'") == 30
    assert run_cleanup("--abort", user=OWNER).code == DONE


def test_a_removal_that_waits_for_the_state_reads_nothing_that_has_come_instead(taken, start_cleanup):
    """A state that can't be taken over, and is nobody's."""
    leave_a_swap(taken, start_cleanup)
    state = f"public.djs_{oid(taken)}_state"
    taken.psql(f"ALTER TABLE {state} DROP lease_until")
    view = KINDS["view"].replace("{name}", state).replace("{pid}", "0")
    with contextlib.closing(taken.cluster.connect(taken.database, autocommit=False)) as other:
        at = BeforeTheFirst(REMOVAL, lambda: other.cursor().execute(
            f"ALTER TABLE {state} RENAME TO moved_state; SET ROLE {STRANGER}; {view}"))
        with WireProxy(taken.cluster, on_step=at) as proxy:
            removal = start_cleanup("--abort", "-d", proxy.conninfo(taken.database, SUPERUSER))
            wait_for(lambda: taken.psql("SELECT 1 FROM pg_locks WHERE NOT granted"), "its wait", pause=0.002)
            other.commit()
            result = removal.result()
    nobody_was_used(taken)
    assert result.code == DONE, str(result)
