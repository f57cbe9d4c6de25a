"""What each reading asks is planned once: prepared over the plugin's own connection, never behind a pooler, and not to be
replaced by code of the table's owner, which may run in that session."""

import re

import pytest

from collectd_daemon import database_block, plugin_block
from django_site import MONITOR, OWNER, TABLE
from processes import wait_for

READ = "django_session-site/response_time-read"
UP = "django_session-site/bool-up"
TOTAL = "django_session-site/bytes-total"
EXPIRED = "django_session-site/pg_n_tup_g-expired"

pytestmark = pytest.mark.sanitizers

# Of the table's owner, who may write what he likes into it.
FUNCTION = """
DROP FUNCTION public.django_session_statistics;
CREATE FUNCTION public.django_session_statistics(regclass)
  RETURNS TABLE (column_name name, average_width int4, null_fraction float4, n_distinct float4,
                 common_values numeric[], common_frequencies float4[], histogram numeric[])
  LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN {body} RETURN; END $$;
ALTER FUNCTION public.django_session_statistics OWNER TO {owner};
GRANT EXECUTE ON FUNCTION public.django_session_statistics TO {monitor}
"""
FORGET = "RAISE LOG 'gone'; EXECUTE 'DEALLOCATE ALL';"
REPLACE = """
  DECLARE prepared text;
  BEGIN
    FOR prepared IN SELECT p.name FROM pg_prepared_statements p WHERE p.name LIKE 'djs%' LOOP
      RAISE LOG 'gone: %', prepared;
      EXECUTE 'DEALLOCATE ' || prepared;
      EXECUTE 'PREPARE ' || prepared || ' AS SELECT public.as_whoever_reads() AS is_harmless';
    END LOOP;
  END;
"""
AS_WHOEVER_READS = """
CREATE FUNCTION public.as_whoever_reads() RETURNS bool LANGUAGE plpgsql AS
  $$ BEGIN RAISE LOG 'ran for %', session_user; RETURN true; END $$
"""


def readings(cluster, since):
    """What was sent, without what the server says of each."""
    return [message.partition(" DETAIL:  ")[0] for message in cluster.log_text(since).split("LOG:  statement: ")[1:]]


@pytest.fixture
def read(collectd, cluster, site):
    """A collectd that has read a site of 5,000 sessions some times."""
    site.fill(sessions=5000)
    daemon = collectd(plugin_block(database_block(cluster, "site")), interval=0.2)
    daemon.wait_for_reads(READ, 6)
    return daemon


def reads_on(daemon, site, count=5):
    daemon.wait_for_reads(READ, count)
    assert {up for _, up in daemon.history()[UP]} == {1}, daemon.log_text()
    assert daemon.values()[TOTAL] == site.sizes()["total"]
    assert "[error]" not in daemon.log_text()


def test_what_each_reading_asks_is_planned_once(read, cluster, site):
    mark = cluster.log_mark()
    reads_on(read, site)
    sent = [message for message in readings(cluster, mark) if "EXECUTE djs_" in message]
    assert len(sent) > 3
    for message in sent:
        assert len(re.findall("EXECUTE djs_", message)) >= 4
        assert "pg_shdepend" not in message and "pg_stat_get_live_tuples" not in message, message


def test_nothing_is_prepared_behind_a_pooler(collectd, cluster, pgbouncer, site):
    site.fill(sessions=5000)
    mark = cluster.log_mark()
    daemon = collectd(plugin_block(
        f'<Database "site">\nHost "127.0.0.1"\nPort {pgbouncer.port}\nUser "{MONITOR}"\n</Database>\n'), interval=0.2)
    reads_on(daemon, site, 8)
    assert "PREPARE" not in cluster.log_text(mark)


@pytest.mark.parametrize("change", [
    f"ALTER TABLE {TABLE} RENAME TO old; ALTER TABLE copy RENAME TO django_session",
    f"ALTER TABLE {TABLE} ALTER expire_date TYPE timestamp",
    f"CREATE INDEX another ON {TABLE} (expire_date, session_key)",
    f"VACUUM FULL {TABLE}", f"TRUNCATE {TABLE}", f"ANALYZE {TABLE}"], ids=lambda sql: sql.split(";")[0])
def test_a_change_of_the_table_is_seen_at_the_next_reading(read, cluster, site, change):
    site.psql(f"CREATE TABLE copy (LIKE {TABLE} INCLUDING ALL); GRANT SELECT (expire_date) ON copy TO {MONITOR}")
    site.psql(change)  # one transaction: a reading between two renames would find no table
    site.psql(f"GRANT SELECT (expire_date) ON {TABLE} TO {MONITOR}")
    total = site.sizes()["total"]
    read.wait_for_value(TOTAL, lambda value: value == total)
    reads_on(read, site)


@pytest.mark.parametrize("body", [FORGET, REPLACE], ids=["forget", "replace"])
def test_the_owner_can_not_replace_what_is_prepared(read, cluster, site, body):
    """It would run with the rights of whoever reads, later on as well, when that may be more than his."""
    mark = cluster.log_mark()
    site.psql(AS_WHOEVER_READS)
    site.psql(FUNCTION.format(body=body, owner=OWNER, monitor=MONITOR))
    site.psql(f"ANALYZE {TABLE}")
    wait_for(lambda: "LOG:  gone" in cluster.log_text(mark), "the function's call")
    reads_on(read, site)
    assert "LOG:  ran for" not in cluster.log_text(mark)
    assert not [message for message in readings(cluster, mark)[-5:] if "EXECUTE djs_" in message]
