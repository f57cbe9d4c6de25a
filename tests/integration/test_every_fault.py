"""Every fault at every message that a cleanup sends: whatever happens to one on its way, what the program says is true, no
session is lost, no client fails or waits, and the next run ends what was begun.

`tests/run` takes one fault at every second message of a swap that works, another at each next, and at some of the others;
`tests/run proof` takes all at all."""

import concurrent.futures
import itertools
import queue
import re

import psycopg2
import pytest

import paths
from cleanup_command import CLEANER, DONE, FAILED, STOPPED, SWAPPER
from collectd_daemon import database_block, plugin_block, running_collectd
from django_site import OWNER
from gate import BEFORE_A_DRAIN
from test_swap import HELPERS
from traffic import Traffic
from wire_proxy import Fault, WireProxy

pytestmark = pytest.mark.proof

MOST = 0.8  # of the faults happen where they are ordered: how many messages a run sends depends on the time that it takes
LANES = 4  # runs side by side: most of their time they wait to connect again
# A slow machine is no fault; but where nobody answers, or lets in, the end must come.
QUICK = ("-t", "30")
SILENT, GONE = ("-t", "1"), ("-t", "30", "--max-duration", "4")

# What is run, and by which role.
RUNS = {"swap": (SWAPPER, "--method", "swap"),
        "resumed swap": (SWAPPER, "--method", "swap"),
        "abort": (SWAPPER, "--abort"),
        "delete": (SWAPPER, "--method", "delete"),
        "delete by the function": (CLEANER, "--method", "delete"),
        "full": (SWAPPER, "--method", "full")}
AFTER_AN_INTERRUPTED_SWAP = ("resumed swap", "abort")
# After these the program goes on as if nothing had been.
HARMLESS = (Fault.NOTHING, Fault.BYTE_BY_BYTE, Fault.DELAYED)
# How a run ends that has begun its work, by the cause: it connects again, until the end of --max-duration; but where nothing is
# heard of the server, it says so. A `full` has nothing to resume, and --abort little: they don't connect again.
ENDS = {"CUT": DONE, "RESET": DONE, "CRASH": DONE, "GONE": STOPPED, "SILENT": FAILED}
ONCE = ("full", "abort")
CRASHES = (Fault.CRASH_BEFORE, Fault.CRASH_AT_ONCE, Fault.CRASH_AFTER)
# What a client is told whose connection is lost.
CONNECTION_LOST = (psycopg2.OperationalError, psycopg2.InterfaceError)
FAULTS = [fault for fault in Fault if fault not in (Fault.NOTHING, *CRASHES)]

EXPIRED, LIVE = 1200, 1200  # of each more than one batch, and than a swap copies at once
FILL = f"""
TRUNCATE django_session;
INSERT INTO django_session SELECT 'expired' || i, repeat(md5(i::text), 6), now() - i * interval '1 hour'
FROM generate_series(1, {EXPIRED}) i;
INSERT INTO django_session SELECT 'live' || i, repeat(md5(i::text), 6), now() + i * interval '1 hour'
FROM generate_series(1, {LIVE}) i;
"""
COUNT_EXPIRED = "SELECT count(*) FROM django_session WHERE session_key ~ '^expired'"
LIVE_ROWS = "SELECT * FROM django_session WHERE session_key ~ '^live' ORDER BY 1"
OF_NOBODY = "SELECT session_key FROM django_session WHERE session_key !~ '^(live|expired|0000)'"  # 0000: the client's
TABLE_ITSELF = "SELECT reloptions, relacl, relowner FROM pg_class WHERE oid = 'django_session'::regclass"
# Of a swap, and of a REINDEX CONCURRENTLY.
LEFT = HELPERS + r"UNION ALL SELECT relname FROM pg_class WHERE relname ~ '_ccnew|_ccold'"


class Lane:
    """A site of its own, on which one run follows the other."""

    def __init__(self, site, start_cleanup, what, folder):
        self._site, self._start, self._what, self._folder = site, start_cleanup, what, folder
        self._user, *self._task = RUNS[what]
        self._cluster = site.cluster
        self._asks = None
        self.longest = 0.0  # seconds that a client has waited
        self._restarts = concurrent.futures.ThreadPoolExecutor(1)  # a server ends with the thread that started it

    def steps(self):
        """What a run sends to which nothing happens."""
        self._prepare()
        with WireProxy(self._cluster) as proxy:
            result = self._begin(proxy, self._task).result()
        assert result.code == DONE, result
        return proxy.steps

    def try_one(self, fault, at):
        """One fault, at the step `at`, and the next run; a client saves and looks all the while. Where a run watches a statement,
        how many messages it sends depends on the time that this takes: if there is no such step, at the last one, and false."""
        self._prepare()
        with self._traffic(fault) as traffic:
            with WireProxy(self._cluster, fault, at, crash=self._crash) as proxy:
                result = self._begin(proxy, self._task, self._limits(fault)).result()
                where = f"{self._what}, {fault.name} at {at}: {proxy.steps[min(at, len(proxy.steps) - 1)].words}\n{result}"
                if proxy.happened:
                    self._judge_code(fault, proxy.steps[:at + 1], result, where)
                    self._judge(fault, result, where)
                    self._judge_beside(fault, where)
            if proxy.happened:
                self._judge_next(at, where)
        if not proxy.happened:
            self.try_one(fault, len(proxy.steps) - 1)
            return False
        assert not traffic.count.anomalies, f"{traffic.messages} {where}"
        self.longest = max(self.longest, traffic.count.longest)
        assert not self._psql(OF_NOBODY), where
        return True

    # -- the runs

    def _prepare(self):
        self._psql(FILL)
        if self._what in AFTER_AN_INTERRUPTED_SWAP:
            with WireProxy(self._cluster, Fault.KILLED_BEFORE, at=self._is_a_drain) as proxy:
                self._begin(proxy, ["--method", "swap"]).result()
            assert proxy.happened
        self._psql("INSERT INTO django_session VALUES ('live new', 'x', now() + interval '1 day')")
        self._live, self._table = self._psql(LIVE_ROWS), self._psql(TABLE_ITSELF)

    @staticmethod
    def _is_a_drain(step):
        return BEFORE_A_DRAIN.decode() in step.text

    def _limits(self, fault):
        return {"SILENT": SILENT, "GONE": GONE}.get(fault.cause, QUICK)

    def _begin(self, proxy, task, limits=QUICK):
        process = self._start(*task, *limits, "--no-progress", "-d", proxy.conninfo(self._site.database, self._user), environment={})
        proxy.victim = lambda: process.send(9)
        return process

    def _traffic(self, fault):
        """A client that waits for no lock longer than any that a cleanup may hold, were it for as long as it waits for an
        answer. VACUUM FULL does keep it waiting."""
        wait = "30s" if self._what == "full" else "3s"
        parameters = {**self._cluster.parameters(self._site.database, OWNER), "options": f"-c lock_timeout={wait}"}
        tolerate = CONNECTION_LOST if fault in CRASHES else ()
        return Traffic(lambda: psycopg2.connect(**parameters), clients=1, pause=0.01, tolerate=tolerate)

    def _crash(self):
        if self._asks:
            self._asks.close()
        self._restarts.submit(self._cluster.restart, "immediate").result()

    def _psql(self, sql):
        """On one connection, until a crash: a new one for each would take a third of the whole time."""
        if not self._asks or self._asks.closed:
            self._asks = self._cluster.connect(self._site.database)
        cursor = self._asks.cursor()
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []

    def _expired(self):
        return self._psql(COUNT_EXPIRED)[0][0]

    # -- what must be true

    def _judge_code(self, fault, steps, result, where):
        """steps: up to where it happened."""
        if fault.cause == "GONE" and result.code == STOPPED and self._what not in ONCE:  # a slow run meets it anyway
            assert "max-duration reached" in result.message, where
        elif steps[-1].kind == "X" or steps[-1].words.startswith("Q SELECT pg_total_relation_size("):  # when all is done
            assert result.code == DONE or fault.cause == "KILLED" or self._met_its_limit(fault, result), where
        elif fault in HARMLESS:
            assert result.code == DONE, where
        elif fault.cause == "KILLED":
            assert result.code == -9, where
        elif not any("pg_try_advisory" in step.text for step in steps[:-1]):  # some of the first looks are repeated
            assert result.code == FAILED or result.code == DONE and fault.cause in ("CUT", "RESET", "CRASH"), where
        else:
            assert result.code == (FAILED if self._what in ONCE else ENDS[fault.cause]), where
        assert result.code in (DONE, -9) or result.message, where

    @staticmethod
    def _met_its_limit(fault, result):
        """As a slow machine does, whatever happens."""
        code, words = {"SILENT": (FAILED, "timed out"), "GONE": (STOPPED, "max-duration reached")}.get(fault.cause, (None, ""))
        return result.code == code and words in result.message

    def _judge(self, fault, result, where):
        assert self._psql(LIVE_ROWS) == self._live, where
        expired, helpers = self._expired(), self._psql(LEFT)
        if result.code == -9:
            return
        if result.code == DONE:
            assert not helpers, f"{helpers} {where}"
            assert self._what == "abort" or expired == 0, f"{expired} {where}"
            assert fault not in HARMLESS or self._what == "abort" or result.deleted == EXPIRED, where
            return
        told = result.message + result.stderr
        if self._what not in AFTER_AN_INTERRUPTED_SWAP:  # of what it has not begun it need not know
            assert not helpers or re.search("kept|left|remain|still there", told), f"{helpers} {where}"
        if "deleted" in result.perfdata and self._what.startswith(("delete", "full")):
            assert result.deleted <= EXPIRED - expired, f"{expired} {where}"

    def _judge_beside(self, fault, where):
        """Where the server hasn't noticed that the first has gone, the next run does its work, or says who keeps it away."""
        if fault.cause != "SILENT":
            return
        beside = self._start(*self._task, *QUICK, environment=self._cluster.environment(self._site.database, self._user)).result()
        where = f"the next run, while the server still has the first: {beside}\nafter {where}"
        assert beside.code == DONE or re.search("another cleanup|locked by pid", beside.message + beside.stderr), where
        assert self._psql(LIVE_ROWS) == self._live, where

    def _judge_next(self, at, where):
        """The same again by another way, --abort, or the same by the write hook of a collectd."""
        ends = (self._again, self._abort, self._hook if self._what != "abort" else self._again)
        end = ends[at % len(ends)]
        where = f"the next run: {end()}\nafter {where}"
        assert self._psql(LIVE_ROWS) == self._live, where
        assert not self._psql(LEFT) and not self._site.is_claimed(), where
        assert self._psql(TABLE_ITSELF) == self._table, where
        assert end == self._abort or self._what == "abort" or self._expired() == 0, where

    def _again(self):
        return self._run_here(*self._task)

    def _abort(self):
        return self._run_here("--abort")

    def _run_here(self, *task):
        result = self._start(*task, *QUICK, environment=self._cluster.environment(self._site.database, self._user)).result()
        assert result.code == DONE, result
        return result

    def _hook(self):
        name, method = self._site.database, self._task[-1]
        cleanup = f'    <Cleanup>\n Trigger "table=1"\n Method "{method}"\n User "{self._user}"\n </Cleanup>\n'
        config = plugin_block(database_block(self._cluster, name, inner=cleanup))
        with running_collectd(config, 0.2, paths.PLUGIN, self._folder) as daemon:
            end = daemon.wait_for_log(f"{name}: cleanup (ended|refused|failed|stopped).*", timeout=60)
            log = daemon.log_text()
        assert end[1] == "ended", log
        return end[0]


@pytest.fixture
def lanes(new_site, start_cleanup, folder):
    def make(what):
        sites = [new_site(f"lane{number}") for number in range(LANES)]
        for site in sites:
            site.apply_roles(cleaner=CLEANER, swapper=SWAPPER)
        return [Lane(site, start_cleanup, what, folder) for site in sites]
    return make


def try_all(lanes, cases):
    """cases: pairs of a fault and a step. How many of these there were."""
    failures, free = [], queue.SimpleQueue()
    for lane in lanes:
        free.put(lane)

    def try_one(case):
        lane = free.get()
        try:
            return lane.try_one(*case)
        except AssertionError as error:
            failures.append(str(error))
            return False
        finally:
            free.put(lane)
    with concurrent.futures.ThreadPoolExecutor(LANES) as pool:
        happened = sum(pool.map(try_one, cases))
    assert not failures, f"{len(failures)} of {len(cases)}:\n" + "\n\n".join(failures)
    return happened


def some_cases(what, steps):
    """Of what comes before the work, and is the same for all, not each."""
    works = next(number for number, step in enumerate(steps) if "pg_try_advisory" in step.text or "_state" in step.text)
    numbers = [*range(0, works, 6), *range(works, len(steps), 2 if what == "swap" else 5)]
    return list(zip(itertools.cycle(FAULTS), numbers))


@pytest.mark.parametrize("what", RUNS)
def test_every_fault_at_every_message(lanes, what, every_case, say):
    sites = lanes(what)
    steps = sites[0].steps()
    every = itertools.product(FAULTS, range(len(steps)))
    cases = list(every) if every_case else some_cases(what, steps)
    happened = try_all(sites, cases)
    longest = max(lane.longest for lane in sites)
    say(f"{what}: {len(steps)} messages, {happened} of {len(cases)} faults; a client waited {1000 * longest:.0f} ms at most")
    assert happened >= MOST * len(cases) - 1


@pytest.mark.parametrize("what", RUNS)
def test_a_crash_of_the_server_at_every_message(own_site, start_cleanup, folder, what, every_case, say):
    """What was committed must still be there afterwards: synchronous_commit is on, as it is on a site."""
    site = own_site(synchronous_commit="on")
    site.apply_roles(cleaner=CLEANER, swapper=SWAPPER)
    lane = Lane(site, start_cleanup, what, folder)
    steps = lane.steps()
    every = list(itertools.product(CRASHES, range(len(steps))))
    cases = every if every_case else some_cases(what, steps)[-2::-9][:2 if what != "swap" else 6]
    happened = sum(lane.try_one(fault if fault in CRASHES else CRASHES[at % len(CRASHES)], at) for fault, at in cases)
    say(f"{what}: {len(steps)} messages, {happened} of {len(cases)} crashes")
    assert happened >= MOST * len(cases) - 1
