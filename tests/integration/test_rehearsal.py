"""`--rehearse`: a swap without its exchange, that leaves everything as it was."""

import contextlib
import re
import signal

import pytest

from cleanup_command import DONE, FAILED, REFUSED, STOPPED, SWAPPER
from django_site import OWNER, TABLE
from gate import Gate
from test_swap import HELPERS, oid, wait_for_phase
from test_swap_what_stays import DOUBLE, READY

REHEARSE = ("--rehearse", "--method", "swap", "--no-progress")
ALL = f"SELECT md5(string_agg(s::text, '' ORDER BY session_key)), '{TABLE}'::regclass::oid FROM {TABLE} s"
STEPS = ["creating the new table", "creating the triggers", "copying", "building indexes", "catching up", "vacuuming",
         "comparing"]


def bytes_of(text):
    number, unit = text.split()
    return float(number) * 1024 ** ["bytes", "kB", "MB", "GB"].index(unit)


@pytest.mark.parametrize("user", [OWNER, SWAPPER, "postgres"])
def test_it_leaves_everything_as_it_was_and_tells_what_the_swap_takes(neglected, run_cleanup, user):
    before = neglected.psql(ALL)
    result = run_cleanup(*REHEARSE, user=user)
    assert (result.code, result.word, result.deleted) == (DONE, "DONE", 0), result
    assert neglected.psql(ALL) == before and neglected.psql(HELPERS) == []
    assert "900 live sessions copied" in result.message
    assert [step for step in STEPS if not re.search(rf"{step} \d+\.\d s", result.message)] == [], result.message
    size, wal = re.search(r"the new table has ([\d.]+ \w+) .* instead of [\d.]+ MB; ([\d.]+ \w+) ", result.message).groups()
    assert bytes_of(wal) > 0
    swapped = run_cleanup(*REHEARSE[1:], user=user)
    assert bytes_of(size) == pytest.approx(swapped.perfdata["after"][0], rel=0.1)


@pytest.mark.parametrize("options, reason", [
    (("--method", "delete"), "only a swap can be rehearsed, and the method here is delete"),
    (("--method", "full"), "only a swap can be rehearsed, and the method here is full"),
    ((), "only a swap can be rehearsed, and the method here is delete"),  # chosen by auto
    (("--method", "swap", "--dry-run"), "--rehearse can't be combined with --dry-run"),
    (("--abort",), "--abort can't be combined with --rehearse")])
def test_what_is_no_rehearsal_is_refused(neglected, run_cleanup, options, reason):
    before = neglected.psql(ALL)
    result = run_cleanup("--rehearse", *options, user=OWNER)
    assert result.code == REFUSED and reason in result.stderr, result
    assert neglected.psql(ALL) == before


def test_one_that_is_impossible_is_refused_as_the_swap_is(neglected, run_cleanup):
    neglected.psql(f"CREATE VIEW v AS SELECT session_key FROM {TABLE}")
    result = run_cleanup(*REHEARSE, user=OWNER)
    assert result.code == REFUSED and "view public.v depends on the table" in result.stderr, result


def held_in_the_copy(site, start_cleanup, gate, *options):
    run = start_cleanup(*options, "-d", gate.conninfo(site.database, OWNER), user=OWNER)
    gate.wait()
    return run


def test_one_that_is_stopped_leaves_nothing(neglected, start_cleanup):
    with Gate(neglected.cluster, passing=0) as gate:
        run = held_in_the_copy(neglected, start_cleanup, gate, *REHEARSE)
        assert neglected.psql(HELPERS)
        run.send(signal.SIGTERM)
    result = run.result()
    assert (result.code, result.message) == (STOPPED, "interrupted; what the rehearsal made is removed"), result
    assert neglected.psql(HELPERS) == []


def test_what_a_killed_one_leaves_is_that_of_any_killed_swap(neglected, start_cleanup, run_cleanup):
    """The next rehearsal would remove it; the next swap resumes it."""
    with Gate(neglected.cluster, passing=0) as gate:
        run = held_in_the_copy(neglected, start_cleanup, gate, *REHEARSE)
        run.send(signal.SIGKILL)
        run.result()
    refused = run_cleanup(*REHEARSE, user=OWNER)
    assert refused.code == REFUSED and "an interrupted swap, or rehearsal, is there" in refused.stderr, refused
    resumed = run_cleanup(*REHEARSE[1:], user=OWNER)
    assert "resuming an interrupted swap" in resumed.stderr and resumed.deleted == 29_100, resumed
    assert neglected.psql(HELPERS) == []


def test_it_deletes_nothing_where_the_swap_of_auto_would_delete_instead(cleaned_site, run_cleanup):
    cleaned_site.fill(sessions=20_000, data_bytes=4_500)
    for statement in (READY.format("false"), DOUBLE, READY.format("true")):
        cleaned_site.psql(statement)
    before = cleaned_site.psql(ALL)
    result = run_cleanup("--rehearse", "--no-progress", user=OWNER)
    assert result.code == FAILED and "django_session_pkey is damaged" in result.message, result
    assert "deleted instead" not in result.message
    assert cleaned_site.psql(ALL) == before and cleaned_site.psql(HELPERS) == []


@contextlib.contextmanager
def at_its_end(site, start_cleanup):
    """It has compared all, and waits for an older snapshot, which goes with the end of the `with`."""
    with contextlib.closing(site.cluster.connect("site", OWNER, autocommit=False)) as old:
        old.set_session(isolation_level="REPEATABLE READ")
        old.cursor().execute("SELECT count(*) FROM pg_class")
        run = start_cleanup(*REHEARSE, user=OWNER)
        wait_for_phase(site, "ready")
        yield run


def test_a_connection_that_is_lost_at_its_end_is_made_again(neglected, start_cleanup):
    before = neglected.psql(ALL)
    with at_its_end(neglected, start_cleanup) as run:
        neglected.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'django_session'")
    result = run.result()
    assert result.code == DONE and "what it made is removed" in result.message, result
    assert neglected.psql(ALL) == before and neglected.psql(HELPERS) == []


@pytest.mark.parametrize("change", [
    "DROP TABLE djs_{oid}_state", f"TRUNCATE {TABLE}", f"ALTER TABLE {TABLE} RENAME TO renamed", "DROP TABLE djs_{oid}_new"])
def test_what_changes_at_its_end_leaves_nothing_behind(neglected, start_cleanup, change):
    with at_its_end(neglected, start_cleanup) as run:
        neglected.psql(change.format(oid=oid(neglected)))
    result = run.result()
    assert result.code in (DONE, STOPPED) and "syntax error" not in result.message, result
    assert neglected.psql(HELPERS) == []


def test_a_swap_that_was_interrupted_meanwhile_is_left_alone(neglected, start_cleanup, run_cleanup):
    with Gate(neglected.cluster, b"pg_try_advisory_lock", passing=0) as before_its_turn:
        rehearsal = held_in_the_copy(neglected, start_cleanup, before_its_turn, *REHEARSE)
        with Gate(neglected.cluster, passing=0) as gate:
            swap = held_in_the_copy(neglected, start_cleanup, gate, *REHEARSE[1:])
            swap.send(signal.SIGKILL)
            swap.result()
        left = neglected.psql(HELPERS)
    result = rehearsal.result()
    assert result.code == STOPPED and "an interrupted swap has just been left here" in result.message, result
    assert neglected.psql(HELPERS) == left
    assert "resuming an interrupted swap" in run_cleanup(*REHEARSE[1:], user=OWNER).stderr
