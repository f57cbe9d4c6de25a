"""Ways to clean a neglected table up, side by side under traffic whose every value is checked. Each gets a copy of
the same database. pg_repack is compared where it is installed: `tests/install_packages bench`.

README shows lines of the first table, word for word: test_structure.py compares their form."""

import os
import statistics
import subprocess
import time
from pathlib import Path

from django_site import OWNER, TABLE
from processes import PLAIN_ENVIRONMENT
from setting import FOR_CLEANUPS, Table, cleanup, copy_of, cost_of, duration, median_cost, new_site, server, size, tell
from traffic import Traffic

REPACK = Path("/usr/lib/postgresql/15/bin/pg_repack")
HEAD = ["", "takes", "WAL", "longest wait of a client"]
MORE = ["way", "left", "99.9 % of waits", "wrong"]
HOURS = 4 * 3600


def swap(site):
    cleanup(site, "--method", "swap")


def delete(site):
    cleanup(site, "--method", "delete")


def manual(site):
    site.manage("clearsessions", timeout=HOURS)
    site.psql(f"VACUUM (FULL, ANALYZE) {TABLE}")


def repack(site):
    cleanup(site, "--method", "delete")
    subprocess.run([REPACK, "-t", "django_session", "-k", "--elevel=WARNING"], check=True, stdout=subprocess.DEVNULL, timeout=HOURS,
                   env={**PLAIN_ENVIRONMENT, **site.cluster.environment(site.database)})


def nothing(site):
    """What the traffic costs by itself."""
    time.sleep(10)


WAYS = {"nothing": nothing, "`swap`": swap, "`delete`": delete, "clearsessions, then VACUUM FULL": manual,
        "batches, then pg_repack": repack}


def measure(options):
    ways = dict(WAYS)
    right, notes = "Every value that the clients read was right, unless the last column says otherwise.", []
    if not REPACK.exists():
        del ways["batches, then pg_repack"]
        notes.append("pg_repack is not installed.")
    with server(**FOR_CLEANUPS) as cluster:
        site = neglected(cluster, options, repack in ways.values())
        sizes = site.sizes()["total"]
        found = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, way in ways.items():
                found[name].append(under_traffic(site, way, options.clients))
                tell(f"cleanup: {name}, {found[name][-1][0].seconds:.1f} s")
    says = (f"{size(sizes)}, {options.expired:g} million expired and {live_millions(options):.2g} million live sessions, "
            f"on {os.cpu_count()} cores, with {options.clients} clients that check every value")
    return [Table(says, HEAD, [row(name, runs) for name, runs in found.items()], notes),
            Table("Besides", MORE, [more(name, runs) for name, runs in found.items()], [right])]


def live_millions(options):
    return options.expired * options.live / (100 - options.live)


def neglected(cluster, options, with_repack):
    live = options.live / 100
    site = new_site(cluster, "neglected", round(options.expired * 1e6 / (1 - live)), expired_share=1 - live, data_bytes=100)
    if with_repack:
        site.psql("CREATE EXTENSION pg_repack")
    return site


def under_traffic(site, way, clients):
    """(cost, longest wait, 99.9 % of waits, what went wrong)"""
    with copy_of(site, "measured") as copied:
        with Traffic(lambda: copied.cluster.connect(copied.database, OWNER), clients=clients, pause=0.002) as traffic:
            time.sleep(2)
            cost = cost_of(copied, way)
        return cost, traffic.count.longest, traffic.latency(0.999), traffic.count.anomalies


def row(name, runs):
    costs, longest, _, _ = zip(*runs)
    cost = median_cost(costs)
    return [name, duration(cost.seconds), size(cost.wal), duration(max(longest))]


def more(name, runs):
    costs, _, waits, wrong = zip(*runs)
    return [name, size(median_cost(costs).after), f"{1000 * statistics.median(waits):.1f} ms",
            ", ".join(map(str, filter(None, wrong))) or "nothing"]
