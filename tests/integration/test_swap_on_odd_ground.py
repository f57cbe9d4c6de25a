"""The method "swap" on tables and in databases that others have changed, before it and in the middle."""

import threading

import pytest

from test_swap import (FAILED, cleanup, cleanup_program, clients, helpers, live, start_cleanup)  # noqa: F401
from test_swap_hard_cases import interrupt

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
    site.fill(sessions=20_000)
    content = "SELECT t::text FROM django_session t WHERE expire_date > now() ORDER BY session_key"
    rows = site.psql(content)
    with clients(site, clients=2, pause=0.005) as traffic:
        cleanup()
    assert not traffic.count.anomalies, traffic.messages
    assert set(rows) <= set(site.psql(content)) and helpers(site) == []


def test_an_interrupted_swap_resumes_after_a_reindex(site, cleanup, start_cleanup):  # noqa: F811
    site.fill(sessions=200_000, expired_share=0.4)
    interrupt(site, start_cleanup)
    rows = live(site)
    reindex(site)
    assert "with an interrupted swap" in cleanup("-v")
    assert live(site) == rows and helpers(site) == []


def test_beside_somebody_who_reindexes_all_the_time(site, cleanup):  # noqa: F811
    site.fill(sessions=100_000, expired_share=0.5)
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
    site.fill(sessions=200_000, expired_share=0.4)
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
    site.fill(sessions=200_000, expired_share=0.4)
    insert_unseen_by(site, "django_session_pkey")
    rows = live(site)
    interrupt(site, start_cleanup)
    site.psql("SET enable_indexscan = off; SET enable_bitmapscan = off; "
              "UPDATE django_session SET session_data = session_data WHERE session_key LIKE 'lost%'")
    text = cleanup(code=None)
    assert {row[0] for row in rows} == {row[0] for row in live(site)}, text
    assert helpers(site) == [], text
