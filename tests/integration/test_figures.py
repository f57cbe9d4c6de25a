"""Figures where the server's own counters don't fit the table: the truth, or unknown with a reason."""

import contextlib
import re

import pytest

import check
from cleanup_command import SWAPPER
from collectd_daemon import database_block, plugin_block
from django_site import MONITOR, OWNER, TABLE
from processes import wait_for

ROLES = {
    "superuser": "postgres",
    "owner": OWNER,
    "monitor": MONITOR,
    "reader": "reader",  # may read expire_date, but roles.sql's function isn't his
    "stranger": "stranger",  # may connect, and nothing else
}
JUDGED = ("live", "expired", "dead", "reclaimable", "expired_percent")


def counters(site):
    """What the cumulative statistics believe: live, dead."""
    return site.psql("SELECT n_live_tup, n_dead_tup FROM pg_stat_user_tables "
                     "WHERE relname = 'django_session'")[0]


def counted_after_vacuum(site, change, vacuum="VACUUM (ANALYZE, TRUNCATE FALSE)"):
    """What a psql session that changes rows and vacuums at once brings about, for certain: the
    change is counted after VACUUM's report. (Sessions report at the end of a transaction, but not
    while the next one has begun.)"""
    with contextlib.closing(site.cluster.connect(site.database)) as session:
        cursor = session.cursor()
        cursor.execute("BEGIN")
        cursor.execute(change)
        cursor.execute("COMMIT AND CHAIN")
        site.psql(f"{vacuum} {TABLE}")
        cursor.execute(site.flush())
        cursor.execute("COMMIT")
        cursor.execute("SELECT 1")


# States of the table. Each returns how many dead rows there are; None for 0.

def deleted_then_vacuumed(site):
    site.fill(sessions=40_000)
    counted_after_vacuum(site, f"DELETE FROM {TABLE} WHERE expire_date < now()")
    assert counters(site) == (0, 38_800)  # there are 1,200 live rows, and no dead one


def a_third_deleted_then_vacuumed(site):
    site.fill(sessions=40_000)
    counted_after_vacuum(site, f"DELETE FROM {TABLE} WHERE expire_date < now() - interval '487 days'")
    live, dead = counters(site)
    assert abs(live - 14_120) < 200 and abs(dead - 12_940) < 200  # live: 27,060


def deleted_then_vacuumed_not_analyzed(site):
    site.fill(sessions=40_000)
    counted_after_vacuum(site, f"DELETE FROM {TABLE} WHERE expire_date < now()",
                         "VACUUM (TRUNCATE FALSE)")
    assert counters(site) == (0, 38_800)


def all_deleted_then_vacuumed(site):
    site.fill(sessions=10_000)
    counted_after_vacuum(site, f"DELETE FROM {TABLE}")
    assert counters(site) == (0, 10_000)


def many_deleted_then_vacuumed(site):
    """Too many pages to read them all, too many live rows to count them by the index."""
    site.fill(sessions=180_000, expired_share=0.6)
    counted_after_vacuum(site, f"DELETE FROM {TABLE} WHERE expire_date < now()")
    assert counters(site)[0] == 0


def toasted_deleted_then_vacuumed(site):
    site.fill(sessions=10_000, data_bytes=3000, expired_share=0.8)
    counted_after_vacuum(site, f"DELETE FROM {TABLE} WHERE expire_date < now()")
    assert counters(site) == (0, 8000)


def inserted_then_vacuumed(site):
    site.fill(sessions=100)
    counted_after_vacuum(site, f"""INSERT INTO {TABLE} SELECT md5(i::text), repeat('x', 200),
        now() + i * interval '1 s' - interval '10000 s' FROM generate_series(1, 20000) i""")
    assert counters(site) == (40_100, 0)


def deleted_not_vacuumed(site):
    """Nothing is wrong here: the counters tell the truth, though VACUUM counted 40,000 rows."""
    site.fill(sessions=40_000)
    site.psql(f"DELETE FROM {TABLE} WHERE expire_date < now(); {site.flush()}")
    assert counters(site) == (1200, 38_800)
    return 38_800


def not_counted_for(who):
    def state(site):
        site.fill(sessions=20_000, expired_share=0.2)
        site.psql(f"ALTER {who} SET track_counts = off")
        # In the name of the owner, whom the setting is for.
        site.psql(f"DELETE FROM {TABLE} WHERE expire_date > now() + interval '1 day'", user=OWNER)
        site.psql(f"""INSERT INTO {TABLE} SELECT md5(i::text), repeat('x', 200),
            now() - i * interval '1 s' FROM generate_series(1, 30000) i""", user=OWNER)
        assert counters(site) == (20_000, 0)
        return 20_000 - 4000 - 1142
    state.__name__ = "not_counted_for_" + who.replace(" ", "_").lower()
    return state


def reset(site):
    site.fill(sessions=40_000)
    site.psql(f"DELETE FROM {TABLE} WHERE expire_date < now() - interval '10 days'; {site.flush()}")
    site.psql("SELECT pg_stat_reset()")
    assert counters(site) == (0, 0)
    return 38_273


def rewritten_not_analyzed(site):
    site.fill(sessions=40_000)
    site.psql(f"DELETE FROM {TABLE} WHERE expire_date < now(); {site.flush()}")
    site.psql(f"VACUUM FULL {TABLE}")
    assert counters(site)[1] == 38_800


# States where the statistics are older than the rows; the counters are right.

def other_rows(change, then, sessions=40_000, expired_share=0):
    def state(site):
        site.fill(sessions=sessions, expired_share=expired_share)
        site.psql(f"{change}; {site.flush()}")
        site.psql(f"{then} {TABLE}")
    state.__name__ = f"{change.split()[0]}_{then}".lower().replace(" ", "_")
    return state


THREE_QUARTERS = f"""UPDATE {TABLE} SET expire_date = now() - interval '3 days'
    WHERE hashtext(session_key) % 4 <> 0"""
PART = f"DELETE FROM {TABLE} WHERE expire_date < now() AND hashtext(session_key) % 8 <> 0"
REFILL = f"""TRUNCATE {TABLE}; INSERT INTO {TABLE} SELECT md5(i::text), repeat('x', 200),
    now() + (i - 3500) * interval '90 s' FROM generate_series(1, 7000) i"""
OUTDATED = [other_rows(THREE_QUARTERS, "VACUUM"), other_rows(THREE_QUARTERS, "VACUUM FULL"),
            other_rows(PART, "VACUUM", sessions=60_000, expired_share=0.7),
            other_rows(PART, "VACUUM", sessions=250_000, expired_share=0.7),
            other_rows(REFILL, "VACUUM FULL"), other_rows(REFILL, "VACUUM")]
OUTDATED[3].__name__ += "_of_a_large_table"

STATES = OUTDATED + [deleted_then_vacuumed, a_third_deleted_then_vacuumed, deleted_then_vacuumed_not_analyzed,
          all_deleted_then_vacuumed, many_deleted_then_vacuumed, toasted_deleted_then_vacuumed,
          inserted_then_vacuumed, deleted_not_vacuumed, not_counted_for("DATABASE site"),
          not_counted_for("ROLE django IN DATABASE site"), reset, rewritten_not_analyzed]


@pytest.fixture
def roles(site):
    """Roles from the mightiest to the least."""
    for name in ("reader", "stranger"):
        site.cluster.create_role(name)
    site.psql(f"GRANT SELECT (expire_date) ON {TABLE} TO reader")
    yield ROLES
    site.psql("DROP OWNED BY reader; DROP OWNED BY stranger")


def truth(site, dead):
    """Counted by a superuser; what is reclaimable is found out at the end, by reclaiming it."""
    live, expired = site.psql(f"""
        SELECT count(*) FILTER (WHERE expire_date >= now()),
               count(*) FILTER (WHERE expire_date < now()) FROM {TABLE}""")[0]
    return {"live": live, "expired": expired, "dead": dead or 0,
            "expired_percent": 100 * expired / max(1, live + expired)}


def given_back(site):
    before = site.sizes()["total"]
    site.psql(f"DELETE FROM {TABLE} WHERE expire_date < now()")
    site.psql(f"VACUUM (FULL, ANALYZE) {TABLE}")
    return before - site.sizes()["total"]


def is_true(metric, answer, right):
    value = answer.perfdata[metric][0]
    slack = max(0.2 * right[metric], {"reclaimable": 200_000, "expired_percent": 1}.get(metric, 50))
    if metric == "reclaimable" and "Reclaimable: at least" in answer.stdout:
        return value <= right[metric] + slack
    return abs(value - right[metric]) <= slack


def in_time(ask):
    """A reading holds its locks for half a second at most: on a busy machine it may give up, and say so."""
    answers = (ask() for _ in range(5))
    return next((answer for answer in answers if "statement timeout" not in answer.stdout), None) or ask()


@pytest.mark.some_cases(5)
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_the_check_tells_the_truth_or_that_it_is_unknown(site, cluster, run_check, roles, state):
    right = truth(site, state(site))
    answers = {role: in_time(lambda user=user: run_check("-v", *(f"-w{metric}=0:" for metric in JUDGED),
                                                         environment=cluster.environment("site", user)))
               for role, user in roles.items()}
    right["reclaimable"] = given_back(site)
    for role, answer in answers.items():
        text = f"{role}: {right}\n{answer.stdout}"
        print(text)
        for metric in JUDGED:
            if metric in answer.perfdata:
                assert is_true(metric, answer, right), f"{metric}, {text}"
            else:
                assert f"\n{metric} is unknown: " in answer.stdout, f"{metric}, {text}"
                assert answer.state == "UNKNOWN"
    for role in ("superuser", "owner", "monitor", "reader"):
        assert {"live", "expired"} <= set(answers[role].perfdata), answers[role].stdout
    # No excuse where the counters are right.
    assert state is not deleted_not_vacuumed or "dead" in answers["monitor"].perfdata
    assert not {"live", "expired", "reclaimable"} & set(answers["stranger"].perfdata)
    site.psql("ALTER ROLE django IN DATABASE site RESET ALL")


def test_statistics_that_are_too_old_are_not_believed_by_who_may_not_read(site, cluster, run_check):
    site.psql(f"REVOKE SELECT (expire_date) ON {TABLE} FROM {MONITOR}")
    site.fill(sessions=20_000, expired_share=0.2)
    before = run_check("-v", environment=cluster.environment("site", MONITOR))
    assert before.perfdata["live"][0] == pytest.approx(16_000, rel=0.05)
    site.psql(f"{THREE_QUARTERS}; {site.flush()}")
    site.psql(f"VACUUM {TABLE}")
    after = run_check("-v", environment=cluster.environment("site", MONITOR))
    assert not {"live", "expired", "reclaimable"} & set(after.perfdata), after.stdout
    assert re.search(r"1[45]\d\d\d rows have changed since the statistics were made: ANALYZE", after.stdout)


def test_a_few_expired_sessions_that_the_statistics_do_not_know_of(site, cluster, run_check):
    """Too few changes to doubt the statistics, but the index shows more than they say."""
    site.fill(sessions=60_000, expired_share=0)
    site.psql(f"""UPDATE {TABLE} SET expire_date = now() - interval '3 days'
        WHERE session_key IN (SELECT session_key FROM {TABLE} LIMIT 2900); {site.flush()}""")
    site.psql(f"VACUUM {TABLE}")
    answer = run_check("-v", environment=cluster.environment("site", MONITOR))
    assert 2000 < answer.perfdata["expired"][0] < 3500, answer.stdout


def test_the_plugin_tells_the_truth_or_nothing(site, cluster, collectd):
    deleted_then_vacuumed(site)
    daemon = collectd(plugin_block(database_block(cluster, "site")))
    daemon.wait_for_reads("django_session-site/bytes-reclaimable", 2)
    daemon.stop()
    values = daemon.values("site")
    assert values["pg_n_tup_g-live"] == 1200
    assert values["pg_n_tup_g-expired"] == 0
    assert values["percent-expired"] == 0
    assert "pg_n_tup_g-dead" not in values
    assert "don't fit the 1200 rows of the last VACUUM or ANALYZE" in daemon.log_text()
    assert values["bytes-reclaimable"] == pytest.approx(given_back(site), rel=0.2)


def test_the_plugin_follows_changes_that_no_analyze_has_seen(site, cluster, collectd):
    site.fill(sessions=40_000, expired_share=0)
    daemon = collectd(plugin_block(database_block(cluster, "site")))
    daemon.wait_for_reads("django_session-site/bytes-reclaimable", 2)
    for eighths in (1, 4):  # within the usual, and beyond it
        site.psql(f"""UPDATE {TABLE} SET expire_date = now() - interval '3 days'
            WHERE abs(hashtext(session_key) % 8) < {eighths}; {site.flush()}""")
        site.psql(f"VACUUM {TABLE}")
        expired = site.value(f"SELECT count(*) FROM {TABLE} WHERE expire_date < now()")
        wait_for(lambda: daemon.values("site")["pg_n_tup_g-expired"] == pytest.approx(expired, rel=0.03),
                 f"{expired} expired sessions")
    daemon.stop()


@pytest.mark.parametrize("method", ["delete", "full", "swap"])
def test_a_cleanup_leaves_counters_that_are_right(neglected, run_cleanup, method):
    live = neglected.value(f"SELECT count(*) FROM {TABLE} WHERE expire_date >= now()")
    result = run_cleanup("--method", method, "--no-progress", user=SWAPPER)
    assert result.word == "DONE", result
    neglected.psql("SELECT pg_sleep(1.2)")  # whatever is late would have arrived
    assert counters(neglected) == (live, 0)


@pytest.mark.parametrize("column", ["expire_date", "session_data"])
def test_a_statistics_target_of_0_is_named_and_the_advice_ends_it(site, run_check, column):
    site.psql(f"ALTER TABLE {TABLE} ALTER {column} SET STATISTICS 0")
    site.fill(sessions=20_000)
    answer = run_check("-v")
    target = next(line for line in answer.stdout.splitlines() if "statistics target is 0" in line)
    assert target.startswith(f"Next: {column}'s statistics target is 0")
    assert " -c 'ANALYZE" not in answer.stdout  # it would change nothing
    advice = answer.stdout.partition(target)[2].splitlines()[1].strip()
    check.typed(advice)
    answer = run_check("-v")
    assert "statistics target" not in answer.stdout
    assert "Reclaimable: ~" in answer.stdout, answer.stdout
