"""What only time shows: ordinary runs take seconds of each, and `tests/run long` as long as it is told."""

import contextlib
import random
import time

import pytest

from cleanup_command import CLEANER
from collectd_daemon import database_block, plugin_block
from django_site import MONITOR, OWNER, TABLE, DjangoSite
from processes import descriptors, program, status, wait_for
from test_hook import cleanup_block, script  # noqa: F401

pytestmark = pytest.mark.long

# -- Hooks, cleanups and restarts ------------------------------------------------------------------

WAYS = ("swap", "delete", "command")  # each database is cleaned in its own; its name says which
NEGLECT = f"""INSERT INTO {TABLE} (session_key, session_data, expire_date)
    SELECT md5(random()::text || i), repeat('x', 200), now() - i * interval '1 minute' FROM generate_series(1, 900) i"""
EXPIRED = f"DELETE FROM {TABLE} WHERE expire_date < now()"
PATIENCE = 120  # seconds until a cleanup, slowed by a sanitizer and others on the machine, has ended


class World:
    """A server, a site for each way, and a collectd that watches and cleans them."""

    def __init__(self, site, collectd, script, folder):
        self.cluster, self.random = site.cluster, random.Random(1)
        site.apply_roles(cleaner=CLEANER)
        self.sites = {}
        for way in WAYS:
            self.cluster.create_database(way, OWNER, "site")
            self.cluster.psql(f'GRANT CONNECT ON DATABASE "{way}" TO {MONITOR}, {CLEANER}')  # isn't copied
            self.sites[way] = DjangoSite(folder, self.cluster, way)
            self.sites[way].fill(sessions=100, expired_share=0)
        self.daemon = collectd(plugin_block("  MaxCleanups 3\n", *self._blocks(script)), interval=0.5)
        self.calm()

    def _blocks(self, script):
        psql = f"{program('psql')} -X -q -h {self.cluster.socket} -p {self.cluster.port} -U postgres -d command"
        clean = script(f"echo '{EXPIRED}; VACUUM (ANALYZE) {TABLE}' | {psql}")
        hooks = {"swap": {"Method": "swap", "User": OWNER}, "delete": {"Method": "delete", "User": CLEANER},
                 "command": {"Command": clean.path}}
        return [database_block(self.cluster, way, Timeout=2, inner=cleanup_block(Cooldown=1, **hooks[way]))
                for way in WAYS]

    def neglect(self):
        """Returns when the cleanups that this causes have begun."""
        mark = self.daemon.log_mark()
        for site in self.sites.values():
            site.psql(NEGLECT)
        for way in WAYS:
            self.daemon.wait_for_log(f"{way}: cleanup starts", mark, PATIENCE)

    def tidy(self):
        """What a mishap has left to a cleanup that waits for minutes now."""
        for site in self.sites.values():
            site.psql(EXPIRED)

    def calm(self):
        """Waits for values that say that all is clean and nothing is at work."""
        since = time.time()
        for way in WAYS:
            for name in ("percent-expired", "bool-cleaning"):
                wait_for(lambda: self._is_zero(f"django_session-{way}/{name}", since),
                         f"a {name} of {way} that is 0; collectd's log:\n{self.daemon.log_text()[-3000:]}", PATIENCE, pause=0.2)

    def _is_zero(self, identifier, since):
        assert not self.daemon.reports(), self.daemon.output()
        when, value = self.daemon.latest(identifier) or (0, None)
        return when > since and value == 0

    def some_time(self, most):
        """A moment of chance: what happens next shall hit whatever is at work."""
        time.sleep(self.random.uniform(0, most))


def nothing(world):
    """The cleanups clean."""
    for way, site in world.sites.items():
        wait_for(lambda: site.value(f"SELECT count(*) FROM {TABLE} WHERE expire_date < now()") == 0,
                 f"the end of {way}", PATIENCE, pause=0.2)


def backends_terminated(world):
    world.cluster.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ('swap', 'delete', 'command')")


def readers_terminated(world):
    world.cluster.psql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{MONITOR}'")


def server_restarted(world):
    world.cluster.restart()


def server_crashed(world):
    world.cluster.restart("immediate")


def server_hung(world):
    world.cluster.pause()
    world.some_time(4)  # beyond the Timeout, or not
    world.cluster.resume()


def tables_locked(world):
    with contextlib.ExitStack() as stack:
        for way in WAYS:
            stack.enter_context(world.cluster.locked(way))
        world.some_time(2)


def collectd_restarted(world):
    world.daemon.stop(timeout=60)
    world.daemon.start()


MISHAPS = (nothing, backends_terminated, server_restarted, collectd_restarted, tables_locked, readers_terminated,
           server_crashed, server_hung)


@pytest.mark.sanitizers
def test_whatever_happens_while_it_cleans(own_site, collectd, script, folder, seconds, say):
    """For ThreadSanitizer, above all: each mishap in turn, at a moment of chance, in the middle of cleanups."""
    world = World(own_site(log_statement="none"), collectd, script, folder)
    rounds, end = 0, time.monotonic() + seconds
    while rounds < len(MISHAPS) or time.monotonic() < end:
        mishap = MISHAPS[rounds % len(MISHAPS)]
        world.neglect()
        world.some_time(1)
        mishap(world)
        world.tidy()
        world.calm()
        rounds += 1
    world.daemon.stop(timeout=60)
    log = world.daemon.log_text()
    count = {word: log.count(f"cleanup {word}") for word in ("starts", "ended", "failed", "stopped")}
    say(f"{rounds} rounds of {', '.join(mishap.__name__ for mishap in MISHAPS)}; cleanups: {count}; no report")
    assert count["starts"] >= rounds * len(WAYS) and count["ended"] >= rounds // len(MISHAPS) * len(WAYS)
    assert "exception" not in log and "out of memory" not in log


# -- Readings and reconnects -----------------------------------------------------------------------

BLOCKS = 20  # with the shortest Interval there is, 0.1 s, 200 readings a second
STEPS = 50   # at each, connections end and memory and descriptors are looked at
WARM_UP = 10  # steps: arenas, threads' stacks, collectd's cache of values, csv's buffers
# Memory that is lost at each of the 80,000 readings after the warm-up is 2.5 MB, since malloc's smallest piece has
# 32 bytes; a connection that is lost at each of 800 reconnects is 16 MB. What comes and goes is smaller: threads' arenas.
MOST_GROWTH_KB = 2048
# Each of collectd's five write threads may have a file of csv's open.
MOST_MORE_FILES = 5


@pytest.fixture
def many_readings(own_site, collectd):
    """A collectd that reads one site through many blocks as often as can be."""
    site = own_site(log_statement="none", log_connections="on")
    site.apply_roles()
    site.fill(sessions=10_000)
    blocks = [database_block(site.cluster, "site", Instance=f"site{i}", Interval=0.1, Timeout=30) for i in range(BLOCKS)]
    return site.cluster, collectd(plugin_block(*blocks))


def readings_of(daemon):
    """How many there were, of all blocks."""
    return sum(len(path.read_bytes().splitlines()) - 1
               for path in daemon.folder.glob("csv/*/django_session-site*/response_time-read-*"))


def readers_of(cluster):
    return {pid for pid, in cluster.psql(f"SELECT pid FROM pg_stat_activity WHERE usename = '{MONITOR}'")}


def terminate(cluster, count):
    """Ends so many of the readers' connections, as many at once as there are, and waits until each reads by a new one."""
    for at_once in [BLOCKS] * (count // BLOCKS) + [count % BLOCKS]:
        ended = set(sorted(readers_of(cluster))[:at_once])
        cluster.psql(f"SELECT pg_terminate_backend(pid) FROM unnest(ARRAY{sorted(ended)}::int[]) pid")
        wait_for(lambda: not ended & (now := readers_of(cluster)) and len(now) == BLOCKS, "new connections", PATIENCE)


def test_memory_and_descriptors_stay_as_they_are(many_readings, pytestconfig, say):
    readings, reconnects = (pytestconfig.getoption(name) for name in ("readings", "reconnects"))
    cluster, daemon = many_readings
    wait_for(lambda: len(readers_of(cluster)) == BLOCKS, "all connections", PATIENCE)
    memory, files, began = [], [], time.monotonic()
    for step in range(1, STEPS + 1):
        wait_for(lambda: readings_of(daemon) >= step * readings / STEPS, f"readings, at {readings_of(daemon)}", PATIENCE,
                 pause=0.5)
        terminate(cluster, reconnects // STEPS)
        memory.append(status(daemon.pid, "VmRSS"))
        files.append(descriptors(daemon.pid))
    made, seconds = readings_of(daemon), time.monotonic() - began
    connections = cluster.log_text().count(f"connection authorized: user={MONITOR}")
    daemon.stop()
    say(f"{made} readings and {connections - BLOCKS} reconnects in {seconds:.0f} s; of each tenth, the most RSS in kB: "
        f"{[max(memory[i:i + STEPS // 10]) for i in range(0, STEPS, STEPS // 10)]}; descriptors {min(files)} to {max(files)}")
    assert connections == BLOCKS + reconnects // STEPS * STEPS, "each connection that ended was made anew, once"
    assert max(memory[WARM_UP:]) - max(memory[:WARM_UP]) < MOST_GROWTH_KB, memory
    assert max(files[WARM_UP:]) - max(files[:WARM_UP]) <= MOST_MORE_FILES, files
