"""Runs check_django_session as a monitoring system would, and takes its answer apart."""

import re
import time
from dataclasses import dataclass, field

import paths
import sanitizer
from processes import PLAIN_ENVIRONMENT, run

STATES = {0: "OK", 1: "WARNING", 2: "CRITICAL", 3: "UNKNOWN"}
PERFDATA = re.compile(
    r"('(?:[^']|'')+'|[^\s=']+)=(-?[\d.]+|U)([^\s;]*)((?:;[^\s;]*)*)(?=\s|$)")


@dataclass
class Answer:
    """What came back: exit code, first line without perfdata, further lines, perfdata by label."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    line: str = ""
    long_text: str = ""
    perfdata: dict = field(default_factory=dict)

    @property
    def state(self):
        return STATES.get(self.code, f"exit {self.code}")


def parse_perfdata(text):
    """{label: (value, unit, [warning, critical, min, max])}; the whole text has to be perfdata."""
    found = {}
    for label, value, unit, ranges in PERFDATA.findall(text):
        label = label[1:-1].replace("''", "'") if label.startswith("'") else label
        number = None if value == "U" else float(value) if "." in value else int(value)
        found[label] = (number, unit, ranges.split(";")[1:])
    rest = PERFDATA.sub("", text).strip()
    assert not rest, f"not perfdata: {rest!r} in {text!r}"
    return found


def run_check(program, *options, environment=None, timeout=60):
    """Runs the check; options as on the command line, environment e.g. cluster.environment(...)."""
    start = time.monotonic()
    done = run([program, *options], check=False, timeout=timeout,
               environment={**sanitizer.environment(), **(environment or {})})
    answer = Answer(done.returncode, done.stdout, done.stderr, time.monotonic() - start)
    found = sanitizer.reports(done.stderr + done.stdout)
    assert not found and done.returncode in STATES, f"exit {done.returncode}: {done.stderr}"
    first, _, answer.long_text = done.stdout.partition("\n")
    answer.line, _, perfdata = first.partition("|")
    answer.line = answer.line.rstrip()
    answer.perfdata = parse_perfdata(perfdata)
    return answer


def typed(command):
    """Runs a command of the page in a shell as it is. Only `sudo` is taken for what it comes to: the tests' servers let
    everybody in as the role that he names."""
    user, command = re.match(r"(?:sudo -u (\S+) )?(.*)", command.strip(), re.S).groups()
    role = {"PGUSER": "postgres"} if user == "postgres" else {}
    path = {"PATH": f"{paths.CLEANUP.parent}:{PLAIN_ENVIRONMENT['PATH']}"}
    return run(["bash", "-c", command], environment={**sanitizer.environment(), **path, **role})
