"""The method `full`: the manual procedure with a bounded wait for its lock."""

import contextlib
import signal
import threading
import time

import pytest

from cleanup_command import CLEANER, DONE, REFUSED, STOPPED, SWAPPER
from django_site import OWNER, TABLE
from pgbouncer_server import PgBouncer
from processes import wait_for

FULL = ("--method", "full", "--no-progress")
EXPIRED = f"SELECT count(*) FROM {TABLE} WHERE expire_date < now()"


@contextlib.contextmanager
def reader(site, seconds):
    """A client that stays idle in a transaction in which it has read the table."""
    connection = site.cluster.connect("site", OWNER, autocommit=False)
    connection.cursor().execute(f"SELECT count(*) FROM {TABLE}")
    timer = threading.Timer(seconds, connection.rollback)
    timer.start()
    yield connection
    timer.join()
    connection.close()


@pytest.mark.sanitizers
def test_everything_is_given_back(neglected, run_cleanup):
    content = neglected.psql(f"SELECT * FROM {TABLE} WHERE expire_date > now() ORDER BY 1")
    result = run_cleanup(*FULL, user=SWAPPER)
    assert (result.code, result.deleted) == (DONE, 29_100), result
    assert neglected.psql(f"SELECT * FROM {TABLE} ORDER BY 1") == content
    assert result.perfdata["after"][0] < 0.05 * result.perfdata["before"][0]
    assert result.perfdata["longest_lock"][0] > 0


def test_it_is_never_done_unless_asked_for(neglected, run_cleanup):
    mark = neglected.cluster.log_mark()
    assert run_cleanup("--no-progress", user=SWAPPER).code == DONE
    assert "VACUUM (FULL" not in neglected.cluster.log_text(mark)


def test_only_the_owner_may(neglected, run_cleanup):
    neglected.let_only_delete(CLEANER)
    result = run_cleanup(*FULL, user=CLEANER)
    assert result.code == REFUSED and "full is not possible" in result.stderr
    assert neglected.value(EXPIRED) == 29_100


@pytest.mark.alone
def test_a_reader_in_a_transaction_is_waited_for_without_stopping_the_others(neglected, start_cleanup):
    """Whoever comes while VACUUM FULL waits for its lock queues behind it: for no longer than --lock-timeout."""
    longest = 0
    with reader(neglected, 4):
        cleanup = start_cleanup(*FULL, user=SWAPPER)
        wait_for(lambda: neglected.value(EXPIRED) == 0, "the delete")
        end = time.monotonic() + 3
        while time.monotonic() < end:
            start = time.monotonic()
            neglected.value(f"SELECT count(*) FROM {TABLE}", OWNER)
            longest = max(longest, time.monotonic() - start)
    result = cleanup.result()
    assert result.code == DONE and result.perfdata["after"][0] < 1e6, result
    assert longest < 0.5


def test_a_lock_that_never_comes_ends_at_max_duration(neglected, run_cleanup):
    with reader(neglected, 7):
        result = run_cleanup(*FULL, "--max-duration", "4", user=SWAPPER)
    assert (result.code, result.deleted) == (STOPPED, 29_100), result
    assert result.message == "max-duration reached; run it again to continue"


def test_autovacuum_on_the_table_steps_aside(own_site, cleanup_program):
    from cleanup_command import Cleanup
    site = own_site(autovacuum="on", autovacuum_naptime="1s")
    site.fill(sessions=30_000)
    busy = """SELECT count(*) FROM pg_stat_activity
        WHERE backend_type = 'autovacuum worker' AND query LIKE '%django_session%'"""
    # So slow that it would take minutes.
    site.psql(f"""ALTER TABLE {TABLE} SET (autovacuum_vacuum_threshold = 10, autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1);
        UPDATE {TABLE} SET session_data = session_data""")
    wait_for(lambda: site.value(busy) == 1, "autovacuum")
    result = Cleanup(cleanup_program, *FULL, environment=site.cluster.environment("site", OWNER)).result()
    assert result.code == DONE, result
    assert result.perfdata["after"][0] < 1e6


def test_a_signal_during_the_rewrite_undoes_it(neglected, start_cleanup):
    """Its lock is not granted before the signal has done its work."""
    before = neglected.sizes()["total"]
    with neglected.cluster.locked("site", mode="ACCESS SHARE"):
        cleanup = start_cleanup(*FULL, "--lock-timeout", "30", user=SWAPPER)
        busy = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'VACUUM (FULL%' AND state = 'active'"
        wait_for(lambda: neglected.value(busy) == 1, "VACUUM FULL")
        cleanup.send(signal.SIGINT)
        result = cleanup.result()
        assert neglected.value(busy) == 0
    assert (result.code, result.message) == (STOPPED, "interrupted; run it again to continue"), result
    assert neglected.sizes()["total"] == before
    assert result.perfdata["longest_lock"][0] > 0, "clients have waited for it all the same"


WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = '{}'"


def test_whoever_comes_before_its_analyze_causes_no_second_rewrite(neglected, start_cleanup):
    """Who has queued behind the rewrite, and keeps a lock that only VACUUM and the like wait for."""
    other = neglected.cluster.connect("site", OWNER, autocommit=False)
    with contextlib.closing(other), neglected.cluster.locked("site", mode="ACCESS SHARE") as reading:
        cleanup = start_cleanup(*FULL, "--lock-timeout", "5", "--max-duration", "30", user=SWAPPER)
        wait_for(lambda: neglected.value(WAITING.format("AccessExclusiveLock")), "VACUUM FULL", pause=0.005)
        thread = threading.Thread(target=other.cursor().execute, args=(f"LOCK TABLE {TABLE} IN SHARE UPDATE EXCLUSIVE MODE",))
        thread.start()
        wait_for(lambda: neglected.value(WAITING.format("ShareUpdateExclusiveLock")), "the other", pause=0.005)
        mark = neglected.cluster.log_mark()
        reading.rollback()
        result = cleanup.result()
        thread.join()
    assert result.code == DONE and "rewritten, but not analyzed" in result.stderr, result
    assert "VACUUM (FULL" not in neglected.cluster.log_text(mark).replace("STATEMENT:  VACUUM (FULL", "")
    assert result.perfdata["after"][0] < 0.05 * result.perfdata["before"][0]


def test_a_table_that_inherits_is_left_alone(neglected, run_cleanup):
    neglected.psql(f"CREATE TABLE archive () INHERITS ({TABLE})", OWNER)
    files = "SELECT pg_relation_filenode('archive'), pg_relation_filenode('django_session')"
    (archive, table), = neglected.psql(files)
    with neglected.cluster.locked("site", table="archive", mode="ACCESS SHARE"):
        result = run_cleanup(*FULL, user=SWAPPER)
    (archive_after, table_after), = neglected.psql(files)
    assert result.code == DONE and archive_after == archive and table_after != table, result


def test_an_old_snapshot_makes_it_useless_and_is_named(neglected, run_cleanup):
    with contextlib.closing(neglected.cluster.connect("site", OWNER, autocommit=False)) as client:
        client.cursor().execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        client.cursor().execute("SELECT 1")
        mark = neglected.cluster.log_mark()
        result = run_cleanup(*FULL, "--max-duration", "4", user=SWAPPER)
        assert result.code == STOPPED, result
        assert f"pid {client.get_backend_pid()}" in result.message
        assert "VACUUM (FULL" not in neglected.cluster.log_text(mark)


def test_it_needs_a_direct_connection(neglected, folder, run_cleanup):
    server = PgBouncer(folder, neglected.cluster, [OWNER, SWAPPER, "postgres"]).start()
    parameters = server.parameters("site", SWAPPER)
    try:
        result = run_cleanup(*FULL, environment={
            "PGHOST": parameters["host"], "PGPORT": str(parameters["port"]), "PGDATABASE": "site", "PGUSER": SWAPPER})
    finally:
        server.stop()
    assert result.code == REFUSED and "needs a direct connection" in result.stderr, result
    assert neglected.value(EXPIRED) == 29_100
