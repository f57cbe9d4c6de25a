"""The method "swap" on tables and in databases that others have changed, before it and in the middle."""

import contextlib
import re
import threading

import pytest

from cluster import SUPERUSER
from django_site import OWNER
from test_swap import (FAILED, cleanup, cleanup_program, clients, ended, helpers, interrupt, live,  # noqa: F401
                       start_cleanup, wait_for_phase)

# All words that the swap's own SQL uses for something.
COLUMNS = ["k", "n", "live", "there", "different", "run", "schema", "keys", "table_name", "item", "lines", "differs",
           "seen", "original", "moment", "rows", "hash", "c1", "c2", "present", "taken", "noted", "t", "s", "m", "x",
           "cutoff", "djs", "state", "log", "Order", 'qu"ote']


def reindex(site):
    site.psql("REINDEX TABLE CONCURRENTLY django_session")


def test_columns_may_be_called_anything(site, cleanup):  # noqa: F811
    for name in COLUMNS:
        column = name.replace('"', '""')
        site.psql(f'ALTER TABLE django_session ADD "{column}" text DEFAULT \'some {len(column)}\'')
    site.fill(sessions=10_000)
    content = "SELECT t::text FROM django_session t WHERE expire_date > now() ORDER BY session_key"
    rows = site.psql(content)
    with clients(site, clients=2, pause=0.005) as traffic:
        cleanup()
    assert not traffic.count.anomalies, traffic.messages
    assert set(rows) <= set(site.psql(content)) and helpers(site) == []


def test_an_interrupted_swap_resumes_after_a_reindex(site, cleanup, start_cleanup):  # noqa: F811
    site.fill(sessions=10_000, expired_share=0.4)
    interrupt(site, start_cleanup)
    rows = live(site)
    reindex(site)
    assert "resuming an interrupted swap" in cleanup("-v")
    assert live(site) == rows and helpers(site) == []


def test_beside_somebody_who_reindexes_all_the_time(site, cleanup):  # noqa: F811
    site.fill(sessions=30_000, expired_share=0.5)
    rows, over = live(site), threading.Event()

    def work():
        while not over.is_set():
            reindex(site)
    worker = threading.Thread(target=work)
    worker.start()
    try:
        cleanup(code=None)
    finally:
        over.set()
        worker.join()
    cleanup()
    assert live(site) == rows and helpers(site) == []


@pytest.mark.parametrize("of", ["ALL TABLES", "TABLES IN SCHEMA public"])
def test_a_publication_made_in_the_middle_can_be_backed_out_of(site, cleanup, start_cleanup, of):  # noqa: F811
    site.fill(sessions=10_000, expired_share=0.4)
    interrupt(site, start_cleanup)
    rows = live(site)
    site.psql(f"CREATE PUBLICATION everything FOR {of}")
    site.psql("UPDATE django_session SET session_data = session_data WHERE session_key = "
              "(SELECT session_key FROM django_session LIMIT 1)")
    cleanup("--abort")
    assert helpers(site) == [] and live(site) == rows


def test_another_access_method_by_default(site, cleanup):  # noqa: F811
    site.psql("CREATE ACCESS METHOD other TYPE TABLE HANDLER heap_tableam_handler")
    site.psql(f"ALTER DATABASE {site.database} SET default_table_access_method = other")
    site.fill(sessions=10_000)
    rows = live(site)
    cleanup()
    assert live(site) == rows and helpers(site) == []
    assert site.value("SELECT amname FROM pg_class c JOIN pg_am a ON a.oid = c.relam "
                      "WHERE c.oid = 'django_session'::regclass") == "heap"


def insert_unseen_by(site, index):
    """Inserts 50 live sessions that the index lacks, as some bugs of PostgreSQL have made."""
    site.psql(f"UPDATE pg_index SET indisready = false WHERE indexrelid = '{index}'::regclass")
    site.psql("INSERT INTO django_session SELECT 'lost' || i, 'data', now() + interval '3 days' "
              "FROM generate_series(1, 50) i")
    site.psql(f"UPDATE pg_index SET indisready = true WHERE indexrelid = '{index}'::regclass")


def test_an_index_that_lacks_entries_is_named_and_not_obeyed(site, cleanup):  # noqa: F811
    site.fill(sessions=20_000)
    index = site.value("SELECT indexname FROM pg_indexes WHERE indexname LIKE 'django_session_expire_date%'")
    insert_unseen_by(site, index)
    text = cleanup(code=FAILED)
    assert f"index public.{index} lacks 50 live sessions" in text, text
    assert f"REINDEX INDEX CONCURRENTLY public.{index}" in text, text
    assert helpers(site) == []
    reindex(site)
    rows = live(site)
    assert sum(row[0].startswith("lost") for row in rows) == 50
    cleanup()
    assert live(site) == rows and helpers(site) == []


def test_sessions_that_the_primary_key_lacks_are_not_lost(site, cleanup, start_cleanup):  # noqa: F811
    """Not even if they are saved while the swap is under way, by whoever still finds them."""
    site.fill(sessions=10_000, expired_share=0.4)
    insert_unseen_by(site, "django_session_pkey")
    rows = live(site)
    interrupt(site, start_cleanup)
    site.psql("SET enable_indexscan = off; SET enable_bitmapscan = off; "
              "UPDATE django_session SET session_data = session_data WHERE session_key LIKE 'lost%'")
    text = cleanup(code=None)
    assert {row[0] for row in rows} == {row[0] for row in live(site)}, text
    assert helpers(site) == [], text


def test_sessions_that_the_primary_key_comes_to_lack_at_the_end_are_not_lost(site, cleanup, start_cleanup):  # noqa: F811
    """After the comparison, which goes by the table itself."""
    like = site.value("SELECT indexname FROM pg_indexes WHERE indexname LIKE 'django_session%like'")
    site.psql(f"DROP INDEX {like}")  # which would do instead
    site.fill(sessions=20_000, expired_share=0.4)
    with site.cluster.locked(site.database, mode="ROW SHARE"):  # in the way of the exchange alone
        process = start_cleanup()
        wait_for_phase(site, "ready")
        insert_unseen_by(site, "django_session_pkey")
        rows = live(site)
        assert ended(process) == FAILED and "does not find 50 of its sessions" in process.log_text(), process.log_text()
    assert "the swap's triggers remain, disabled" in process.log_text()  # the lock was in the way of their removal, too
    cleanup("--abort")
    assert live(site) == rows and helpers(site) == []


# What could end the text that the columns' names stand in, and what runs the rest as whoever started us.
ENDS = {
    "dollar quote": ("$djs_{run}_1$; RESET ROLE; /*", "*/ $djs_{run}_1$"),
    "string": ("'; RESET ROLE; /*", "*/ '"),
    "escaped string": ("\\'; RESET ROLE; /*", "*/ E'"),
    "name": ('"; RESET ROLE; /*', '*/ "'),
}
RENAME = """CREATE FUNCTION pg_temp.rename(names text[]) RETURNS bool LANGUAGE plpgsql AS $f$
DECLARE state regclass; run text; until timestamptz := clock_timestamp() + interval '10 s';
BEGIN
  WHILE state IS NULL LOOP
    SELECT oid::regclass INTO state FROM pg_class WHERE relname ~ '^djs_[0-9]+_state$';
    IF clock_timestamp() > until THEN RETURN false; END IF;
  END LOOP;
  EXECUTE 'SELECT run_id FROM ' || state INTO run;
  FOR i IN 1..3 LOOP
    EXECUTE format('ALTER TABLE public.django_session RENAME %I TO %I', 'c' || i, replace(names[i], '{run}', run));
  END LOOP;
  RETURN true;
END $f$"""


@pytest.mark.parametrize("end", ENDS)
def test_an_owner_who_renames_his_columns_meanwhile_is_no_superuser(site, cluster, cleanup, start_cleanup,  # noqa: F811
                                                                    end):
    """They are read once the state is there; with check_function_bodies off, what is broken would pass."""
    site.fill(sessions=1000)
    site.psql("ALTER TABLE django_session ADD c1 text, ADD c2 text, ADD c3 text")
    site.psql(f"ALTER DATABASE {site.database} SET check_function_bodies = off")
    names = [ENDS[end][0], f"*/ ALTER ROLE {OWNER} SUPERUSER; COMMIT; SELECT /*", ENDS[end][1]]
    try:
        with contextlib.closing(cluster.connect(site.database, OWNER)) as owner:
            cursor = owner.cursor()
            cursor.execute(RENAME)
            process = start_cleanup(conninfo=cluster.conninfo(site.database, SUPERUSER))
            cursor.execute("SELECT pg_temp.rename(%s)", (names,))
            assert cursor.fetchone() == (True,)
            ended(process)
        cleanup("--abort", user=SUPERUSER)
        assert helpers(site) == []
        assert cluster.psql(f"SELECT rolsuper FROM pg_roles WHERE rolname = '{OWNER}'") == [(False,)]
    finally:
        cluster.psql(f"ALTER ROLE {OWNER} NOSUPERUSER")


# Why a session that is in the table can't be stored again: what is done before it comes, and after.
ACCEPTS = "CREATE OR REPLACE FUNCTION public.accepts(text) RETURNS bool IMMUTABLE LANGUAGE sql AS"
CHECK = f"{ACCEPTS} 'SELECT true'; ALTER TABLE django_session ADD CHECK (public.accepts(session_key))"
READY = "UPDATE pg_index SET indisready = {} WHERE indisunique AND indrelid = 'django_session'::regclass"
TWICE = "INSERT INTO django_session SELECT * FROM django_session WHERE expire_date > now() LIMIT 5"
REFUSED_SESSIONS = {
    "check": [CHECK, f"{ACCEPTS} 'SELECT false'"],
    "value": [CHECK, f"{ACCEPTS} 'SELECT $1::int > 0'"],
    "key that is there twice": ["SELECT", READY.format("false"), TWICE, READY.format("true")],
}


@pytest.mark.parametrize("why", REFUSED_SESSIONS)
def test_a_session_that_cannot_be_stored_is_not_in_the_servers_log(site, cluster, cleanup, why):  # noqa: F811
    before, *after = REFUSED_SESSIONS[why]
    site.psql(before)
    site.fill(sessions=300, expired_share=0.5)
    for statement in after:
        site.psql(statement)
    keys = {key for (key,) in site.psql("SELECT session_key FROM django_session")}
    mark = cluster.log_mark()
    output = cleanup(code=FAILED)
    assert not keys & set(re.findall(r"[0-9A-Za-z]{20,}", cluster.log_text(mark) + output))
