"""--json: one object on stdout, whatever happens and whatever things are called."""

import contextlib
import json
import os

import psycopg2
import pytest

from cleanup_command import DONE, FAILED, REFUSED, STOPPED, SWAPPER, Cleanup
from django_site import OWNER, TABLE

PLAN = {"outcome", "message", "table", "method", "nothing_to_do", "keep", "live", "live_is_counted", "expired",
        "expired_is_counted", "before", "after", "extra_disk", "temporary_files", "wal", "least_seconds", "most_seconds",
        "free_disk", "fits", "unknown", "notes", "refusals", "cutoff", "goes", "makes", "locks", "keeps", "undo", "sql"}
RESULT = {"outcome", "message", "table", "method", "deleted", "before", "after", "reclaimed", "duration", "longest_lock",
          "left_to_another", "notes", "plan"}
OUTCOMES = {DONE: "done", STOPPED: "stopped", FAILED: "failed", REFUSED: "refused"}


def strict(text):
    """Python reads more than JSON allows: NaN, say."""
    def refuse(word):
        raise ValueError(word)
    assert text.endswith("\n") and text.count("\n") == 1 and text.isascii(), text
    return json.loads(text, parse_constant=refuse)


def object_of(result):
    found = strict(result.stdout)
    assert found["outcome"] in ("planned", OUTCOMES[result.code]) and found["message"], result
    assert (found["outcome"] == "planned") <= (result.code == DONE), result
    return found


@pytest.fixture
def as_json(run_cleanup):
    """The object that it prints, for one exit code."""
    def run(code, *options, **more):
        result = run_cleanup("--json", *options, **more)
        assert result.code == code, result
        return object_of(result)
    return run


@pytest.mark.parametrize("method", ["auto", "delete", "swap", "full"])
def test_a_result_has_the_figures_of_the_summary(neglected, as_json, method):
    before = neglected.sizes()["total"]
    found = as_json(DONE, "--method", method, user=SWAPPER)
    after = neglected.sizes()["total"]
    assert found.keys() == RESULT
    assert found["method"] == (method if method != "auto" else "delete") and found["table"] == "django_session"
    assert found["deleted"] == pytest.approx(29_100, rel=0.05)
    assert (found["before"], found["after"], found["reclaimed"]) == (before, after, max(0, before - after))
    assert all(isinstance(found[key], int) for key in ("deleted", "before", "after", "reclaimed"))
    assert found["duration"] > 0 and isinstance(found["longest_lock"], float)
    assert found["plan"] is None and found["left_to_another"] is False
    assert any(note.startswith("delete: ") for note in found["notes"]) == (method == "auto")


@pytest.mark.parametrize("method", ["auto", "delete", "swap", "full"])
def test_a_plan_has_the_figures_of_the_text(neglected, as_json, method):
    found = as_json(DONE, "--dry-run", "--method", method, user=SWAPPER)
    assert found.keys() == PLAN and found["outcome"] == "planned"
    assert (found["live"], found["expired"], found["keep"]) == (900, 29_100, 0)
    assert found["live_is_counted"] is True and found["nothing_to_do"] is False
    assert found["before"] == neglected.sizes()["total"] > found["after"] > 0
    assert all(isinstance(found[key], int) for key in ("extra_disk", "temporary_files", "wal"))
    assert 0 < found["least_seconds"] < found["most_seconds"] < 60
    assert found["free_disk"] is None and found["fits"] is None and found["unknown"] is None
    assert found["refusals"] == {"delete": [], "swap": [], "full": []}
    assert neglected.value(f"SELECT count(*) FROM {TABLE}") == 30_000


def test_progress_and_notes_stay_on_stderr(neglected, run_cleanup):
    result = run_cleanup("--json", "-v")
    found = object_of(result)
    assert "deleting: " in result.stderr and found["notes"] and found["notes"][0] in result.stderr
    assert found["plan"].keys() == PLAN and found["plan"]["expired"] == 29_100


def test_a_refusal_says_why(neglected, as_json):
    neglected.psql(f"CREATE VIEW public.online AS SELECT expire_date FROM {TABLE}")
    planned = as_json(REFUSED, "--dry-run", "--method", "swap", user=SWAPPER)
    assert "online" in planned["message"] and "online" in planned["refusals"]["swap"][0]
    assert planned["refusals"]["delete"] == []
    refused = as_json(REFUSED, "--method", "swap", user=SWAPPER)
    assert refused.keys() == RESULT and "online" in refused["message"] and refused["deleted"] is None


@pytest.mark.parametrize("words", [["--nonesuch"], ["--method", "truncate"], ["-p", "0"], ["--abort", "--dry-run"]])
def test_wrong_options_are_told(cleanup_program, words):
    for line in (["--json", *words], [*words, "--json"]):
        result = Cleanup(cleanup_program, *line).result()
        assert result.code == REFUSED and object_of(result).keys() == {"outcome", "message"}, result
        assert object_of(result)["message"] in result.stderr


@pytest.mark.parametrize("words", [[], ["-v"], ["--dry-run"], ["--abort"]])
def test_a_failed_connection_is_told(cleanup_program, words):
    result = Cleanup(cleanup_program, "--json", "-d", "site", *words, environment={"PGHOST": "/nonexistent"}).result()
    assert result.code == FAILED and "/nonexistent" in object_of(result)["message"], result
    assert object_of(result).get("deleted") is None


def test_no_such_table_is_told(neglected, as_json):
    for words in ([], ["--dry-run"]):
        assert "session tables here: " in as_json(REFUSED, "-T", "public.sessions", *words)["message"]


def test_a_locked_table_is_told(neglected, as_json):
    with contextlib.closing(neglected.cluster.connect("site", OWNER, autocommit=False)) as other:
        other.cursor().execute(f"LOCK TABLE {TABLE}")
        for words in ([], ["--dry-run"]):
            assert "lock" in as_json(STOPPED, *words)["message"]


def test_an_event_that_is_no_reason_to_act_is_told(cleanup_program):
    result = Cleanup(cleanup_program, "--json", "--state", "OK", "--state-type", "HARD").result()
    assert object_of(result) == {"outcome": "done", "message": "nothing to do in state HARD OK"}


def test_abort_is_told(neglected, as_json):
    assert as_json(DONE, "--abort", user=SWAPPER)["message"] == "no interrupted cleanup left anything"
    oid = neglected.value(f"SELECT '{TABLE}'::regclass::oid")
    neglected.psql(f"CREATE TABLE djs_{oid}_log (session_key text)", OWNER)
    found = as_json(DONE, "--abort", user=SWAPPER)
    assert found["message"] == "removed what an interrupted cleanup left"
    assert found["method"] is None and found["deleted"] is None and found["before"] == found["after"]


def test_a_name_comes_as_it_is(neglected, as_json):
    name = 'on"line\\\x01\t\n\x7f\x9b2J\u2028|\u65e5'
    quoted = name.replace('"', '""')
    neglected.psql(f'CREATE VIEW public."{quoted}" AS SELECT expire_date FROM {TABLE}')
    found = as_json(DONE, "--dry-run", user=SWAPPER)
    shown = found["refusals"]["swap"][0]
    assert quoted in shown or name in shown, shown


def test_bytes_of_no_encoding_are_replaced(neglected, run_cleanup):
    for words in ([], ["--dry-run"], ["--nonesuch"]):
        result = run_cleanup("--json", "-T", os.fsdecode(b"a\xff\xc3(\xed\xa0\x80b\x01"), *words)
        assert result.code in (FAILED, REFUSED) and object_of(result), result


def test_names_of_a_database_without_encoding(cluster, cleanup_program):
    cluster.psql("CREATE DATABASE json_ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    with contextlib.closing(psycopg2.connect(**cluster.parameters("json_ascii"), client_encoding="SQL_ASCII")) as connection:
        connection.autocommit = True
        connection.cursor().execute(b"""
            CREATE TABLE "t\xe4" (session_key varchar(40) PRIMARY KEY, session_data text NOT NULL,
                                  expire_date timestamptz NOT NULL);
            CREATE INDEX ON "t\xe4" (expire_date);
            CREATE VIEW "v\xff\x80" AS SELECT expire_date FROM "t\xe4";
            INSERT INTO "t\xe4" VALUES ('secretkey', 'secretdata', now() - interval '1 hour'); ANALYZE "t\xe4" """)
    for words in (["--dry-run"], ["--method", "swap"], ["--method", "delete", "-v"]):
        result = Cleanup(cleanup_program, "--json", "-T", os.fsdecode(b"t\xe4"), *words,
                         environment=cluster.environment("json_ascii")).result()
        found = object_of(result)
        assert result.code == (REFUSED if "swap" in words else DONE) and "\ufffd" in json.dumps(found, ensure_ascii=False), result
        assert "secret" not in result.stdout + result.stderr
    cluster.drop_database("json_ascii")
