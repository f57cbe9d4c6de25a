"""Many databases in one collectd, most of which hang: what others, and those that answer, notice."""

import contextlib
import re
import socket
import time
from pathlib import Path

import pytest

from collectd_daemon import database_block, plugin_block
from django_site import MONITOR
from processes import wait_for

INTERVAL = 1
TIMEOUT = 0.5  # as many times the interval as by default
LONGEST_GAP = 1.2 * INTERVAL + 0.1  # a tenth of a second for the machine's own delays
# Those that are stopped answer first. A first reading costs the server 0.05 s of a processor: twenty at the same
# moment would not be done within a Timeout, on two processors, and would begin again together.
HUNG = {"silent": 20, "dropping": 20, "stopped": 5}


def silent_block(port, instance):
    return (f'<Database "site">\nHost "127.0.0.1"\nPort {port}\nUser "{MONITOR}"\n'
            f'Instance "{instance}"\nTimeout {TIMEOUT}\n</Database>\n')


def instances(kind):
    return [f"{kind}{number}" for number in range(HUNG[kind])]


@contextlib.contextmanager
def server_that_never_answers():
    """The kernel takes the connections, and nobody reads them."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0), backlog=4096)) as server:
        yield server.getsockname()[1]


@contextlib.contextmanager
def server_that_drops_packets():
    """Its queue is full, so the kernel drops what would open a connection, as a firewall does."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            contextlib.closing(socket.create_server(("127.0.0.1", 0), backlog=0)))
        for _ in range(3):
            client = stack.enter_context(contextlib.closing(socket.socket()))
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        time.sleep(0.1)
        yield server.getsockname()[1]


@pytest.fixture
def fleet(collectd, cluster, own_cluster, site):
    """A daemon with three databases that answer and 45 that hang, five of which answer until
    fleet.hanging.pause(); beside another plugin."""
    hanging = own_cluster()
    hanging.create_role(MONITOR)
    hanging.create_database("site", MONITOR)
    with server_that_never_answers() as silent, server_that_drops_packets() as dropping:
        blocks = [database_block(cluster, "site", Instance=name, Timeout=TIMEOUT)
                  for name in ("one", "two", "three")]
        blocks += [silent_block(silent, name) for name in instances("silent")]
        blocks += [silent_block(dropping, name) for name in instances("dropping")]
        blocks += [database_block(hanging, "site", Instance=name, Timeout=TIMEOUT)
                   for name in instances("stopped")]
        daemon = collectd("LoadPlugin load\n" + plugin_block(*blocks), interval=INTERVAL)
        daemon.hanging = hanging
        yield daemon
        hanging.resume()


def longest_gap(values, since, until):
    """The most seconds without a value between two times."""
    times = [since, *(when for when, _ in values if since <= when < until), until]
    return max(later - earlier for earlier, later in zip(times, times[1:]))


def pause_when_connected(fleet):
    """A server process that is just starting would go on."""
    for name in instances("stopped"):
        fleet.wait_for_value(up_of(name), bool)
    fleet.hanging.pause()


def up_of(name):
    return f"django_session-{name}/bool-up"


@pytest.mark.alone
def test_hung_databases_hold_up_nobody(fleet):
    healthy = [up_of(name) for name in ("one", "two", "three")]
    others = healthy + ["load/load", "django_session-one/bytes-total"]
    hung = [up_of(name) for kind in HUNG for name in instances(kind)]
    for identifier in others:
        fleet.wait_for_reads(identifier, 3)
    pause_when_connected(fleet)
    start = time.time()
    time.sleep(8 * INTERVAL)
    end = time.time()
    history = fleet.history()
    longest = {identifier: longest_gap(history[identifier], start, end) for identifier in others}
    # A value of a database that hangs arrives when its time is over.
    longest |= {identifier: longest_gap(history[identifier], start, end - TIMEOUT)
                for identifier in hung}
    took = fleet.stop()
    print({i: history[i] for i in longest if longest[i] > LONGEST_GAP}, start, end)
    assert max(longest.values()) <= LONGEST_GAP, sorted(longest.items(), key=lambda item: -item[1])
    assert {history[identifier][-1][1] for identifier in hung} == {0}
    assert {history[identifier][-1][1] for identifier in healthy} == {1}
    assert took < TIMEOUT + 1


def test_each_hung_database_is_logged_once(fleet):
    pause_when_connected(fleet)
    mark = fleet.log_mark()
    for kind in HUNG:
        fleet.wait_for_reads(up_of(f"{kind}0"), 4)
    fleet.wait_for_value(up_of(instances("stopped")[-1]), lambda up: not up)
    lines = re.findall(r"\[error\] django_session plugin: ((?:silent|dropping)\d+): timed out",
                       fleet.log_text())
    assert sorted(lines) == sorted(instances("silent") + instances("dropping"))
    # On a busy machine a first reading may take longer than a Timeout: an outage before the one that is meant.
    lines = re.findall(r"\[error\] django_session plugin: (stopped\d+): timed out", fleet.log_text(mark))
    assert sorted(lines) == sorted(instances("stopped"))
    assert "read-function" not in fleet.log_text()
    mark = fleet.log_mark()
    fleet.hanging.resume()
    fleet.wait_for_log(r"stopped0: (no table|readings have resumed)", mark)


def threads_of(daemon):
    return len(list(Path(f"/proc/{daemon.pid}/task").iterdir()))


def test_without_a_database_to_read_there_is_no_thread_and_no_connection(collectd, cluster, site):
    mark = cluster.log_mark()
    block = database_block(cluster, "site", Read=False,
                           inner='<Cleanup>\nHost "db1"\nTrigger "overdue=2d"\n</Cleanup>\n')
    with_hook = collectd(plugin_block(block))
    wait_for(lambda: "django_session-site/total_operations-cleanup" in with_hook.values(),
             "the hook's values")
    with_hook.wait_for_reads("django_session-site/total_operations-cleanup", 2)
    assert "connection authorized" not in cluster.log_text(mark)
    without = collectd("LoadPlugin load\nLoadPlugin django_session\n", name="without")
    without.wait_for_value("load/load")
    assert threads_of(with_hook) == threads_of(without)
