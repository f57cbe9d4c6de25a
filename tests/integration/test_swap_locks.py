"""The method "swap" and the locks of others: who holds one is found out without rights to see him, waited for without
making others wait, named, and never cancelled for a deadlock with us."""

import contextlib
import re
import signal
import threading
import time

import psycopg2
import pytest

from cluster import SUPERUSER
from django_site import OWNER, DjangoSite
from processes import wait_for
from test_swap import (DONE, STOPPED, cleanup, cleanup_program, clients, ended, held_in_the_copy, helpers,  # noqa: F401
                       interrupt, live, oid, phase, start_cleanup, wait_for_phase)
from wire_proxy import EXCHANGE, REMOVAL_OF_TRIGGERS, BeforeTheFirst, WireProxy

WAITS_FOR = "SELECT 1 FROM pg_locks WHERE relation = '{}'::regclass AND NOT granted"
PHASES = ("created", "copying", "catching up", "ready", "stopped")


def tries(cluster, mark):
    return len(re.findall("canceling statement due to (lock|statement) timeout", cluster.log_text(mark)))


def test_an_exchange_that_takes_too_long_blames_nobody(site, start_cleanup):
    """The catalogue's rows of many columns are compared under the lock, longer than so short a time allows."""
    site.psql("ALTER TABLE django_session " + ", ".join(f"ADD c{number} int" for number in range(500)))
    process = start_cleanup("--method", "swap", "--lock-timeout", "0.002", user=OWNER)
    assert ended(process, timeout=120) == DONE, process.log_text()
    assert "it was granted, but the work under it took longer than is allowed" in process.log_text(), process.log_text()
    assert "has since ended" not in process.log_text()


def test_a_prepared_transaction_is_named_and_seldom_tried_against(own_cluster, folder, cleanup, start_cleanup):  # noqa: F811
    server = own_cluster(max_prepared_transactions="5")
    server.create_database("shop", OWNER)
    shop = DjangoSite(folder, server, "shop")
    shop.migrate()
    shop.fill(sessions=10_000)
    with contextlib.closing(server.connect("shop")) as other:
        other.cursor().execute("BEGIN; SELECT count(*) FROM django_session; PREPARE TRANSACTION 'forgotten'")
    mark = server.log_mark()
    process = start_cleanup(conninfo=server.conninfo("shop", OWNER))
    wait_for(lambda: 'prepared transaction "forgotten"' in process.log_text(), "the wait for it", 60)
    process.send(signal.SIGTERM)
    assert ended(process) == STOPPED, process.log_text()
    assert 1 <= tries(server, mark) <= 8
    server.psql("ROLLBACK PREPARED 'forgotten'", "shop")
    assert "resuming an interrupted swap" in cleanup("-v", conninfo=server.conninfo("shop", OWNER))
    assert helpers(shop) == []


def test_a_prepared_transaction_that_wrote_before_the_triggers_came_is_copied(own_cluster, folder, start_cleanup):  # noqa: F811
    server = own_cluster(max_prepared_transactions="5")
    server.create_database("shop", OWNER)
    shop = DjangoSite(folder, server, "shop")
    shop.migrate()
    shop.fill(sessions=10_000)
    shop.psql("INSERT INTO django_session VALUES ('ends', 'data', now() + interval '1 day')")
    with contextlib.closing(server.connect("shop")) as other:
        other.cursor().execute("BEGIN; INSERT INTO django_session VALUES ('new', 'data', now() + interval '1 day'); "
                               "DELETE FROM django_session WHERE session_key = 'ends'; PREPARE TRANSACTION 'late'")
    process = start_cleanup(conninfo=server.conninfo("shop", OWNER))
    wait_for_phase(shop, "created")
    time.sleep(1.5)
    assert phase(shop) == "created" and process.running, process.log_text()
    server.psql("COMMIT PREPARED 'late'", "shop")
    assert ended(process) == DONE, process.log_text()
    keys = {row[0] for row in live(shop)}
    assert "new" in keys and "ends" not in keys and helpers(shop) == []


@pytest.mark.alone  # of eight seconds, most are for the wait
@pytest.mark.parametrize("relation", ["django_session", "djs_{oid}_state"])
def test_a_reader_whose_age_is_hidden_is_seldom_tried_against(site, cluster, start_cleanup, relation):  # noqa: F811
    """As a nightly dump is, to a role without pg_read_all_stats."""
    site.fill(sessions=10_000, expired_share=0.3)
    mark = cluster.log_mark()
    with contextlib.closing(cluster.connect(site.database, SUPERUSER, autocommit=False)) as reader:
        with held_in_the_copy(site, start_cleanup, "--max-duration", "8") as process:
            reader.cursor().execute(f"SELECT 1 FROM {relation.format(oid=oid(site))} LIMIT 1")
        assert ended(process) == STOPPED, process.log_text()
        assert "of role postgres" in process.log_text(), process.log_text()
        assert tries(cluster, mark) <= 8


def test_who_reads_the_state_is_not_waited_for_under_the_tables_lock(site, cluster, start_cleanup):  # noqa: F811
    site.fill(sessions=10_000, expired_share=0.3)
    with contextlib.closing(cluster.connect(site.database, SUPERUSER, autocommit=False)) as reader, \
            cluster.asking(site.database) as ask:
        with held_in_the_copy(site, start_cleanup) as process:
            state = f"djs_{oid(site)}_state"
            reader.cursor().execute(f"SELECT 1 FROM {state}")
        has_the_table = wait_for(lambda: ask(f"""SELECT EXISTS (SELECT FROM pg_locks ours WHERE ours.pid = awaited.pid
              AND ours.relation = {oid(site)} AND ours.mode = 'AccessExclusiveLock' AND ours.granted)
            FROM pg_locks awaited WHERE awaited.relation = '{state}'::regclass AND NOT awaited.granted"""),
            "the exchange's wait for it", timeout=60, pause=0.005)
        assert has_the_table == [(False,)]
        reader.rollback()
        assert ended(process) == DONE, process.log_text()


def test_a_site_whose_views_always_take_seconds_is_swapped_in_the_end(site, cluster, start_cleanup):  # noqa: F811
    site.fill(sessions=10_000)
    over = threading.Event()

    def views():
        with contextlib.closing(cluster.connect(site.database, OWNER, autocommit=False)) as view:
            while not over.is_set():
                view.cursor().execute("SELECT count(*) FROM django_session; SELECT pg_sleep(1.3)")
                view.commit()
    worker = threading.Thread(target=views)
    worker.start()
    try:
        process = start_cleanup("--lock-timeout", "0.4", "--max-duration", "60")
        assert ended(process, 90) == DONE, process.log_text()
    finally:
        over.set()
        worker.join()
    assert helpers(site) == []


def test_an_index_built_concurrently_is_no_victim_of_an_abort(site, cluster, cleanup, start_cleanup):  # noqa: F811
    """It is built while --abort waits for its lock, and then waits for all who have an older snapshot."""
    site.fill(sessions=10_000, expired_share=0.3)
    interrupt(site, start_cleanup)
    site.psql("CREATE FUNCTION public.wait_for_7(text) RETURNS int IMMUTABLE LANGUAGE plpgsql AS "
              "$$BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN 1; END$$")
    key = site.value("SELECT max(session_key) FROM django_session")
    errors = []

    def build():
        try:
            site.psql("CREATE INDEX CONCURRENTLY theirs ON django_session (public.wait_for_7(session_key)) "
                      f"WHERE session_key = '{key}'")
        except psycopg2.Error as error:
            errors.append(str(error))
    threads = [threading.Thread(target=build), threading.Thread(target=cleanup, args=("--abort",))]
    with contextlib.closing(cluster.connect(site.database, SUPERUSER)) as other:
        other.cursor().execute("SELECT pg_advisory_lock(7)")
        for thread in threads:
            thread.start()
        wait_for(lambda: site.psql("SELECT 1 FROM pg_locks WHERE mode = 'ShareUpdateExclusiveLock' AND NOT granted"),
                 "the wait for it", pause=0.01)
        time.sleep(1.3)  # its own look for a deadlock, after a second, is over: the index' is the next
    for thread in threads:
        thread.join()
    assert not errors
    assert helpers(site) == []


def test_nobody_who_analyzes_is_cancelled_for_a_deadlock(site, cluster, start_cleanup):  # noqa: F811
    """He has read the table, and then waits for the lock that the exchange has already."""
    site.fill(sessions=10_000)
    process = start_cleanup("--lock-timeout", "5", "--max-duration", "12")
    wait_for_phase(site, "ready")
    with contextlib.closing(cluster.connect(site.database, SUPERUSER, autocommit=False)) as analyst:
        while process.running:
            analyst.cursor().execute("SELECT count(*) FROM django_session")
            time.sleep(0.1)
            analyst.cursor().execute("ANALYZE django_session")
            analyst.commit()
    assert process.returncode in (DONE, STOPPED), process.log_text()
    assert "half of the server's deadlock_timeout" in process.log_text()


def test_who_analyzes_while_triggers_are_removed_is_not_cancelled_for_a_deadlock(site, cluster, start_cleanup):  # noqa: F811
    """He has read the table. To make an autovacuum give way the removal has had the lock that he asks for then."""
    site.fill(sessions=10_000, expired_share=0.3)
    interrupt(site, start_cleanup)
    with contextlib.closing(cluster.connect(site.database, SUPERUSER, autocommit=False)) as analyst:
        at = BeforeTheFirst(REMOVAL_OF_TRIGGERS, lambda: analyst.cursor().execute("SELECT FROM django_session LIMIT 1"))
        with WireProxy(cluster, on_step=at) as proxy:
            process = start_cleanup("--keep", "3d", "--lock-timeout", "5", conninfo=proxy.conninfo(site.database, OWNER))
            wait_for(lambda: site.psql(WAITS_FOR.format("django_session")), "its wait for the table", 60, pause=0.01)
            analyst.cursor().execute("ANALYZE django_session")
            analyst.commit()
            assert ended(process) == DONE, process.log_text()
    assert helpers(site) == []


INDEXES = "SELECT unnest(index_names) FROM djs_{oid}_state"  # in the order in which the exchange renames them


def test_nobody_who_waits_for_a_renamed_index_is_cancelled_for_a_deadlock(site, cluster, start_cleanup):  # noqa: F811
    """He has read the table. The exchange has the lock of his index, waits for those of the others, and would then wait for
    the table's, when the server finds that he has waited for deadlock_timeout."""
    site.fill(sessions=1000)
    site.psql(f"ALTER DATABASE {site.database} SET deadlock_timeout = '4s'")  # half of it is the most for each lock
    alter, errors = "ALTER INDEX {} SET (fillfactor = 80)", []
    with contextlib.ExitStack() as until_the_end:
        reader, *holders = [until_the_end.enter_context(contextlib.closing(cluster.connect(site.database, autocommit=False)))
                            for _ in range(3)]
        indexes = []

        def hold():
            indexes.extend(name for name, in site.psql(INDEXES.format(oid=oid(site))))
            reader.cursor().execute("SELECT FROM django_session LIMIT 1")
            for holder, index in zip(holders, indexes[1:], strict=True):
                holder.cursor().execute(alter.format(index))

        def ask_for_the_first():
            try:
                reader.cursor().execute(alter.format(indexes[0]))
            except psycopg2.Error as error:
                errors.append(str(error))
            reader.rollback()
        with WireProxy(cluster, on_step=BeforeTheFirst(EXCHANGE, hold)) as proxy:
            process = start_cleanup("--lock-timeout", "2", conninfo=proxy.conninfo(site.database, OWNER))
            waiting = threading.Thread(target=ask_for_the_first)
            for place, holder in enumerate(holders, 1):
                wait_for(lambda: indexes and site.psql(WAITS_FOR.format(indexes[place])), "its wait for an index", 60, pause=0.01)
                if place == 1:
                    waiting.start()
                time.sleep(1.7)
                holder.rollback()
            waiting.join()
            assert ended(process) == DONE, process.log_text()
    assert not errors and helpers(site) == []


@pytest.mark.alone  # it has to be quicker than a writer
def test_large_sessions_that_keep_changing_do_not_lengthen_the_lock(site, cleanup):  # noqa: F811
    site.fill(sessions=400, expired_share=0.2, data_bytes=100_000)  # a drained one takes about a millisecond
    over = threading.Event()

    def save():
        while not over.is_set():
            site.psql("UPDATE django_session SET session_data = 'x' || session_data WHERE session_key IN (SELECT "
                      "session_key FROM django_session WHERE expire_date > now() LIMIT 40)", OWNER)
            time.sleep(0.05)
    worker = threading.Thread(target=save)
    worker.start()
    try:
        text = cleanup()
    finally:
        over.set()
        worker.join()
    assert float(re.search(r"longest_lock=([\d.]+)s", text)[1]) < 0.25, text
    assert helpers(site) == []


@pytest.mark.parametrize("options", [("--abort",), ("--keep", "3d")], ids=["abort", "begin_anew"])
def test_whatever_a_swap_has_reached_its_removal_waits_for_a_reader(
        site, cluster, cleanup, start_cleanup, options):  # noqa: F811
    site.fill(sessions=10_000, expired_share=0.3)
    interrupt(site, start_cleanup)
    mark = cluster.log_mark()
    with contextlib.closing(cluster.connect(site.database, OWNER, autocommit=False)) as reader:
        reader.cursor().execute("LOCK TABLE django_session IN ACCESS SHARE MODE")
        time.sleep(1)  # from when on he is one who won't be gone soon
        for reached in PHASES:
            site.psql(f"UPDATE djs_{oid(site)}_state SET phase = '{reached}', backend = 0")
            text = cleanup(*options, "--max-duration", "3", code=STOPPED)
            assert "removing an interrupted swap" in text and helpers(site) != [], (reached, text)
    assert "syntax error" not in cluster.log_text(mark)
    cleanup("--abort")
    assert helpers(site) == []
