"""What the plugin reports against SQL's truth: sizes, sessions, and what a cleanup gives back."""

import contextlib
import select
import socket
import struct
import time

import pytest

from collectd_daemon import database_block, plugin_block
from django_site import TABLE


@pytest.fixture
def measure(collectd, cluster):
    """The values of one reading or more, by type-instance, as a real collectd wrote them."""
    def run(readings=1, **options):
        daemon = collectd(plugin_block(database_block(cluster, "site", **options)))
        daemon.wait_for_reads("django_session-site/response_time-read", readings)
        daemon.stop()
        return daemon.values("site")
    return run


def clean_up_completely(site):
    """The bytes that the disk gets back from deleting all expired sessions and rewriting all files."""
    before = site.sizes()["total"]
    site.psql(f"DELETE FROM {TABLE} WHERE expire_date < now()")
    site.psql(f"VACUUM (FULL, ANALYZE) {TABLE}")
    return before - site.sizes()["total"]


def sessions(site):
    """Counted: live, expired."""
    return site.psql(f"""SELECT count(*) FILTER (WHERE expire_date >= now()),
                                count(*) FILTER (WHERE expire_date < now()) FROM {TABLE}""")[0]


def test_sizes_are_exact(site, measure):
    site.fill(sessions=30_000, data_bytes=(100, 3000))
    values = measure()
    sizes = site.sizes()
    for name in ("table", "toast", "indexes", "total"):
        assert values[f"bytes-{name}"] == sizes[name]
    assert values["pg_db_size"] == pytest.approx(sizes["database"], rel=0.001)
    assert values["percent-database"] == pytest.approx(100 * sizes["total"] / sizes["database"], rel=0.01)
    for index, size in site.psql(f"""SELECT indexrelid::regclass::text, pg_table_size(indexrelid)
                                     FROM pg_index WHERE indrelid = '{TABLE}'::regclass"""):
        assert values[f"bytes-index_{index}"] == size


def test_a_million_sessions_are_estimated_within_two_percent(site, measure):
    site.fill(sessions=1_000_000)
    values = measure(readings=2)
    live, expired = sessions(site)
    assert values["pg_n_tup_g-live"] == pytest.approx(live, rel=0.02)
    assert values["pg_n_tup_g-expired"] == pytest.approx(expired, rel=0.02)
    assert values["percent-expired"] == pytest.approx(97, rel=0.02)
    assert values["duration-overdue"] == pytest.approx(730 * 86400, rel=0.001)


def test_a_timestamp_without_time_zone_is_local_time(site, measure):
    site.psql("ALTER DATABASE site SET timezone = 'Asia/Tokyo'")
    site.psql(f"ALTER TABLE {TABLE} ALTER expire_date TYPE timestamp")
    site.fill(sessions=3000)
    values = measure()
    overdue = site.value(f"SELECT extract(epoch FROM now() - min(expire_date)) FROM {TABLE}")
    assert values["duration-overdue"] == pytest.approx(float(overdue), abs=10)
    assert (values["pg_n_tup_g-live"], values["pg_n_tup_g-expired"]) == (90, 2910)


def test_exact_counts(site, measure):
    site.fill(sessions=30_000, vacuum=False)
    values = measure(Exact=True)
    assert (values["pg_n_tup_g-live"], values["pg_n_tup_g-expired"]) == (900, 29_100)


def expired_not_deleted(site):
    site.fill(sessions=200_000)


def deleted_but_not_compacted(site):
    site.fill(sessions=200_000)
    site.psql(f"DELETE FROM {TABLE} WHERE expire_date < now()")
    site.psql(f"VACUUM (ANALYZE) {TABLE}")


def healthy(site):
    site.fill(sessions=200_000, expired_share=0.01)


def deleted_not_vacuumed(site):
    site.fill(sessions=200_000)
    site.psql(f"DELETE FROM {TABLE} WHERE expire_date < now(); {site.flush()}")


def in_toast(site):
    site.fill(sessions=15_000, data_bytes=3000)


def in_toast_deleted(site):
    site.fill(sessions=15_000, data_bytes=3000)
    site.psql(f"DELETE FROM {TABLE} WHERE expire_date < now()")
    site.psql(f"VACUUM (ANALYZE) {TABLE}")


def various_widths(site):
    site.fill(sessions=60_000, data_bytes=(50, 1500), expired_share=0.6)
    site.psql(f"DELETE FROM {TABLE} WHERE expire_date < now() - interval '300 days'")
    site.psql(f"VACUUM (ANALYZE) {TABLE}")


@pytest.mark.some_cases(3)
@pytest.mark.parametrize("state", [
    expired_not_deleted, deleted_but_not_compacted, healthy, deleted_not_vacuumed, in_toast,
    in_toast_deleted, various_widths], ids=lambda state: state.__name__)
def test_reclaimable_is_what_a_complete_cleanup_gives_back(site, measure, state, record_property):
    state(site)
    reported = measure(readings=2)["bytes-reclaimable"]
    given_back = clean_up_completely(site)
    record_property("reported", reported)
    record_property("given_back", given_back)
    print(f"{state.__name__}: reported {reported:.0f}, given back {given_back}, "
          f"{100 * (reported / given_back - 1):+.1f} %")
    assert reported == pytest.approx(given_back, rel=0.15)


def test_nothing_is_reclaimable_after_the_cleanup(site, measure):
    site.fill(sessions=100_000)
    clean_up_completely(site)
    assert measure()["bytes-reclaimable"] < 0.02 * site.sizes()["total"] + 65536


@pytest.mark.parametrize("rows", [0, 1])
def test_tiny_tables_are_known_without_statistics(site, measure, rows):
    if rows:
        site.psql(f"INSERT INTO {TABLE} VALUES ('k', 'd', now() - interval '1 hour')")
    values = measure()
    assert values["pg_n_tup_g-live"] == 0
    assert values["pg_n_tup_g-expired"] == rows
    assert values["duration-overdue"] == pytest.approx(3600 * rows, abs=20)


def test_unknown_values_are_not_sent(site, measure):
    site.fill(sessions=200_000, expired_share=0.5, vacuum=False)  # too many to count, no statistics
    values = measure()
    assert values["bytes-total"] == site.sizes()["total"]
    for name in ("pg_n_tup_g-live", "pg_n_tup_g-expired", "bytes-reclaimable", "percent-expired"):
        assert name not in values


def test_statistics_survive_a_partial_deletion(site, measure):
    site.fill(sessions=200_000)
    site.psql(f"DELETE FROM {TABLE} WHERE expire_date < now() - interval '365 days'")
    site.psql("SELECT pg_sleep(1)")
    values = measure(readings=3)
    live, expired = sessions(site)
    assert values["pg_n_tup_g-live"] == pytest.approx(live, rel=0.02)
    assert values["pg_n_tup_g-expired"] == pytest.approx(expired, rel=0.02)


def test_custom_session_models_are_measured(site, measure):
    site.psql("""CREATE SCHEMA accounts AUTHORIZATION django;
        CREATE TABLE accounts."Custom.Session" (id bigint, session_key varchar(40) PRIMARY KEY,
          session_data text NOT NULL, expire_date timestamptz NOT NULL, user_id int, agent text);
        ALTER TABLE accounts."Custom.Session" OWNER TO django;
        CREATE INDEX ON accounts."Custom.Session" (user_id);
        CREATE INDEX "odd ""index""/name" ON accounts."Custom.Session" (expire_date)""")
    site.fill(sessions=20_000, table='accounts."Custom.Session"')
    site.apply_roles(table='accounts."Custom.Session"')
    values = measure(Table='accounts.\\"Custom.Session\\"')
    assert values["bytes-total"] == site.sizes('accounts."Custom.Session"')["total"]
    assert values["pg_n_tup_g-expired"] == pytest.approx(19_400, rel=0.02)
    assert values['bytes-index_odd "index"_name'] > 0


def test_a_reading_is_one_round_trip_and_never_scans(site, collectd, cluster):
    site.fill(sessions=50_000)
    daemon = collectd(plugin_block(database_block(cluster, "site")))
    daemon.wait_for_reads("django_session-site/response_time-read", 6)  # definition, calibration, preparation
    mark = cluster.log_mark()
    scans = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'django_session'"
    before = site.value(scans)
    daemon.wait_for_reads("django_session-site/response_time-read", 4)
    daemon.stop()
    messages = cluster.statements(mark, application="django_session")
    assert 4 <= len(messages) <= 5
    assert site.value(scans) == before


def test_the_server_sends_what_comes_before_the_filler(site, cluster):
    """The layout of the message relies on it: pg_database_size comes last and may take long."""
    with contextlib.closing(socket.create_connection(("127.0.0.1", cluster.port))) as client:
        parameters = b"user\0postgres\0database\0site\0\0"
        client.sendall(struct.pack("!ii", len(parameters) + 8, 196608) + parameters)
        while select.select([client], [], [], 0.5)[0]:
            client.recv(65536)
        query = b"SELECT 1234; SELECT repeat(' ', 8192); SELECT pg_sleep(1.5)\0"
        client.sendall(b"Q" + struct.pack("!i", len(query) + 4) + query)
        start = time.monotonic()
        assert b"1234" in client.recv(64)
        assert time.monotonic() - start < 1


def test_the_databases_own_isolation_level_hides_no_size(site, measure):
    site.psql("ALTER DATABASE site SET default_transaction_isolation = 'repeatable read'")
    assert measure()["pg_db_size"] == pytest.approx(site.sizes()["database"], rel=0.01)
