"""What a server lacks at a step of a cleanup, or an administrator allows nobody: room on the disk, time, locks, connections.
The rows are those that were there or those that a cleanup leaves, what is said is true, and the next run ends it."""

import contextlib
import datetime
import functools
import os
import threading

import psycopg2
import pytest

from cleanup_command import DONE, FAILED, REFUSED, STOPPED, SWAPPER
from django_site import OWNER, TABLE
from gate import Gate
from processes import wait_for
from test_odd_settings import EXPIRED, HELPERS, small_disk
from test_swap import live
from wire_proxy import Fault, WireProxy

METHODS = ["swap", "delete", "full"]
MADE_AND_LOGGING = ("what the swap made remains, and its triggers keep logging which sessions change: the next run resumes or "
                    "removes it, --abort removes it")
KEPT = "what is copied is kept, and triggers log what changes: the next run resumes it within 8 days; --abort removes it"
DISABLED = "the swap's triggers remain, disabled: the next run, or --abort, removes them"
TABLES = "tables of the swap remain: the next run, or --abort, removes them"
REPLACED = "the tables are exchanged, but the replaced one is still there: the next run, or --abort, drops it"


def check_what_is_left(site, result, before):
    """Of a run that didn't reach its end: the rows that it tells of, and in the database no more than it names."""
    assert live(site) == before
    assert site.value(EXPIRED) == site.expired - (result.deleted if result.perfdata.get("deleted") else 0), result
    triggers = {enabled for enabled, in site.psql("SELECT tgenabled FROM pg_trigger WHERE tgname LIKE 'djs%'")}
    if site.value("SELECT count(*) FROM pg_class WHERE relname LIKE 'djs%old'"):
        named = [REPLACED]
    elif triggers:
        named = [DISABLED] if triggers == {"D"} else [MADE_AND_LOGGING, KEPT]
    else:
        named = [TABLES] if site.value(HELPERS) else []
    said = [text for text in (MADE_AND_LOGGING, KEPT, DISABLED, TABLES, REPLACED) if text in result.stdout + result.stderr]
    assert said in ([text] for text in named) if named else not said, (named, result)


def check_the_end(site, result, before):
    """Of the next run."""
    assert result.code == DONE, result
    assert live(site) == before and site.value(EXPIRED) == 0 and site.value(HELPERS) == 0


# -- a full disk -----------------------------------------------------------------------------------------


@pytest.fixture
def tight(cleaned_site):
    """The site's database, on a disk of its own that can be filled up."""
    def move(tablespace):
        cleaned_site.cluster.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'site'")
        cleaned_site.cluster.psql(f"ALTER DATABASE site SET TABLESPACE {tablespace}")
    cleaned_site.fill(sessions=30_000)
    cleaned_site.expired = 29_100
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
    "triggers": ("swap", b"_note() RETURNS trigger", 0),
    "copy": ("swap", b"copied AS (", 1),
    "indexes": ("swap", b"deferred_indexes INTO", 0),
    "catching up": ("swap", b"doubtful AS (", 0),
    "vacuuming": ("swap", b"VACUUM (ANALYZE)", 0),
    "comparison": ("swap", b"t_all.all_rows", 0),
    "exchange": ("swap", b"IN ACCESS EXCLUSIVE MODE", 0),
    "dropping": ("swap", b"kept CONSTANT text", 0),
    "trial of a deletion": ("delete", b"left_over AS MATERIALIZED", 0),
    "deletion": ("delete", b"left_over AS MATERIALIZED", 0),
    "VACUUM": ("delete", b"VACUUM (", 0),
    "REINDEX": ("delete", b"REINDEX INDEX", 0),
    "rewrite": ("full", b"VACUUM (FULL", 0),
}
# Only where there is one a deletion is tried.
TRIGGER = f"""CREATE FUNCTION public.fires() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM {{}}; RETURN NULL; END$$;
  CREATE TRIGGER fires AFTER DELETE ON {TABLE} FOR EACH STATEMENT EXECUTE FUNCTION public.fires()"""
ABORTED = {"indexes", "exchange", "dropping"}  # the others are gone on with


@pytest.mark.some_cases(5)
@pytest.mark.parametrize("step", STEPS)
def test_a_disk_that_fills_up(tight, start_cleanup, run_cleanup, step):
    method, words, passing = STEPS[step]
    before = live(tight)
    if step == "trial of a deletion":
        tight.psql(TRIGGER.format("NULL"), OWNER)
    with contextlib.ExitStack() as full:
        with Gate(tight.cluster, words, passing) as gate:
            cleanup = start_cleanup("--method", method, "--no-progress", "-d", gate.conninfo("site", SWAPPER))
            gate.wait(timeout=120)
            full.enter_context(filled_up(tight.disk))
        result = cleanup.result()
    code = REFUSED if step.startswith("trial") else DONE if step == "REINDEX" else FAILED
    assert result.code == code and "No space left on device" in result.stdout + result.stderr, result
    assert step != "REINDEX" or "was not rebuilt: could not " in result.message, result
    check_what_is_left(tight, result, before)
    if step in ABORTED:
        assert tight.value(HELPERS) > 0 and run_cleanup("--abort", user=SWAPPER).code == DONE and tight.value(HELPERS) == 0
    check_the_end(tight, run_cleanup("--method", method, user=SWAPPER), before)


# -- small temporary files -------------------------------------------------------------------------------

# What spills more than questions to the catalogue do fails, or does without; the comparison needs none. Nor does the copy:
# a limit that comes with it is met at the indexes.
SPILLING = {
    "copy": ("swap", b"copied AS (", 1, FAILED),
    "indexes": ("swap", b"deferred_indexes INTO", 0, FAILED),
    "comparison": ("swap", b"t_all.all_rows", 0, DONE),
    "deletion": ("delete", b"left_over AS MATERIALIZED", 1, FAILED),
    "look for duplicates": ("delete", b"HAVING count(*) > 1", 0, DONE),
    "REINDEX": ("delete", b"REINDEX INDEX", 0, DONE),
    "rewrite": ("full", b"VACUUM (FULL", 0, FAILED),
}
TOO_LARGE = "temporary file size exceeds temp_file_limit (100kB)"
SORTS = "md5(i::text) FROM generate_series(1, 20000) i ORDER BY 1"  # of ours the server may give few to a batch


@contextlib.contextmanager
def small_temporary_files(cluster):
    """For sessions that are there, too, from their next statement on."""
    def allow(limit):
        cluster.psql(f"ALTER SYSTEM SET temp_file_limit = '{limit}'")
        cluster.reload()
        wait_for(lambda: cluster.psql("SHOW temp_file_limit") == [(limit,)], "the setting")
    allow("100kB")
    try:
        yield
    finally:
        allow("-1")


@pytest.fixture
def spilling(own_site):
    site = own_site(work_mem="64kB", maintenance_work_mem="1MB")
    site.fill(sessions=40_000, expired_share=0.2, live_for=datetime.timedelta(days=4000))  # else one expires any minute
    site.expired = 8_000
    return site


@pytest.mark.some_cases(3)
@pytest.mark.parametrize("step", SPILLING)
def test_temporary_files_that_become_too_small(spilling, start_cleanup, step):
    method, words, passing, code = SPILLING[step]
    before = live(spilling)
    if step == "deletion":
        spilling.psql(TRIGGER.format(SORTS), OWNER)
    with contextlib.ExitStack() as limited:
        with Gate(spilling.cluster, words, passing) as gate:
            cleanup = start_cleanup("--method", method, "--no-progress", "-d", gate.conninfo("site", OWNER), environment={})
            gate.wait(timeout=120)
            limited.enter_context(small_temporary_files(spilling.cluster))
        result = cleanup.result()
    words = {"comparison": "", "deletion": "an error was raised in function public.fires(), SQLSTATE 53400"}.get(step, TOO_LARGE)
    assert result.code == code and words in result.stdout + result.stderr, result
    check_what_is_left(spilling, result, before)
    if step == "look for duplicates":
        assert f"could not be checked for duplicate keys, which the server's log would show: {TOO_LARGE}" in result.message
    again = start_cleanup("--method", method, environment=spilling.cluster.environment("site", OWNER)).result()
    check_the_end(spilling, again, before)


@pytest.mark.parametrize("method", METHODS)
def test_temporary_files_that_are_too_small_from_the_start(spilling, start_cleanup, method):
    """A deletion needs none but for the indexes."""
    run = functools.partial(start_cleanup, environment=spilling.cluster.environment("site", OWNER))
    before = live(spilling)
    spilling.psql(f"ALTER ROLE {OWNER} SET temp_file_limit = '600kB'")
    result = run("--method", method).result()
    text = result.stdout + result.stderr
    assert result.code == (DONE if method == "delete" else REFUSED), result
    if method == "delete":
        assert "django_session_pkey is not rebuilt" in text.replace('"', "") and "(600kB)" in result.message, result
    else:
        assert f"{method} is not possible: the server's temp_file_limit is 600 kB" in text, result
    check_what_is_left(spilling, result, before)
    spilling.psql(f"ALTER ROLE {OWNER} RESET temp_file_limit")
    check_the_end(spilling, run("--method", method).result(), before)


# -- what administrators set -----------------------------------------------------------------------------

# Of the statements 5 ms: some take longer, but not those by which the setting is lifted.
LIMITS = ["lock_timeout = '1ms'", "statement_timeout = '5ms'", "idle_in_transaction_session_timeout = '1ms'",
          pytest.param("idle_session_timeout = '1s'", marks=pytest.mark.since(14, "there is no idle_session_timeout")),
          pytest.param("transaction_timeout = '300ms'", marks=pytest.mark.since(17, "there is no transaction_timeout")),
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


@pytest.mark.since(17, "there is no transaction_timeout")
@pytest.mark.parametrize("method", ["delete", "full"])
@pytest.mark.parametrize("limit, mode", [("300ms", "SHARE ROW EXCLUSIVE"), ("1s", "SHARE UPDATE EXCLUSIVE")])
def test_a_transaction_of_ours_outlives_the_roles_transaction_timeout(neglected, start_cleanup, limit, mode, method):
    """It waits for a lock that keeps others waiting, or for one that autovacuum has, too."""
    neglected.psql(f"ALTER ROLE {SWAPPER} IN DATABASE site SET transaction_timeout = '{limit}'")
    before, mark = live(neglected), neglected.cluster.log_mark()
    with neglected.cluster.locked("site", mode=mode):
        cleanup = start_cleanup("--method", method, "--lock-timeout", "0.45", user=SWAPPER)
        wait_for(lambda: neglected.psql(
            "SELECT 1 FROM pg_stat_activity WHERE application_name = 'django_session' AND wait_event_type = 'Lock' "
            f"AND clock_timestamp() - xact_start > '{limit}'"), "such a transaction", 60)
    check_the_end(neglected, cleanup.result(), before)
    assert "transaction timeout" not in neglected.cluster.log_text(mark)


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


# -- a prepared transaction ------------------------------------------------------------------------------

PREPARED = {
    "row": f"""UPDATE {TABLE} SET session_data = 'saved' WHERE session_key = 'kept';
        DELETE FROM {TABLE} WHERE session_key = 'ends'; UPDATE {TABLE} SET expire_date = now() + interval '9 days'
        WHERE session_key = 'renewed'""",
    "lock": f"SELECT count(*) FROM {TABLE}",
    "number": "SELECT txid_current()",
}
# A swap needs no old rows; a deletion does its work, but for the space.
PREPARED_ENDS = {("swap", "row"): STOPPED, ("swap", "lock"): STOPPED, ("swap", "number"): DONE,
                 **{("delete", holds): DONE for holds in PREPARED}, **{("full", holds): STOPPED for holds in PREPARED}}


@pytest.fixture
def prepared_site(own_site):
    site = own_site(max_prepared_transactions=2)
    site.fill(sessions=2_000)
    site.psql(f"""INSERT INTO {TABLE} SELECT key, 'old', now() + alive * interval '1 day'
        FROM (VALUES ('kept', 7), ('ends', 7), ('renewed', -7)) v(key, alive)""")
    site.expired = 1_941
    return site


@pytest.mark.some_cases(6)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("holds, end", [("row", "COMMIT"), ("row", "ROLLBACK"), ("lock", "ROLLBACK"), ("number", "COMMIT")])
def test_a_prepared_transaction(prepared_site, start_cleanup, holds, end, method):
    """It keeps its locks and its number, for which VACUUM keeps rows, without a session."""
    site = prepared_site
    run = functools.partial(start_cleanup, environment=site.cluster.environment("site", OWNER))
    site.psql(f"BEGIN; {PREPARED[holds]}; PREPARE TRANSACTION 'left'", OWNER)
    before = live(site)
    result = run("--method", method, "--no-progress", "--max-duration", "20").result()
    assert result.code == PREPARED_ENDS[method, holds], result
    left = f'prepared transaction "left" of role {OWNER}'
    text = result.stdout + result.stderr
    if method == "swap":
        waits = {"row": "waiting for the lock to create the triggers", "lock": "waiting for the lock to exchange the tables"}
        assert f"{waits[holds]}: {left}" in text if holds in waits else left not in text, result
    else:
        assert f"until this ends: {left}" in result.message, result
        assert result.deleted == site.expired - (holds == "row"), result
        assert (f"1 expired session is locked by {left}" in text) == (holds == "row"), result
    check_what_is_left(site, result, before)
    site.psql(f"{end} PREPARED 'left'", OWNER)
    again = run("--method", method).result()
    assert again.code == DONE and left not in again.stdout + again.stderr, again
    assert dict(site.psql(f"SELECT session_key, session_data FROM {TABLE} WHERE length(session_key) < 32")) == (
        {"kept": "saved", "renewed": "old"} if (holds, end) == ("row", "COMMIT") else {"kept": "old", "ends": "old"})
    assert len(live(site)) == len(before) and site.value(EXPIRED) == 0 and site.value(HELPERS) == 0


# -- an autovacuum against wraparound --------------------------------------------------------------------

AGAINST_WRAPAROUND = f"""SELECT a.pid FROM pg_stat_activity a JOIN pg_stat_progress_vacuum p USING (pid)
    WHERE p.relid = '{TABLE}'::regclass AND a.query ~ 'to prevent wraparound'"""
OF_THE_TABLE = ("autovacuum_freeze_max_age{}, autovacuum_freeze_table_age{}, autovacuum_vacuum_cost_limit{}, "
                "autovacuum_vacuum_cost_delay{}")


def begin_a_vacuum_against_wraparound(site):
    """By an autovacuum that would take minutes, since it may skip no page (freeze_table_age), and by none that the server's
    own limit asks for, which is two thousand times the table's."""
    site.psql(f"""ALTER TABLE {TABLE} SET ({OF_THE_TABLE.format(" = 100000", " = 0", " = 1", " = 100")}); CREATE TEMP TABLE burnt (i int);
        DO $$ BEGIN
          FOR i IN 1..110000 LOOP
            BEGIN INSERT INTO burnt VALUES (i); EXCEPTION WHEN division_by_zero THEN NULL; END;  -- an XID each
          END LOOP; END $$""")
    return wait_for(lambda: site.psql(AGAINST_WRAPAROUND), "the autovacuum", 30)[0][0]


def end_the_vacuum(site, pid):
    """Before the launcher begins it again, the table has the server's limit."""
    reset = threading.Thread(target=site.psql, args=(f"ALTER TABLE {TABLE} RESET ({OF_THE_TABLE.format('', '', '', '')})",))
    reset.start()
    wait_for(lambda: site.psql("SELECT 1 FROM pg_locks WHERE NOT granted AND mode = 'ShareUpdateExclusiveLock'"), "its turn")
    site.psql(f"SELECT pg_cancel_backend({pid})")
    reset.join()


@pytest.mark.some_cases(3)
@pytest.mark.parametrize("method", METHODS)
def test_an_autovacuum_against_wraparound(own_site, start_cleanup, method):
    """It yields to nobody: who needs its lock names it, and does its work when that is over."""
    site = own_site(autovacuum="on", autovacuum_naptime="1s")
    site.fill(sessions=30_000)
    site.expired = 29_100
    pid = begin_a_vacuum_against_wraparound(site)
    before = live(site)
    run = functools.partial(start_cleanup, "--method", method, environment=site.cluster.environment("site", OWNER))
    result = run("--no-progress", "--max-duration", "14").result()
    assert site.psql(AGAINST_WRAPAROUND) == [(pid,)], result
    assert result.code == STOPPED and f"pid {pid} (autovacuum)" in result.stdout + result.stderr, result
    assert "an autovacuum against wraparound is due or running on the table" in result.stderr, result
    check_what_is_left(site, result, before)
    end_the_vacuum(site, pid)
    check_the_end(site, run().result(), before)


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
