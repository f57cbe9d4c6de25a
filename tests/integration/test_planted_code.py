"""Nothing that a stranger has planted in a schema is taken for the system's, by any statement of ours, on any version.

He has CREATE on `public`, which comes first in everybody's search_path here, and plants a twin of all that pg_catalog has:
see planted_code.py. The server's log says when a twin is called; one that gives another type makes our statement fail, and
so the program.
"""

import contextlib

import pytest

import planted_code
from check import run_check
from cleanup_command import CLEANER, DONE, SWAPPER, Cleanup
from collectd_daemon import database_block, plugin_block
from conftest import VERSIONS
from django_site import MONITOR, OWNER
from paths import ROLES_SQL
from processes import wait_for

DATABASE = "planted"
STRANGER = "stranger"
ADMIN = "admin"  # a superuser

TABLE = """
CREATE TABLE public.django_session (session_key varchar(40) NOT NULL PRIMARY KEY, session_data text NOT NULL,
  expire_date timestamp with time zone NOT NULL);
CREATE INDEX django_session_key_like ON public.django_session (session_key varchar_pattern_ops);
CREATE INDEX django_session_expire_date ON public.django_session (expire_date)
"""
FILL = """
INSERT INTO public.django_session SELECT md5(i::text || clock_timestamp()::text), repeat('x', 200),
  now() + (i - 900) * interval '1 hour' FROM generate_series(1, 1000) i
"""


class Planted:
    """A database with a stranger's twins; the tests' own statements look into pg_catalog alone."""

    def __init__(self, cluster):
        self.cluster = cluster
        for role, attributes in ((OWNER, "LOGIN"), (STRANGER, "LOGIN"), (ADMIN, "SUPERUSER LOGIN")):
            cluster.create_role(role, attributes)
        cluster.create_database(DATABASE, OWNER)
        self.psql(f"GRANT CREATE ON SCHEMA public TO {STRANGER}, {OWNER}")
        self.psql(TABLE, OWNER)
        for step in planted_code.STEPS:
            self.psql(step, STRANGER)
        self.psql(f"ALTER DATABASE {DATABASE} SET search_path = public, pg_catalog")

    def psql(self, sql, user="postgres"):
        with contextlib.closing(self.cluster.connect(DATABASE, user)) as connection:
            cursor = connection.cursor()
            cursor.execute("SET search_path = pg_catalog")
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def fill(self):
        """900 expired sessions more, and 100 live ones."""
        self.psql(FILL)
        self.psql("VACUUM (ANALYZE) public.django_session")

    def count(self, catalogue, column):
        return self.psql(f"SELECT count(*) FROM {catalogue} WHERE {column} = 'public'::regnamespace")[0][0]

    def environment(self, user):
        return self.cluster.environment(DATABASE, user)

    def called(self, since):
        """What twins were called, for whom."""
        return {line.partition("planted: ")[2] for line in self.cluster.log_text(since).splitlines()
                if "LOG:  planted: " in line}


@pytest.fixture
def planted(request, cluster_of_version):
    server = cluster_of_version(request.param)
    yield Planted(server)
    server.drop_database(DATABASE)


@pytest.mark.some_cases(5)
@pytest.mark.parametrize("planted", VERSIONS, indirect=True)
def test_nothing_that_is_planted_is_called(planted, check_program, cleanup_program, collectd):
    assert planted.count("pg_proc", "pronamespace") > 8_000
    assert planted.count("pg_operator", "oprnamespace") > 4_000
    assert planted.count("pg_class", "relnamespace") > 130 and planted.count("pg_type", "typnamespace") > 60
    mark = planted.cluster.log_mark()
    planted.cluster.psql("SELECT 1::oid = 2::oid, pg_table_size('django_session'), count(*) FROM pg_am", DATABASE)
    assert len(planted.called(mark)) >= 3, "whoever does nothing against it calls them"

    def clean(user, *options):
        planted.fill()
        result = Cleanup(cleanup_program, *options, environment=planted.environment(user)).result()
        assert result.code == DONE, result

    def check(user):
        for options in (["-v"], ["--exact"], ["-T", "public.django_session"]):
            answer = run_check(check_program, *options, "-c", "overdue=9999d", environment=planted.environment(user))
            assert answer.state == "OK" and "live" in answer.perfdata, answer

    def read():
        daemon = collectd(plugin_block(database_block(planted.cluster, DATABASE, Table="django_session")))
        daemon.wait_for_reads(f"django_session-{DATABASE}/bool-up", 2)
        assert daemon.values()[f"django_session-{DATABASE}/pg_n_tup_g-expired"] >= 900
        daemon.stop()

    def interrupted_swap():
        planted.fill()
        with planted.cluster.locked(DATABASE, mode="ACCESS SHARE"):
            run = Cleanup(cleanup_program, "--method", "swap", environment=planted.environment(SWAPPER))
            wait_for(lambda: planted.psql(r"SELECT 1 FROM pg_trigger WHERE tgname LIKE 'djs\_%'"), "the swap's triggers")
            run.send(9)
        with contextlib.suppress(AssertionError):
            run.result()
        clean(SWAPPER, "--abort")

    def roles():
        planted.cluster.run_file(ROLES_SQL, DATABASE, ADMIN, table="django_session", cleaner=CLEANER, swapper=SWAPPER)

    steps = {
        "roles.sql": roles, "roles.sql again": roles,
        **{f"check as {user}": lambda user=user: check(user) for user in (MONITOR, OWNER, ADMIN)},
        "plugin": read,
        **{f"plan as {user}": lambda user=user: clean(user, "--dry-run", "-v") for user in (CLEANER, SWAPPER, ADMIN)},
        **{f"{method} as {user}": lambda user=user, method=method: clean(user, "--method", method)
           for user, method in ((CLEANER, "delete"), (ADMIN, "delete"), (SWAPPER, "swap"), (ADMIN, "swap"), (OWNER, "full"))},
        "interrupted swap": interrupted_swap,
    }
    planted.fill()
    called = {}
    for name, step in steps.items():
        mark = planted.cluster.log_mark()
        step()
        if planted.called(mark):
            called[name] = planted.called(mark)
    assert not called
