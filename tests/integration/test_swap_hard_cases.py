"""The method "swap" where it is hard: many sessions with one date, no time, restored dumps, odd names."""

import re
import signal

import pytest

from cleanup_command import CLEANER
from django_site import OWNER, TABLE
from test_swap import (DONE, FAILED, STOPPED, cleanup, cleanup_program, create_role, ended, held_in_the_copy, helpers,  # noqa: F401
                       interrupt, live, oid, phase, start_cleanup, wait_for_phase)
from wire_proxy import Fault, WireProxy


def rename_helpers(site, number):
    """As if table and helpers came out of a dump: the names have an OID that no table has."""
    site.psql(f"""DO $$ DECLARE item record; BEGIN
      FOR item IN SELECT oid::regclass AS name, relname FROM pg_class
                  WHERE relkind = 'r' AND relname ~ '^djs_' LOOP
        EXECUTE format('ALTER TABLE %s RENAME TO %I', item.name,
          regexp_replace(item.relname, '[0-9]+', '{number}'));
      END LOOP;
      FOR item IN SELECT tgname, tgrelid::regclass AS name FROM pg_trigger WHERE tgname ~ '^djs_' LOOP
        EXECUTE format('ALTER TRIGGER %I ON %s RENAME TO %I', item.tgname, item.name,
          regexp_replace(item.tgname, '[0-9]+', '{number}'));
      END LOOP;
      FOR item IN SELECT oid::regprocedure AS name FROM pg_proc WHERE proname ~ '^djs_' LOOP
        EXECUTE format('ALTER FUNCTION %s RENAME TO %I', item.name, 'djs_{number}_note');
      END LOOP;
    END $$""")


@pytest.mark.parametrize("apart", ["0", "100 microseconds"])
def test_many_sessions_of_one_time_are_copied(site, cleanup, apart):  # noqa: F811
    """Of one date, or of a few seconds in which more than a chunk ends."""
    site.fill(sessions=20_000)
    site.psql(f"INSERT INTO django_session SELECT 'same' || i, 'data', now() + interval '5 days' + i * interval '{apart}' "
              "FROM generate_series(1, 60000) i")
    rows = live(site)
    cleanup()
    assert live(site) == rows and helpers(site) == []


def test_stopped_it_keeps_its_copy_and_the_next_run_goes_on(site, cleanup, start_cleanup):  # noqa: F811
    site.fill(sessions=10_000, expired_share=0.4)
    with held_in_the_copy(site, start_cleanup) as process:
        process.send(signal.SIGTERM)
    ended(process, timeout=5)
    assert process.returncode == STOPPED and "--abort removes it" in process.log_text(), process.log_text()
    assert phase(site) == "copying"
    rows = live(site)
    assert "resuming an interrupted swap" in cleanup("-v")
    assert live(site) == rows and helpers(site) == []


def test_what_expires_at_the_cutoff_or_right_after_it_is_copied(site, start_cleanup):  # noqa: F811
    site.fill(sessions=2000, expired_share=0.5)
    with site.cluster.locked(site.database, mode="ROW EXCLUSIVE"):  # in the way of the triggers
        process = start_cleanup()
        wait_for_phase(site, "created")
        site.psql("INSERT INTO django_session SELECT 'at' || n, 'data', cutoff + n * interval '1 microsecond' "
                  f"FROM djs_{oid(site)}_state, unnest(ARRAY[-1, 0, 1, 900000]) n")
    assert ended(process) == DONE, process.log_text()
    kept = site.psql("SELECT session_key FROM django_session WHERE session_key ~ '^at' ORDER BY expire_date")
    assert kept == [("at0",), ("at1",), ("at900000",)]


def test_a_table_that_was_altered_since_is_not_resumed_but_begun_anew(site, cleanup, start_cleanup):  # noqa: F811
    site.fill(sessions=10_000, expired_share=0.4)
    interrupt(site, start_cleanup)
    site.psql("ALTER TABLE django_session ADD note text DEFAULT 'none'", OWNER)
    rows = live(site)
    text = cleanup("-v")
    assert "removing an interrupted swap" in text and "resuming" not in text and "starting over" not in text, text
    assert live(site) == rows and helpers(site) == []


# {oid} is the table's. The log is emptied in the same transaction, so that no entry is seen by anyone.
MEDDLING = {
    "sessions deleted from the copy": "DELETE FROM djs_{oid}_new WHERE session_key IN (SELECT session_key FROM djs_{oid}_new LIMIT 50)",
    "a copy that holds something else": "UPDATE djs_{oid}_new SET session_data = 'else' WHERE session_key IN "
                                        "(SELECT session_key FROM djs_{oid}_new LIMIT 50)",
    "a logout taken out of the log": "DELETE FROM django_session WHERE session_key IN (SELECT session_key FROM djs_{oid}_new LIMIT 50); "
                                     "DELETE FROM djs_{oid}_log",
}


@pytest.mark.parametrize("what", MEDDLING)
def test_what_another_run_has_compared_is_compared_again(site, cleanup, start_cleanup, what):  # noqa: F811
    """It may have lain there for days, and the table's owner can write into it."""
    site.fill(sessions=2000, expired_share=0.5)
    with site.cluster.locked(site.database, mode="ROW SHARE"):  # in the way of the exchange alone
        process = start_cleanup()
        wait_for_phase(site, "ready")
        process.end(signal.SIGKILL)
    site.psql(MEDDLING[what].format(oid=oid(site)), OWNER)
    rows = live(site)
    text = cleanup("-v", code=FAILED)
    assert "resuming an interrupted swap" in text and "their copies are" in text, text
    assert live(site) == rows and helpers(site) == []


def test_nor_is_it_believed_after_a_lost_connection(site, cluster, start_cleanup):  # noqa: F811
    site.fill(sessions=2000, expired_share=0.5)
    with cluster.locked(site.database, mode="ROW SHARE"):
        process = start_cleanup()
        wait_for_phase(site, "ready")
        process.end(signal.SIGKILL)
    site.psql(MEDDLING["sessions deleted from the copy"].format(oid=oid(site)), OWNER)
    rows = live(site)
    with WireProxy(cluster, Fault.CUT_BEFORE, at=lambda step: "VACUUM (ANALYZE)" in step.text) as proxy:
        process = start_cleanup(conninfo=proxy.conninfo(site.database, OWNER))
        assert ended(process) == FAILED, process.log_text()
        assert proxy.happened
    text = process.log_text()
    assert "connecting again" in text and "their copies are" in text, text
    assert live(site) == rows and helpers(site) == []


COPIED = "(SELECT session_key FROM djs_{oid}_new ORDER BY 1 LIMIT 5)"
OF_A_REPLICA = {
    "a new session": "INSERT INTO django_session VALUES ('new', 'data', now() + interval '5 days')",
    "a save": f"UPDATE django_session SET session_data = 'saved' WHERE session_key IN {COPIED}",
    "a logout": f"DELETE FROM django_session WHERE session_key IN {COPIED}",
    "TRUNCATE": "TRUNCATE django_session",
}


@pytest.mark.parametrize("what", OF_A_REPLICA)
def test_what_replication_changes_is_noted_too(site, cleanup, start_cleanup, what):  # noqa: F811
    """In sessions like those of a subscription's worker, ordinary triggers don't fire."""
    site.fill(sessions=10_000, expired_share=0.4)
    interrupt(site, start_cleanup)
    site.psql(f"SET session_replication_role = replica; {OF_A_REPLICA[what]}".format(oid=oid(site)))
    rows = live(site)
    assert "resuming an interrupted swap" in cleanup("-v")
    assert live(site) == rows and helpers(site) == []


@pytest.mark.parametrize("written", [
    *(f"run_id = '{run_id}'" for run_id in ("a b", "a" * 32 + " b", "", "a=b")), "rows_before = 'NaN'", "copied = -1"])
def test_a_state_of_no_run_is_damaged_and_can_be_removed(site, cleanup, start_cleanup, written):  # noqa: F811
    """Whatever its owner has written there: no cleanup waits for a run that can't be."""
    site.fill(sessions=10_000, expired_share=0.5)
    interrupt(site, start_cleanup)
    site.psql(f"UPDATE djs_{oid(site)}_state SET {written}", OWNER)
    rows = live(site)
    assert "the state of the swap is damaged; --abort removes it" in cleanup(code=FAILED)
    cleanup("--abort")
    assert live(site) == rows and helpers(site) == []


def test_helpers_out_of_a_dump_are_removed(site, cleanup, start_cleanup):  # noqa: F811
    site.fill(sessions=10_000, expired_share=0.5)
    interrupt(site, start_cleanup)
    rename_helpers(site, 77)
    rows = live(site)
    cleanup()
    assert live(site) == rows and helpers(site) == []


def test_the_deleting_role_works_beside_an_interrupted_swap(
        cleaned_site, start_cleanup, cleanup):  # noqa: F811
    cleaned_site.fill(sessions=10_000, expired_share=0.5)
    interrupt(cleaned_site, start_cleanup)
    text = cleanup("--method", "delete", "-v", user=CLEANER)
    assert "remove it with --abort as django" in text
    assert "removing an interrupted swap" not in text and "can't be used" not in text, text
    assert cleaned_site.value(f"SELECT count(*) FROM {TABLE} WHERE expire_date < now() - interval '1 h'") == 0
    text = cleanup("--abort", user=CLEANER, code=FAILED)
    assert f"role {CLEANER} may not remove what an interrupted swap left: run django_session_cleanup --abort as " \
        "django" in text and "removing" not in text, text
    text = cleanup("-v")
    assert "resuming an interrupted swap" in text
    assert float(re.search(r" deleted=([\d.]+)", text)[1]) < 100, "what the other run has deleted isn't this one's"
    assert helpers(cleaned_site) == []


def test_odd_names_and_comments_are_no_obstacle(site, cleanup, start_cleanup):  # noqa: F811
    site.fill(sessions=10_000, expired_share=0.5)
    interrupt(site, start_cleanup)
    for name in ("djs_99999999999_log", "djs_4294967296_state", "djs_5_log"):
        site.psql(f"CREATE TABLE {name} (i int)", "django")
    for comment in ("started tomorrow", "started 2026-02-31 10:00:00Z"):
        site.psql(f"COMMENT ON TABLE djs_{oid(site)}_state IS '{comment}'")
        cleanup("--dry-run")
    cleanup()
    assert sorted(site.psql("SELECT relname FROM pg_class WHERE relname ~ '^djs_'")) == [
        ("djs_4294967296_state",), ("djs_5_log",), ("djs_99999999999_log",)]


def test_a_table_moved_in_the_middle_leaves_nothing_behind(site, cleanup, start_cleanup):  # noqa: F811
    """Its helpers, which hold session data, stay in a schema where no later run would look for them."""
    site.fill(sessions=10_000, expired_share=0.4)
    site.psql("CREATE SCHEMA elsewhere AUTHORIZATION django")
    rows = live(site)
    with held_in_the_copy(site, start_cleanup) as process:
        site.psql("ALTER TABLE django_session SET SCHEMA elsewhere", "django")
    ended(process)
    site.psql(f"ALTER DATABASE {site.database} SET search_path = elsewhere, public")
    cleanup()
    assert helpers(site) == [] and live(site) == rows


def test_a_dry_run_does_not_wait_for_the_helpers(site, cleanup, start_cleanup):  # noqa: F811
    site.fill(sessions=10_000, expired_share=0.5)
    interrupt(site, start_cleanup)
    with site.cluster.locked(site.database, table=f"djs_{oid(site)}_new", mode="ACCESS EXCLUSIVE"):
        cleanup("--dry-run")
    cleanup("--abort")


def test_many_changes_neither_bloat_the_new_table_nor_the_log(site, cleanup, start_cleanup):  # noqa: F811
    site.fill(sessions=60_000, expired_share=0.3)
    interrupt(site, start_cleanup)
    for _ in range(6):
        site.psql("UPDATE django_session SET expire_date = expire_date + interval '1 s' WHERE expire_date > now()")
    # What is in the log last of a key isn't what was first.
    site.psql("DELETE FROM django_session WHERE session_key IN "
              f"(SELECT session_key FROM djs_{oid(site)}_new ORDER BY expire_date LIMIT 20)")
    log = f"djs_{oid(site)}_log"
    assert site.value(f"SELECT pg_relation_size('{log}')") > 16 * 1024 * 1024  # else this tests nothing
    rows = live(site)
    text = cleanup("-v")
    assert "resuming an interrupted swap" in text and live(site) == rows and helpers(site) == []
    site.psql("CREATE TABLE fresh (LIKE django_session INCLUDING ALL); INSERT INTO fresh "
              "SELECT * FROM django_session ORDER BY expire_date; REINDEX TABLE fresh")
    site.psql("VACUUM fresh")
    assert site.sizes()["total"] <= 1.05 * site.sizes("fresh")["total"], text


def test_what_others_made_under_our_names_is_left_alone(site, cluster, cleanup, start_cleanup):  # noqa: F811
    create_role(cluster, "mallory")
    site.psql("GRANT CREATE ON SCHEMA public TO mallory")
    site.fill(sessions=10_000, expired_share=0.5)
    interrupt(site, start_cleanup)
    shadow = site.value(f"SELECT shadow FROM djs_{oid(site)}_state")
    for table in (shadow, oid(site)):
        site.psql(f"CREATE FUNCTION djs_{table}_note(int) RETURNS int LANGUAGE sql AS 'SELECT 1'", "mallory")
    cleanup()
    assert set(site.psql("SELECT pg_get_userbyid(proowner) FROM pg_proc WHERE proname ~ '^djs_'")) == {("mallory",)}
    assert site.psql("SELECT 1 FROM pg_class WHERE relname ~ '^djs_'") == []


def test_a_warning_in_the_midst_of_a_long_statement_ends_no_run(site, cleanup):  # noqa: F811
    """It makes the server send what is ready: the answers to what the message says before the statement."""
    site.fill(sessions=1000, expired_share=0.3)
    site.psql("""
        CREATE FUNCTION slow(key varchar) RETURNS varchar IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
          IF key = 'slow' AND current_setting('application_name') LIKE 'django_session%' THEN
            RAISE WARNING 'slow'; PERFORM pg_sleep(4); END IF;
          RETURN key; END $$;
        INSERT INTO django_session VALUES ('slow', 'data', now() + interval '1 day');
        CREATE INDEX slow_index ON django_session (slow(session_key))""", OWNER)
    rows = live(site)
    cleanup("-t", "3")
    assert live(site) == rows and helpers(site) == []
