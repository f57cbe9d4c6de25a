"""The story that tests/demo tells: a neglected site, what the tools say of it, the cure by hand."""

import contextlib
import datetime
import os
import sys
import tempfile
import textwrap
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "integration"))

import paths
from check import run_check
from cluster import Cluster
from collectd_daemon import CollectdDaemon, database_block, plugin_block
from django_site import MONITOR, OWNER, DjangoSite
from processes import readable_copy

DATABASE = "site"
WIDTH = 96
READ = f"django_session-{DATABASE}/response_time-read"

SESSIONS = 300_000
EXPIRED = 0.97

BYTES = {"pg_db_size", "bytes-table", "bytes-toast", "bytes-indexes", "bytes-total",
         "bytes-reclaimable"}
MEANING = {
    "pg_db_size": "the whole database",
    "bytes-table": "the session table's heap",
    "bytes-toast": "its TOAST, for sessions over 2 kB",
    "bytes-indexes": "its indexes together",
    "bytes-total": "table, TOAST and indexes",
    "bytes-reclaimable": "what the disk would get back from a complete cleanup",
    "pg_n_tup_g-live": "sessions that are valid (estimated, without a scan)",
    "pg_n_tup_g-expired": "sessions that have expired (estimated, without a scan)",
    "pg_n_tup_g-dead": "deleted rows that wait for VACUUM",
    "percent-expired": "expired of all sessions, %",
    "percent-database": "session table of the database, %",
    "duration-overdue": "how long the oldest session has been expired",
    "response_time-read": "seconds the reading took",
}


def headline(text):
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}")
    print("-" * min(len(text), WIDTH))


def say(text):
    print(textwrap.fill(" ".join(text.split()), WIDTH))


def command(text):
    print(f"  $ {text}")


def indented(text):
    """Lines of a program's output, folded to the width of the page."""
    for line in text.rstrip().splitlines():
        print(textwrap.fill(line, WIDTH, initial_indent="    ", subsequent_indent="      ",
                            break_on_hyphens=False, replace_whitespace=False))


def pretty_bytes(count):
    size, unit = float(count), "bytes"
    for bigger in ("kB", "MB", "GB"):
        if size < 1024:
            break
        size, unit = size / 1024, bigger
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"


def pretty(name, value):
    if name in BYTES:
        return pretty_bytes(value)
    if name == "duration-overdue":
        return f"{value / 86400:.0f} d" if value >= 86400 else f"{value:.0f} s"
    if name.startswith("percent"):
        return f"{value:.1f} %"
    if name == "response_time-read":
        return f"{value:.4f} s"
    return f"{value:,.0f}"


def show_values(daemon):
    daemon.wait_for_reads(READ, 2)
    values = daemon.values(DATABASE)
    for name, meaning in MEANING.items():
        if name in values:
            print(f"    {name:<22} {pretty(name, values[name]):>12}   {meaning}")


def show_check(program, cluster):
    options = ["-d", DATABASE, "-U", MONITOR]
    command(f"check_django_session {' '.join(options)}")
    answer = run_check(program, *options, environment=cluster.environment())
    indented(f"{answer.line}\n{answer.long_text}")
    print(f"    (exit code {answer.code}: {answer.state}; {answer.seconds * 1000:.0f} ms; "
          f"{len(answer.perfdata)} values of perfdata are not shown)")


def make_site(folder, cluster):
    headline("A Django site that nobody cleans")
    say("Django keeps a row in django_session for each visitor. The row expires after two weeks, "
        "but nothing deletes it: that is left to a command, clearsessions, which somebody has to "
        "schedule. Here nobody did for two years.")
    cluster.create_role(OWNER)
    cluster.create_database(DATABASE, OWNER)
    site = DjangoSite(folder, cluster, DATABASE)
    command("python manage.py migrate")
    site.migrate()
    say(f"Two years of visitors: {SESSIONS:,} sessions, {EXPIRED:.0%} of them expired.")
    site.fill(SESSIONS, EXPIRED, data_bytes=(150, 400),
              expired_over=datetime.timedelta(days=730))
    command(f"psql -d {DATABASE} -f conf.d/roles.sql")
    say("That made the role which measures: it sees sizes and expiry times, but no session.")
    site.apply_roles()
    return site


def tell(folder, stack):
    cluster = Cluster(folder, autovacuum="on", log_statement="none").start()
    stack.callback(cluster.stop, "immediate")
    site = make_site(folder, cluster)
    check = readable_copy(paths.CHECK, folder)

    headline("What collectd sees (django_session.so, read every 2 s)")
    daemon = CollectdDaemon(
        folder, plugin_block(database_block(cluster, DATABASE)), interval=2, plugin=paths.PLUGIN)
    daemon.start()
    stack.callback(lambda: daemon.running and daemon.stop())
    show_values(daemon)

    headline("What pages the one on call (check_django_session, default thresholds)")
    show_check(check, cluster)

    headline("The cure by hand, first half: delete")
    command("python manage.py clearsessions")
    site.manage("clearsessions")
    left = site.value("SELECT count(*) FROM django_session")
    say(f"{left:,} sessions are left, but the disk got nothing back. PostgreSQL keeps the space "
        "for rows to come. What collectd sees now:")
    show_values(daemon)

    headline("The cure by hand, second half: give the space back")
    command("psql -c 'VACUUM FULL ANALYZE django_session'")
    start = time.monotonic()
    site.psql("VACUUM (FULL, ANALYZE) django_session")
    say(f"It took {time.monotonic() - start:.1f} s on this small table. Nobody could log in "
        "meanwhile: on a table of many gigabytes that is an outage.")

    headline("What collectd and the check say now")
    show_values(daemon)
    show_check(check, cluster)
    seconds = daemon.stop()
    print(f"\ncollectd stopped within {seconds:.1f} s. Nothing of this is left behind.")


def main():
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(
            prefix="demo.", dir=os.environ.get("DJANGO_SESSION_TMP", "/tmp")))
        os.chmod(folder, 0o755)
        tell(Path(folder), stack)


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
