"""Names and messages in every encoding that a database can have: found, and passed on as UTF-8."""

import contextlib
import os
import re
import subprocess
import urllib.request

import psycopg2
import pytest

from collectd_daemon import database_block, plugin_block
from processes import PLAIN_ENVIRONMENT, free_port, ordinary, readable_copy, wait_for

LETTERS = "äčяğאعαไ日中한ệ"
WITHOUT_CONVERSION = {"SQL_ASCII": b"\xe4", "MULE_INTERNAL": b"\x81\xe4"}  # a LATIN1 letter


def letter_of(cluster, encoding):
    """A letter beyond ASCII that a database of that encoding can hold: text, and as stored."""
    if encoding in WITHOUT_CONVERSION:
        return None, WITHOUT_CONVERSION[encoding]
    for letter in LETTERS:
        with contextlib.suppress(psycopg2.Error):
            stored = cluster.psql(f"SELECT convert_to('{letter}', '{encoding}')")[0][0]
            return letter, bytes(stored)
    raise AssertionError(f"no letter of {LETTERS} is in {encoding}")


def execute_bytes(cluster, database, sql):
    """Statements whose names are bytes of the database's own encoding; the rows of the last."""
    with contextlib.closing(psycopg2.connect(**cluster.parameters(database),
                                             client_encoding="SQL_ASCII")) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []


def rows_as_stored(cluster, database, table):
    """The bytes of all keys and data."""
    query = b"SELECT encode(textsend(session_key), 'hex'), encode(textsend(session_data), 'hex') FROM \"%(t)s\""
    rows = execute_bytes(cluster, database, query.replace(b"%(t)s", table))
    return [tuple(bytes.fromhex(value) for value in row) for row in rows]


def make_session_table(cluster, database, letter):
    name = b"sitzung_" + letter
    execute_bytes(cluster, database, b"""
        CREATE TABLE "%(t)s" (session_key varchar(40) PRIMARY KEY, session_data text NOT NULL,
                              expire_date timestamptz NOT NULL);
        CREATE INDEX "schl_%(l)s" ON "%(t)s" (expire_date);
        INSERT INTO "%(t)s" VALUES ('k', 'd', now() - interval '1 hour');
        ANALYZE "%(t)s";
        """.replace(b"%(t)s", name).replace(b"%(l)s", letter))


def encodings_of_servers(cluster):
    """Those that CREATE DATABASE takes: it looks at the encoding before it finds the name taken."""
    for (name,) in cluster.psql(
            "SELECT pg_encoding_to_char(i) FROM generate_series(0, 60) i"):
        with pytest.raises(psycopg2.Error) as refused:
            cluster.psql(f"CREATE DATABASE postgres ENCODING '{name or 'none'}' LOCALE 'C' "
                         "TEMPLATE template0")
        if "already exists" in str(refused.value):
            yield name


@pytest.fixture(scope="module")
def databases(cluster):
    """One for each kind of encoding, with a session table: {encoding: (letter, as stored)}."""
    made = {}
    for encoding in ("LATIN1", "EUC_JP", "WIN1251", "MULE_INTERNAL", "SQL_ASCII"):
        cluster.psql(f"CREATE DATABASE enc_{encoding} ENCODING '{encoding}' LOCALE 'C' "
                     "TEMPLATE template0")
        made[encoding] = letter_of(cluster, encoding)
        make_session_table(cluster, database_of(encoding), made[encoding][1])
    return made  # they go with the server


def database_of(encoding):
    return f"enc_{encoding}".lower()


def output(program, *options, environment):
    """Exit code, and what it wrote to both outputs; which has to be UTF-8."""
    done = subprocess.run(ordinary([program, *options]), check=False, timeout=60,
                          env={**PLAIN_ENVIRONMENT, **environment}, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    return done.returncode, done.stdout.decode("utf-8", "strict")


def test_the_check_finds_and_shows_names_in_every_encoding(cluster, check_program):
    cluster.psql("CREATE DATABASE enc LOCALE 'C' TEMPLATE template0")
    seen = []
    for encoding in encodings_of_servers(cluster):
        letter, stored = letter_of(cluster, encoding)
        # To make a database for each takes a minute; the server asks this column, nothing else.
        cluster.psql(f"UPDATE pg_database SET encoding = pg_char_to_encoding('{encoding}') "
                     "WHERE datname = 'enc'")
        make_session_table(cluster, "enc", stored)
        table = "sitzung_" + letter if letter else os.fsdecode(b"sitzung_" + stored)
        code, text = output(check_program, "-v", "-T", table, environment={
            **cluster.environment("enc"), "PGCLIENTENCODING": "LATIN1"})
        assert code == 0, f"{encoding}: {text}"
        shown = letter or "?" * len(stored)
        assert f"public.sitzung_{shown} in database" in text, encoding
        assert re.search(f"^Index schl_{re.escape(shown)}: ", text, re.M), encoding
        execute_bytes(cluster, "enc", b'DROP TABLE "sitzung_' + stored + b'"')
        seen.append(encoding)
    assert len(seen) > 30 and {"UTF8", "LATIN1", "EUC_JP", "MULE_INTERNAL", "SQL_ASCII"} < set(seen)


@pytest.mark.parametrize("encoding", ["LATIN1", "EUC_JP", "WIN1251", "MULE_INTERNAL", "SQL_ASCII"])
def test_the_cleanup_finds_and_shows_names_and_changes_no_byte(databases, cluster, cleanup_program, encoding):
    letter, stored = databases[encoding]
    table = "sitzung_" + letter if letter else os.fsdecode(b"sitzung_" + stored)
    insert = (b"TRUNCATE \"sitzung_%(l)s\"; INSERT INTO \"sitzung_%(l)s\" VALUES "
              b"('key %(l)s', 'data %(l)s', now() + interval '1 hour'), ('old %(l)s', '%(l)s', now() - interval '1 hour')")
    for method in ("swap", "delete", "full"):
        possible = (method, encoding) != ("swap", "MULE_INTERNAL")
        execute_bytes(cluster, database_of(encoding), insert.replace(b"%(l)s", stored))
        for words in (["--dry-run"], ["--no-progress"]):
            code, text = output(cleanup_program, "-T", table, "--method", method, *words,
                                environment=cluster.environment(database_of(encoding)))
            if not possible:
                assert code == 3 and "encoding MULE_INTERNAL has no conversion to UTF8; use --method delete" in text
            else:
                assert code == 0, f"{encoding}: {text}"
        left = rows_as_stored(cluster, database_of(encoding), b"sitzung_" + stored)
        assert not possible or left == [(b"key " + stored, b"data " + stored)], method


def test_a_table_that_the_encoding_has_no_letter_for_is_not_there(databases, cluster, check_program):
    for encoding in ("LATIN1", "WIN1251"):
        code, text = output(check_program, "-T", "sitzung_日",
                            environment=cluster.environment(database_of(encoding)))
        assert code == 3 and "no table sitzung_日 in this database" in text, encoding
        assert r"session tables here: $'public.sitzung_\3" in text  # its bytes as they are stored


def test_every_value_of_collectd_is_utf8(databases, cluster, collectd):
    # csv, which all tests read, takes part: its files are named by the identifiers.
    port = free_port()
    blocks = [database_block(cluster, database_of(encoding), user="postgres",
                             Table="sitzung_" + letter)
              for encoding, (letter, _) in databases.items() if letter]
    daemon = collectd(f"LoadPlugin write_prometheus\n<Plugin write_prometheus>\n  Port {port}\n"
                      f"</Plugin>\n{plugin_block(*blocks)}")
    wait_for(lambda: len([name for name in daemon.values() if "/bytes-index_schl_" in name])
             == len(blocks), "a value of each database's index", timeout=60)

    def metrics():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            text = answer.read().decode("utf-8", "strict")
        return text if text.count("index_schl_") >= len(blocks) else None
    text = wait_for(metrics, "the indexes' sizes in Prometheus' form")
    for encoding, (letter, _) in databases.items():
        if letter:
            assert f"index_schl_{letter}" in text, encoding


def test_what_is_not_utf8_does_not_reach_collectd(databases, cluster, collectd):
    stored = databases["SQL_ASCII"][1]
    execute_bytes(cluster, "enc_sql_ascii", b'ALTER TABLE "sitzung_' + stored +
                  b'" RENAME TO sitzung')
    execute_bytes(cluster, "enc_sql_ascii", b"CREATE INDEX \"schl_\xf6\" ON sitzung (session_data)")
    daemon = collectd(plugin_block(database_block(cluster, "enc_sql_ascii", user="postgres",
                                                  Table="sitzung")))
    # The other letter's would be the same: ? for both.
    wait_for(lambda: len({name for name in daemon.values("enc_sql_ascii") if "index_schl_" in name}) == 2, "both indexes",
             timeout=20)
    daemon.stop()
    files = [path.name for path in daemon.folder.rglob("*")]
    for name in files:
        name.encode("utf-8", "strict")  # else it has what Python made of bytes it can't read
    daemon.log_text().encode("utf-8", "strict")
    execute_bytes(cluster, "enc_sql_ascii", b"DROP INDEX \"schl_\xf6\"; "
                  b'ALTER TABLE sitzung RENAME TO "sitzung_' + stored + b'"')


def test_a_letter_that_utf8_lacks_does_not_end_the_reading(databases, cluster, check_program):
    stored = databases["EUC_JP"][1]
    execute_bytes(cluster, "enc_euc_jp", b'CREATE INDEX "gaiji_\xf5\xa1" ON "sitzung_' + stored +
                  b'" (session_data)')
    code, text = output(check_program, "-v", "-T", "sitzung",
                        environment=cluster.environment("enc_euc_jp"))
    assert code == 3 and "no table sitzung in this database" in text, text
    execute_bytes(cluster, "enc_euc_jp", b'ALTER TABLE "sitzung_' + stored + b'" RENAME TO sitzung')
    code, text = output(check_program, "-v", "-T", "sitzung",
                        environment=cluster.environment("enc_euc_jp"))
    execute_bytes(cluster, "enc_euc_jp", b'ALTER TABLE sitzung RENAME TO "sitzung_' + stored + b'"')
    execute_bytes(cluster, "enc_euc_jp", b'DROP INDEX "gaiji_\xf5\xa1"')
    assert code == 0 and "Index gaiji_??: " in text, text


@pytest.mark.parametrize("names", [
    ("a/b", "a_b"), ("a/b/c", "a_b/c"), ("x" * 60 + "ä", "x" * 61)], ids=["one", "two", "long"])
def test_indexes_have_identifiers_of_their_own(site, cluster, collectd, names):
    for name in names:
        site.psql(f'CREATE INDEX "{name}" ON django_session (expire_date)')
    daemon = collectd(plugin_block(database_block(cluster, "site")))
    daemon.wait_for_reads("django_session-site/bytes-total", 1)
    daemon.stop()
    indexes = [name for name in daemon.values("site") if name.startswith("bytes-index_")]
    assert len(indexes) == site.value("SELECT count(*) FROM pg_index "
                                      "WHERE indrelid = 'django_session'::regclass")


def test_a_commands_output_is_passed_on_as_utf8(site, cluster, collectd, folder):
    program = folder / "noisy"
    program.write_bytes(b"#!/bin/sh\nprintf 'gel\\366scht \\303\\244\\n'\nexit 1\n")
    program = readable_copy(program, paths_of(folder))
    site.fill(sessions=100, vacuum=False)
    cleanup = f'    <Cleanup>\n      Trigger "total=0"\n      Command "{program}"\n    </Cleanup>\n'
    daemon = collectd(plugin_block(database_block(cluster, "site", inner=cleanup)))
    daemon.wait_for_log("gel.scht ä")
    daemon.stop()
    log = (daemon.folder / "collectd.log").read_bytes().decode("utf-8", "strict")
    assert "gel?scht ä" in log


def paths_of(folder):
    target = folder / "bin"
    target.mkdir()
    target.chmod(0o755)
    return target
