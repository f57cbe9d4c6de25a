"""Settings of a database or a role that change how the server writes names and times, or when it gives up."""

import signal

import pytest

from cleanup_command import CLEANER, DONE, REFUSED, STOPPED, SWAPPER
from cluster import SUPERUSER
from collectd_daemon import database_block, plugin_block
from django_site import MONITOR, OWNER, TABLE
from processes import wait_for

EXPIRED = f"SELECT count(*) FROM {TABLE} WHERE expire_date < now()"
HELPERS = "SELECT count(*) FROM pg_class WHERE relname LIKE 'djs%'"


# -- quote_all_identifiers -------------------------------------------------------------------------------


@pytest.fixture
def quoting(neglected):
    neglected.psql("ALTER DATABASE site SET quote_all_identifiers = on")
    return neglected


def test_roles_sql_may_run_again_where_every_name_is_quoted(quoting):
    before = quoting.psql("SELECT proname FROM pg_proc WHERE proname LIKE 'django%'")
    for _ in range(2):
        quoting.apply_roles(cleaner=CLEANER, swapper=SWAPPER)
    assert quoting.psql("SELECT proname FROM pg_proc WHERE proname LIKE 'django%'") == before


@pytest.mark.parametrize("user", [OWNER, CLEANER, SWAPPER, SUPERUSER])
@pytest.mark.parametrize("method", ["delete", "swap", "full"])
def test_every_method_works_where_every_name_is_quoted(quoting, run_cleanup, method, user):
    planned = run_cleanup("--dry-run", "--method", method, user=user)
    result = run_cleanup("--method", method, user=user)
    wanted = REFUSED if user == CLEANER and method != "delete" else DONE
    assert (planned.code, result.code) == (wanted, wanted), (planned, result)
    assert quoting.value(EXPIRED) == (0 if wanted == DONE else 29_100)
    assert quoting.value(HELPERS) == 0


def test_the_readings_are_the_same_where_every_name_is_quoted(neglected, run_check, collectd, cluster):
    before = run_check("-v")
    neglected.psql("ALTER DATABASE site SET quote_all_identifiers = on")
    after = run_check("-v")
    assert after.code == before.code and after.perfdata.keys() == before.perfdata.keys()
    for name in ("expired", "live", "reclaimable", "overdue"):
        assert after.perfdata[name][0] == pytest.approx(before.perfdata[name][0], rel=0.01), name
    daemon = collectd(plugin_block(database_block(cluster, "site")))
    daemon.wait_for_value("django_session-site/bool-up", lambda up: up == 1)


@pytest.mark.parametrize("options, outcome", [(("--method", "swap"), "going on with an interrupted swap"),
                                              (("--abort",), "removed what an interrupted cleanup had left")])
def test_an_interrupted_swap_is_known_where_every_name_is_quoted(neglected, start_cleanup, run_cleanup, options, outcome):
    """By whoever comes next, with other settings than the run that was interrupted had."""
    with neglected.cluster.locked("site", mode="ROW SHARE"):  # in the way of the exchange alone
        cleanup = start_cleanup("--method", "swap", user=SWAPPER)
        wait_for(lambda: neglected.value("SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid "
                                         "WHERE c.relname ~ '^djs_[0-9]+_new$'") == 3, "its copy")
        cleanup.send(signal.SIGTERM)
        assert cleanup.result().code == STOPPED
    neglected.psql("ALTER DATABASE site SET quote_all_identifiers = on")
    result = run_cleanup(*options, user=SWAPPER)
    assert result.code == DONE and outcome in result.stderr + result.stdout, result
    assert "anew" not in result.stderr and neglected.value(HELPERS) == 0
