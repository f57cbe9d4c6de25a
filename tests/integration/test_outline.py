"""What a plan says of the run: which sessions, which names and locks, what stays; and its SQL, which is what runs."""

import json
import re

import psycopg2
import pytest

from cleanup_command import CLEANER, DONE, REFUSED, SWAPPER
from cluster import SUPERUSER
from django_site import MONITOR, OWNER, TABLE
from test_swap import HELPERS

METHODS = ["delete", "swap", "full"]
MARK = "SQL of the run, in this order"
COUNT = f"SELECT count(*) FROM {TABLE}"
OID = f"SELECT '{TABLE}'::regclass::oid"
NOW = "SELECT extract(epoch FROM now())"


@pytest.fixture
def dry_run(run_cleanup):
    """Its object."""
    def run(*options, user=SWAPPER, code=DONE):
        result = run_cleanup("--dry-run", "--json", *options, user=user)
        assert result.code == code, result
        return json.loads(result.stdout)
    return run


@pytest.fixture
def small(cleaned_site):
    """970 expired sessions and 30 live ones."""
    cleaned_site.fill(sessions=1000)
    return cleaned_site


# -- in words --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0, 7 * 24 * 3600])
def test_the_cutoff_is_the_servers_time_less_keep(small, dry_run, keep):
    before = small.value(NOW)
    plan = dry_run("--keep", str(keep))
    cutoff = small.value(f"SELECT extract(epoch FROM '{plan['cutoff']}'::timestamptz)") + keep
    assert before <= cutoff <= small.value(NOW)
    assert plan["cutoff"][:19].replace("T", " ") + " UTC" in plan["goes"]
    assert ("less --keep 7 d" in plan["goes"]) == bool(keep)


def test_a_swap_names_what_it_makes(small, dry_run):
    plan = dry_run("--method", "swap", "-v", user=OWNER)
    for message in plan["sql"][:2]:  # makes tables and triggers
        small.psql(message, OWNER)
    made = [name for (name,) in small.psql(
        f"""SELECT relname FROM pg_class WHERE relname LIKE 'djs\\_%' AND relkind = 'r'
        UNION ALL SELECT proname FROM pg_proc WHERE proname LIKE 'djs\\_%'
        UNION ALL SELECT tgname FROM pg_trigger WHERE tgrelid = '{TABLE}'::regclass""")]
    assert len(made) == 7 and not [name for name in made if not re.search(rf"\b{name}\b", plan["makes"])], plan["makes"]
    assert f"owned by {OWNER}" in plan["makes"]


@pytest.mark.parametrize("user, made", [(OWNER, False), (SWAPPER, True), (CLEANER, False)])
def test_a_deletion_names_what_it_makes(small, dry_run, user, made):
    assert ("djs_<run>_delete" in dry_run("--method", "delete", user=user)["makes"]) == made


@pytest.mark.parametrize("method", METHODS)
def test_locks_are_told_with_their_limits(small, dry_run, method):
    usual, patient = dry_run("--method", method), dry_run("--method", method, "--lock-timeout", "0.25")
    assert "100 ms at a time" in usual["locks"] and "250 ms at a time" in patient["locks"]
    assert ("ACCESS EXCLUSIVE" in usual["locks"]) == (method != "delete")
    assert ("nobody can read or save a session" in usual["locks"]) == (method == "full")
    assert ("not its OID" in usual["keeps"]) == (method == "swap")
    assert "gone for good" in usual["undo"]


def test_the_text_has_the_same(small, run_cleanup):
    text = run_cleanup("--dry-run", "--method", "full", user=SWAPPER).stdout
    labels = re.findall(r"^  (\w+) ", text, re.M)
    assert labels[:11] == ["method", "sessions", "size", "needs", "fits", "takes", "goes", "makes", "locks", "keeps", "undo"], text
    assert MARK not in text


def test_nothing_to_do_says_nothing_else(cleaned_site, dry_run):
    plan = dry_run("--method", "delete")
    assert plan["nothing_to_do"] and plan["cutoff"]
    assert {plan[key] for key in ("goes", "makes", "locks", "keeps", "undo")} == {None}


def test_who_may_not_clean_is_told_of_the_role_and_gets_no_rights(small, dry_run):
    plan = dry_run("-v", user=MONITOR, code=REFUSED)
    reasons = " ".join([plan["message"], *(reason for reasons in plan["refusals"].values() for reason in reasons)])
    assert "roles.sql" in reasons and "cleaner=django_session_cleaner" in reasons
    assert "GRANT" not in reasons
    assert plan["sql"] == [] and plan["locks"] is None


# -- as SQL ----------------------------------------------------------------------------------------------


def parses(site, message):
    """The server reads all of a message before it runs its first statement."""
    with pytest.raises(psycopg2.Error) as refused:
        site.psql("SELECT 1 / 0;\n" + message, SUPERUSER)
    return refused.value.pgcode == "22012"  # division_by_zero


def test_what_does_not_parse_is_found(small):
    assert parses(small, "SELECT 2; VACUUM t;") and not parses(small, "SELECT 2; VACUUM t t t;")


@pytest.mark.parametrize("user", [OWNER, SWAPPER, CLEANER])
@pytest.mark.parametrize("method", METHODS)
def test_each_message_is_read_by_the_server_and_holds_no_session(small, run_cleanup, method, user):
    result = run_cleanup("--dry-run", "-v", "--json", "--method", method, user=user)
    if user == CLEANER and method != "delete":
        assert result.code == REFUSED and json.loads(result.stdout)["sql"] == []
        return
    messages = json.loads(result.stdout)["sql"]
    assert messages and all(message.startswith("-- ") and parses(small, message) for message in messages), result
    assert not [key for (key,) in small.psql(f"SELECT session_key FROM {TABLE}") if key in result.stdout]
    text = run_cleanup("--dry-run", "-v", "--method", method, user=user).stdout
    plan, _, sql = text.partition(MARK)
    assert parses(small, re.sub("^  ", "", sql.partition("\n")[2], flags=re.M)) and "Plan for" in plan
    assert small.value(COUNT) == 1000


@pytest.mark.parametrize("user", [OWNER, SWAPPER, CLEANER])
def test_what_is_printed_of_a_deletion_deletes(small, dry_run, user):
    for message in dry_run("--method", "delete", "-v", user=user)["sql"]:
        small.psql(message, user)
    assert small.value(COUNT) == 500


def test_what_is_printed_of_full_rewrites(small, dry_run):
    file = f"SELECT pg_relation_filenode('{TABLE}')"
    before = small.value(file)
    for message in dry_run("--method", "full", "-v")["sql"]:
        small.psql(message, SWAPPER)
    assert small.value(COUNT) == 500 and small.value(file) != before


@pytest.mark.parametrize("user", [OWNER, SWAPPER])
def test_what_is_printed_of_a_swap_swaps(small, dry_run, user):
    old = small.value(OID)
    live = small.psql(f"SELECT * FROM {TABLE} WHERE expire_date > now() ORDER BY 1")
    *messages, last = dry_run("--method", "swap", "-v", user=user)["sql"]
    for message in messages:
        small.psql(message, user)
    new = small.value(OID)
    assert new != old and small.psql(f"SELECT * FROM {TABLE} ORDER BY 1") == live
    small.psql(last.replace(str(old), str(new)), user)
    assert small.psql(HELPERS) == []


def test_a_run_that_shows_its_plan_shows_no_sql(small, run_cleanup):
    result = run_cleanup("-v", "--method", "delete", user=SWAPPER)
    assert result.code == DONE and "  locks  " in result.stdout and MARK not in result.stdout
