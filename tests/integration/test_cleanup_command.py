"""django_session_cleanup as a person, cron, systemd and a monitoring system use it: words, text, exit codes."""

import contextlib
import os
import pty
import re
import shlex
import signal
import subprocess

import pytest

import paths
import sanitizer
from cleanup_command import CLEANER, DONE, FAILED, REFUSED, SWAPPER, Cleanup
from cluster import SUPERUSER
from django_site import OWNER, TABLE, DjangoSite
from gate import Gate
from processes import PLAIN_ENVIRONMENT, USER, Process, ordinary, program, run, wait_for

DELETE = ("--method", "delete", "--no-progress")
SAMPLES = [paths.SYSTEMD_SAMPLES / "django_session_cleanup@.service", paths.CRON_SAMPLE]
EXPIRED = f"SELECT count(*) FROM {TABLE} WHERE expire_date < now()"


@pytest.fixture
def shell(cleanup_program):
    """Runs it without any database around: shell("-h")."""
    return lambda *words: Cleanup(cleanup_program, *words, environment={"PGHOST": "/nonexistent"}).result()


# -- words and exit codes ------------------------------------------------------------------------------


@pytest.mark.sanitizers
def test_help_and_version_go_to_stdout_and_exit_0(shell):
    for option in ("-h", "--help"):
        result = shell(option)
        assert result.code == 0 and "Usage: django_session_cleanup" in result.stdout and not result.stderr
    version = shell("-V")
    assert version.code == 0 and re.fullmatch(r"django_session_cleanup \d+\.\d+\.\d+\n", version.stdout)


@pytest.mark.sanitizers
@pytest.mark.parametrize("words", [
    ["--nonesuch"], ["site"], ["--method"], ["--method", "truncate"], ["--keep", "-1"], ["--max-lag", "5m"],
    ["--abort", "--dry-run"], ["--state", "CRITICAL"], ["-p", "0"], ["-t", "0"], ["-d", "host='x"], ["-T", ""]])
def test_a_wrong_word_exits_3_with_the_reason_on_stderr(shell, words):
    result = shell(*words)
    assert result.code == REFUSED and not result.stdout, result
    assert result.stderr.startswith("django_session_cleanup: ") and result.stderr.count("\n") == 1


def test_a_password_is_refused_and_not_repeated(shell):
    for words in (["-d", "password=s3cret"], ["-d", "postgresql://me:s3cret@db1/site"], ["-p", "s3cret"], ["s3cret"]):
        result = shell(*words)
        assert result.code == REFUSED and "s3cret" not in result.stdout + result.stderr


def test_no_server_exits_2(shell):
    result = shell("-d", "site")
    assert (result.code, result.word) == (FAILED, "FAILED")
    assert "/nonexistent" in result.stderr
    assert set(result.perfdata) == {"duration", "longest_lock"}, "what isn't known is not 0"


def test_a_server_that_hangs_costs_the_time_limit(running_cluster, neglected, start_cleanup):
    running_cluster.pause()
    result = start_cleanup("-t", "1").result(timeout=20)
    running_cluster.resume()
    assert result.code == FAILED and "timed out" in result.stderr, result
    assert result.seconds < 4


def test_no_session_with_its_process_id_on_another_server_is_ended(neglected, start_cleanup):
    """After a failover the same address answers with a server where another session of its role has that number."""
    with contextlib.closing(neglected.cluster.connect("site", CLEANER, autocommit=False)) as other:
        other.cursor().execute("SELECT 1")  # in a transaction: not idle
        with Gate(neglected.cluster, b"AS cutoff", passing=0, first_pid=other.info.backend_pid) as gate:
            cleanup = start_cleanup("-d", gate.conninfo("site", CLEANER), "-t", "2", "--method", "delete")
            gate.wait()
            result = cleanup.result()
        assert result.code == FAILED and "timed out" in result.message and "terminated" not in result.message, result
        other.cursor().execute("SELECT 1")


def test_no_such_table_exits_3_and_names_those_that_there_are(neglected, run_cleanup):
    result = run_cleanup("-T", "public.sessions")
    assert result.code == REFUSED and "session tables here: public.django_session" in result.stderr, result


def test_what_is_not_possible_exits_3_and_names_what_is(neglected, run_cleanup):
    result = run_cleanup("--method", "swap")
    assert result.code == REFUSED, result
    assert "not a member of the owner" in result.stderr and "use --method delete" in result.stderr
    assert neglected.value(EXPIRED) == 29_100


def test_a_closed_stdout_is_an_error(neglected, cleanup_program):
    for words, closed in ((["-h"], ">&-"), (["-h"], ">/dev/full"), (["-h"], "2>&-")):
        command = ordinary(["sh", "-c", f"{cleanup_program} {' '.join(words)} {closed}"])
        done = subprocess.run(command, cwd="/", env={**PLAIN_ENVIRONMENT, **sanitizer.environment()},
                              capture_output=True, text=True)
        assert done.returncode == FAILED, (words, closed, done)


# -- the plan --------------------------------------------------------------------------------------------


def test_a_dry_run_prints_the_plan_and_changes_nothing(neglected, run_cleanup):
    state = f"SELECT pg_current_wal_lsn(), (SELECT count(*) FROM {TABLE}), (SELECT count(*) FROM pg_class)"
    neglected.psql("CHECKPOINT")
    before = neglected.psql(state)[0]
    mark = neglected.cluster.log_mark()
    result = run_cleanup("--dry-run", user=SWAPPER)
    assert (result.code, result.stderr) == (DONE, ""), result
    assert neglected.psql(state)[0][1:] == before[1:]
    assert not re.search(r"\b(DELETE FROM|CREATE|ALTER TABLE|VACUUM \()", "\n".join(
        neglected.cluster.statements(mark, "django_session")))
    for pattern in (r"^Plan for django_session$", r"^  method     delete: .*it pays above 64 MB",
                    r"^  sessions   29\.1k expired, 900 live$",
                    r"^  size       [\d.]+ MB now, about [\d.]+ .B afterwards$",
                    r"^  needs      .* of disk temporarily, and writes about .* of WAL$",
                    r"^  fits       unknown: the server's disk is not visible from here$"):
        assert re.search(pattern, result.stdout, re.M), (pattern, result.stdout)


def test_the_room_on_the_disk_is_told_to_those_who_may_see_where_the_data_is(neglected, run_cleanup):
    result = run_cleanup("--dry-run", user=SUPERUSER)
    free = re.search(r"^  fits       yes: ([\d.]+) ([MGT])B are free$", result.stdout, re.M)
    assert free, result
    disk = os.statvfs(neglected.cluster.data)
    unit = 1024 ** (2 + "MGT".index(free[2]))
    assert float(free[1]) * unit == pytest.approx(disk.f_bavail * disk.f_frsize, rel=0.2, abs=unit)
    assert "are free" not in run_cleanup("--dry-run", user=SWAPPER).stdout


def test_a_dry_run_lists_what_is_not_possible_by_name(neglected, run_cleanup):
    neglected.psql(f"CREATE VIEW public.online AS SELECT expire_date FROM {TABLE}")
    result = run_cleanup("--dry-run", user=SWAPPER)
    assert result.code == DONE and re.search(r"^  swap       .*\bonline\b.*", result.stdout, re.M), result
    refused = run_cleanup("--dry-run", "--method", "swap", user=SWAPPER)
    assert refused.code == REFUSED and "refused    swap is not possible: " in refused.stdout, refused


def test_a_dry_run_tells_of_helpers_that_came_with_a_dump(neglected, run_cleanup):
    """Of a table that has another OID here."""
    plain = run_cleanup("--dry-run").stdout
    neglected.psql("CREATE FUNCTION djs_4242424242_note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'", OWNER)
    result = run_cleanup("--dry-run")
    assert "came with a dump" not in plain
    assert "djs_4242424242_" in result.stdout and "came with a dump" in result.stdout, result


def test_a_dry_run_of_a_table_that_was_never_analyzed(cleaned_site, run_cleanup):
    cleaned_site.fill(sessions=200_000, expired_share=0.75, vacuum=False)  # fewer would be counted
    wait_for(lambda: cleaned_site.value(f"SELECT pg_stat_get_live_tuples('{TABLE}'::regclass)"), "the fill's statistics")
    cleaned_site.psql("SELECT pg_stat_reset()")
    result = run_cleanup("--dry-run", user=SWAPPER)
    assert result.code == DONE, result
    known = re.search(r"^  sessions   ~(\d+)k expired, 50k live$", result.stdout, re.M)  # by a sample of its pages
    assert known and 130 <= int(known[1]) <= 170, result.stdout


def test_verbose_prints_the_plan_first(neglected, run_cleanup):
    result = run_cleanup(*DELETE, "-v")
    assert result.code == DONE and result.stdout.startswith("Plan for django_session\n"), result
    assert result.stdout.splitlines()[-1].startswith("DJANGO_SESSION_CLEANUP DONE")


# -- summary and progress --------------------------------------------------------------------------------


@pytest.mark.sanitizers
def test_the_summary_is_one_line_with_perfdata(neglected, run_cleanup):
    before = neglected.sizes()["total"]
    result = run_cleanup(*DELETE, user=SWAPPER)
    assert result.stdout.count("\n") == 1
    assert result.perfdata["deleted"] == (29_100, "", [])
    assert result.perfdata["before"] == (before, "B", [])
    assert result.perfdata["after"] == (neglected.sizes()["total"], "B", [])
    assert result.perfdata["reclaimed"][0] == before - neglected.sizes()["total"]
    assert 0 < result.perfdata["duration"][0] <= result.seconds
    assert result.perfdata["longest_lock"] == (0, "s", [])
    assert re.match(r"delete: 29\.1k expired sessions deleted, [\d.]+ MB -> [\d.]+ MB in [\d.]+ s", result.message)


def test_without_a_terminal_progress_is_plain_lines(neglected, run_cleanup):
    result = run_cleanup("--method", "delete", user=SWAPPER)
    assert re.search(r"^deleting: 500 of 29\.\dk sessions \(1%\), \d+ kB; in all \d%$", result.stderr, re.M), result
    assert re.search(r"^vacuuming; in all \d\d%$", result.stderr, re.M), result
    assert "\r" not in result.stderr and "\033" not in result.stderr


PHASES_OF_A_SWAP = ["creating the new table", "creating the triggers", "copying", "building indexes", "catching up",
                    "vacuuming", "comparing", "exchanging", "dropping the replaced table"]


def test_each_phase_says_how_much_of_the_whole_is_done(cleaned_site, run_cleanup):
    cleaned_site.fill(sessions=2_000, expired_share=0.25)
    result = run_cleanup("--method", "swap", user=SWAPPER)
    assert result.code == DONE
    assert re.search(r"^copying: \S+ of 1\.5k sessions \(\d+%\)", result.stderr, re.M), result
    assert [phase for phase in PHASES_OF_A_SWAP if not re.search(rf"^{phase}\b", result.stderr, re.M)] == [], result
    shares = [int(share) for share in re.findall(r"; in all (\d+)%", result.stderr)]
    assert shares == sorted(shares) and shares[0] < 50 and shares[-1] == 99, result


@pytest.fixture
def shown_cleanup(cleanup_program, folder):
    """A cleanup as the owner, whose progress is read while it runs: shown_cleanup(conninfo, "--method", "swap")."""
    with contextlib.ExitStack() as stack:
        def start(conninfo, *options):
            process = Process([cleanup_program, "-d", conninfo, *options], folder / "cleanup.log",
                              environment=sanitizer.environment())
            stack.callback(lambda: process.running and process.end(signal.SIGKILL))
            return process
        yield start


def shown(process, pattern):
    """Waits until a line like this is shown, and returns it."""
    found = wait_for(lambda: re.search(rf"^{pattern}", process.log_text(), re.M) or not process.running,
                     pattern, timeout=60)
    assert found is not True, process.log_text()
    return found[0]


def ends_well(process):
    wait_for(lambda: not process.running, "its end", timeout=60)
    assert process.returncode == DONE, process.log_text()


def test_a_phase_is_named_while_it_lasts_and_nothing_is_foretold_without_figures(neglected, shown_cleanup):
    with Gate(neglected.cluster, b"unnest(run.deferred_indexes)", passing=0) as gate:
        cleanup = shown_cleanup(gate.conninfo("site", OWNER), "--method", "swap")
        gate.wait()
        assert "left" not in shown(cleanup, r"building indexes.*; in all \d+%.*$")
    ends_well(cleanup)


@pytest.mark.parametrize("method, line", [
    ("swap", r"building indexes: \d+%.*; in all \d+%"), ("full", r"rewriting the table: \d+%.*; in all \d+%")])
def test_the_server_tells_how_far_a_statement_is(cleaned_site, shown_cleanup, method, line):
    """The last index can't be built as long as another session has a lock."""
    cleaned_site.fill(sessions=2_000)
    cleaned_site.psql("""
        CREATE FUNCTION public.wait_for_7(text) RETURNS text IMMUTABLE LANGUAGE plpgsql SET lock_timeout = 0 AS
          'BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN $1; END';
        CREATE INDEX zzz ON django_session (public.wait_for_7(session_key))""", OWNER)
    with contextlib.closing(cleaned_site.cluster.connect("site", OWNER)) as other:
        other.cursor().execute("SELECT pg_advisory_lock(7)")
        cleanup = shown_cleanup(cleaned_site.cluster.conninfo("site", OWNER), "--method", method, "-t", "5")
        shown(cleanup, line)
    ends_well(cleanup)


def test_no_progress_leaves_notes_alone(neglected, run_cleanup):
    assert "deleting" not in run_cleanup(*DELETE).stderr


def on_a_terminal(command, environment):
    """What a terminal of 100 columns would be sent."""
    parent, child = pty.openpty()
    process = subprocess.Popen(ordinary(command), cwd="/", stdin=subprocess.DEVNULL, stdout=child, stderr=child,
                               env={**PLAIN_ENVIRONMENT, **sanitizer.environment(), **environment, "TERM": "xterm"})
    os.close(child)
    text = b""
    while True:
        try:
            text += os.read(parent, 4096)
        except OSError:  # the other end is closed
            break
    os.close(parent)
    return process.wait(), text.decode()


def test_on_a_terminal_there_is_a_bar_and_it_goes_away(cleaned_site, cleanup_program):
    cleaned_site.fill(sessions=200_000)
    code, text = on_a_terminal([cleanup_program, "--method", "delete"],
                               cleaned_site.cluster.environment("site", SWAPPER))
    assert code == DONE
    bars = re.findall(r"\[([#.]{20})\] (\d+)%(?:, about [\d.]+ \w+ left)? - deleting: [\d.]+k? of [\d.]+k sessions", text)
    assert len({share for _, share in bars}) >= 2, text
    assert all(abs(bar.count("#") * 5 - int(share)) <= 5 for bar, share in bars)
    assert re.search(r"\r\033\[K(.*\n)*DJANGO_SESSION_CLEANUP DONE [^\r\n|]*\r\n$", text), text[-500:]
    assert all(len(line) < 80 for line in re.split(r"\r\033\[K|\r\n", text) if line.startswith("["))


# -- as an event handler ---------------------------------------------------------------------------------


@pytest.mark.parametrize("state, kind", [
    ("OK", "HARD"), ("UNKNOWN", "HARD"), ("CRITICAL", "SOFT"), ("WARNING", "SOFT")])
def test_other_events_are_no_reason_to_act(shell, state, kind):
    result = shell("--state", state, "--state-type", kind)
    assert result.code == 0, result
    assert result.stdout == f"DJANGO_SESSION_CLEANUP OK - nothing to do in state {kind} {state}\n"


@pytest.mark.parametrize("state", ["CRITICAL", "WARNING"])
def test_a_confirmed_problem_is_a_reason(neglected, run_cleanup, state):
    assert run_cleanup(*DELETE, "--state", state, "--state-type", "HARD").deleted == 29_100


HOST_AND_SERVICE = """
define host {
    use generic-host
    host_name localhost
    address ADDRESS
    max_check_attempts 3
    contact_groups admins
}
define command {
    command_name check_overdue
    command_line $USER1$/check_django_session -H 127.0.0.1 -U django_session_monitor -d site -c overdue=2d
}
define service {
    use generic-service
    host_name localhost
    service_description sessions
    check_command check_overdue
    check_interval 2
    retry_interval 2
    max_check_attempts 2
    event_handler COMMAND!site!public.django_session!delete
    event_handler_enabled 1
}
"""


def fake_logger(folder, log):
    """A folder for the PATH, whose `logger` writes to a file what the system's log would get."""
    programs = folder / "programs"
    programs.mkdir()
    logger = programs / "logger"
    logger.write_text(f'#!/bin/sh\n[ "$*" = "-t django_session_cleanup" ] && exec cat >>{log}\n')
    for path in (programs, logger):
        path.chmod(0o755)
    return programs


def cleanup_sample(folder, cleanup_program, log):
    """The sample, with places of this test in the place of those of a machine."""
    text = paths.NAGIOS_CLEANUP_SAMPLE.read_text()
    place = "PATH=/usr/local/bin:"
    assert place in text
    text = text.replace(place, f"PATH={fake_logger(folder, log)}:{cleanup_program.parent}:/usr/local/bin:")
    sample = folder / "django_session_cleanup.cfg"
    sample.write_text(text)
    return sample


@pytest.mark.parametrize("command, host", [("django_session_cleanup", "127.0.0.1"), ("django_session_cleanup_local", "192.0.2.1")])
def test_nagios_calls_it_when_the_check_is_critical(nagios, cluster, neglected, cleanup_program, folder, command, host):
    os.chmod(folder, 0o777)
    log = folder / "cleanup.log"
    sample = cleanup_sample(folder, cleanup_program, log)
    daemon = nagios(HOST_AND_SERVICE.replace("COMMAND", command).replace("ADDRESS", host), object_files=[sample],
                    plugins=[paths.CHECK], environment={"PGHOST": str(cluster.socket), "PGPORT": str(cluster.port),
                                                        **sanitizer.environment()})
    assert daemon.service("sessions")["current_state"] == "2"
    wait_for(lambda: neglected.value(EXPIRED) == 0, "the event handler", timeout=40)
    wait_for(lambda: daemon.service("sessions")["current_state"] == "0", "the check to be OK", timeout=30)
    lines = wait_for(lambda: log.read_text() if log.exists() and "CLEANUP DONE" in log.read_text() else "", "its summary").splitlines()
    assert lines[0] == "DJANGO_SESSION_CLEANUP OK - nothing to do in state SOFT CRITICAL"
    assert sum("CLEANUP DONE" in line for line in lines) == 1


# -- the other samples -----------------------------------------------------------------------------------


def sample_command(text):
    """The words after django_session_cleanup in a sample's line."""
    line = next(line for line in text.splitlines() if re.search(r"django_session_cleanup -d", line)
                and not line.startswith("#"))
    return shlex.split(re.search(r"django_session_cleanup (-d[^|]*)", line)[1].replace("%i", "site"))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_the_samples_command_works(neglected, run_cleanup, sample):
    result = run_cleanup(*sample_command(sample.read_text()))
    assert (result.code, result.deleted) == (DONE, 29_100), result


def lets_in(cluster, hba, ident=""):
    (cluster.data / "pg_ident.conf").write_text(ident)
    (cluster.data / "pg_hba.conf").write_text(hba)
    cluster.reload()


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_the_samples_lines_let_the_user_in_where_peer_is_the_rule(own_cluster, folder, start_cleanup, sample):
    cluster = own_cluster()
    cluster.create_database("site", OWNER)
    site = DjangoSite(folder, cluster, "site")
    site.migrate()
    site.apply_roles(cleaner=CLEANER)
    site.fill(sessions=1000)

    def clean():
        return start_cleanup(*sample_command(sample.read_text()), environment=cluster.environment("site")).result()
    debian = "local all all peer\n"
    lets_in(cluster, debian)
    wait_for(lambda: "Peer authentication failed" in clean().stderr, "the refusal")
    lines = re.findall(r"^#   (.*)$", sample.read_text(), re.M)
    hba, = [line for line in lines if line.startswith("local ")]
    ident, = [line for line in lines if re.fullmatch(r"django_session +django_session +\w+", line)]
    ident = re.sub(r"(\S+ +)\S+", rf"\1{USER.pw_name}", ident, count=1)
    lets_in(cluster, f"{hba}\n{debian}", ident)
    result = wait_for(lambda: next((r for r in [clean()] if r.code == DONE), None), "a cleanup")
    assert result.deleted == 970, result


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_the_samples_tell_how_to_make_their_user(sample):
    assert "#   useradd --system --create-home --home-dir /var/lib/django_session django_session\n" in sample.read_text()


def test_systemd_takes_the_units(folder, cleanup_program):
    for name in ("service", "timer"):
        text = (paths.SYSTEMD_SAMPLES / f"django_session_cleanup@.{name}").read_text()
        # Not installed here, and there is no such user.
        text = text.replace("ExecStart=django_session_cleanup", f"ExecStart={cleanup_program}")
        (folder / f"django_session_cleanup@site.{name}").write_text(text)
    done = run([program("systemd-analyze"), "verify", "--man=no", *sorted(folder.glob("*@site.*"))], check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    nightly = run([program("systemd-analyze"), "calendar", "*-*-* 03:00"]).stdout
    assert "Normalized form: *-*-* 03:00:00" in nightly and "OnCalendar=*-*-* 03:00" in (
        paths.SYSTEMD_SAMPLES / "django_session_cleanup@.timer").read_text()


def test_the_unit_may_do_little():
    """systemd's own judgement, from 0 (safe) to 10."""
    done = run([program("systemd-analyze"), "security", "--offline=true", "--threshold=15", "--no-pager",
                paths.SYSTEMD_SAMPLES / "django_session_cleanup@.service"], check=False)
    assert done.returncode == 0, done.stdout


def test_the_cron_line_has_its_fields():
    line = [line for line in paths.CRON_SAMPLE.read_text().splitlines() if line and not line.startswith(("#", "PATH="))]
    assert len(line) == 1 and re.match(r"0 3 \* \* \*  django_session  django_session_cleanup ", line[0])
    assert "%" not in line[0], "cron makes a newline of it"


def test_icinga_calls_it_when_the_check_is_critical(icinga, cluster, neglected, cleanup_program, folder):
    os.chmod(folder, 0o777)
    log = folder / "cleanup.log"
    failing = folder / "failing"
    failing.write_text("#!/bin/sh\necho CRITICAL\nexit 2\n")
    icinga(f"""
object Host "db1" {{
  import "generic-host"
  address = "127.0.0.1"
}}
object CheckCommand "failing" {{ command = [ PluginDir + "/failing" ] }}
object Service "sessions" {{
  import "generic-service"
  host_name = "db1"
  check_command = "failing"
  max_check_attempts = 1
  event_command = "django_session_cleanup"
  vars.django_session_database = "site"
  vars.django_session_port = {cluster.port}
  vars.django_session_table = "public.django_session"
}}
""", object_files=[paths.ICINGA_CLEANUP_SAMPLE], plugins=[failing],
           environment={"PATH": f"{fake_logger(folder, log)}:{cleanup_program.parent}:{os.environ['PATH']}",
                        **sanitizer.environment()}).service("sessions")
    wait_for(lambda: neglected.value(EXPIRED) == 0, "the event command", timeout=30)
    wait_for(lambda: log.exists() and "CLEANUP DONE" in log.read_text(), "its summary")
