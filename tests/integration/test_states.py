"""Each state that the check tells of: what its page prints is typed as it stands, in its order, by a person who reads nothing
else, and that alert has ended. `-s` shows the first line, what was typed, the first line after it, and the time."""

import time

import pytest

from test_runbook import STATES, Terminal, named_by, primary, standby, world  # noqa: F401

pytestmark = pytest.mark.since(15, "older servers' counters come half a second late")

# Where a person has to decide, or to know, something, and the page says what.
FOR_A_PERSON = {
    "large": "SESSION_COOKIE_AGE",
    "counting is off": "find where it is set and RESET it",
    "unknown value": "dead is unknown",
    "password": "~/.pgpass",
    "peer": "map this check's user to the role in pg_ident.conf",
    "no entry": "add this line to pg_hba.conf",
    "no database": "-l",
    "no connection left": "pg_stat_activity",
    "starting": "wait for it, and read its log",
    "no answer": "pg_isready",
    "TLS": "compare sslmode and sslrootcert",
    "kind of server": "target_session_attrs",
    "no service": "PGSERVICEFILE",
    "no host": "getent hosts",
    "pooler": "in PgBouncer's configuration",
    "timed out": "is a statement_timeout set",
    "no table": "session tables here: public.django_session",
    "options": "valid options are",
    "another error": "in the server's log alone",
}
NOT_OF_THE_CHECK = ["stopped", "failed", "refused", "put off", "collectd", "idle transactions", "full disk"]
FROM_THE_PRIMARY = ["standby"]  # the page says so
TYPED = [name for name in STATES
         if name not in [*FOR_A_PERSON, *NOT_OF_THE_CHECK, *FROM_THE_PRIMARY] and not name.startswith("crontab")]


def to_be_typed(answer):
    """What is to be done, in its order: a plan is looked at, then carried out."""
    lines = answer.long_text.splitlines()
    for at, line in enumerate(lines):
        is_next = next((before for before in reversed(lines[:at]) if not before.startswith("  ")), "").startswith("Next: ")
        if line.startswith("  ") and is_next:
            yield line.strip()
            if line.endswith(" --dry-run"):
                yield line.strip().removesuffix(" --dry-run")


@pytest.mark.some_cases(5)
@pytest.mark.parametrize("name", TYPED)
def test_what_the_page_says_to_type_ends_what_it_tells_of(world, name):  # noqa: F811
    with STATES[name](world) as state:
        terminal = Terminal(world, state)
        terminal.folder = terminal.words.get("/path/to/site", "/")
        before = terminal.ask()
        start = time.monotonic()
        commands = list(to_be_typed(before))
        assert commands, before.stdout
        for command in commands:
            terminal.type(command)
        after = terminal.ask()
        print("", f"state: {name}", before.line, *commands, after.line, f"{time.monotonic() - start:.1f} s", sep="\n@ ")
        assert named_by(after) != named_by(before), after.stdout
        assert after.state == "OK" or name == "no statistics"  # which hid that many have expired
        assert terminal.ask().state == after.state


@pytest.mark.some_cases(5)
@pytest.mark.parametrize("name", FOR_A_PERSON)
def test_where_a_person_must_decide_the_page_says_what(world, name):  # noqa: F811
    with STATES[name](world) as state:
        answer = Terminal(world, state).ask()
        assert FOR_A_PERSON[name] in answer.stdout and named_by(answer), answer.stdout
