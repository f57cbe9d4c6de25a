"""What many databases cost one collectd, and what sixty that hang do to the others' values. Interval and Timeout are the
defaults, 10 and 5 s. The databases are blocks for one database of a local server, a connection each."""

import contextlib
import socket
import time

import paths
from collectd_daemon import database_block, plugin_block, running_collectd
from processes import cpu_seconds, status
from setting import Table, new_site, server, tell

INTERVAL = 10
FLEETS = (1, 20, 100, 300)
HUNG = 60
SHOWN = ("load/load", "django_session-one/bool-up", "django_session-three/bytes-total",
         "django_session-hung0/bool-up", f"django_session-hung{HUNG - 1}/bool-up")


def measure(options):
    with server(max_connections=FLEETS[-1] + 20) as cluster:
        new_site(cluster, "site", 10_000)
        return [Table("Databases of one collectd", ["databases", "threads, at most", "RSS", "CPU"],
                      [cost(cluster, databases, options.seconds) for databases in FLEETS]),
                hung(cluster, options.seconds)]


def cost(cluster, databases, seconds):
    blocks = [database_block(cluster, "site", Instance=f"site{number}") for number in range(databases)]
    with running_collectd(plugin_block(*blocks), INTERVAL, paths.PLUGIN) as daemon:
        time.sleep(3 * INTERVAL)  # the first readings connect, and their threads go
        threads, start, before = [], time.monotonic(), cpu_seconds(daemon.pid)
        while time.monotonic() - start < seconds:
            threads.append(status(daemon.pid, "Threads"))
            time.sleep(0.05)
        share = (cpu_seconds(daemon.pid) - before) / (time.monotonic() - start)
        tell(f"fleet: {databases} databases")
        return [databases, max(threads), f"{status(daemon.pid, 'VmRSS') / 1024:.1f} MB", f"{100 * share:.2f} %"]


def longest_gap(values):
    times = [when for when, _ in values]
    return max(later - earlier for earlier, later in zip(times, times[1:]))


def hung(cluster, seconds):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0), backlog=4096)) as silent:
        blocks = [f'<Database "site">\nHost "127.0.0.1"\nPort {silent.getsockname()[1]}\n'
                  f'Instance "hung{number}"\n</Database>\n' for number in range(HUNG)]
        blocks += [database_block(cluster, "site", Instance=name) for name in ("one", "two", "three")]
        with running_collectd("LoadPlugin load\n" + plugin_block(*blocks), INTERVAL, paths.PLUGIN) as daemon:
            time.sleep(max(seconds, 4 * INTERVAL))
            history, threads = daemon.history(), status(daemon.pid, "Threads")
            start = time.monotonic()
        stopping = time.monotonic() - start
    return Table(f"Longest gaps between values at an interval of {INTERVAL} s, of {HUNG} databases that hang and three that "
                 "answer", ["value", "gap"], [[f"`{name}`", f"{longest_gap(history[name]):.2f} s"] for name in SHOWN],
                 [f"{threads} threads; collectd stopped in {stopping:.1f} s."])
