"""Figures where the server's own counters don't fit the table: the truth, or unknown with a reason."""

import pytest

from cleanup_command import SWAPPER
from django_site import TABLE


def counters(site):
    """What the cumulative statistics believe: live, dead."""
    return site.psql("SELECT n_live_tup, n_dead_tup FROM pg_stat_user_tables "
                     "WHERE relname = 'django_session'")[0]


@pytest.mark.parametrize("method", ["delete", "full", "swap"])
def test_a_cleanup_leaves_counters_that_are_right(neglected, run_cleanup, method):
    live = neglected.value(f"SELECT count(*) FROM {TABLE} WHERE expire_date >= now()")
    result = run_cleanup("--method", method, "--no-progress", user=SWAPPER)
    assert result.word == "DONE", result
    neglected.psql("SELECT pg_sleep(1.2)")  # whatever is late would have arrived
    assert counters(neglected) == (live, 0)
