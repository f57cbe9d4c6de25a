"""The plan: what --dry-run foresees is what the run then does."""

import re

import pytest

from cleanup_command import CLEANER, DONE, STOPPED, SWAPPER
from cluster import SUPERUSER
from django_site import OWNER, TABLE
from processes import wait_for

UNITS = {"bytes": 1, "kB": 1024, "MB": 1024**2, "GB": 1024**3}


class Plan:
    """A dry run, taken apart."""

    def __init__(self, result):
        self.result = result
        self.text = result.stdout
        self.lines = dict(re.findall(r"^  (\w+) +(.*)$", self.text, re.M))

    @property
    def method(self):
        return self.lines["method"].partition(":")[0]

    @property
    def after(self):
        number, unit = re.search(r"about ([\d.]+) (\w+) afterwards", self.lines["size"]).groups()
        return float(number) * UNITS[unit]


@pytest.fixture
def plan(run_cleanup):
    return lambda *options, user=SWAPPER: Plan(run_cleanup("--dry-run", *options, user=user))


# -- sizes and rows --------------------------------------------------------------------------------------


def untouched(site):
    site.fill(sessions=30_000)


def expired_came_later(site):
    """After the last ANALYZE."""
    site.fill(sessions=9_000, expired_share=0.1)
    site.fill(sessions=40_000, expired_share=1, vacuum=False)


def live_came_later(site):
    site.fill(sessions=20_000)
    site.fill(sessions=30_000, expired_share=0, vacuum=False)


def in_toast(site):
    site.fill(sessions=4_000, expired_share=0.7, data_bytes=(2_500, 12_000))


def with_many_indexes(site):
    for number in range(6):
        site.psql(f"CREATE INDEX ON {TABLE} (expire_date, session_key)")
    site.fill(sessions=20_000, expired_share=0.8)


def with_a_fillfactor(site):
    site.psql(f"ALTER TABLE {TABLE} SET (fillfactor = 50)")
    site.fill(sessions=20_000, expired_share=0.6)


def cleaned_but_not_compacted(site):
    site.fill(sessions=60_000)
    site.psql(f"DELETE FROM {TABLE} WHERE expire_date < now(); SELECT pg_stat_force_next_flush()")
    site.psql(f"VACUUM (ANALYZE) {TABLE}")


STATES = [untouched, expired_came_later, live_came_later, in_toast, with_many_indexes, with_a_fillfactor,
          cleaned_but_not_compacted]


@pytest.mark.parametrize("options", [("swap",), ("swap", "--keep", "400d"), ("full",), ("delete",)], ids=" ".join)
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_the_size_afterwards_is_foreseen(cleaned_site, plan, run_cleanup, state, options):
    state(cleaned_site)
    planned = plan("--method", *options)
    result = run_cleanup("--method", *options, user=SWAPPER)
    assert (planned.result.code, result.code) == (DONE, DONE), (planned.text, result)
    assert planned.after == pytest.approx(cleaned_site.sizes()["total"], rel=0.2), planned.text


@pytest.mark.parametrize("user", [SWAPPER, OWNER, SUPERUSER, CLEANER])
def test_what_stays_is_counted(cleaned_site, plan, user):
    expired_came_later(cleaned_site)
    assert plan(user=user).lines["sessions"] == "40.9k expired, 8.1k live"
    kept = cleaned_site.value(f"SELECT count(*) FROM {TABLE} WHERE expire_date > now() - interval '400 days'")
    planned = plan("--keep", "400d", user=user)
    assert f"{kept / 1000:.1f}k others" in planned.lines["sessions"], planned.text


def test_to_count_changes_nothing(neglected, plan):
    state = "SELECT (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_proc), (SELECT count(*) FROM pg_depend)"
    before = neglected.psql(state)
    for user in (SWAPPER, SUPERUSER, CLEANER):
        assert plan(user=user).result.code == DONE
    assert neglected.psql(state) == before


def test_nothing_to_do_is_said(cleaned_site, plan):
    cleaned_site.fill(sessions=1000, expired_share=0)
    planned = plan("--method", "delete")
    assert planned.lines["method"] == "delete: nothing to do: no session has expired", planned.text
    assert planned.lines["needs"] == "nothing"


# -- what auto chooses -----------------------------------------------------------------------------------


def test_a_table_that_was_cleaned_but_not_compacted_is_swapped(cleaned_site, plan, run_cleanup):
    cleaned_site.fill(sessions=20_000, data_bytes=4_500)
    cleaned_site.psql(f"DELETE FROM {TABLE} WHERE expire_date < now(); SELECT pg_stat_force_next_flush()")
    cleaned_site.psql(f"VACUUM (ANALYZE) {TABLE}")
    planned = plan()
    assert planned.method == "swap" and planned.lines["sessions"] == "0 expired, 600 live", planned.text
    result = run_cleanup(user=SWAPPER)
    assert result.code == DONE and result.message.startswith("swap: "), result
    assert cleaned_site.sizes()["total"] < 8 * UNITS["MB"]


def test_a_role_that_may_not_give_back_promises_nothing(neglected, plan):
    planned = plan("--method", "delete", user=CLEANER)
    if neglected.value("SELECT current_setting('server_version_num')::int") < 170000:
        assert planned.after == pytest.approx(neglected.sizes()["total"], rel=0.01), planned.text
        assert "may neither VACUUM nor REINDEX" in planned.lines["note"]
    else:
        assert planned.after < neglected.sizes()["total"]


def test_an_interrupted_swap_is_gone_on_with(neglected, start_cleanup, plan, run_cleanup):
    copied = "SELECT count(*) FROM pg_class WHERE relname ~ '^djs_[0-9]+_new$'"
    with neglected.cluster.locked("site", mode="ROW SHARE"):  # in the way of the exchange alone
        cleanup = start_cleanup("--method", "swap", user=SWAPPER)
        wait_for(lambda: neglected.value("SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid "
                                         "WHERE c.relname ~ '^djs_[0-9]+_new$'") == 3, "its copy")
        cleanup.send(15)
        assert cleanup.result().code == STOPPED
    assert neglected.value(copied) == 1
    assert plan().lines["method"] == "swap: goes on with the swap that was interrupted"
    assert plan("--method", "delete").method == "delete"
    result = run_cleanup(user=SWAPPER)
    assert result.code == DONE and result.message.startswith("swap: "), result
    assert "going on with an interrupted swap" in result.stderr
    assert neglected.value(copied) == 0


# -- one connection --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["delete", "swap"])
def test_one_connection_is_enough(neglected, run_cleanup, plan, method):
    neglected.psql(f"ALTER ROLE {SWAPPER} CONNECTION LIMIT 1")
    try:
        assert plan("--method", method).result.code == DONE
        result = run_cleanup("--method", method, user=SWAPPER)
    finally:
        neglected.psql(f"ALTER ROLE {SWAPPER} CONNECTION LIMIT -1")
    assert result.code == DONE, result
