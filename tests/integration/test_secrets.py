"""Passwords that got into the wrong place are shown nowhere; and nothing of a session is."""

import itertools
import re
import subprocess
import time

import pytest

from cleanup_command import CLEANER, SWAPPER
from collectd_daemon import plugin_block
from django_site import TABLE
from processes import PLAIN_ENVIRONMENT, ordinary

SECRET = "geh3im"

# How people write a password where it doesn't belong; some of it is malformed, which libpq quotes.
FORMS = [
    "postgresql://u:{}@localhost/site", "postgres://u:{}@[::1/site", "postgresql://u:{}@a b/site",
    "postgresql://u:{}%zz@localhost/site", "postgresql://localhost/site?password={}",
    "postgresql://localhost/site?pasword={}", "postgresql://localhost/site?user=u:{}",
    "host=localhost password={}", "host=localhost pasword={}", "host=localhost password='{}",
    "password = {}", "user=u:{} dbname=site", "host=u:{}@localhost", "service=x:{}",
    "u:{}", "u:{}@localhost", "u:{}@localhost/site",
]


def options_of(program):
    """Each option that takes a value, from --help, without what ends the program."""
    text = subprocess.run([program, "--help"], check=False, capture_output=True, text=True,
                          timeout=10).stdout
    found = re.findall(r"^ +(?:-\w,)?(--[\w-]+) +(?:[A-Z]{2}|\[)", text, re.M)
    assert {"--host", "--port", "--dbname", "--username", "--service", "--table"} <= set(found)
    return found


def command_lines(program):
    """Option and form, glued and apart; then what isn't an option at all."""
    for option, form in itertools.product(options_of(program), FORMS):
        yield [option, form.format(SECRET)]
        yield [f"{option}={form.format(SECRET)}"]
    for words in (["-p", SECRET], [f"-p{SECRET}"], ["--port", SECRET], [f"--password={SECRET}"],
                  ["--password", SECRET], ["-W", SECRET], [f"-W{SECRET}"], [f"-P{SECRET}"],
                  [f"--passwd={SECRET}"], [SECRET], ["--", SECRET], ["-H", "localhost", SECRET],
                  [f"--exact={SECRET}"], [f"-v{SECRET}"], *([form.format(SECRET)] for form in FORMS)):
        yield words


@pytest.mark.parametrize("name", ["check", "cleanup"])
def test_no_option_shows_a_password(cluster, check_program, cleanup_program, name):
    program = {"check": check_program, "cleanup": cleanup_program}[name]
    environment = {**PLAIN_ENVIRONMENT, **cluster.environment("postgres"), "PGPASSWORD": SECRET}
    lines = list(command_lines(program))
    assert len(lines) > 200
    for start in range(0, len(lines), 16):
        running = [(words, subprocess.Popen(ordinary([program, *words]), env=environment,
                                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                            stderr=subprocess.STDOUT))
                   for words in lines[start:start + 16]]
        for words, process in running:
            text = process.communicate(timeout=60)[0].decode()
            assert SECRET not in text, f"{words}: {text}"
            assert process.returncode in (2, 3), f"{words}: {text}"  # not taken for something else


@pytest.mark.parametrize("option", ["Host", "Port", "User", "Service", "SSLMode", "Instance",
                                    "Interval", "Table", "Timeout", "Exact", "PassFile", "Database"])
def test_no_option_of_collectd_shows_a_password(cluster, collectd, option):
    blocks = []
    for number, form in enumerate(FORMS):
        value = form.format(SECRET).replace('"', "")
        name = value if option == "Database" else f"site{number}"
        line = "" if option == "Database" else f'    {option} "{value}"\n'
        host = "" if option == "Host" else f'    Host "{cluster.socket}"\n    Port {cluster.port}\n'
        host = f'    Host "{cluster.socket}"\n' if option == "Port" else host
        instance = "" if option == "Instance" else f'    Instance "i{number}"\n'
        blocks.append(f'  <Database "{name}">\n{host}{instance}    Password "{SECRET}"\n{line}  </Database>\n')
    daemon = collectd(plugin_block(*blocks))
    time.sleep(1.5)
    daemon.stop()
    if option not in ("Instance", "PassFile"):  # these are shown, or not looked at, as they are
        assert SECRET not in daemon.log_text()
    else:
        assert f'Password "{SECRET}"' not in daemon.log_text()


def test_no_session_is_in_the_servers_log(neglected, cluster, run_check, run_cleanup):
    for setting in ("log_min_duration_statement = 0", "log_error_verbosity = verbose",
                    "log_min_error_statement = debug5", "log_min_messages = notice",
                    "debug_print_plan = on", "auto_explain.log_min_duration = 0"):
        neglected.psql(f"ALTER DATABASE site SET {setting}")
    secrets = [text for row in neglected.psql(
        f"SELECT session_key, left(session_data, 40) FROM {TABLE} ORDER BY expire_date DESC "
        "LIMIT 300") for text in row]
    mark = cluster.log_mark()
    outputs = [run_check("-vvv", "--exact").stdout]
    for method, user in (("delete", CLEANER), ("delete", SWAPPER), ("swap", SWAPPER),
                         ("full", SWAPPER)):
        result = run_cleanup("--method", method, "-v", user=user)
        outputs.append(result.stdout + result.stderr)
    log = cluster.log_text(mark)
    assert "VACUUM (FULL" in log and "duration: " in log
    shown = [secret for secret in secrets if secret in log or any(secret in o for o in outputs)]
    assert not shown
