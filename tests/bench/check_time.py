"""The check's time, beside check_postgres and a program of bare libpq that connects and asks one question."""

import os
import statistics
import subprocess
import time

import paths
from django_site import MONITOR
from setting import Table, new_site, server, tell, temporary_folder

BARE = r"""
#include <libpq-fe.h>
#include <stdio.h>
int main(int argc, char **argv) {
  PGconn *connection = PQconnectdb(argv[argc - 1]);
  PGresult *result = PQexec(connection, "SELECT pg_total_relation_size('public.django_session')");
  puts(PQgetvalue(result, 0, 0));
  PQclear(result);
  PQfinish(connection);
  return 0;
}
"""
CHECK_POSTGRES = ["check_postgres", "--action=table_size", "--include=django_session", "-w", "1TB"]
RUNS, SELDOM = 60, 8  # check_postgres takes a hundred times as long


def measure(options):
    with server(shared_buffers="512MB") as cluster, temporary_folder() as folder:
        new_site(cluster, "site", round(options.rows * 1e6), data_bytes=150)
        commands = {"`check_django_session`": [paths.CHECK]}
        if options.other_build:
            commands["another build's"] = [options.other_build / "nagios" / "check_django_session"]
        commands["bare libpq, one question"] = [bare_program(folder), cluster.conninfo("site", MONITOR)]
        return [compare(commands, {"check_postgres, the table's size": CHECK_POSTGRES},
                        cluster.environment("site", MONITOR))]


def bare_program(folder):
    source, program = folder / "bare.c", folder / "bare"
    source.write_text(BARE)
    include = subprocess.check_output(["pg_config", "--includedir"], text=True).strip()
    subprocess.run(["gcc", "-O2", f"-I{include}", source, "-o", program, "-lpq"], check=True)
    return program


def wall(command, environment):
    start = time.monotonic()
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, check=False)
    assert 0 <= done.returncode <= 2, f"{command} exited {done.returncode}"  # what UNKNOWN takes is of no interest
    return time.monotonic() - start


def compare(commands, rare, environment):
    """They take turns."""
    times = {name: [] for name in (*commands, *rare)}
    for run in range(RUNS):
        for name, command in {**commands, **(rare if run % SELDOM == 0 else {})}.items():
            times[name].append(wall(command, environment))
    tell(f"check: {RUNS} runs")
    medians = {name: statistics.median(found) for name, found in times.items()}
    yardstick = medians["bare libpq, one question"]
    return Table("Time of a check from start to end, medians", ["program", "takes", "ratio"],
                 [[name, f"{1000 * median:.1f} ms", f"{median / yardstick:.1f}"] for name, median in medians.items()])
