"""Shows that the tests' own tools work here: every server starts, answers and ends."""

import collections
import datetime
import subprocess
import sys
import time
from pathlib import Path

import psycopg2
import pytest

from check import parse_perfdata
from collectd_daemon import database_block, plugin_block
from conftest import DEBIANS, VERSIONS
from django_site import MONITOR


def test_the_cluster_restarts_and_keeps_its_log(running_cluster):
    mark = running_cluster.log_mark()
    running_cluster.restart()
    running_cluster.psql("SELECT 41 + 1")
    assert "SELECT 41 + 1" in running_cluster.statements(mark)


def test_a_paused_cluster_answers_nobody_until_it_goes_on(running_cluster):
    running_cluster.pause()
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(**running_cluster.parameters(), connect_timeout=2)
    running_cluster.resume()
    assert running_cluster.psql("SELECT 1") == [(1,)]


def test_the_lock_of_a_table_is_held(cluster, site):
    with cluster.locked("site"):
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            site.psql("SET lock_timeout = 50; SELECT count(*) FROM django_session")
    assert site.value("SELECT count(*) FROM django_session") == 0


def test_django_made_the_table_with_its_three_indexes(site):
    columns = site.psql("""SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
        WHERE attrelid = 'django_session'::regclass AND attnum > 0 ORDER BY attnum""")
    assert columns == [("session_key", "character varying(40)"), ("session_data", "text"),
                       ("expire_date", "timestamp with time zone")]
    indexes = {name: text.partition(" USING ")[2] for name, text in site.psql(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'django_session'")}
    assert len(indexes) == 3
    assert indexes["django_session_pkey"] == "btree (session_key)"
    assert sorted(indexes.values()) == [
        "btree (expire_date)", "btree (session_key varchar_pattern_ops)", "btree (session_key)"]


def test_the_fill_is_what_was_ordered(site):
    site.fill(sessions=1000, expired_share=0.9, data_bytes=(150, 400),
              expired_over=datetime.timedelta(days=100))
    assert site.value("SELECT count(*) FROM django_session") == 1000
    assert site.value("SELECT count(*) FROM django_session WHERE expire_date < now()") == 900
    assert site.value("SELECT (now() - min(expire_date))::text FROM django_session"
                      ).startswith("100 days 00:00:0")
    assert site.value(
        "SELECT bool_and(session_key ~ '^[a-z0-9]{32}$') FROM django_session")
    assert site.psql("SELECT min(length(session_data)), max(length(session_data)) "
                     "FROM django_session") == [(150, 400)]
    assert site.value("SELECT reltuples FROM pg_class WHERE oid = 'django_session'::regclass"
                      ) == 1000


def test_big_sessions_go_to_toast(site):
    site.fill(sessions=500, data_bytes=3000)
    assert site.sizes()["toast"] > 500 * 3000
    assert site.sizes()["table"] < 200_000


def test_clearsessions_deletes_the_expired_ones(site):
    site.fill(sessions=1000, expired_share=0.6)
    site.manage("clearsessions")
    assert site.value("SELECT count(*) FROM django_session") == 400


def test_the_measuring_role_reads_expiry_times_alone(site):
    site.fill(sessions=10)
    assert site.psql("SELECT count(*) FROM django_session WHERE expire_date < now()",
                     user=MONITOR) == [(10,)]
    for column in ("session_key", "session_data", "*"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            site.psql(f"SELECT {column} FROM django_session", user=MONITOR)


def test_the_role_script_runs_twice_and_as_the_owner(cluster, site):
    site.apply_roles()
    cluster.psql("ALTER ROLE django CREATEROLE")
    try:
        site.apply_roles(user="django")
    finally:
        cluster.psql("ALTER ROLE django NOCREATEROLE")


def test_pgbouncer_answers_in_transaction_mode(site, pgbouncer):
    connection = psycopg2.connect(**pgbouncer.parameters("site", MONITOR))
    cursor = connection.cursor()
    cursor.execute("SELECT current_user, count(expire_date) FROM django_session")
    assert cursor.fetchall() == [(MONITOR, 0)]
    connection.close()


def test_collectd_starts_writes_values_and_stops(collectd):
    daemon = collectd("LoadPlugin load\n", plugin=None)
    daemon.wait_for_value("load/load")
    assert daemon.stop() < 10
    assert "Exiting normally" in daemon.log_text()


def test_collectd_reads_once_or_refuses_its_configuration(collectd):
    good = collectd("LoadPlugin load\n", plugin=None, start=False, name="good").read_once()
    assert good.returncode == 0
    bad = collectd("LoadPlugin nonesuch\n", plugin=None, start=False, name="bad").read_once()
    assert bad.returncode == 1


@pytest.mark.sanitizers
def test_collectd_runs_the_plugin_under_test(collectd, cluster, site):
    site.fill(sessions=100)
    daemon = collectd(plugin_block(database_block(cluster, "site")))
    assert daemon.wait_for_value("django_session-site/pg_n_tup_g-expired") == 97
    assert daemon.wait_for_value("django_session-site/bytes-total") == site.sizes()["total"]
    assert daemon.stop() < 6


ECHO = """#!/bin/sh
echo "ECHO WARNING - hello | size=12B;5;6 'a b'=1.5s"
echo "a second line"
exit 1
"""


@pytest.fixture
def echo_plugin(folder):
    path = folder / "check_echo"
    path.write_text(ECHO)
    path.chmod(0o755)
    return path


def test_nagios_runs_a_check(nagios, echo_plugin):
    daemon = nagios("""
define host {
    use generic-host
    host_name db1
    address 127.0.0.1
    max_check_attempts 3
    contact_groups admins
}
define command {
    command_name echo
    command_line $USER1$/check_echo
}
define service {
    use generic-service
    host_name db1
    service_description echo
    check_command echo
}
""", plugins=[echo_plugin])
    service = daemon.service("echo")
    assert service["current_state"] == "1"
    assert service["plugin_output"] == "ECHO WARNING - hello"
    assert service["long_plugin_output"] == "a second line"
    assert service["performance_data"] == "size=12B;5;6 'a b'=1.5s"


def test_icinga_runs_a_check_and_parses_its_perfdata(icinga, echo_plugin):
    daemon = icinga("""
object Host "db1" { import "generic-host" }
object CheckCommand "echo" { command = [ PluginDir + "/check_echo" ] }
object Service "echo" {
  import "generic-service"
  host_name = "db1"
  check_command = "echo"
}
""", plugins=[echo_plugin])
    result = daemon.service("echo")
    assert result["state"] == 1
    assert result["output"].splitlines() == ["ECHO WARNING - hello ", "a second line"]
    assert result["performance_data"] == ["size=12B;5;6", "'a b'=1.5s"]
    parsed = daemon.parse_perfdata(result["performance_data"][0])
    assert (parsed["value"], parsed["unit"], parsed["warn"]) == (12, "bytes", 5)


def test_perfdata_is_taken_apart():
    assert parse_perfdata("total=12B;5;@6:7;0 'a b'=1.5% x=U") == {
        "total": (12, "B", ["5", "@6:7", "0"]), "a b": (1.5, "%", []), "x": (None, "", [])}
    with pytest.raises(AssertionError):
        parse_perfdata("total=12B garbage")


def test_filling_is_quick_enough_for_big_tables(site):
    start = time.monotonic()
    site.fill(sessions=50_000)
    assert time.monotonic() - start < 20


# -- which cases are run, and on which version -------------------------------------------------------------


def collected(*options, file="test_roles.py"):
    """The tests of one file; of those that depend on the version or do not, this one has some of each kind."""
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", file,
                           *options], cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if "::" in line]


def in_turn(choice):
    return [case for version in VERSIONS if version != DEBIANS
            for case in collected("--in-turn", choice, "--postgresql", version)]


def test_each_case_has_its_turn_on_one_version():
    turns = in_turn("case")
    assert sorted(turns) == sorted(collected("-m", "sql")) and len(turns) > 10
    assert len(turns) < len(collected())  # some have servers of their own choice


def test_one_case_of_each_test_has_its_turn():
    turns = in_turn("test")
    tests = [case.partition("[")[0] for case in turns]
    assert sorted(tests) == sorted({case.partition("[")[0] for case in collected("-m", "sql")})
    assert len(turns) < len(in_turn("case"))


def test_of_some_tests_a_part_of_the_cases_is_run_and_of_all_others_each():
    every, chosen = (collections.Counter(case.partition("[")[0] for case in collected(*options, file="test_plan.py"))
                     for options in ((), ("--some-cases",)))
    assert every.keys() == chosen.keys()
    fewer = {test.partition("::")[2]: (every[test], count) for test, count in chosen.items() if count != every[test]}
    assert fewer == {"test_the_size_afterwards_is_foreseen": (32, 6), "test_the_size_of_a_mixture_afterwards_is_foreseen": (8, 3),
                     "test_functions_that_were_revoked_are_noticed_before_anything_is_done": (4, 1),
                     "test_the_plan_knows_every_right_that_is_needed": (5, 3)}
