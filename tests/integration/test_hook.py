"""The write hook in a real collectd: what starts a cleanup, what holds it back, what is told of it."""

import datetime
import os
import re
import shlex
import signal
import time
from pathlib import Path

import pytest

import collectd_packets
from collectd_daemon import HOST, database_block, plugin_block
from django_site import MONITOR, OWNER, TABLE
from paths import COLLECTD_SAMPLE
from processes import AM_ROOT, USER, free_port, private_file, program, wait_for

UP = "django_session-site/bool-up"
READ = "django_session-site/response_time-read"
RUNS = "django_session-site/total_operations-cleanup"
FAILED = "django_session-site/total_operations-cleanup_failed"
CLEANING = "django_session-site/bool-cleaning"
DURATION = "django_session-site/duration-cleanup"

ENDED = "site: cleanup ended: "
NAGIOS = """
LoadPlugin notify_nagios
<Plugin notify_nagios>
  CommandFile "{path}"
</Plugin>
"""
EXEC = """
LoadPlugin exec
<Plugin exec>
  NotificationExec "{user}" "{path}"
</Plugin>
"""

pytestmark = pytest.mark.sanitizers


@pytest.fixture
def neglected(site):
    """A site of whose sessions 97 % have expired."""
    site.fill(sessions=20_000)
    return site


class Script:
    """A program for Command; what it appends to $NOTES is in notes(). (psql hangs with the library
    of a sanitizer before it, which a collectd under test has in its environment.)"""

    def __init__(self, folder, text, name="clean"):
        self._notes = private_file(folder / f"{name}.notes", "")
        self.path = private_file(
            folder / name, f"#!/bin/sh\nunset LD_PRELOAD\nNOTES={self._notes}\n{text}\n", 0o755)

    def notes(self):
        return self._notes.read_text().splitlines()

    def pid(self):
        """What the script noted of itself with `echo $$ >>$NOTES`."""
        return int(wait_for(self.notes, "the script's start")[0])


@pytest.fixture
def script(folder):
    return lambda text, name="clean": Script(folder, text, name)


@pytest.fixture
def nagios_file(folder):
    """A file in the place of Nagios' command pipe."""
    return private_file(folder / "nagios.cmd", "")


def cleanup_block(trigger="expired_percent=50", **options):
    lines = [f'      Trigger "{trigger}"']
    for name, value in options.items():
        if not isinstance(value, (list, tuple)):
            value = [value]
        words = " ".join(str(v) if isinstance(v, (int, float)) else f'"{v}"' for v in value)
        lines.append(f"      {name} {words}")
    return "    <Cleanup>\n" + "\n".join(lines) + "\n    </Cleanup>\n"


def hooked(cluster, cleanup, Timeout=2, **options):
    return plugin_block(database_block(cluster, "site", inner=cleanup, Timeout=Timeout, **options))


def is_running(pid):
    """One that has ended and only waits for its parent (init, here) to notice isn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def utc(minutes):
    """The time of day so many minutes from now, where collectd is in UTC."""
    return (datetime.datetime.now(datetime.timezone.utc)
            + datetime.timedelta(minutes=minutes)).strftime("%H:%M")


def test_a_value_that_passes_its_trigger_runs_the_command_once(
        collectd, cluster, neglected, script, nagios_file):
    clean = script('echo run "$@" >>$NOTES; env | grep ^DJANGO_SESSION | sort; echo oops >&2')
    daemon = collectd(NAGIOS.format(path=nagios_file) + hooked(
        cluster, cleanup_block(Command=(clean.path, "a b", "$HOME;id"))))
    daemon.wait_for_log(ENDED + "exit code 0 after ")
    daemon.wait_for_reads(READ, 4)
    assert clean.notes() == ["run a b $HOME;id"]

    log = daemon.log_text()
    for line in ("DJANGO_SESSION_DATABASE=site", f"DJANGO_SESSION_HOST={HOST}",
                 "DJANGO_SESSION_METRIC=expired_percent", "DJANGO_SESSION_VALUE=97",
                 "DJANGO_SESSION_TABLE=django_session", "oops"):
        assert log.count(f"django_session plugin: site: cleanup: {line}") == 1, line
    assert log.count("plugin: site: cleanup starts") == 1
    assert log.count('expired_percent is 97% (Trigger "expired_percent=50"), but the last cleanup '
                     "didn't end that: the next may start in ") == 1

    assert daemon.values()[RUNS] == 1
    assert daemon.values()[FAILED] == 0
    assert 0 <= daemon.values()[DURATION] < 10
    assert "django_session-site/duration-cleanup_lock" not in daemon.values()

    start, end = nagios_file.read_text().splitlines()
    service = f"PROCESS_SERVICE_CHECK_RESULT;{HOST};django_session-site/total_operations-cleanup;0;"
    assert service + f"site: cleanup starts ({clean.path}): expired_percent is 97%" in start
    assert service + "site: cleanup ended: exit code 0 after" in end


def test_the_counters_are_there_before_the_first_cleanup(collectd, cluster, site, script):
    daemon = collectd(hooked(cluster, cleanup_block("total=1TB", Command=script("").path)))
    for counter in (RUNS, "django_session-site/total_objects-deleted", "django_session-site/total_bytes-reclaimed"):
        daemon.wait_for_value(counter, lambda value: value == 0)  # collectd writes several values at once
    assert "duration-cleanup" not in daemon.values("site")


def test_a_cleanup_that_helps_may_run_again_after_the_cooldown(
        collectd, cluster, neglected, script):
    psql = (f"{program('psql')} -X -q -h {cluster.socket} -p {cluster.port} -U postgres -d site")
    clean = script(f"date +%s >>$NOTES; echo 'DELETE FROM {TABLE} WHERE expire_date < now(); "
                   f"VACUUM (ANALYZE) {TABLE}' | {psql}")
    daemon = collectd(hooked(cluster, cleanup_block(Command=clean.path, Cooldown=5)))
    daemon.wait_for_log(ENDED)
    daemon.wait_for_value("django_session-site/percent-expired", lambda value: value < 50)
    mark = daemon.log_mark()
    neglected.fill(sessions=20_000)
    daemon.wait_for_log(ENDED, mark)
    first, second = map(int, clean.notes())
    assert second - first >= 5
    assert "didn't end that" not in daemon.log_text()
    assert daemon.log_text(mark).count("but the last cleanup ended") <= 1


def test_nothing_starts_outside_the_window(collectd, cluster, neglected, script):
    clean = script("echo run >>$NOTES")
    window = f"{utc(60)}-{utc(120)}"
    daemon = collectd(hooked(cluster, cleanup_block(Command=clean.path, Window=window)))
    daemon.wait_for_log(f"but a cleanup may start only within {window}")
    daemon.wait_for_reads(READ, 3)
    assert clean.notes() == []
    assert daemon.log_text().count("(Window)") == 1


def test_a_cleanup_starts_within_one_of_the_windows(collectd, cluster, neglected, script):
    clean = script("echo run >>$NOTES")
    block = cleanup_block(Command=clean.path, Window=f"{utc(60)}-{utc(120)}").replace(
        "    </Cleanup>", f'      Window "{utc(-2)}-{utc(2)}"\n    </Cleanup>')
    collectd(hooked(cluster, block)).wait_for_log(ENDED)
    assert clean.notes() == ["run"]


def test_a_failure_is_notified_and_counted_also_beside_the_exec_plugin(
        collectd, cluster, neglected, script):
    """The exec plugin waits for any child: it must not take our exit code, and we not its child."""
    notified = script("cat >>$NOTES", "notified")
    clean = script("exit 3")
    daemon = collectd(EXEC.format(user=USER.pw_name, path=notified.path) + hooked(
        cluster, cleanup_block(Command=clean.path)))
    daemon.wait_for_log("site: cleanup failed: exit code 3")
    daemon.wait_for_value(FAILED, lambda value: value == 1)
    daemon.wait_for_value(RUNS, lambda value: value == 1)
    text = "\n".join(wait_for(notified.notes, "the notification"))
    assert "Unable to determine Interval" not in daemon.log_text(), daemon.log_text()
    assert re.search(f"Host: {HOST}\nPlugin: django_session\nPluginInstance: site\n"
                     "Type: total_operations\nTypeInstance: cleanup\n", text)


def test_a_program_that_is_not_there_is_a_failure(collectd, cluster, neglected, nagios_file):
    daemon = collectd(NAGIOS.format(path=nagios_file) + hooked(
        cluster, cleanup_block(Command="/nowhere/clean")))
    daemon.wait_for_log("site: cleanup failed: could not be started: No such file or directory")
    daemon.wait_for_value(FAILED, lambda value: value == 1)
    assert ";2;site: cleanup failed: " in nagios_file.read_text()


def test_a_command_is_ended_at_its_time_limit_and_readings_go_on_meanwhile(
        collectd, cluster, neglected, script, nagios_file):
    clean = script("echo $$ >>$NOTES; exec sleep 60")
    daemon = collectd(NAGIOS.format(path=nagios_file) + hooked(
        cluster, cleanup_block(Command=clean.path, MaxDuration=4)))
    pid = clean.pid()
    daemon.wait_for_reads(READ, 2)
    assert is_running(pid)
    daemon.wait_for_log("site: cleanup stopped before its end: ended at its time limit after 4")
    wait_for(lambda: not is_running(pid), "the program's end")
    daemon.wait_for_reads(READ, 1)
    assert (daemon.values()[RUNS], daemon.values()[FAILED]) == (1, 0)
    assert ";1;site: cleanup stopped before its end" in nagios_file.read_text()


def test_collectd_stops_in_time_with_a_command_that_does_not_listen(
        collectd, cluster, neglected, script):
    clean = script("trap '' TERM; echo $$ >>$NOTES; while :; do sleep 0.2; done")
    daemon = collectd(hooked(cluster, cleanup_block(Command=clean.path)))
    pid = clean.pid()
    assert daemon.stop() < 2 + 1
    assert not is_running(pid)
    assert "site: cleanup stopped before its end: ended because collectd is stopping" in daemon.log_text()


def test_collectd_stops_in_time_with_a_command_and_a_hung_server(
        collectd, running_cluster, neglected, script):
    clean = script("trap '' TERM; echo $$ >>$NOTES; while :; do sleep 0.2; done")
    daemon = collectd(hooked(running_cluster, cleanup_block(Command=clean.path), Timeout=3))
    pid = clean.pid()
    running_cluster.pause()
    time.sleep(1.5)  # into a reading
    assert daemon.stop() < 3 + 1
    assert not is_running(pid)


def test_nothing_of_a_command_outlives_a_collectd_that_was_killed(
        collectd, cluster, neglected, script):
    loop = "trap '' TERM; echo $$ >>$NOTES; while :; do sleep 0.2; done"
    clean = script(f"export NOTES\nsh -c {shlex.quote(loop)} &\n{loop}")
    daemon = collectd(hooked(cluster, cleanup_block(Command=clean.path)))
    wait_for(lambda: len(clean.notes()) == 2, "the script and its child")
    os.kill(daemon.pid, signal.SIGKILL)
    wait_for(lambda: not any(is_running(int(pid)) for pid in clean.notes()), "their end")
    wait_for(lambda: not daemon.running, "collectd's end")


def test_reading_once_for_a_test_cleans_nothing(collectd, cluster, neglected, script):
    clean = script("echo run >>$NOTES")
    for _ in range(3):
        daemon = collectd(hooked(cluster, cleanup_block(Command=clean.path)), start=False,
                          name=f"once{_}")
        assert daemon.read_once().returncode == 0
    assert clean.notes() == []


def test_a_cleanup_without_a_trigger_is_an_error(collectd, cluster, site):
    """One with another option: an entirely empty block is dropped by collectd's own parser."""
    daemon = collectd(hooked(cluster, '    <Cleanup>\n      Method "auto"\n    </Cleanup>\n'))
    daemon.wait_for_log('<Database "site">: <Cleanup>: Trigger is missing')
    assert "[error]" in daemon.log_text()


def test_what_a_cleanup_waits_for_is_said_at_the_start(collectd, cluster, site):
    daemon = collectd(hooked(cluster, cleanup_block("overdue=9000d")))
    daemon.wait_for_log(r"site: <Cleanup> waits for overdue=9000d \(method delete\)")


needs_root = pytest.mark.skipif(not AM_ROOT, reason="needs root")


@needs_root
def test_roots_command_runs_as_another_user(collectd, cluster, neglected, script):
    clean = script("id -un; id -G; echo $HOME; touch /django_session_test; echo $?")
    daemon = collectd(hooked(cluster, cleanup_block(
        Command=clean.path, CommandUser=USER.pw_name)), as_root=True)
    daemon.wait_for_log(ENDED)
    said = re.findall("site: cleanup: (.*)", daemon.log_text())
    assert said[:3] == [USER.pw_name, str(USER.pw_gid), USER.pw_dir] and said[-1] != "0"


@needs_root
@pytest.mark.parametrize("options, why", [
    ({}, "Command needs CommandUser, because collectd runs as root"),
    ({"CommandUser": "root"}, 'CommandUser "root" is root'),
    ({"CommandUser": "nobody-here"}, 'CommandUser "nobody-here" is not a user of this host')],
    ids=["missing", "root", "unknown"])
def test_roots_command_without_an_ordinary_user_is_an_error(
        collectd, cluster, neglected, script, options, why):
    clean = script("echo run >>$NOTES")
    daemon = collectd(hooked(cluster, cleanup_block(Command=clean.path, **options)), as_root=True)
    daemon.wait_for_log(f'<Database "site">: <Cleanup>: {why}')
    assert clean.notes() == []


def test_what_a_command_says_is_sent_on_as_utf8(collectd, cluster, neglected, script):
    clean = script(r"printf 'b\344r \033[31m \303\244\n'")
    daemon = collectd(hooked(cluster, cleanup_block(Command=clean.path)))
    daemon.wait_for_log(ENDED)
    assert "site: cleanup: b?r ?[31m \u00e4\n".encode() in (daemon.folder / "collectd.log").read_bytes()


@pytest.mark.parametrize("trigger, method, works", [
    ("reclaimable=1TB", "delete", False), ("reclaimable=1TB", "auto", True),
    ("overdue=1000d", "delete", True)])
def test_a_trigger_that_its_method_can_hardly_end_is_warned_of(
        collectd, cluster, site, trigger, method, works):
    daemon = collectd(hooked(cluster, cleanup_block(trigger, Method=method)))
    daemon.wait_for_value(RUNS, lambda value: value == 0)
    warned = f'[warning] django_session plugin: site: <Cleanup>: Trigger "{trigger}" with'
    assert (warned in daemon.log_text()) != works


def test_a_trigger_within_keep_is_an_error(collectd, cluster, site):
    daemon = collectd(hooked(cluster, cleanup_block("overdue=2d", Keep="7d")))
    daemon.wait_for_log('<Database "site">: <Cleanup>: Trigger "overdue=2d" can\'t be ended by a cleanup, '
                        'because Keep spares sessions for 7 d.*for example "overdue=9d"')


def test_a_wrong_block_leaves_the_others_at_work(collectd, cluster, neglected, new_site):
    new_site("shop")
    wrong = database_block(cluster, "site", inner=cleanup_block("reclaimable=1-10"))
    right = database_block(cluster, "shop")
    daemon = collectd(plugin_block(wrong, right))
    daemon.wait_for_value("django_session-shop/bool-up", bool)
    assert ('<Database "site">: <Cleanup>: Trigger: reclaimable (in bytes): cannot read "1-10"'
            in daemon.log_text())
    assert not daemon.values("site")


# -- The built-in cleanup --------------------------------------------------------------------------

CLEANER = "django_session_cleaner"
DELETED = "django_session-site/total_objects-deleted"
RECLAIMED = "django_session-site/total_bytes-reclaimed"
LOCK = "django_session-site/duration-cleanup_lock"


@pytest.fixture
def built_in(cluster, neglected, collectd, nagios_file):
    """A collectd that cleans by itself; the keys of all sessions are in .keys."""
    neglected.apply_roles(cleaner=CLEANER)

    def make(user=CLEANER, Timeout=2, **cleanup):
        daemon = collectd(NAGIOS.format(path=nagios_file) + hooked(
            cluster, cleanup_block(User=user, **cleanup), Timeout))
        daemon.keys = [key for key, in keys]
        return daemon
    keys = neglected.psql(f"SELECT session_key FROM {TABLE}")
    return make


def live_rows(site):
    return site.psql(f"SELECT * FROM {TABLE} WHERE expire_date >= now() ORDER BY session_key")


@pytest.mark.parametrize("method", ["delete", "swap"])
def test_the_built_in_cleanup_cleans_and_the_next_values_show_it(
        built_in, neglected, nagios_file, method):
    live, before = live_rows(neglected), neglected.sizes()["total"]
    daemon = built_in(OWNER, Method=method)
    daemon.wait_for_log(ENDED + method)
    daemon.wait_for_value("django_session-site/percent-expired", lambda value: value == 0)
    assert neglected.value(f"SELECT count(*) FROM {TABLE} WHERE expire_date < now()") == 0
    assert live_rows(neglected) == live
    daemon.wait_for_value(DELETED, lambda value: value == 19_400)
    daemon.wait_for_value(RUNS, lambda value: value == 1)
    assert daemon.wait_for_value(FAILED) == 0
    daemon.wait_for_value(RECLAIMED, lambda value: value == before - neglected.sizes()["total"])
    assert daemon.values()[DURATION] > 0 and daemon.values()[LOCK] < 1
    assert ";0;site: cleanup ended: " in nagios_file.read_text()
    told = daemon.log_text() + nagios_file.read_text()
    assert not [key for key in daemon.keys if key in told]


def test_the_deleting_role_is_enough_to_delete(built_in, neglected):
    live = live_rows(neglected)
    daemon = built_in(CLEANER)
    daemon.wait_for_log(ENDED)
    daemon.wait_for_value(DELETED, lambda value: value == 19_400)
    assert neglected.value(f"SELECT count(*) FROM {TABLE}") == 600
    assert live_rows(neglected) == live


def test_a_missing_right_is_refused_and_not_tried_again_soon(built_in, nagios_file):
    daemon = built_in(user=MONITOR, Cooldown=1)
    daemon.wait_for_log("site: cleanup (refused|failed): ")
    daemon.wait_for_reads(READ, 4)
    daemon.wait_for_value(FAILED, lambda value: value == 1)
    assert ";2;site: cleanup " in nagios_file.read_text()
    assert "the last cleanup didn't end that" in daemon.log_text()


def test_an_objects_name_gives_no_command_to_nagios(built_in, neglected, nagios_file):
    """Whoever may create a view chooses its name, and the refusal of a swap repeats it."""
    name = "v\n[1] DISABLE_NOTIFICATIONS;\n"
    neglected.psql(f'CREATE VIEW public."{name}" AS SELECT expire_date FROM {TABLE}')
    neglected.psql(f'CREATE INDEX "i{name}" ON {TABLE} (expire_date) WHERE expire_date IS NULL')
    daemon = built_in(OWNER, Method="swap")
    daemon.wait_for_log("site: cleanup refused: .*DISABLE_NOTIFICATIONS")
    daemon.wait_for_value(FAILED, lambda value: value == 1)
    told = wait_for(lambda: "DISABLE_NOTIFICATIONS" in nagios_file.read_text()
                    and nagios_file.read_text(), "the notification")
    lines = (told + daemon.log_text()).splitlines()
    assert not [line for line in lines if line.startswith("[1]")]
    assert not [name for name in daemon.values("site") if "\n" in name]


def test_collectd_stops_in_time_while_a_cleanup_waits_for_its_lock(built_in, cluster, neglected):
    live = live_rows(neglected)
    with cluster.locked("site", mode="ACCESS SHARE"):
        daemon = built_in(user=OWNER, Method="swap")
        daemon.wait_for_log("site: cleanup starts")
        daemon.wait_for_reads(READ, 2)
        assert ENDED not in daemon.log_text()
        assert daemon.stop() < 2 + 1
    assert "site: cleanup stopped before its end: " in daemon.log_text()
    assert live_rows(neglected) == live


def test_collectd_stops_in_time_while_the_server_of_a_cleanup_hangs(
        built_in, running_cluster, neglected):
    live = live_rows(neglected)
    with running_cluster.locked("site", mode="ACCESS SHARE"):
        daemon = built_in(user=OWNER, Timeout=3, Method="swap")
        daemon.wait_for_log("site: cleanup starts")
        daemon.wait_for_reads(READ, 1)
        running_cluster.pause()
        time.sleep(1.5)
        assert daemon.stop() < 3 + 1
        running_cluster.resume()
    assert live_rows(neglected) == live


def test_a_cleanup_elsewhere_is_neither_useless_nor_a_failure(
        built_in, start_cleanup, cluster, neglected, nagios_file):
    with cluster.locked("site", mode="ACCESS SHARE"):
        elsewhere = start_cleanup("-d", "site", "--method", "swap", user=OWNER)
        wait_for(neglected.is_claimed, "its claim")
        daemon = built_in(Timeout=5, Cooldown=600)
        daemon.wait_for_log("site: cleanup put off: another cleanup of this table is ")
        daemon.wait_for_reads(RUNS, 2)
        assert (daemon.values()[RUNS], daemon.values()[FAILED]) == (0, 0)
    elsewhere.result()
    assert "didn't end that" not in daemon.log_text()
    assert {line.split(";")[3] for line in nagios_file.read_text().splitlines()} == {"0"}


@pytest.mark.parametrize("left_out", [r"Command|CommandUser", r"Method|Keep|User|PassFile|Service"])
def test_the_block_of_the_sample_is_taken_as_it_stands_there(collectd, cluster, site, left_out):
    """Behind its '#', all but the options that exclude each other."""
    before, opening, block = COLLECTD_SAMPLE.read_text().partition("#<Cleanup>")
    block, closing, after = block.partition("#</Cleanup>")
    block = re.sub(rf"^ *#(?!({left_out})\b)(?=[A-Z])", "", block, flags=re.M)
    before = before.replace("#Host ", f'Host "{cluster.socket}"\n#').replace(
        "#Port ", f"Port {cluster.port}\n#")
    daemon = collectd(before + opening[1:] + block + closing[1:] + after)
    daemon.wait_for_value(RUNS, lambda value: value == 0)
    assert "[error]" not in daemon.log_text()


# -- Agents and a server ---------------------------------------------------------------------------

NETWORK = "LoadPlugin network\n<Plugin network>\n  {what} \"127.0.0.1\" \"{port}\"\n</Plugin>\n"


@pytest.fixture
def agent_and_server(collectd, cluster, neglected):
    """Makes two collectds: the agent measures and sends, the server's hook obeys `host`."""
    def make(host, **cleanup):
        port = free_port()
        server = collectd(
            NETWORK.format(what="Listen", port=port)
            + hooked(cluster, cleanup_block(Host=host, **cleanup), Read=False), name="server")
        collectd('Hostname "agent"\n' + NETWORK.format(what="Server", port=port)
                 + plugin_block(database_block(cluster, "site")), name="agent")
        arrived = server.folder / "csv" / "agent" / "django_session-site"
        wait_for(lambda: list(arrived.glob("percent-expired-*")), "the agent's values")
        return server
    return make


@pytest.mark.parametrize("host", ["agent", "*"])
def test_the_server_obeys_what_an_agent_measured(agent_and_server, script, host):
    clean = script("echo $DJANGO_SESSION_HOST >>$NOTES")
    server = agent_and_server(host, Command=clean.path)
    server.wait_for_log(ENDED)
    server.wait_for_value(RUNS, lambda value: value == 1)
    assert clean.notes() == ["agent"]
    assert UP not in server.values() and READ not in server.values()


def test_the_server_cleans_by_itself_what_an_agent_measured(agent_and_server, neglected):
    live = live_rows(neglected)
    server = agent_and_server("agent", User=OWNER, Method="swap")
    server.wait_for_log(ENDED + "swap")
    server.wait_for_value(DELETED, lambda value: value == 19_400)
    assert live_rows(neglected) == live


def test_the_server_obeys_nobody_but_the_host_it_was_told(agent_and_server, script):
    clean = script("echo run >>$NOTES")
    server = agent_and_server("db7", Command=clean.path)
    server.wait_for_reads(RUNS, 3)
    assert clean.notes() == []


@pytest.fixture
def listening(collectd, cluster):
    """A collectd whose network plugin takes packets from anybody; it has its .port."""
    def make(name="collectd", **cleanup):
        port = free_port()
        daemon = collectd(NETWORK.format(what="Listen", port=port)
                          + hooked(cluster, cleanup_block(**cleanup)), name=name)
        daemon.port = port
        return daemon
    return make


def past_of(daemon):
    """The file in which the hook keeps its waits."""
    return daemon.base / "django_session-site.cleanups"


def test_waits_outlast_a_restart(collectd, cluster, neglected, script):
    clean = script("echo run >>$NOTES")
    daemon = collectd(hooked(cluster, cleanup_block(Command=clean.path, Cooldown="7d")))
    daemon.wait_for_log(ENDED)
    for _ in range(2):
        daemon.stop()
        daemon.start().wait_for_reads(READ, 2)
    assert clean.notes() == ["run"]
    assert past_of(daemon).stat().st_mode & 0o777 == 0o600
    assert daemon.log_text().count("the last cleanup didn't end that") >= 2


def test_waits_outlast_a_kill_in_the_middle_of_a_cleanup(collectd, cluster, neglected, script):
    clean = script("echo $$ >>$NOTES; exec sleep 60")
    daemon = collectd(hooked(cluster, cleanup_block(Command=clean.path)))
    clean.pid()
    os.kill(daemon.pid, signal.SIGKILL)
    wait_for(lambda: not daemon.running, "collectd's end")
    daemon.start().wait_for_reads(READ, 2)
    assert len(clean.notes()) == 1
    daemon.wait_for_log("the last cleanup didn't end that")


def test_a_damaged_past_costs_a_cooldown(collectd, cluster, neglected, script):
    clean = script("echo run >>$NOTES")
    daemon = collectd(hooked(cluster, cleanup_block(Command=clean.path, Cooldown=4)), start=False)
    private_file(past_of(daemon), "django_session cleanups 1\nuse")
    daemon.start()
    try:
        daemon.wait_for_reads(READ, 2)
        assert clean.notes() == []
        daemon.wait_for_log(ENDED)
        assert daemon.log_text().count("damaged") == 1
    finally:
        daemon.stop()
    assert past_of(daemon).read_text().endswith("\nwhole\n")


def blocks(cluster, count, cleanup, **options):
    return [database_block(cluster, "site", inner=cleanup, Instance=f"site{i}", Timeout=2, **options)
            for i in range(count)]


def most_at_once(notes):
    running = most = 0
    for note in notes:
        running += 1 if note == "start" else -1
        most = max(most, running)
    return most


@pytest.mark.parametrize("at_once, line", [(1, ""), (2, "  MaxCleanups 2\n")])
def test_no_more_cleanups_at_once_than_allowed(collectd, cluster, neglected, script, at_once, line):
    clean = script("echo start >>$NOTES; sleep 0.5; echo end >>$NOTES")
    daemon = collectd(plugin_block(line, *blocks(cluster, 5, cleanup_block(Command=clean.path))))
    wait_for(lambda: len(clean.notes()) == 10, "five cleanups", timeout=30)
    assert most_at_once(clean.notes()) == at_once
    assert f"cleanup waits for its turn (MaxCleanups {at_once}): expired_perc" in daemon.log_text()


def test_collectd_stops_in_time_with_cleanups_that_wait_for_their_turn(
        collectd, cluster, neglected, script):
    clean = script("trap '' TERM; echo $$ >>$NOTES; while :; do sleep 0.2; done")
    daemon = collectd(plugin_block(*blocks(cluster, 10, cleanup_block(Command=clean.path))))
    clean.pid()
    wait_for(lambda: daemon.log_text().count("waits for its turn") == 9, "the others")
    assert daemon.stop() < 2 + 1
    assert len(clean.notes()) == 1


@pytest.mark.parametrize("value", ["0", '"2"', "1.5", "1001", "true", "1 2"])
def test_a_wrong_number_of_cleanups_is_an_error(collectd, cluster, site, value):
    daemon = collectd(plugin_block(f"  MaxCleanups {value}\n", database_block(cluster, "site")))
    daemon.wait_for_value(UP, bool)
    assert "<Plugin django_session>: MaxCleanups takes a whole number from 1" in daemon.log_text()


def test_the_end_of_a_failure_is_notified(collectd, cluster, neglected, script, nagios_file):
    clean = script("exit 3")
    daemon = collectd(NAGIOS.format(path=nagios_file) + hooked(
        cluster, cleanup_block(Command=clean.path)))
    daemon.wait_for_log("site: cleanup failed: exit code 3")
    neglected.psql(f"DELETE FROM {TABLE} WHERE expire_date < now()")
    neglected.psql(f"VACUUM (ANALYZE) {TABLE}")
    daemon.wait_for_log("site: cleanup no longer needed: expired_percent is 0%")
    daemon.wait_for_reads(READ, 2)
    *_, failed, over = nagios_file.read_text().splitlines()
    assert ";2;site: cleanup failed: exit code 3" in failed
    assert over.endswith(";0;site: cleanup no longer needed: expired_percent is 0% (the last one: failed)")


def test_a_value_tells_that_a_cleanup_runs_though_the_server_hangs(
        collectd, running_cluster, neglected, script):
    clean = script("echo $$ >>$NOTES; exec sleep 60")
    daemon = collectd(hooked(running_cluster, cleanup_block(Command=clean.path, MaxDuration=8)))
    clean.pid()
    running_cluster.pause()
    time.sleep(1.5)  # into a reading that hangs
    daemon.wait_for_reads(CLEANING, 1)
    assert daemon.values()[CLEANING] == 1
    daemon.wait_for_value(CLEANING, lambda value: value == 0)
    running_cluster.resume()


def test_a_flood_of_invented_hosts_is_one_cleanup(listening, site, script):
    site.fill(sessions=1000, expired_share=0)
    clean = script("echo run >>$NOTES")
    daemon = listening(Host="*", Command=clean.path)
    send_until_written(daemon, "db0", 91.25)
    daemon.wait_for_log(ENDED)
    mark = daemon.log_mark()
    collectd_packets.send(daemon.port, *[collectd_packets.packet(f"invented{i}", 91.25)
                                         for i in range(2000)])
    send_until_written(daemon, "last", 92.25)
    assert len(list((daemon.folder / "csv").glob("invented*"))) > 500
    assert clean.notes() == ["run"]
    assert daemon.log_text(mark).count("django_session plugin: ") <= 3


def send_until_written(daemon, host, value):
    """Sends a packet until it has arrived: collectd may drop some."""
    folder = daemon.folder / "csv" / host / "django_session-site"
    def arrived():
        collectd_packets.send(daemon.port, collectd_packets.packet(host, value))
        return any(f",{value}" in path.read_text() for path in folder.glob("percent-expired-*"))
    wait_for(arrived, f"the value {value} from {host}", pause=0.2)


@pytest.mark.parametrize("options", [{}, {"Host": HOST}, {"Host": "*"}], ids=str)
def test_a_packet_that_names_this_host_is_not_believed(listening, site, script, options):
    site.fill(sessions=1000, expired_share=0)
    clean = script("echo run >>$NOTES")
    daemon = listening(Command=clean.path, **options)
    for value in (91.25, 92.25, 93.25):
        send_until_written(daemon, HOST, value)
    daemon.wait_for_reads(RUNS, 2)
    assert clean.notes() == [] and daemon.values()[RUNS] == 0
    assert daemon.log_text().count("values under this host's name that this daemon hasn't") == 1
    signing = "anyone who reaches its port can forge the others"
    assert daemon.log_text().count(signing) == len(options)


def test_a_packet_of_the_host_that_is_named_is_obeyed(listening, site, script):
    site.fill(sessions=1000, expired_share=0)
    clean = script("echo $DJANGO_SESSION_HOST >>$NOTES")
    daemon = listening(Host="db2", Command=clean.path)
    send_until_written(daemon, "db3", 91.25)
    assert clean.notes() == []
    send_until_written(daemon, "db2", 91.25)
    daemon.wait_for_log(ENDED)
    assert clean.notes() == ["db2"]


def test_a_host_that_is_named_need_not_be_another(collectd, cluster, neglected, script):
    clean = script("echo run >>$NOTES")
    collectd(hooked(cluster, cleanup_block(Host=HOST, Command=clean.path))).wait_for_log(ENDED)
