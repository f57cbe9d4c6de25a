"""What a server lacks at a step of a cleanup, or an administrator allows nobody: room on the disk, time, locks, connections.
The rows are those that were there or those that a cleanup leaves, what is said is true, and the next run ends it."""

import contextlib
import functools
import os

import psycopg2
import pytest

from cleanup_command import DONE, FAILED, REFUSED, STOPPED, SWAPPER
from django_site import OWNER, TABLE
from gate import Gate
from test_odd_settings import EXPIRED, HELPERS, small_disk
from test_swap import live
from wire_proxy import Fault, WireProxy

METHODS = ["swap", "delete", "full"]


# -- a full disk -----------------------------------------------------------------------------------------


@pytest.fixture
def tight(cleaned_site):
    """The site's database, on a disk of its own that can be filled up."""
    def move(tablespace):
        cleaned_site.cluster.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'site'")
        cleaned_site.cluster.psql(f"ALTER DATABASE site SET TABLESPACE {tablespace}")
    cleaned_site.fill(sessions=30_000)
    with small_disk(cleaned_site, 64) as cleaned_site.disk:
        move("small")
        try:
            yield cleaned_site
        finally:
            move("pg_default")


@contextlib.contextmanager
def filled_up(folder):
    """No block is left, until the end of the `with`."""
    ballast = folder / "ballast"
    with open(ballast, "wb") as file:
        free = os.statvfs(folder)
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize)
    yield
    ballast.unlink()


# Before a statement with these words, the first or the second that has them: the trial of the pre-flight comes first.
STEPS = {
    "trial": ("swap", b"autovacuum_enabled = off) AS", 0),
    "state and log": ("swap", b"autovacuum_enabled = off) AS", 1),
    "new table": ("swap", b"LIKE %s INCLUDING ALL", 1),
    "copy": ("swap", b"copied AS (", 1),
    "indexes": ("swap", b"deferred_indexes INTO", 0),
    "catching up": ("swap", b"doubtful AS (", 0),
    "exchange": ("swap", b"IN ACCESS EXCLUSIVE MODE", 0),
    "deletion": ("delete", b"left_over AS MATERIALIZED", 0),
    "VACUUM": ("delete", b"VACUUM (", 0),
    "REINDEX": ("delete", b"REINDEX INDEX", 0),
    "rewrite": ("full", b"VACUUM (FULL", 0),
}
ABORTED = {"indexes", "exchange"}  # the others are gone on with


@pytest.mark.some_cases(5)
@pytest.mark.parametrize("step", STEPS)
def test_a_disk_that_fills_up(tight, start_cleanup, run_cleanup, step):
    method, words, passing = STEPS[step]
    before = live(tight)
    with contextlib.ExitStack() as full:
        with Gate(tight.cluster, words, passing) as gate:
            cleanup = start_cleanup("--method", method, "--no-progress", "-d", gate.conninfo("site", SWAPPER))
            gate.wait(timeout=120)
            full.enter_context(filled_up(tight.disk))
        result = cleanup.result()
    left = tight.value(HELPERS) > 0
    assert result.code == {"trial": REFUSED, "REINDEX": DONE}.get(step, FAILED), result
    assert "No space left on device" in result.stdout + result.stderr, result
    assert left == ("--abort removes it" in result.stderr), result
    assert live(tight) == before
    if step in ABORTED:
        assert left and run_cleanup("--abort", user=SWAPPER).code == DONE and tight.value(HELPERS) == 0
    assert run_cleanup("--method", method, user=SWAPPER).code == DONE
    assert live(tight) == before and tight.value(EXPIRED) == 0 and tight.value(HELPERS) == 0


# -- what administrators set -----------------------------------------------------------------------------

LIMITS = ["lock_timeout = '1ms'", "statement_timeout = '1ms'", "idle_in_transaction_session_timeout = '1ms'",
          pytest.param("idle_session_timeout = '1s'", marks=pytest.mark.since(14, "there is no idle_session_timeout")),
          "default_transaction_read_only = on", "default_transaction_isolation = serializable"]


@pytest.mark.some_cases(2)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("limit", LIMITS)
def test_a_setting_of_the_role_changes_nothing(neglected, run_cleanup, limit, method):
    neglected.psql(f"ALTER ROLE {SWAPPER} IN DATABASE site SET {limit}")
    before = live(neglected)
    result = run_cleanup("--method", method, user=SWAPPER)
    if method != "swap" and result.code == FAILED:  # for VACUUM nothing can be set that lasts only as long
        assert limit.startswith("statement") and f"ALTER ROLE {SWAPPER} SET statement_timeout = 0" in result.message, result
        assert live(neglected) == before
        return
    assert result.code == DONE, result
    assert live(neglected) == before and neglected.value(EXPIRED) == 0 and neglected.value(HELPERS) == 0


@pytest.mark.some_cases(2)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("settings", [
    {"max_locks_per_transaction": 10, "max_connections": 10},
    {"wal_level": "minimal", "max_wal_senders": 0},
    # What the tests' servers are made without; initdb's own, as for pg_virtualenv.
    {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "autovacuum": "on", "max_wal_size": "1GB",
     "log_statement": "none", "log_line_prefix": "'%m [%p] '"},
], ids=["few locks", "minimal WAL", "defaults"])
def test_a_server_that_is_set_so(own_site, start_cleanup, settings, method):
    site = own_site(**settings)
    site.fill(sessions=10_000)
    before = live(site)
    result = start_cleanup("--method", method, environment=site.cluster.environment("site", OWNER)).result()
    assert result.code == DONE, result
    assert live(site) == before and site.value(EXPIRED) == 0 and site.value(HELPERS) == 0


@pytest.mark.parametrize("method", METHODS)
def test_no_connection_is_left(neglected, run_cleanup, method):
    neglected.psql(f"ALTER ROLE {SWAPPER} CONNECTION LIMIT 0")
    try:
        result = run_cleanup("--method", method, user=SWAPPER)
    finally:
        neglected.psql(f"ALTER ROLE {SWAPPER} CONNECTION LIMIT -1")
    assert result.code == FAILED and "too many connections for role" in result.message, result
    assert neglected.value(HELPERS) == 0


@pytest.mark.parametrize("method, words", [("swap", "doubtful AS ("), ("delete", "left_over AS MATERIALIZED")])
def test_no_connection_is_left_when_one_is_lost(neglected, cluster, start_cleanup, run_cleanup, method, words):
    """What has been begun is told of, and ended by the next run."""
    before = live(neglected)

    def let_nobody_in(step, _):
        if words in step.text:
            neglected.psql(f"ALTER ROLE {SWAPPER} CONNECTION LIMIT 0")
    try:
        with WireProxy(cluster, Fault.CUT_BEFORE, at=lambda step: words in step.text, on_step=let_nobody_in) as proxy:
            result = start_cleanup("--method", method, "--no-progress", "--max-duration", "4",
                                   "-d", proxy.conninfo("site", SWAPPER), environment={}).result()
    finally:
        neglected.psql(f"ALTER ROLE {SWAPPER} CONNECTION LIMIT -1")
    assert result.code in (STOPPED, FAILED) and "too many connections for role" in result.message + result.stderr, result
    assert live(neglected) == before and (neglected.value(HELPERS) == 0 or "next run" in result.message), result
    assert run_cleanup("--method", method, user=SWAPPER).code == DONE
    assert live(neglected) == before and neglected.value(EXPIRED) == 0 and neglected.value(HELPERS) == 0


@pytest.mark.parametrize("method", METHODS)
def test_no_lock_is_left(own_site, start_cleanup, method):
    """The server's table of locks is full."""
    site = own_site(max_locks_per_transaction=10, max_connections=10)
    site.fill(sessions=2000)
    before = live(site)
    run = functools.partial(start_cleanup, "--method", method, environment=site.cluster.environment("site", OWNER))
    with contextlib.closing(site.cluster.connect("site", autocommit=False)) as greedy:
        cursor = greedy.cursor()
        with pytest.raises(psycopg2.errors.OutOfMemory):
            for number in range(5000):
                cursor.execute("SELECT pg_advisory_xact_lock(1, %s)", [number])
        greedy.rollback()
        for one in range(number - 1):
            cursor.execute("SELECT pg_advisory_xact_lock(1, %s)", [one])
        result = run().result()
        assert result.code in (FAILED, REFUSED) and "out of shared memory" in result.message + result.stderr, result
        greedy.rollback()
    assert live(site) == before and site.value(HELPERS) == 0
    assert run().result().code == DONE
    assert live(site) == before and site.value(EXPIRED) == 0 and site.value(HELPERS) == 0


# -- another language ------------------------------------------------------------------------------------


@pytest.mark.debians("the others come without translations")
@pytest.mark.parametrize("method", METHODS)
def test_a_server_that_speaks_german(own_site, start_cleanup, method):
    site = own_site(prefix=["env", "LANGUAGE=de"])
    site.fill(sessions=3000)
    before = live(site)
    run = functools.partial(start_cleanup, "--method", method, environment=site.cluster.environment("site", OWNER))
    with site.cluster.locked("site"):
        result = run("--max-duration", "2").result()
        assert result.code == STOPPED, result
    with pytest.raises(psycopg2.errors.DivisionByZero, match="Division durch Null"):  # else this tests nothing
        site.psql("SELECT 1 / 0")
    result = run().result()
    assert result.code == DONE and live(site) == before and site.value(EXPIRED) == 0, result


@pytest.mark.parametrize("method", METHODS)
def test_a_missing_file_is_told_from_what_refuses_a_session(own_site, run_cleanup, method):
    """The server's words, which name it, may be those of a function of the table's owner, and aren't repeated."""
    site = own_site()
    site.fill(sessions=1000)
    file = site.value(f"SELECT pg_relation_filepath('{TABLE}')")
    site.cluster.stop()
    (site.cluster.data / file).unlink()
    site.cluster.start()
    result = run_cleanup("--method", method, environment=site.cluster.environment("site", OWNER))
    assert result.code == FAILED and "a file of the table or of an index is missing" in result.message, result
