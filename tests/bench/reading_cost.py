"""What a reading costs: CPU, beside collectd's own postgresql plugin; time, on a small table and on a large one."""

import statistics
import time

import paths
from collectd_daemon import database_block, plugin_block, running_collectd
from processes import cpu_seconds
from setting import Table, new_site, server, tell

POSTGRESQL_PLUGIN = """LoadPlugin postgresql
<Plugin postgresql>
{queries}
  <Database "site">
    Host "{host}"
    Port "{port}"
    User "django_session_monitor"
{uses}
  </Database>
</Plugin>
"""
QUERY = """  <Query {name}>
    Statement "{sql}"
    <Result>
      Type "{type}"
      InstancePrefix "{name}"
      ValuesFrom "v"
    </Result>
  </Query>"""

FIVE_STATEMENTS = {
    "database": ("pg_db_size", "SELECT pg_database_size(current_database()) AS v"),
    "table": ("bytes", "SELECT pg_table_size('django_session') AS v"),
    "indexes": ("bytes", "SELECT pg_indexes_size('django_session') AS v"),
    "live": ("pg_n_tup_g", "SELECT n_live_tup AS v FROM pg_stat_user_tables WHERE relname = 'django_session'"),
    "dead": ("pg_n_tup_g", "SELECT n_dead_tup AS v FROM pg_stat_user_tables WHERE relname = 'django_session'"),
}
THEIRS = "collectd's `postgresql`, five statements"
A_SECOND = 10  # readings
ROUNDS, SECONDS = 5, 8


def measure(options):
    builds = {"`django_session`": paths.BUILD}
    if options.other_build:
        builds["another build's"] = options.other_build
    with server(shared_buffers="512MB") as cluster:
        new_site(cluster, "small", 10_000, data_bytes=150)
        new_site(cluster, "site", round(options.rows * 1e6), data_bytes=150)
        return [compare_cpu(cluster, builds), compare_sizes(cluster, options.rows)]


def postgresql_plugin(cluster):
    return POSTGRESQL_PLUGIN.format(
        queries="\n".join(QUERY.format(name=name, type=kind, sql=sql) for name, (kind, sql) in FIVE_STATEMENTS.items()),
        uses="\n".join(f"    Query {name}" for name in FIVE_STATEMENTS), host=cluster.socket, port=cluster.port)


def backend_of(cluster, application):
    (pid,), = cluster.psql("SELECT pid FROM pg_stat_activity WHERE datname = 'site' "
                           f"AND application_name LIKE '{application}%'")
    return pid


def cpu_of_readings(cluster, config, plugin, application):
    """CPU seconds of collectd and of its backend for each reading."""
    with running_collectd(config, 1 / A_SECOND, plugin) as daemon:
        time.sleep(3)
        pids = daemon.pid, backend_of(cluster, application)
        start, before = time.monotonic(), [cpu_seconds(pid) for pid in pids]
        time.sleep(SECONDS)
        readings = (time.monotonic() - start) * A_SECOND
        return [(cpu_seconds(pid) - early) / readings for pid, early in zip(pids, before)]


def compare_cpu(cluster, builds):
    """They take turns."""
    ours = plugin_block(database_block(cluster, "site"))
    ways = {name: (ours, build / "plugin" / "django_session.so", "django_session") for name, build in builds.items()}
    ways[THEIRS] = (postgresql_plugin(cluster), paths.PLUGIN, "collectd")
    costs = {name: [] for name in ways}
    for number in range(ROUNDS):
        for name, way in ways.items():
            costs[name].append(cpu_of_readings(cluster, *way))
        tell(f"reading: CPU, round {number + 1} of {ROUNDS}")
    medians = {name: (statistics.median(map(sum, runs)), statistics.median(run[1] for run in runs))
               for name, runs in costs.items()}
    rows = [[name, f"{1000 * total:.2f} ms", f"{total / medians[THEIRS][0]:.2f}", f"{1000 * own:.2f} ms"]
            for name, (total, own) in medians.items()]
    return Table(f"CPU for a reading, medians of {ROUNDS} runs in turn, {SECONDS * A_SECOND} readings each",
                 ["plugin", "collectd and server", "ratio", "server alone"], rows)


def reading_times(cluster, database, readings=40):
    with running_collectd(plugin_block(database_block(cluster, database)), 0.2, paths.PLUGIN) as daemon:
        name = f"django_session-{database}/response_time-read"
        daemon.wait_for_reads(name, readings + 3)
        return [value for _, value in daemon.history()[name]][3:]


def compare_sizes(cluster, millions):
    times = {"small": [], "site": []}
    for _ in range(3):
        for database, found in times.items():
            found += reading_times(cluster, database)
    few, many = (statistics.median(found) for found in times.values())
    rows = [["10 thousand", f"{1000 * few:.2f} ms", "1.00"],
            [f"{millions:g} million", f"{1000 * many:.2f} ms", f"{many / few:.2f}"]]
    return Table("A reading's time by the number of sessions, medians", ["sessions", "takes", "ratio"], rows)
