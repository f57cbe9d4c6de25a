"""The story that tests/demo tells: a neglected site, what the tools say of it, the cure by hand;
then the same again with visitors on it, and collectd that cleans up by itself."""

import contextlib
import datetime
import os
import re
import shutil
import sys
import tempfile
import textwrap
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "integration"))

import paths
from check import run_check
from cleanup_command import SWAPPER, Cleanup
from cluster import Cluster
from collectd_daemon import HOST, CollectdDaemon, database_block, plugin_block
from django_site import MONITOR, OWNER, DjangoSite
from processes import private_file, private_folder, readable_copy, run, wait_for
from traffic import Traffic
from vocabulary import VALUES

DATABASE = "site"
WIDTH = 96
READ = f"django_session-{DATABASE}/response_time-read"
RECLAIMABLE = f"django_session-{DATABASE}/bytes-reclaimable"
INTERVAL = 1  # seconds between two readings

SESSIONS = 300_000
EXPIRED = 0.97

# The second act begins with four fifths of that, below the threshold; its visitors do the rest.
BELOW_THRESHOLD = SESSIONS * 4 // 5
MORE = SESSIONS // 30
THRESHOLD = 130  # MB
CLEANUP = f"""\
    <Cleanup>
      Trigger "reclaimable={THRESHOLD}MB"
      Method "swap"
      User "{SWAPPER}"
      Cooldown 3600
    </Cleanup>
"""
NOTIFY_NAGIOS = """\
LoadPlugin notify_nagios
<Plugin notify_nagios>
  CommandFile "{path}"
</Plugin>
"""
# One folder for both collectds: the picture shows both acts. A row for each second, for ten minutes.
RRDTOOL = """\
LoadPlugin rrdtool
<Plugin rrdtool>
  DataDir "{folder}/rrd"
  HeartBeat 5
  RRARows 600
  RRATimespan 600
</Plugin>
"""
CLEANUP_ENDED = "cleanup (ended|failed|refused|stopped)"
CLIENTS = 8
GRAPHS = paths.CONF / "rrdtool" / "django_session_graphs"
PICTURE = paths.ROOT / "build" / "demo.png"

# What is shown of the plugin's values: the metrics, and how long the reading took.
SHOWN = {value.collectd: value for value in VALUES
         if value.metric or value.collectd == "response_time-read"}


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
    unit = SHOWN[name].unit
    if unit == "bytes":
        return pretty_bytes(value)
    if unit == "%":
        return f"{value:.1f} %"
    if unit == "seconds":
        return f"{value / 86400:.0f} d" if value >= 86400 else f"{value:.4g} s"
    return f"{value:,.0f}"


def show_values(daemon):
    daemon.wait_for_reads(READ, 2)
    values = daemon.values(DATABASE)
    for name, shown in SHOWN.items():
        if name in values:
            print(f"    {name:<22} {pretty(name, values[name]):>12}   {shown.meaning}")
    return values


def show_before_and_after(before, after):
    print(f"    {'':<22} {'before':>12} {'after':>12}")
    for name in SHOWN:
        if name in before and name in after:
            old, new = pretty(name, before[name]), pretty(name, after[name])
            print(f"    {name:<22} {old:>12} {new:>12}")
    say("Before, live and expired were estimated from a sample: a few hundred sessions more or "
        "less. That none was lost is checked one by one, below.")


def show_check(program, cluster):
    options = ["-d", DATABASE, "-U", MONITOR]
    command(f"check_django_session {' '.join(options)}")
    answer = run_check(program, *options, environment=cluster.environment())
    indented(f"{answer.line}\n{answer.long_text}")
    print(f"    (exit code {answer.code}: {answer.state}; {answer.seconds * 1000:.0f} ms; "
          f"{len(answer.perfdata)} values of perfdata are not shown)")
    return answer.state


def show_plan(program, cluster):
    options = ["-d", DATABASE, "-U", SWAPPER, "--method", "swap", "--dry-run"]
    command(f"django_session_cleanup {' '.join(options)}")
    result = Cleanup(program, *options, environment=cluster.environment()).result()
    indented(result.stdout)
    print(f"    (exit code {result.code}; nothing has been changed)")


def show_count(count):
    print(f"    {count.operations:>7,}  operations: sessions loaded, saved, created, logged out")
    for number, what in (
            (count.lost, "sessions lost"), (count.changed, "sessions changed"),
            (count.resurrected, "sessions back after their logout"),
            (count.updates_of_no_row, "saves or logouts that found no session"),
            (count.errors, "errors")):
        print(f"    {number:>7,}  {what}")
    print(f"    {1000 * count.longest:>7,.0f}  ms was the longest that any client waited")


def visit(site, sessions):
    """What that many visitors leave behind in two years."""
    site.fill(sessions, EXPIRED, data_bytes=(150, 400),
              expired_over=datetime.timedelta(days=730))


def make_site(folder, cluster):
    headline("A Django site that nobody cleans")
    say("Django keeps a row in django_session for each visitor. The row expires after two weeks, "
        "but nothing deletes it: that is left to a command, clearsessions, which someone has to schedule. Here nobody did for two years.")
    cluster.create_role(OWNER)
    cluster.create_database(DATABASE, OWNER)
    site = DjangoSite(folder, cluster, DATABASE)
    command("python manage.py migrate")
    site.migrate()
    say(f"Two years of visitors: {SESSIONS:,} sessions, {EXPIRED:.0%} of them expired.")
    visit(site, SESSIONS)
    command(f"psql -d {DATABASE} -f conf.d/roles.sql")
    say("That made the role which measures: it sees sizes and expiry times, but no session.")
    site.apply_roles()
    return site


def start_collectd(folder, stack, config, name):
    config = RRDTOOL.format(folder=folder) + config
    daemon = CollectdDaemon(folder, config, INTERVAL, paths.PLUGIN, name).start()
    stack.callback(lambda: daemon.running and daemon.stop())
    return daemon


class Story:
    """What the last screen tells of it: a row for each act."""

    COLUMNS = {"bytes-total": "size", "bytes-reclaimable": "reclaimable", "pg_n_tup_g-live": "live",
               "pg_n_tup_g-expired": "expired"}

    def __init__(self):
        self._rows = []
        self._start = time.time()
        self.blocked_by_hand = 0  # seconds

    def note(self, act, values, state=""):
        self._rows.append((act, [pretty(name, values[name]) for name in self.COLUMNS], state))

    def show(self, traffic, log):
        headline("The whole story")
        print(f"    {'':<34}" + "".join(f"{name:>13}" for name in self.COLUMNS.values()) + "   the check")
        for act, values, state in self._rows:
            print(f"    {act:<34}{''.join(f'{value:>13}' for value in values)}   {state}".rstrip())
        print()
        print(f"    By hand: the site stood still for {self.blocked_by_hand:.1f} s; on a table of many gigabytes it is an outage.")
        print("    By itself:", re.findall(r"cleanup ended: swap: (.*)", log)[-1])
        count = traffic.count
        print(f"    Its {CLIENTS} visitors: {count.operations:,} operations, {count.lost} sessions lost, {count.changed} changed, "
              f"{count.errors} errors; longest wait {1000 * count.longest:.0f} ms.")

    def draw(self, folder, script):
        """From collectd's own files; into the build folder, since all else goes."""
        run([script, folder / "rrd" / HOST / f"django_session-{DATABASE}", private_folder(folder, "pictures"),
             str(round(self._start)), "now"], environment={"PATH": os.environ["PATH"]})
        shutil.copyfile(folder / "pictures" / "overview.png", PICTURE)
        print(f"    The picture, by rrdtool from collectd's files: {PICTURE.relative_to(paths.ROOT)}")


def cure_by_hand(folder, stack, site, check, story):
    headline(f"What collectd sees (django_session.so, read every {INTERVAL} s)")
    config = plugin_block(database_block(site.cluster, DATABASE))
    daemon = start_collectd(folder, stack, config, "collectd")
    values = show_values(daemon)

    headline("What pages the one on call (check_django_session, default thresholds)")
    story.note("two years without clearsessions", values, show_check(check, site.cluster))

    headline("The cure by hand, first half: delete")
    command("python manage.py clearsessions")
    site.manage("clearsessions")
    left = site.value("SELECT count(*) FROM django_session")
    say(f"{left:,} sessions are left, but the disk got nothing back. PostgreSQL keeps the space "
        "for rows to come. What collectd sees now:")
    story.note("by hand: clearsessions", show_values(daemon))

    headline("The cure by hand, second half: give the space back")
    command("psql -c 'VACUUM FULL ANALYZE django_session'")
    start = time.monotonic()
    site.psql("VACUUM (FULL, ANALYZE) django_session")
    story.blocked_by_hand = time.monotonic() - start
    say(f"It took {story.blocked_by_hand:.1f} s on this small table. Nobody could log in "
        "meanwhile: on a table of many gigabytes that is an outage.")

    headline("What collectd and the check say now")
    values = show_values(daemon)
    story.note("by hand: and VACUUM FULL", values, show_check(check, site.cluster))
    return daemon


def neglect_again(site, program):
    headline("Neglected again, and nobody wants to be paged")
    say("The same visitors come back, and again nothing deletes their sessions. This time the "
        "cleanup has a role of its own, and says what it would do.")
    visit(site, BELOW_THRESHOLD)
    command(f"psql -d {DATABASE} -v swapper={SWAPPER} -f conf.d/roles.sql")
    site.apply_roles(swapper=SWAPPER)
    show_plan(program, site.cluster)


def start_collectd_that_cleans(folder, stack, cluster, commands):
    headline("collectd may clean up by itself")
    say("The <Database> block of its configuration gets this, and notify_nagios is loaded:")
    indented(textwrap.dedent(CLEANUP))
    config = NOTIFY_NAGIOS.format(path=commands) + plugin_block(
        database_block(cluster, DATABASE, inner=CLEANUP))
    daemon = start_collectd(folder, stack, config, "collectd-that-cleans")
    daemon.wait_for_reads(READ, 2)
    say(f"So far {pretty_bytes(daemon.values()[RECLAIMABLE])} are reclaimable: nothing happens.")
    return daemon


def visit_until_cleaned(site, daemon, commands):
    """More visitors, until a value passes the threshold; then waits for the cleanup's end."""
    def passed_after_more_visits():
        visit(site, MORE)
        return "cleanup starts" in daemon.log_text()
    wait_for(passed_after_more_visits, "the start of the cleanup", timeout=60, pause=0.5)
    wait_for(lambda: re.search(CLEANUP_ENDED, commands.read_text()), "its end", timeout=60)


def show_cleanup(daemon, commands):
    indented("\n".join(line for line in daemon.log_text().splitlines()
                       if "django_session plugin:" in line))
    notification = commands.read_text().splitlines()[-1]
    say("The notification at its end, as notify_nagios hands it to Nagios or Icinga:")
    indented(notification)
    if "cleanup ended" not in notification:
        sys.exit("The cleanup didn't come to its end.")


def values_that_triggered(daemon):
    """Those of the first reading that passed the threshold."""
    history = daemon.history()
    passed = next(when for when, value in history[RECLAIMABLE] if value > THRESHOLD * 1024**2)
    found = {}
    for name, rows in history.items():
        for when, value in rows:
            if when < passed + INTERVAL / 2:
                found[name.removeprefix(f"django_session-{DATABASE}/")] = value
    return found


def clean_under_traffic(site, daemon, commands, check, story):
    headline(f"The threshold is passed, while {CLIENTS} clients use the site")
    say("They load, save and create sessions, log out, and compare every value with what they "
        "wrote last. Meanwhile the forgotten sessions become more. collectd's log:")
    traffic = Traffic(lambda: site.cluster.connect(DATABASE, OWNER), CLIENTS, pause=0.02)
    with traffic:
        visit_until_cleaned(site, daemon, commands)
        show_cleanup(daemon, commands)
        headline("The next reading, beside the one that passed the threshold")
        daemon.wait_for_reads(READ, 2)
        before, after = values_that_triggered(daemon), daemon.values(DATABASE)
        show_before_and_after(before, after)
        story.note("neglected again", before)
        story.note("by itself: swap, with visitors", after, show_check(check, site.cluster))
    return traffic


def sessions_valid_for(site, hours):
    return set(site.psql("SELECT session_key, session_data, expire_date FROM django_session "
                         f"WHERE expire_date > now() + interval '{hours} hours'"))


def show_traffic(traffic, idle, left):
    headline("What the site's visitors saw of it")
    show_count(traffic.count)
    print(f"    {len(idle & left):>7,}  of {len(idle):,} valid sessions that nobody used meanwhile "
          "are there, unchanged")
    if traffic.count.anomalies or idle - left:
        sys.exit(f"That must not be: {sorted(traffic.messages)}")
    say("Nobody was logged out, and nothing was lost.")


def cure_by_itself(folder, stack, site, check, story):
    commands = private_file(folder / "nagios.cmd", "")
    daemon = start_collectd_that_cleans(folder, stack, site.cluster, commands)
    idle = sessions_valid_for(site, hours=1)
    traffic = clean_under_traffic(site, daemon, commands, check, story)
    show_traffic(traffic, idle, sessions_valid_for(site, hours=0))
    daemon.stop()  # and writes what it has not yet written
    story.show(traffic, daemon.log_text())


def tell(folder, stack):
    cluster = Cluster(folder, autovacuum="on", log_statement="none").start()
    stack.callback(cluster.stop, "immediate")
    site = make_site(folder, cluster)
    check = readable_copy(paths.CHECK, folder)
    story = Story()
    private_folder(folder, "rrd")
    watching = cure_by_hand(folder, stack, site, check, story)
    neglect_again(site, readable_copy(paths.CLEANUP, folder))
    watching.stop()  # only one may write collectd's files at a time
    cure_by_itself(folder, stack, site, check, story)
    story.draw(folder, readable_copy(GRAPHS, folder))
    print("Nothing else of this is left behind.")


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
