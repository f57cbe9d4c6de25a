"""What a swap can't take away, or has to wait for: its last message says so, and so does the next run."""

import contextlib
import re
import time

from cleanup_command import STOPPED, Cleanup
from cluster import SUPERUSER
from django_site import OWNER
from processes import wait_for
from test_swap import (DONE, FAILED, cleanup, cleanup_program, ended, helpers, live, oid, start_cleanup,  # noqa: F401
                       wait_for_phase)
from test_throttle import new_site as new_primary
from wire_proxy import Fault, WireProxy

MAKE = "CREATE FUNCTION g(django_session) RETURNS int LANGUAGE sql AS 'SELECT 1'"
DOUBLE = "INSERT INTO django_session SELECT * FROM django_session WHERE expire_date > now() LIMIT 5"
READY = "UPDATE pg_index SET indisready = {} WHERE indexrelid = 'django_session_pkey'::regclass"


def test_an_uncommitted_function_of_the_row_type_is_waited_for(site, cluster, start_cleanup):  # noqa: F811
    site.fill(sessions=2000)
    table = oid(site)
    with contextlib.closing(cluster.connect(site.database, autocommit=False)) as other:
        other.cursor().execute(MAKE)
        process = start_cleanup()
        wait_for_phase(site, "ready")
        time.sleep(1)
        assert process.running and oid(site) == table
        other.commit()
    assert ended(process) == STOPPED, process.log_text()
    assert "function public.g(public.django_session) depends on the table" in process.log_text()
    assert oid(site) == table and helpers(site) == []


def test_what_keeps_the_replaced_table_is_named_until_it_is_gone(site, cluster, cleanup, start_cleanup):  # noqa: F811
    """A function that was made right before the exchange and is committed after it."""
    site.fill(sessions=2000)
    table, rows = oid(site), live(site)
    with contextlib.closing(cluster.connect(site.database, autocommit=False)) as reader, \
            contextlib.closing(cluster.connect(site.database, autocommit=False)) as other:
        reader.cursor().execute("LOCK TABLE django_session IN ACCESS SHARE MODE")
        process = start_cleanup()
        wait_for(lambda: "waiting for the lock to exchange" in process.log_text(), "the wait for the lock")
        other.cursor().execute(MAKE)
        reader.commit()
        wait_for(lambda: oid(site) != table, "the exchange")
        time.sleep(0.5)
        other.commit()
        assert ended(process) == DONE, process.log_text()
    named = (r"table (public\.djs_kept_\w+) can't be dropped, since something depends on it: "
             r"function public\.g\(\1\) of postgres; DROP FUNCTION public\.g\(\1\), then run")
    kept = re.search(named, process.log_text())[1]
    assert site.value(f"SELECT count(*) FROM {kept}") == 0
    for options in ((), ("--abort",), ("--dry-run",)):
        assert re.search(named, cleanup(*options))
    site.psql("DROP FUNCTION g")
    cleanup("--abort")
    assert helpers(site) == [] and live(site) == rows


def test_what_keeps_a_table_is_named_so_that_it_can_be_dropped_whatever_its_name(site, cluster, cleanup):  # noqa: F811
    """A line can't show a '|', and another name would be another's view."""
    site.psql("CREATE TABLE djs_kept_0123abcd_1 (a int)", OWNER)
    for name in ("report|2026", 'a"b\\\n\u2028'):
        quoted = '"' + name.replace('"', '""') + '"'
        site.psql(f"CREATE VIEW {quoted} AS SELECT * FROM djs_kept_0123abcd_1")
    site.psql('CREATE VIEW "report/2026" AS SELECT 1 AS a')
    for options in (("--dry-run",), ("--abort",)):
        remedies = re.search(r"; ((?:DROP VIEW [^;]*; )*DROP VIEW [^;]*), then run", cleanup(*options))[1]
        assert len(remedies.split("; ")) == 2
    site.psql(remedies)
    assert site.psql("SELECT viewname FROM pg_views WHERE schemaname = 'public'") == [("report/2026",)]


def test_the_last_message_says_what_stays(site, cluster, cleanup):  # noqa: F811
    """It fails, and a reader who has not ended keeps it from removing its triggers."""
    site.fill(sessions=300, expired_share=0.5)
    for statement in (READY.format("false"), DOUBLE, READY.format("true")):
        site.psql(statement)
    with cluster.locked(site.database, mode="ACCESS SHARE"):
        text = cleanup(code=FAILED)
        last = [line for line in text.splitlines() if "is damaged" in line][-1]
        assert "triggers remain, disabled: the next run, or --abort, removes them" in last, text
        assert helpers(site) != []
    cleanup("--abort")
    assert helpers(site) == []


def test_a_session_that_is_there_twice_tells_which_index_is_damaged(site, cleanup):  # noqa: F811
    site.fill(sessions=300, expired_share=0.5)
    for statement in (READY.format("false"), DOUBLE, READY.format("true")):
        site.psql(statement)
    text = cleanup(code=FAILED)
    assert "index public.django_session_pkey is damaged" in text, text
    assert "REINDEX INDEX CONCURRENTLY public.django_session_pkey" in text and "djs_" not in text, text
    assert helpers(site) == []


def test_the_lease_is_renewed_while_an_archiver_is_waited_for(own_cluster, folder, cleanup_program):  # noqa: F811
    server = own_cluster(archive_mode="on", archive_command="false")
    site = new_primary(server, folder, sessions=3000)
    server.psql("SELECT pg_switch_wal()")
    wait_for(lambda: server.psql("SELECT last_failed_wal FROM pg_stat_archiver")[0][0], "the archiver to fail")
    run = Cleanup(cleanup_program, "--method", "swap", "--no-progress", "--max-lag", "1MB", "--max-duration", "14",
                  environment=server.environment("site", SUPERUSER))
    wait_for_phase(site, "copying")
    lease = f"SELECT extract(epoch FROM lease_until)::float8 FROM djs_{oid(site)}_state"
    first = site.value(lease)
    wait_for(lambda: site.value(lease) > first + 4, "the lease to be renewed", 12)
    assert run.running
    run.result()


def test_what_may_be_left_is_told_where_nobody_answers_any_more(site, cluster, start_cleanup):  # noqa: F811
    """The server has made the state, and no answer came to tell."""
    site.fill(sessions=2000)

    def makes_the_state(step):  # and doesn't only try it
        return "CREATE TABLE" in step.text and f"djs_{oid(site)}_state" in step.text and step.text.rstrip("\0 \n").endswith("COMMIT;")
    with WireProxy(cluster, Fault.GONE_AFTER, at=makes_the_state) as proxy:
        process = start_cleanup(conninfo=proxy.conninfo(site.database, OWNER))
        assert ended(process, timeout=120) == FAILED and proxy.happened, process.log_text()
    last = [line for line in process.log_text().splitlines() if line.startswith("DJANGO_SESSION_CLEANUP")][-1]
    assert "if anything of a swap is left, the next run resumes or removes it" in last, process.log_text()
    assert helpers(site) != []
