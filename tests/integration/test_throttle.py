"""--max-lag with a real standby and a real archiver: the cleanup waits for them, or stops and names them."""

import contextlib
import re
import shutil
import signal
import threading
import time

import psycopg2
import pytest

from cleanup_command import DONE, STOPPED, Cleanup
from cluster import SUPERUSER, Cluster
from django_site import OWNER, TABLE, DjangoSite
from processes import hand_over, run, wait_for

DELETE = ("--method", "delete", "--no-progress")
CAUGHT_UP = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) = 0 FROM pg_stat_replication"
EXPIRED = f"SELECT count(*) FROM {TABLE} WHERE expire_date < now()"


def new_site(server, folder, sessions=30_000):
    server.create_database("site", OWNER)
    site = DjangoSite(folder, server, "site")
    site.migrate()
    site.apply_roles()
    site.fill(sessions=sessions)
    return site


class Standby(Cluster):
    """A streaming replica of another cluster."""

    def __init__(self, folder, primary):
        super().__init__(folder, bin_folder=primary.programs)
        shutil.rmtree(self.data)
        primary.stop()
        run(["cp", "-r", primary.data, self.data])
        primary.start()
        run(["sh", "-c", f"touch {self.data}/standby.signal; rm -rf {self.data}/pg_replslot/* {self.data}/pg_stat/*"])
        self.configure(primary_conninfo=f"'host={primary.socket} port={primary.port} user={SUPERUSER}'")
        self.configure(cluster_name="standby1")  # becomes its application_name


@pytest.fixture
def primary(own_cluster, folder):
    return own_cluster()


@pytest.fixture
def standby(primary, folder):
    (folder / "standby").mkdir()
    hand_over(folder / "standby")
    server = Standby(folder / "standby", primary).start()
    wait_for(lambda: primary.psql("SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'"), "the standby")
    yield server
    server.stop("immediate")


def start(cleanup_program, server, *options, user=SUPERUSER):
    return Cleanup(cleanup_program, *DELETE, *options, environment=server.environment("site", user))


def test_a_standby_that_falls_behind_is_waited_for(primary, standby, folder, cleanup_program):
    site = new_site(primary, folder)
    wait_for(lambda: primary.psql(CAUGHT_UP) == [(True,)], "the standby to catch up")
    standby.psql("SELECT pg_wal_replay_pause()")
    cleanup = start(cleanup_program, primary, "--max-lag", "500kB")
    wait_for(lambda: site.value(EXPIRED) < 29_100, "the first batch")
    time.sleep(2.5)
    waiting = site.value(EXPIRED)
    time.sleep(1)
    assert cleanup.running and site.value(EXPIRED) == waiting > 0
    standby.psql("SELECT pg_wal_replay_resume()")
    result = cleanup.result()
    assert (result.code, result.deleted) == (DONE, 29_100), result
    assert re.search(r'waiting: replica "standby1" is [\d.]+ (kB|MB) behind \(--max-lag 500 kB\)', result.stderr)


def test_a_role_that_may_not_see_the_lag_says_so(primary, standby, folder, cleanup_program):
    site = new_site(primary, folder)
    site.apply_roles(cleaner="cleaner")
    result = start(cleanup_program, primary, user="cleaner").result()
    assert result.code == DONE, result
    assert 'this role can\'t see how far replica "standby1" is behind' in result.stderr


@pytest.mark.parametrize("method, words", [("swap", "will replay an exclusive lock on the table"),
                                           ("delete", "will replay the VACUUM")])
def test_the_plan_names_standbys_with_what_they_will_notice(primary, standby, folder, cleanup_program, method, words):
    new_site(primary, folder, sessions=1000)
    for user in (SUPERUSER, OWNER):  # who may not see how far it is
        result = Cleanup(cleanup_program, "--dry-run", "--method", method,
                         environment=primary.environment("site", user)).result()
        assert re.search(rf"^  note +standby standby1 {words}", result.stdout, re.M), result


def test_a_standby_is_never_cleaned(primary, standby, folder, cleanup_program):
    site = new_site(primary, folder)
    await_copy(primary, standby)
    for method in ("auto", "swap", "delete", "full"):
        result = start(cleanup_program, standby, "--method", method).result()
        assert result.code == 3 and "standby" in result.stderr, result
    assert site.value(EXPIRED) == 29_100


def await_copy(primary, standby):
    """Until all of the site is on the standby."""
    wait_for(lambda: standby.psql("SELECT 1 FROM pg_database WHERE datname = 'site'"), "the database on the standby")
    wait_for(lambda: primary.psql(CAUGHT_UP) == [(True,)], "the standby to catch up")


class ReaderOnStandby(threading.Thread):
    """Counts all sessions and the live ones, as often as it can, and notes the slowest answer, in seconds."""

    def __init__(self, standby):
        super().__init__()
        self._standby = standby
        self.over = threading.Event()
        self.counts, self.longest, self.error = [], 0.0, None

    def run(self):
        try:
            with self._standby.asking("site") as ask:
                while not self.over.is_set():
                    begin = time.monotonic()
                    self.counts += ask(f"SELECT count(*), count(*) FILTER (WHERE expire_date > now()) FROM {TABLE}")
                    self.longest = max(self.longest, time.monotonic() - begin)
        except psycopg2.Error as error:
            self.error = error


@pytest.mark.parametrize("method", ["swap", "delete"])
def test_what_a_reader_on_a_standby_notices(primary, standby, folder, cleanup_program, method, say):
    """Each answer has all live sessions, and only expired ones besides; none is refused."""
    site = new_site(primary, folder)
    await_copy(primary, standby)
    reader = ReaderOnStandby(standby)
    reader.start()
    try:
        wait_for(lambda: reader.counts, "the reader")
        usual = reader.longest
        result = start(cleanup_program, primary, "--method", method).result()
        wait_for(lambda: primary.psql(CAUGHT_UP) == [(True,)], "the standby to catch up")
        wait_for(lambda: reader.error or reader.counts[-1] == (900, 900), "what the cleanup has made, on the standby")
    finally:
        reader.over.set()
        reader.join()
    assert result.code == DONE and not reader.error, f"{reader.error} {result}"
    assert {live for _, live in reader.counts} == {900} and site.value(EXPIRED) == 0
    say(f"{method}: {len(reader.counts)} answers on the standby, the first after {1000 * usual:.0f} ms, the slowest after "
        f"{1000 * reader.longest:.0f} ms")


def test_an_archiver_that_fails_is_named(own_cluster, folder, cleanup_program):
    server = own_cluster(archive_mode="on", archive_command="false")
    site = new_site(server, folder)
    server.psql("SELECT pg_switch_wal()")
    wait_for(lambda: server.psql("SELECT last_failed_wal FROM pg_stat_archiver")[0][0], "the archiver to fail")
    result = start(cleanup_program, server, "--max-lag", "1MB", "--max-duration", "4").result()
    assert result.code == STOPPED, result
    assert re.search(r"the WAL archiver is [\d.]+ MB behind \(--max-lag 1 MB\)", result.message)
    assert site.value(EXPIRED) > 0


def test_an_archiver_that_works_is_no_obstacle(own_cluster, folder, cleanup_program):
    server = own_cluster(archive_mode="on", archive_command="true")
    new_site(server, folder)
    server.psql("SELECT pg_switch_wal()")
    wait_for(lambda: server.psql("SELECT last_archived_wal FROM pg_stat_archiver")[0][0], "the archiver")
    assert start(cleanup_program, server, "--max-lag", "64MB").result().code == DONE


def test_a_slot_with_a_standbys_old_snapshot_is_named(primary, folder, cleanup_program):
    """hot_standby_feedback over a slot: the slot keeps the xmin even while the standby is away."""
    site = new_site(primary, folder)
    primary.psql("SELECT pg_create_physical_replication_slot('replica')")
    (folder / "standby").mkdir()
    hand_over(folder / "standby")
    server = Standby(folder / "standby", primary)
    server.configure(hot_standby_feedback="on", primary_slot_name="replica", wal_receiver_status_interval="1s")
    server.start()
    wait_for(lambda: primary.psql("SELECT xmin FROM pg_replication_slots")[0][0], "the feedback")
    server.stop("immediate")
    result = start(cleanup_program, primary).result()
    assert result.code == DONE and result.deleted == 29_100, result
    assert 'until this ends: replication slot "replica"' in result.message
    assert "of what is deleted can't be reused until" not in result.stderr  # it may well be gone by then


def test_the_unfinished_file_of_wal_is_not_late(own_cluster, folder, cleanup_program):
    server = own_cluster(archive_mode="on", archive_command="true")
    site = new_site(server, folder, sessions=1000)
    last = site.value("SELECT pg_walfile_name(pg_switch_wal())")
    wait_for(lambda: server.psql(f"SELECT last_archived_wal >= '{last}' FROM pg_stat_archiver") == [(True,)], "it")
    site.fill(sessions=10_000)  # some megabytes of the next file
    result = start(cleanup_program, server, "--max-lag", "1MB").result()
    assert result.code == DONE and "waiting" not in result.stderr, result


@pytest.fixture
def no_archive(own_cluster, folder):
    """Files wait for an archiver that has no command, of which its statistics say nothing."""
    server = own_cluster(archive_mode="on", archive_command="''")
    site = new_site(server, folder, sessions=1000)
    for _ in range(3):
        site.psql("SELECT pg_switch_wal()")
        site.fill(sessions=10)
    assert site.psql("SELECT last_archived_wal, last_failed_wal FROM pg_stat_archiver") == [(None, None)]
    return site


def test_an_archiver_without_a_command_is_noticed(no_archive, cleanup_program):
    result = start(cleanup_program, no_archive.cluster, "--max-lag", "20MB", "--max-duration", "2").result()
    assert result.code == STOPPED, result
    assert "the WAL archiver is 48 MB behind (--max-lag 20 MB)" in result.message


def test_a_role_that_may_not_look_at_the_archive_says_so_once(no_archive, cleanup_program):
    no_archive.apply_roles(cleaner="cleaner")
    result = start(cleanup_program, no_archive.cluster, "--max-lag", "20MB", user="cleaner").result()
    assert result.code == DONE, result
    assert result.stderr.count("this role can't see how far the WAL archiver is behind") == 1


def lose(site, slot):
    """Has the server invalidate a slot, as it does with one that nobody has read for too long."""
    if site.value("SELECT current_setting('server_version_num')::int") >= 180000:
        site.cluster.configure(idle_replication_slot_timeout="1s")
    else:
        site.cluster.configure(max_slot_wal_keep_size="1MB")
    site.cluster.reload()

    def lost():
        site.fill(sessions=10)
        site.psql("SELECT pg_switch_wal()")
        site.psql("CHECKPOINT")
        return site.value(f"SELECT wal_status = 'lost' FROM pg_replication_slots WHERE slot_name = '{slot}'")
    wait_for(lost, "the slot to be lost")


@pytest.mark.parametrize("method", ["delete", "swap"])
def test_a_lost_slot_is_no_obstacle(own_cluster, folder, cleanup_program, method):
    server = own_cluster(wal_level="logical")
    site = new_site(server, folder, sessions=1000)
    site.psql("SELECT pg_create_logical_replication_slot('gone', 'pgoutput')")
    lose(site, "gone")
    result = Cleanup(cleanup_program, "--no-progress", "--method", method, "--max-lag", "1MB",
                     environment=server.environment("site", OWNER)).result()
    assert result.code == DONE and site.value(EXPIRED) == 0, result


def test_a_synchronous_standby_that_is_gone_keeps_nobody_waiting(own_cluster, folder, cleanup_program):
    server = own_cluster(synchronous_commit="on")
    site = new_site(server, folder)
    server.configure(synchronous_standby_names="'gone'")
    server.reload()
    wait_for(lambda: server.psql("SHOW synchronous_standby_names") == [("gone",)], "the setting")
    result = start(cleanup_program, server, user=OWNER).result()
    assert (result.code, result.deleted) == (DONE, 29_100), result
    assert "no synchronous standby is connected (synchronous_standby_names = 'gone')" in result.stderr


@pytest.mark.parametrize("options", [("--method", "swap"), ("--abort",)])
def test_a_swap_does_not_wait_for_a_synchronous_standby_that_is_gone(own_cluster, folder, cleanup_program, options):
    server = own_cluster(synchronous_commit="on")
    site = new_site(server, folder, sessions=3000)
    first = Cleanup(cleanup_program, "--method", "swap", "--no-progress", "-v", environment=server.environment("site", OWNER))
    wait_for(lambda: site.value("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'djs%'"), "the copy", pause=0.005)
    first.send(signal.SIGKILL)
    with contextlib.suppress(AssertionError):
        first.result()
    server.configure(synchronous_standby_names="'gone'")
    server.reload()
    wait_for(lambda: server.psql("SHOW synchronous_standby_names") == [("gone",)], "the setting")
    result = Cleanup(cleanup_program, *options, "--no-progress", "-t", "5",
                     environment=server.environment("site", OWNER)).result(timeout=60)
    assert result.code == DONE and not site.psql("SELECT 1 FROM pg_class WHERE relname LIKE 'djs%'"), result
    if "swap" in options:
        assert "no synchronous standby is connected (synchronous_standby_names = 'gone')" in result.stderr
        assert site.value(EXPIRED) == 0


def test_a_prepared_transaction_that_holds_the_table_is_named(own_cluster, folder, cleanup_program):
    server = own_cluster(max_prepared_transactions=2)
    site = new_site(server, folder, sessions=1000)
    site.psql(f"BEGIN; LOCK TABLE {TABLE} IN SHARE MODE; SELECT txid_current(); PREPARE TRANSACTION 'forgotten'")
    result = start(cleanup_program, server, "--max-duration", "2").result()
    assert result.code == STOPPED, result
    assert 'waiting for the table\'s lock: prepared transaction "forgotten" of role postgres' in result.stderr
