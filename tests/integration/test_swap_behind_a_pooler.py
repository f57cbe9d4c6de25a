"""The method "swap" behind a pooler in transaction mode: it is seen while it vacuums, and says what stays when the
connection doesn't come back."""

import contextlib
import re
import signal

import psycopg2
import pytest

from cleanup_command import CLEANER, STOPPED, Cleanup
from cluster import SUPERUSER
from django_site import MONITOR, OWNER
from pgbouncer_server import PgBouncer
from processes import wait_for
from test_swap import (FAILED, cleanup, cleanup_program, ended, helpers, live, oid, start_cleanup,  # noqa: F401
                       wait_for_phase)

WHAT_STAYS = "what the swap made remains, and its triggers keep logging which sessions change: the next run resumes"


@pytest.fixture
def slow_vacuum(site):
    """Behind a pooler a VACUUM of this owner doesn't end."""
    setting = f"ALTER ROLE {OWNER} IN DATABASE {site.database} SET vacuum_cost_"
    site.psql(f"{setting}delay = 100; {setting}limit = 1")
    yield lambda: site.psql(f"ALTER ROLE {OWNER} IN DATABASE {site.database} RESET ALL")


def test_a_long_vacuum_does_not_make_it_look_dead(site, cluster, cleanup, cleanup_program, start_cleanup,  # noqa: F811
                                                  pgbouncer, slow_vacuum):
    site.fill(sessions=5000, expired_share=0.2)
    site.apply_roles(cleaner=CLEANER)
    conninfo = pgbouncer.conninfo(site.database, OWNER)
    first = start_cleanup(conninfo=conninfo)
    wait_for(lambda: site.psql("SELECT 1 FROM pg_stat_activity WHERE query ~ '^VACUUM .*_new'"), "the VACUUM")
    # As if it had lasted for longer than the lease, and the pooler had closed the connection that it was renewed by.
    site.psql(f"UPDATE djs_{oid(site)}_state SET lease_until = now() - interval '1 second', backend = 1")
    run_id = site.value(f"SELECT run_id FROM djs_{oid(site)}_state")
    text = cleanup(conninfo=conninfo, code=STOPPED)
    assert "another cleanup of this table is running" in text
    for user in (OWNER, CLEANER):
        text = str(Cleanup(cleanup_program, "--method", "delete", "--no-progress",
                           environment=cluster.environment(site.database, user)).result())
        assert "exit 1 " in text and "of this table is running" in text, text
    assert first.running and site.value(f"SELECT run_id FROM djs_{oid(site)}_state") == run_id, first.log_text()
    first.end(signal.SIGTERM)
    slow_vacuum()
    rows = live(site)
    cleanup()
    assert live(site) == rows and helpers(site) == []


def test_a_pooler_that_pauses_for_longer_than_the_run(site, cluster, folder, cleanup, start_cleanup):  # noqa: F811
    site.fill(sessions=60_000, expired_share=0.3)
    pooler = PgBouncer(folder, cluster, [OWNER, MONITOR], query_wait_timeout=1).start()
    process = start_cleanup("--max-duration", "7", conninfo=pooler.conninfo(site.database, OWNER))
    wait_for_phase(site, "copying")
    with contextlib.closing(psycopg2.connect(**pooler.parameters("pgbouncer", "pgbouncer"))) as admin:
        admin.autocommit = True
        admin.cursor().execute("PAUSE")
        code = ended(process)
    pooler.stop()
    assert code == STOPPED and "connecting again" in process.log_text(), process.log_text()
    last = [line for line in process.log_text().splitlines() if line.startswith("DJANGO_SESSION_CLEANUP")][-1]
    assert WHAT_STAYS in last, process.log_text()
    rows = live(site)
    assert "resuming an interrupted swap" in cleanup("-v")
    assert live(site) == rows and helpers(site) == []


def test_a_server_that_does_not_come_back(site, running_cluster, cleanup, start_cleanup):  # noqa: F811
    site.fill(sessions=60_000, expired_share=0.3)
    process = start_cleanup("-t", "2")
    wait_for_phase(site, "copying")
    site.psql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{OWNER}'", SUPERUSER)
    wait_for(lambda: "connecting again" in process.log_text(), "the loss to be noticed", pause=0.01)
    running_cluster.pause()
    code = ended(process)
    running_cluster.resume()
    assert code == FAILED, process.log_text()
    last = [line for line in process.log_text().splitlines() if line.startswith("DJANGO_SESSION_CLEANUP")][-1]
    assert re.search(f"connecting again failed: .*{WHAT_STAYS}", last), process.log_text()
    cleanup("--abort")
    assert helpers(site) == []
