"""The plugin in a real collectd: outages, locks, renamed tables, several databases, wrong options."""

import contextlib
import re
import resource
import socket
import threading
import time

import pytest

from collectd_daemon import database_block, plugin_block
from django_site import MONITOR, OWNER, TABLE
from processes import run, wait_for

UP = "django_session-site/bool-up"
LOCKED = "django_session-site/bool-locked"
TOTAL = "django_session-site/bytes-total"
OVERDUE = "django_session-site/duration-overdue"
READ = "django_session-site/response_time-read"

pytestmark = pytest.mark.sanitizers


@pytest.fixture
def watched(collectd, cluster, site):
    """A running collectd that watches a site of 20,000 sessions with a Timeout of 2 s."""
    site.fill(sessions=20_000)
    daemon = collectd(plugin_block(database_block(cluster, "site", Timeout=2)))
    daemon.wait_for_value(UP, bool)
    return daemon


def times(daemon, identifier):
    return [when for when, _ in daemon.history().get(identifier, [])]


def test_an_outage_is_logged_once_and_so_is_the_recovery(watched, running_cluster):
    running_cluster.stop()
    watched.wait_for_value(UP, lambda up: up == 0)
    watched.wait_for_reads(UP, 3)
    running_cluster.start()
    watched.wait_for_value(UP, lambda up: up == 1)
    watched.wait_for_reads(UP, 2)
    errors = [line for line in watched.log_text().splitlines() if "[error]" in line]
    # A reading in the moment of the server's stop or start has a reason of its own.
    assert len([line for line in errors if not re.search("shutting down|starting up", line)]) == 1
    assert len(errors) < 4
    assert watched.log_text().count("django_session plugin: site: readings have resumed") == 1
    assert "suspending" not in watched.log_text().lower()


def test_the_first_reading_is_told_once(watched, running_cluster):
    watched.wait_for_log("site: first reading")
    told = re.findall(r"\[notice\] django_session plugin: (site: first reading: .*)", watched.log_text())
    size = watched.values()[TOTAL] / 1024 ** 2
    assert told == [f"site: first reading: django_session {size:.1f} MB, ~97% of 20k sessions expired (reads as {MONITOR})"]
    running_cluster.stop()
    watched.wait_for_value(UP, lambda up: up == 0)
    running_cluster.start()
    watched.wait_for_log("site: readings have resumed")
    watched.wait_for_reads(UP, 1)
    assert watched.log_text().count("first reading") == 1


def test_the_first_reading_is_told_when_there_is_one(collectd, running_cluster, site):
    """Of each block with its own name; not of an outage."""
    running_cluster.stop()
    daemon = collectd(plugin_block(database_block(running_cluster, "site"),
                                   database_block(running_cluster, "site", Instance="two")))
    daemon.wait_for_value(UP, lambda up: up == 0)
    assert "first reading" not in daemon.log_text()
    running_cluster.start()
    for instance in ("site", "two"):
        daemon.wait_for_log(rf"{instance}: first reading: django_session .*, no sessions \(reads as {MONITOR}\)")


def test_an_outage_whose_reason_changes_is_logged_once_for_each_reason(collectd, running_cluster, site):
    site.psql(f"CREATE ROLE watcher LOGIN IN ROLE {MONITOR}")
    daemon = collectd(plugin_block(database_block(running_cluster, "site", user="watcher")))
    daemon.wait_for_value(UP, bool)
    site.psql("DROP ROLE watcher")
    running_cluster.stop()
    daemon.wait_for_log("site: .*(No such file|refused)")
    running_cluster.start()
    daemon.wait_for_log('site: .*role "watcher" does not exist')
    daemon.wait_for_reads(UP, 3)
    site.psql(f"CREATE ROLE watcher LOGIN IN ROLE {MONITOR}")
    daemon.wait_for_log("site: readings have resumed")
    daemon.wait_for_reads(UP, 2)
    site.psql("DROP ROLE watcher")
    lines = re.findall(r"\] django_session plugin: (site: .*)", daemon.log_text())
    # A reading before the server stops may see that its role is gone.
    lines = [line for line in lines if not re.search("first reading|starting up|shutting down|values are", line)]
    assert len(lines) == 3, lines


def is_logged_once_and_recovers(daemon, message, mend):
    """A reading that fails, by whatever it may be, is an outage, and never the end of readings."""
    daemon.wait_for_value(UP, lambda up: up == 0)
    daemon.wait_for_reads(UP, 3)
    mend()
    daemon.wait_for_value(UP, lambda up: up == 1)
    errors = [line for line in daemon.log_text().splitlines() if "[error]" in line]
    assert len(errors) == 1 and message in errors[0], errors
    assert daemon.log_text().count("django_session plugin: site: readings have resumed") == 1
    assert "suspend" not in daemon.log_text().lower()


def test_without_a_database_one_warning_says_so(collectd):
    daemon = collectd("LoadPlugin django_session\n")
    daemon.wait_for_log("nothing is measured: there is no valid <Database> block")
    assert daemon.log_text().count("nothing is measured") == 1


@pytest.mark.parametrize("word", ["TRUE", '"true"', "Yes", "on"])
def test_a_boolean_may_be_written_in_every_way_that_collectd_takes(collectd, cluster, site, word):
    daemon = collectd(plugin_block(database_block(cluster, "site", inner=f"Exact {word}\n")))
    daemon.wait_for_value(UP, bool)
    assert "[error]" not in daemon.log_text()


def test_a_thread_that_cannot_be_started_is_an_outage(watched, running_cluster):
    def allow_threads(count):
        run(["prlimit", f"--pid={watched.pid}", f"--nproc={count}:"])
    most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    allow_threads(0)
    running_cluster.restart()
    is_logged_once_and_recovers(
        watched, "site: no thread for connecting could be started: Resource temporarily unavailable",
        lambda: allow_threads("unlimited" if most == resource.RLIM_INFINITY else most))


def test_a_statistics_function_that_lies_is_no_outage(watched, site):
    right = f"GRANT EXECUTE ON FUNCTION public.django_session_statistics(regclass) TO {MONITOR}"
    for answer in ("'expire_date'::name, 'wide', '0', '0', '{}', '{}', '{}'",
                   "'expire_date'::name, '-7', 'NaN', 'Infinity', '{NaN,NULL,1e999}', '{NaN,9,NULL}', '{5,NaN,1,NULL}'",
                   "NULL::name, NULL, NULL, NULL, NULL, NULL, NULL"):
        site.psql(f"""
            DROP FUNCTION public.django_session_statistics;
            CREATE FUNCTION public.django_session_statistics(regclass)
              RETURNS TABLE (column_name name, average_width text, null_fraction text, n_distinct text,
                             common_values text, common_frequencies text, histogram text)
              LANGUAGE sql SECURITY DEFINER AS $$ SELECT {answer} $$;
            ALTER FUNCTION public.django_session_statistics OWNER TO {OWNER};
            {right}; ANALYZE {TABLE}""")
        watched.wait_for_reads(UP, 3)
    assert "[error]" not in watched.log_text() and "suspend" not in watched.log_text().lower()
    assert watched.values()[TOTAL] == site.sizes()["total"]


def test_a_time_limit_of_the_server_is_an_outage(collectd, cluster, site):
    site.interfere("RAISE EXCEPTION 'too long' USING ERRCODE = 'query_canceled'")
    daemon = collectd(plugin_block(database_block(cluster, "site")))
    is_logged_once_and_recovers(
        daemon, "site: an error was raised in function public.interfering(), SQLSTATE 57014", site.calm)


def test_the_interval_stays_steady_through_an_outage(watched, running_cluster):
    running_cluster.stop()
    watched.wait_for_reads(UP, 6)
    running_cluster.start()
    gaps = [later - earlier for earlier, later in zip(times(watched, UP), times(watched, UP)[1:])]
    assert max(gaps) < 2.2, gaps


def test_a_restart_between_two_readings_is_no_outage(collectd, running_cluster, site):
    site.fill(sessions=1000)
    daemon = collectd(plugin_block(database_block(running_cluster, "site")), interval=6)
    daemon.wait_for_value(UP, bool)
    running_cluster.restart()
    daemon.wait_for_reads(UP, 1)
    assert daemon.values()[UP] == 1
    assert "[error]" not in daemon.log_text()


def test_it_starts_without_the_database(collectd, running_cluster, site):
    running_cluster.stop()
    daemon = collectd(plugin_block(database_block(running_cluster, "site")))
    daemon.wait_for_value(UP, lambda up: up == 0)
    running_cluster.start()
    daemon.wait_for_value(UP, lambda up: up == 1)
    daemon.wait_for_value(TOTAL)


def test_a_locked_table_is_still_reported(watched, cluster, site):
    before = watched.values()[TOTAL]
    with cluster.locked("site"):
        watched.wait_for_value(LOCKED, lambda locked: locked == 1)
        watched.wait_for_reads(READ, 2)
        values = watched.values("site")
        assert values["bool-up"] == 1
        assert values["bytes-total"] == before
        assert values["response_time-read"] < 1
        watched.wait_for_reads("django_session-site/pg_db_size", 1)
    watched.wait_for_value(LOCKED, lambda locked: locked == 0)


def test_a_lock_request_waiting_in_line_is_a_lock_too(watched, cluster):
    with contextlib.closing(cluster.connect("site", autocommit=False)) as reader, \
            contextlib.closing(cluster.connect("site", autocommit=False)) as waiting:
        reader.cursor().execute(f"SELECT count(*) FROM {TABLE}")
        def wait_in_line():
            cursor = waiting.cursor()
            cursor.execute("SET lock_timeout = '6s'")
            with contextlib.suppress(Exception):
                cursor.execute(f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE")
        thread = threading.Thread(target=wait_in_line)
        thread.start()
        watched.wait_for_value(LOCKED, lambda locked: locked == 1)
        assert watched.wait_for_value(READ) < 1
        reader.rollback()
        thread.join()
        waiting.rollback()
    watched.wait_for_value(LOCKED, lambda locked: locked == 0)


@pytest.mark.alone
def test_nobody_waits_long_behind_a_reading(watched, cluster):
    """An ACCESS EXCLUSIVE request is served at once although the plugin reads each second."""
    longest = 0
    for _ in range(20):
        start = time.monotonic()
        with cluster.locked("site"):
            longest = max(longest, time.monotonic() - start)
        time.sleep(0.15)
    assert longest < 0.5


@pytest.mark.some_cases(2)
@pytest.mark.parametrize("change", [
    f"DROP TABLE {TABLE}; CREATE TABLE {TABLE} (LIKE copy INCLUDING ALL); DROP TABLE copy",
    f"ALTER TABLE {TABLE} RENAME TO old; ALTER TABLE copy RENAME TO django_session",
    f"DROP INDEX django_session_expire_date_a5c62663; CREATE INDEX x ON {TABLE} (expire_date)",
    f"VACUUM FULL {TABLE}", f"TRUNCATE {TABLE}",
    f"ALTER TABLE {TABLE} ADD COLUMN agent text"], ids=lambda sql: sql.split(";")[0])
def test_it_goes_on_by_name(watched, cluster, site, change):
    site.psql(f"CREATE TABLE copy (LIKE {TABLE} INCLUDING ALL)")
    for statement in change.split(";"):
        site.psql(statement)
    site.psql(f"GRANT SELECT (expire_date) ON {TABLE} TO {MONITOR}")
    total = site.sizes()["total"]
    watched.wait_for_value(TOTAL, lambda value: value == total)
    watched.wait_for_reads(READ, 2)
    assert watched.values()[UP] == 1
    assert watched.values()[TOTAL] == total


def test_a_missing_table_is_named_once_and_found_again(watched, site):
    site.psql(f"ALTER TABLE {TABLE} RENAME TO elsewhere")
    watched.wait_for_log(r"no table django_session in this database; session tables here: "
                         r"public\.elsewhere")
    watched.wait_for_reads(UP, 3)
    assert watched.values()[UP] == 1
    assert watched.log_text().count("no table django_session") == 1
    site.psql(f"ALTER TABLE public.elsewhere RENAME TO django_session")
    watched.wait_for_log("readings have resumed")


def test_a_right_that_is_revoked_is_named_with_its_grant(collectd, cluster, site):
    site.fill(sessions=2000)
    daemon = collectd(plugin_block(database_block(cluster, "site")))
    daemon.wait_for_value("django_session-site/bool-up", lambda value: value == 1)
    site.psql(f"REVOKE SELECT (expire_date) ON {TABLE} FROM {MONITOR}")
    daemon.wait_for_log(re.escape(f"GRANT SELECT (expire_date) ON {TABLE} TO {MONITOR}"))
    assert "permission denied" not in daemon.log_text(), daemon.log_text()


@pytest.mark.parametrize("right", [f"SELECT (expire_date) ON {TABLE}", "USAGE ON SCHEMA public"])
def test_a_grant_is_noticed_at_the_next_reading(collectd, cluster, site, right):
    site.fill(sessions=2000)
    site.psql(f"REVOKE {right} FROM PUBLIC, {MONITOR}")
    daemon = collectd(plugin_block(database_block(cluster, "site", Table=TABLE)))
    daemon.wait_for_reads(UP, 2)
    assert OVERDUE not in daemon.values()
    site.psql(f"GRANT {right} TO {MONITOR}")
    daemon.wait_for_value(OVERDUE, lambda number: number > 0)


def test_what_is_unknown_is_named_once_and_so_is_its_end(collectd, cluster, site):
    site.fill(sessions=120_000, expired_share=0.5, vacuum=False)
    daemon = collectd(plugin_block(database_block(cluster, "site")))
    daemon.wait_for_log("some values are unknown: no statistics yet: ANALYZE public.django_session")
    daemon.wait_for_reads(READ, 2)
    site.psql(f"ANALYZE {TABLE}")
    daemon.wait_for_log("django_session plugin: site: all values are known again")
    assert daemon.log_text().count("some values are unknown") == 1


def test_databases_fail_independently(collectd, cluster, new_site):
    new_site("site"), new_site("shop")
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        blocks = [database_block(cluster, "site"), database_block(cluster, "shop"),
                  database_block(cluster, "nowhere"),
                  '<Database "deaf">\nHost "127.0.0.1"\n'
                  f"Port {silent.getsockname()[1]}\nTimeout 2\n</Database>\n"]
        daemon = collectd(plugin_block(*blocks))
        daemon.wait_for_value("django_session-deaf/bool-up", lambda up: up == 0)
        daemon.wait_for_reads("django_session-shop/bool-up", 3)
        values = daemon.values()
        assert [values[f"django_session-{name}/bool-up"] for name in ("site", "shop", "nowhere", "deaf")] == [
            1, 1, 0, 0]
        assert times(daemon, "django_session-site/bool-up")[-1] > time.time() - 3
        assert daemon.stop() < 3


def test_a_hung_server_costs_one_timeout_and_stops_nobody(watched, running_cluster):
    running_cluster.pause()
    watched.wait_for_value(UP, lambda up: up == 0)
    assert watched.wait_for_value(READ) < 2.5
    assert watched.stop() < 3
    running_cluster.resume()


@pytest.mark.alone
def test_a_hung_server_does_not_hold_up_others_values(collectd, running_cluster, site):
    daemon = collectd("LoadPlugin load\n" + plugin_block(
        database_block(running_cluster, "site", Timeout=2)))
    daemon.wait_for_value(UP, bool)
    running_cluster.pause()
    daemon.wait_for_reads("load/load", 5)
    whens = times(daemon, "load/load")
    assert max(later - earlier for earlier, later in zip(whens, whens[1:])) < 2
    running_cluster.resume()


def test_it_works_through_pgbouncer_in_transaction_mode(collectd, pgbouncer, site):
    site.fill(sessions=5000)
    daemon = collectd(plugin_block(
        f'<Database "site">\nHost "127.0.0.1"\nPort {pgbouncer.port}\nUser "{MONITOR}"\n</Database>\n'))
    daemon.wait_for_reads(READ, 3)
    assert daemon.values()[TOTAL] == site.sizes()["total"]
    assert daemon.values()["django_session-site/pg_n_tup_g-expired"] == pytest.approx(4850, rel=0.02)
    assert "[error]" not in daemon.log_text() and "[warning]" not in daemon.log_text()


def test_a_missing_right_is_logged_once_with_its_grant(collectd, cluster, site):
    site.psql("DROP ROLE IF EXISTS bare; CREATE ROLE bare LOGIN")
    site.fill(sessions=5000)
    daemon = collectd(plugin_block(database_block(cluster, "site", user="bare")))
    daemon.wait_for_log(r"GRANT SELECT \(expire_date\) ON public\.django_session TO bare")
    mark = cluster.log_mark()
    daemon.wait_for_reads(READ, 3)
    assert daemon.log_text().count("GRANT SELECT") == 1
    assert daemon.values()[TOTAL] == site.sizes()["total"]
    assert "ERROR" not in cluster.log_text(mark)
    daemon.stop()
    site.psql("DROP ROLE bare")


WRONG = [
    ('Hots "db1"', "Hots is not a valid option; valid options are Host, Port"),
    ("Port 0", "Port takes a port number from 1 to 65535"),
    ("Port 65536", "Port takes a port number from 1 to 65535"),
    ('Port "54x2"', "Port takes a port number from 1 to 65535"),
    ("Port 1.5", "Port takes a port number from 1 to 65535"),
    ("Host 5", "Host takes one text in quotes"),
    ('Host ""', "Host is empty"),
    ('Host "a" "b"', "Host takes one text in quotes, not 2 values"),
    ('User ""', "User is empty"),
    ('SSLMode "yes"', "SSLMode takes one of disable, allow, prefer, require, verify-ca, verify-full"),
    ('Interval "10"', "Interval takes a number of seconds, for example 10, without quotes"),
    ("Interval 0", "Interval must be between 0.1 and 86400 seconds"),
    ("Interval -1", "Interval must be between 0.1 and 86400 seconds"),
    ("Timeout 0", "Timeout must be between 0.1 and 86400 seconds"),
    ("Timeout 100000", "Timeout must be between 0.1 and 86400 seconds"),
    ("Timeout true", "Timeout takes a number of seconds"),
    ('Exact "maybe"', "Exact takes true or false (or yes or no, on or off)"),
    ("Exact 1", "Exact takes true or false"),
    ("Read 0", "Read takes true or false"),
    ('Table ""', "Table is empty"),
    ('Table "a.b.c"', 'Table: cannot read "a.b.c" as a table\'s name at ".c"'),
    ('Table "public."', "Table: cannot read"),
    ('Table "' + "x" * 64 + '"', "at most 63 bytes"),
    ('Instance ""', "Instance is empty"),
    ('Instance "' + "x" * 101 + '"', "Instance has more than 100 bytes"),
    ("Timeout 5\nTimeout 6", "Timeout may be given only once"),
    ("<Host>\nName 1\n</Host>", "Host is a block, but takes one text in quotes"),
]


@pytest.mark.parametrize("wrong, message", WRONG, ids=lambda text: text.replace("\n", " ")[:30])
def test_a_wrong_block_is_left_out_with_a_message(collectd, cluster, site, wrong, message):
    bad = f'<Database "bad">\n{wrong}\n</Database>\n'
    daemon = collectd(plugin_block(bad, database_block(cluster, "site")))
    daemon.wait_for_value(UP, bool)
    errors = [line for line in daemon.log_text().splitlines() if "[error]" in line]
    assert any('<Database "bad">: ' in line and message in line for line in errors), errors
    assert not any(name.startswith("django_session-bad") for name in daemon.values())


@pytest.mark.parametrize("block, message", [
    ("<Database>\nPort 1\n</Database>\n", '<Database> takes the database\'s name in quotes: <Database "site">'),
    ("<Database 5>\nPort 1\n</Database>\n", "<Database> takes the database's name in quotes"),
    ('<Databases "x">\n</Databases>\n', 'Databases is not a valid option; valid options are <Database "name"> and MaxCleanups'),
    ('Host "x"\n', "Host is not a valid option"),
    ('<Database "host=x password=hunter2 y">\n</Database>\n', "not a valid connection string"),
], ids=["no name", "a number", "Databases", "an option outside", "conninfo"])
def test_a_wrong_beginning_is_named(collectd, cluster, site, block, message):
    daemon = collectd(plugin_block(block, database_block(cluster, "site")))
    daemon.wait_for_value(UP, bool)
    assert message in daemon.log_text()
    assert "hunter2" not in daemon.log_text()


def test_two_blocks_need_two_instances(collectd, cluster, site):
    block = database_block(cluster, "site")
    daemon = collectd(plugin_block(block, block, database_block(cluster, "site", Instance="two")))
    daemon.wait_for_value("django_session-two/bool-up", bool)
    assert 'Instance "site" is already taken' in daemon.log_text()


def test_a_connection_string_shows_its_database_alone(collectd, cluster, site):
    text = cluster.conninfo("site", MONITOR) + " password=hunter2secret"
    wrong = f'<Database "{text} host=/nowhere dbname=gone">\nTimeout 1\n</Database>\n'
    bad = f'<Database "{text}">\nTimeout "x"\n</Database>\n'
    nameless = '<Database "host=/nowhere password=hunter2secret">\nTimeout 1\n</Database>\n'
    daemon = collectd(plugin_block(f'<Database "{text}">\nTimeout 5\n</Database>\n', wrong, bad, nameless))
    daemon.wait_for_value(UP, bool)
    daemon.wait_for_value("django_session-gone/bool-up", lambda up: up == 0)
    assert '<Database "site">: Timeout takes' in daemon.log_text()
    assert "needs an Instance" in daemon.log_text()
    assert "hunter2secret" not in daemon.log_text() + str(daemon.values())


def test_no_password_and_no_session_shows_in_the_log(collectd, cluster, site):
    site.fill(sessions=200)
    keys = [key for key, in site.psql(f"SELECT session_key FROM {TABLE}")]
    daemon = collectd(plugin_block(database_block(cluster, "site", Password="hunter2secret"),
                                   database_block(cluster, "nowhere", Password="hunter2secret")))
    daemon.wait_for_reads(READ, 2)
    text = daemon.log_text() + str(daemon.values())
    assert "hunter2secret" not in text
    assert not [key for key in keys if key in text]


def test_ends_quickly_whatever_the_database_does(collectd, running_cluster, site):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        daemon = collectd(plugin_block(
            f'<Database "site">\nHost "127.0.0.1"\nPort {silent.getsockname()[1]}\nTimeout 3\n</Database>\n'))
        wait_for(lambda: UP in daemon.values(), "a reading", 10)
        assert daemon.stop() < 4
