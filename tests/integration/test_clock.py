"""A wrong clock must not decide which sessions have expired: of the server, or of the whole machine.

The server runs with libfaketime, its clock can be set while it runs; that of the cleanup, too."""

import contextlib
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from cleanup_command import CLEANER, DONE, REFUSED, STOPPED, SWAPPER, Cleanup
from cluster import SUPERUSER, Cluster
from django_site import OWNER, TABLE, DjangoSite
from processes import hand_over, wait_for
from wire_proxy import WireProxy

pytestmark = pytest.mark.since(15, "under libfaketime older servers answer too late")

ALL = f"SELECT count(*) FROM {TABLE}"


class FakeClock:
    """Of the programs run with its prefix; `set` shifts it for those that run already, too."""

    def __init__(self, folder):
        library, = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
        self._file = folder / "clock"
        self.set("+0")
        self.prefix = ["env", f"LD_PRELOAD={library}", f"FAKETIME_TIMESTAMP_FILE={self._file}",
                       "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"]

    def set(self, offset):
        """At once: a process that finds the file empty would end, and with it all of its server's."""
        new = self._file.with_suffix(".new")
        new.write_text(offset)
        hand_over(new)
        new.replace(self._file)


@pytest.fixture(scope="module")
def clock(session_folder):
    folder = session_folder / "fake-clock"
    folder.mkdir(mode=0o755)
    return FakeClock(folder)


@pytest.fixture(scope="module")
def wrong_cluster(session_folder, clock, server_programs):
    folder = session_folder / "wrong-clock"
    folder.mkdir(mode=0o755)
    server = Cluster(folder, clock.prefix, bin_folder=server_programs).start()
    server.create_role(OWNER)
    site = DjangoSite(folder, server, "site_template")
    server.create_database("site_template", OWNER)
    site.migrate()
    site.apply_roles(cleaner=CLEANER, swapper=SWAPPER)
    yield server
    server.stop("immediate")


@pytest.fixture
def site(wrong_cluster, clock, folder):
    """By the right clock: 700 expired sessions, 300 live ones."""
    clock.set("+0")
    wrong_cluster.create_database("site", OWNER, "site_template")
    site = DjangoSite(folder, wrong_cluster, "site")
    site.fill(sessions=1000, expired_share=0.7)
    yield site
    clock.set("+0")
    wrong_cluster.drop_database("site")


@pytest.fixture
def clean(cleanup_program, wrong_cluster, clock):
    def run(*options, user=SWAPPER, faked=False, **more):
        command = [*(clock.prefix if faked else []), cleanup_program, *options]
        return Cleanup(*command, environment={**wrong_cluster.environment("site", user), **more})
    return run


# -- the server's clock against ours -----------------------------------------------------------------------


@pytest.mark.parametrize("offset, words", [("+30d", "ahead of"), ("-2h", "behind")])
@pytest.mark.parametrize("method", ["delete", "swap", "full", "auto"])
def test_a_server_with_a_wrong_clock_is_not_cleaned(site, clean, clock, method, offset, words):
    clock.set(offset)
    for options in ((), ("--dry-run",)):
        result = clean("--method", method, *options).result()
        assert result.code == REFUSED, result
        said = result.stdout + result.stderr
        here = time.strftime("%Y-%m-%d", time.gmtime())
        assert f"nothing can be cleaned: the server's clock is " in said and f" {words} this machine's (" in said, said
        assert f"there, {here}" in said and "--max-clock-skew" in said, said
    assert site.value(ALL) == 1000


@pytest.mark.parametrize("user, method", [(CLEANER, "delete"), (SUPERUSER, "swap")])
def test_whoever_runs_it(site, clean, clock, user, method):
    clock.set("+30d")
    assert clean("--method", method, user=user).result().code == REFUSED
    assert site.value(ALL) == 1000


def test_a_difference_within_the_limit_is_none(site, clean, clock):
    clock.set("+30")
    assert clean("--method", "delete", user=CLEANER).result().deleted == 700


def test_how_much_is_too_much_can_be_said(site, clean, clock):
    clock.set("+1h")
    assert clean("--method", "delete", "--max-clock-skew", "59m").result().code == REFUSED
    result = clean("--method", "delete", "--max-clock-skew", "61m").result()
    assert (result.code, site.value(ALL)) == (DONE, 300 - int(300 / 14 / 24)), result


@contextlib.contextmanager
def slow_way_to(cluster, delay):
    """A port of 127.0.0.1 from which every answer of the server takes `delay` seconds longer."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pass_on(source, target, wait):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                time.sleep(wait)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", cluster.port))
                for arguments in ((client, server, 0), (server, client, delay)):
                    threading.Thread(target=pass_on, args=arguments, daemon=True).start()
    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def test_the_way_of_the_answer_is_not_the_clocks_fault(site, clean, wrong_cluster):
    with slow_way_to(wrong_cluster, 0.2) as port:
        result = clean("--method", "delete", "--dry-run", "--max-clock-skew", "0.05",
                       PGHOST="127.0.0.1", PGPORT=str(port)).result()
    assert result.code == DONE, result


# -- both clocks wrong together ----------------------------------------------------------------------------


@pytest.fixture
def machine(site, clean, clock):
    """Runs the cleanup by the server's clock."""
    return lambda *options, **more: clean(*options, faked=True, **more)


@contextlib.contextmanager
def saving(site):
    """A site with a right clock, on another machine, where somebody logs in every tenth of a second."""
    done = threading.Event()
    start = time.time()

    def save():
        with contextlib.closing(site.cluster.connect("site", OWNER)) as connection:
            cursor = connection.cursor()
            while not done.wait(0.1):
                cursor.execute(f"INSERT INTO {TABLE} VALUES ('k' || %s, '', to_timestamp(%s))",
                               (str(time.time()), time.time() + 14 * 86400))
    thread = threading.Thread(target=save)
    thread.start()
    try:
        yield lambda: site.value(f"SELECT count(*) FROM {TABLE} WHERE expire_date > to_timestamp({start + 14 * 86400})")
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("user, method", [(CLEANER, "delete"), (SWAPPER, "auto"), (SUPERUSER, "swap"), (OWNER, "full")])
def test_sessions_that_expire_as_they_are_saved_show_a_wrong_clock(site, machine, clock, user, method):
    clock.set("+30d")
    with saving(site) as saved:
        wait_for(saved, "a session")
        result = machine("--method", method, user=user).result()
    assert result.code == REFUSED and "sessions that are being saved right now" in result.stderr, result
    assert "--max-clock-skew" in result.stderr
    assert site.value(ALL) == 1000 + saved()


@pytest.mark.parametrize("user", [CLEANER, SWAPPER, SUPERUSER])
def test_a_site_that_rests_is_cleaned(site, machine, clock, user):
    """Nobody has logged in for weeks."""
    clock.set("+30d")
    result = machine("--method", "delete", user=user).result()
    assert (result.code, site.value(ALL)) == (DONE, 0), result


def test_so_is_a_new_one(site, machine):
    site.psql(f"TRUNCATE {TABLE}")
    assert machine("--method", "delete").result().code == DONE


def test_a_server_whose_last_checkpoint_is_still_to_come_is_not_cleaned(site, machine, clock):
    clock.set("+1d")
    site.psql("CHECKPOINT")
    clock.set("+0")
    result = machine("--method", "delete").result()
    site.psql("CHECKPOINT")
    assert result.code == REFUSED and "the server's last checkpoint was at" in result.stderr, result
    assert machine("--method", "delete").result().code == DONE


def test_one_that_was_started_in_the_future_neither(site, machine, clock, wrong_cluster):
    clock.set("+1d")
    wrong_cluster.restart()
    clock.set("+0")
    result = machine("--method", "delete").result()
    wrong_cluster.restart()
    assert result.code == REFUSED and "but the server was started at" in result.stderr, result


# -- while it runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["delete", "swap"])
def test_a_clock_that_is_set_before_the_work_begins_stops_it(site, clean, clock, method):
    """After the plan: the cutoff is decided later."""
    def at(step, _):
        if "pg_try_advisory_lock" in step.text:
            clock.set("+30d")
    with WireProxy(site.cluster, on_step=at) as proxy:
        result = clean("-d", proxy.conninfo("site", SWAPPER), "--method", method).result()
    clock.set("+0")
    assert result.code == STOPPED and "the server's clock is " in result.message, result
    assert site.value(ALL) == 1000


@pytest.mark.parametrize("method", ["delete", "swap"])
def test_a_clock_that_is_set_during_a_run_does_not_matter(site, clean, clock, method):
    with site.cluster.locked("site", mode="SHARE ROW EXCLUSIVE") as holder:
        cleanup = clean("--method", method)
        wait_for(lambda: site.value("SELECT count(*) FROM pg_locks WHERE NOT granted"), "its wait for the lock")
        clock.set("+30d")
        holder.rollback()
        result = cleanup.result()
    assert result.code == DONE, result
    assert site.value(ALL) == 300


def state(site, column):
    """Of the swap under way, or of the one that was interrupted; None: there is none."""
    names = site.psql("SELECT relname FROM pg_class WHERE relname ~ '^djs_[0-9]+_state$'")
    return site.value(f"SELECT {column} FROM {names[0][0]}") if names else None


@contextlib.contextmanager
def reading(site):
    """Holds the exchange up."""
    with contextlib.closing(site.cluster.connect("site", autocommit=False)) as reader:
        reader.cursor().execute(f"LOCK TABLE {TABLE} IN ACCESS SHARE MODE")
        yield


def alter_the_table(site):
    site.psql(f"ALTER TABLE {TABLE} ALTER session_data SET STATISTICS 50")


def lose_the_connection(site):
    assert site.value("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                      f"WHERE application_name = 'django_session' AND usename = '{SWAPPER}'") > 0


def restart_the_server(site):
    site.cluster.restart()


LIVE = f"SELECT * FROM {TABLE} WHERE expire_date > now() ORDER BY session_key"


@pytest.mark.parametrize("happens", [alter_the_table, lose_the_connection, restart_the_server])
def test_a_copy_that_is_begun_again_goes_by_the_clock_of_the_first(site, clean, clock, happens):
    live = site.psql(LIVE)
    with reading(site):
        cleanup = clean("--method", "swap")
        wait_for(lambda: state(site, "phase") == "ready", "the copy")
        clock.set("+30d")
        happens(site)
    result = cleanup.result()
    clock.set("+0")
    if happens is restart_the_server:
        site.cluster.restart()  # it remembers when it was started, and its last checkpoint
    assert site.psql(LIVE) == live and len(live) == 300, result


def test_so_does_one_that_follows_an_interrupted_one(site, clean, clock):
    """Which kept something else, and has to be removed first."""
    live = site.psql(LIVE)
    with reading(site):
        cleanup = clean("--method", "swap")
        wait_for(lambda: state(site, "phase") == "ready", "the copy")
        cleanup.send(signal.SIGTERM)
        cleanup.result()
        interrupted = state(site, "run_id")
        cleanup = clean("--method", "swap", "--keep", "1")
        wait_for(lambda: state(site, "run_id") != interrupted, "the second run", timeout=60)
        clock.set("+30d")
    result = cleanup.result()
    clock.set("+0")
    assert result.code == DONE and site.psql(LIVE) == live, result
