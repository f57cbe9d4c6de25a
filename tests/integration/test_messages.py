"""Every message that we send, filled in and run by every version of the server."""

import re
import subprocess

import pytest

import paths
from cleanup_command import DONE, Cleanup
from cluster import SUPERUSER
from conftest import VERSIONS
from django_site import OWNER

PRINTER = paths.BUILD / "tests" / "unit" / "print_messages"
HEADERS = ["cleanup/swap_sql.hpp", "measure/question.hpp", "measure/leftovers.hpp"]
DATABASE = "messages"
OIDS = """SELECT c.oid, c.reltoastrelid, (SELECT min(i.indexrelid::bigint) FROM pg_index i WHERE i.indrelid = c.oid)
FROM pg_class c WHERE c.oid = 'public.django_session'::regclass"""

# What becomes of a swap that isn't finished.
AFTER_A_STOP = ["reported_sql", "disable_sql", "remove_triggers_sql", "remove_sql guarded", "remove_sql"]


class Table:
    """A session table on a server of its own version, and the messages about it as it is now."""

    def __init__(self, server):
        self.server = server
        server.create_role(OWNER)
        server.drop_database(DATABASE)
        server.create_database(DATABASE, OWNER)
        self.run("""CREATE TABLE public.django_session (session_key varchar(40) PRIMARY KEY, session_data text NOT NULL,
              expire_date timestamptz NOT NULL);
            CREATE INDEX ON public.django_session (session_key varchar_pattern_ops);
            CREATE INDEX ON public.django_session (expire_date);
            INSERT INTO public.django_session
            SELECT md5(i::text), 'data', now() + i * interval '1 hour' FROM generate_series(-200, 100) i""")

    def run(self, sql):
        return self.server.psql(sql, DATABASE, OWNER)

    def messages(self):
        oids = [str(oid) for oid in self.run(OIDS)[0]]
        words = subprocess.run([PRINTER, *oids, OWNER], check=True, capture_output=True, text=True).stdout.split("\0")
        return dict(zip(words[0:-1:2], words[1::2]))

    def change(self):
        """So that there is something in the log."""
        self.run("UPDATE public.django_session SET session_data = 'other' WHERE session_key = md5('7')")

    def helpers(self):
        return self.run("SELECT relname FROM pg_class WHERE relname LIKE 'djs\\_%'")

    def keys(self):
        return self.run("SELECT count(*) FROM public.django_session")[0][0]


@pytest.fixture(params=VERSIONS)
def table(request, cluster_of_version):
    return Table(cluster_of_version(request.param))


def run_in_order(table, leaving_out=()):
    """As a swap sends them; in the end table.messages() are others."""
    for name, sql in table.messages().items():
        if name in leaving_out:
            continue
        table.run(sql)
        if name == "create_triggers_sql":
            table.change()


def test_each_message_of_a_swap_runs(table):
    run_in_order(table, leaving_out=AFTER_A_STOP)
    assert table.keys() == 100
    table.run(table.messages()["remove_sql"])
    assert not table.helpers()


def test_each_message_of_a_swap_that_is_given_up_runs(table):
    run_in_order(table, leaving_out=["exchange_sql", "reported_sql"])
    assert table.keys() == 301
    assert not table.helpers()


def test_none_is_forgotten():
    printer = (paths.ROOT / "tests/unit/print_messages.cpp").read_text()
    for header in HEADERS:
        names = re.findall(r"^std::string (\w+_(?:sql|query|message|statistics))\(", (paths.ROOT / "lib" / header).read_text(), re.M)
        assert names and not [name for name in names if f"{name}(" not in printer], header


def longest_part(path):
    """Of those that the server's log shows as they are: nothing is filled in, no quote is doubled."""
    return max(re.split(r"[{}'\\\n]", re.sub(r"\A(--[^\n]*\n)+", "", path.read_text())), key=len)


def test_each_sql_file_is_run(table, cleanup_program):
    mark = table.server.log_mark()
    run_in_order(table, leaving_out=["exchange_sql"])
    # Only a superuser sees where the server's folders are.
    for user, *options in ((SUPERUSER, "--dry-run"), (OWNER, "--method", "delete"), (OWNER, "--method", "swap")):
        result = Cleanup(cleanup_program, *options, environment=table.server.environment(DATABASE, user)).result()
        assert result.code == DONE, result
    log = table.server.log_text(mark)
    assert not [path.name for path in sorted(paths.ROOT.glob("lib/*/sql/*.sql")) if longest_part(path) not in log]
