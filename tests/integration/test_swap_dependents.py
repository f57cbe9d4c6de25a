"""Whoever may make a view can make one that reads a swap's helpers, without any right on them, and so keep them from being
dropped. His view stays and is named; the triggers go, nothing takes room, and neither the next cleanup nor --abort is stopped."""

import contextlib
import itertools
import re
import signal

import psycopg2
import pytest

from cleanup_command import DONE, STOPPED, SWAPPER
from cluster import SUPERUSER
from django_site import OWNER, TABLE
from conftest import cases
from gate import BEFORE_A_DRAIN, Gate
from processes import wait_for
from test_swap import helpers, live, oid

STRANGER = "view_maker"

# What can depend on a relation, {it}; {n} is a number of its own.
ON_RELATION = {
    "default value": "CREATE TABLE theirs.t{n} (a regclass DEFAULT '{it}'::regclass)",
    "generated column": "CREATE TABLE theirs.t{n} (a oid GENERATED ALWAYS AS (('{it}'::regclass)::oid) STORED, b int)",
    "CHECK": "CREATE TABLE theirs.t{n} (a regclass CHECK (a <> '{it}'::regclass))",
    "index": "CREATE TABLE theirs.t{n} (a regclass); CREATE INDEX i{n} ON theirs.t{n} ((a = '{it}'::regclass))",
    "statistics": "CREATE TABLE theirs.t{n} (a regclass, b int); "
                  "CREATE STATISTICS theirs.s{n} ON (a = '{it}'::regclass), b FROM theirs.t{n}",
    "partition key": "CREATE TABLE theirs.t{n} (a regclass) PARTITION BY LIST ((a = '{it}'::regclass))",
    "domain constraint": "CREATE DOMAIN theirs.d{n} AS regclass CHECK (VALUE <> '{it}'::regclass)",
    "default of an argument": "CREATE FUNCTION theirs.f{n}(a regclass DEFAULT '{it}'::regclass) RETURNS int LANGUAGE sql "
                              "AS 'SELECT 1'",
    "trigger": "CREATE FUNCTION theirs.f{n}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; "
               "CREATE TABLE theirs.t{n} (a regclass); CREATE TRIGGER g AFTER INSERT ON theirs.t{n} FOR EACH ROW "
               "WHEN (NEW.a <> '{it}'::regclass) EXECUTE FUNCTION theirs.f{n}()",
}
# On what can be read.
ON_READABLE = {
    "view": "CREATE VIEW theirs.v{n} AS SELECT FROM {it}",
    "temporary view": "CREATE TEMP VIEW v{n} AS SELECT FROM {it}",
    "materialized view": "CREATE MATERIALIZED VIEW theirs.v{n} AS SELECT FROM {it} WITH NO DATA",
    "function": "CREATE FUNCTION theirs.f{n}() RETURNS bool LANGUAGE sql BEGIN ATOMIC SELECT EXISTS (SELECT FROM {it}); END",
    "policy": "CREATE TABLE theirs.t{n} (); CREATE POLICY p ON theirs.t{n} USING (EXISTS (SELECT FROM {it}))",
    "rule": "CREATE TABLE theirs.t{n} (a int); CREATE RULE r AS ON INSERT TO theirs.t{n} DO ALSO SELECT FROM {it}",
}
# On a table's row type.
ON_TABLE = {
    "function of the row type": "CREATE FUNCTION theirs.f{n}({it}) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "function that returns rows": "CREATE FUNCTION theirs.f{n}() RETURNS SETOF {it} LANGUAGE plpgsql AS 'BEGIN END'",
    "column": "CREATE TABLE theirs.t{n} (a {it}, b int)",
    "column of an array": "CREATE TABLE theirs.t{n} (a {it}[], b int)",
    "view with a column": "CREATE VIEW theirs.v{n} AS SELECT NULL::{it} AS a",
    "composite type": "CREATE TYPE theirs.c{n} AS (a {it})",
    "domain": "CREATE DOMAIN theirs.d{n} AS {it}",
    "range type": "CREATE TYPE theirs.r{n} AS RANGE (subtype = {it})",
    "cast": "CREATE TYPE theirs.e{n} AS ENUM ('a'); CREATE CAST (theirs.e{n} AS {it}) WITH INOUT",
    "operator": "CREATE FUNCTION theirs.f{n}({it}) RETURNS int LANGUAGE sql AS 'SELECT 1'; "
                "CREATE OPERATOR theirs.## (RIGHTARG = {it}, FUNCTION = theirs.f{n})",
}
ON_FUNCTION = {
    "view of a function": "CREATE VIEW theirs.v{n} AS SELECT {it}() IS NULL AS a",
    "default that names a function": "CREATE TABLE theirs.t{n} (a regprocedure DEFAULT '{it}()'::regprocedure)",
    "CHECK of a function": "CREATE TABLE theirs.t{n} (a regprocedure CHECK (a <> '{it}()'::regprocedure))",
}
ON_SEQUENCE = {**ON_RELATION, "view of a sequence": ON_READABLE["view"],
               "nextval": "CREATE TABLE theirs.t{n} (a bigint DEFAULT nextval('{it}'))"}
ALL_ON_TABLE = {**ON_RELATION, **ON_READABLE, **ON_TABLE}
COUNT = itertools.count(1)
OURS = "SELECT relname FROM pg_class WHERE relname ~ '^djs_[0-9]' UNION ALL SELECT proname FROM pg_proc WHERE proname ~ '^djs_[0-9]'"


def furnish(site):
    site.cluster.create_role(STRANGER)
    site.psql(f"CREATE SCHEMA theirs AUTHORIZATION {STRANGER}; GRANT USAGE ON SCHEMA theirs TO PUBLIC; "
              f"GRANT USAGE ON SCHEMA public TO {STRANGER}")


@pytest.fixture
def shop(cleaned_site):
    furnish(cleaned_site)
    cleaned_site.fill(sessions=3000, expired_share=0.9)
    return cleaned_site


@pytest.fixture
def stranger(shop):
    """His session, whose temporary views last as long as it does."""
    with contextlib.closing(shop.cluster.connect(shop.database, STRANGER)) as connection:
        yield connection.cursor()


SINCE = {"statistics": (14, "there are no statistics of expressions"),
         "function": (14, "no function's body is read as it is made"),
         "generated column": (15, "a generated column goes with what it names, without a word")}


def depend(cursor, on, kinds):
    """As many as the server knows of these kinds, or lets depend."""
    known = [sql for kind, sql in kinds.items() if cursor.connection.server_version >= 10000 * SINCE.get(kind, (0,))[0]]
    for sql in known:
        cursor.execute(sql.format(it=on, n=next(COUNT)))
    return len(known)


def depend_on_all(site, cursor, tables):
    """As many as there are, on each helper that there is."""
    prefix = f"public.djs_{oid(site)}_"
    for name in tables:
        depend(cursor, prefix + name, ALL_ON_TABLE)
    depend(cursor, prefix + "note", ON_FUNCTION)
    sequences = site.psql("SELECT oid::regclass::text FROM pg_class WHERE relkind = 'S' AND relname ~ '^djs_'")
    assert len(sequences) == 2
    for (name,) in sequences:
        depend(cursor, name, ON_SEQUENCE)
    for (name,) in site.psql("SELECT oid::regclass::text FROM pg_class WHERE relkind = 'i' AND relname ~ '^djs_'"):
        depend(cursor, name, ON_RELATION)
    return theirs(site)


def theirs(site):
    return site.psql("SELECT c.relname, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = "
                     "'theirs' UNION ALL SELECT p.proname, 'f' FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
                     "WHERE n.nspname = 'theirs' ORDER BY 1")


def kill(run):
    run.send(signal.SIGKILL)
    with contextlib.suppress(AssertionError):
        run.result()


def left_while_copying(site, start_cleanup):
    """With all helpers but an old table. Held before the server: what a killed run has sent is still carried out."""
    with Gate(site.cluster, BEFORE_A_DRAIN, passing=0) as gate:
        run = start_cleanup("-d", gate.conninfo(site.database, OWNER), "--method", "swap", "-v", "--no-progress", user=OWNER)
        gate.wait()
        kill(run)
    return "state", "log", "new"


def left_before_the_drop(site, start_cleanup):
    """After the exchange, a run waits for those who are writing."""
    table = oid(site)
    with site.cluster.locked(site.database, TABLE, "ACCESS SHARE") as reader, \
            contextlib.closing(site.cluster.connect(site.database, autocommit=False)) as writer:
        run = start_cleanup("--method", "swap", "-v", "--no-progress", user=OWNER)
        wait_for(lambda: site.psql(f"SELECT 1 FROM djs_{table}_state WHERE phase = 'ready'")
                 if site.psql(f"SELECT 1 FROM pg_class WHERE relname = 'djs_{table}_state'") else False, "the copy")
        wait_for(lambda: site.psql("SELECT 1 FROM pg_locks WHERE NOT granted AND relation = "
                                   f"{table}"), "the wait for the table", pause=0.002)
        writer.cursor().execute("SELECT txid_current()")
        reader.rollback()
        wait_for(lambda: oid(site) != table, "the exchange")
        kill(run)
    return "state", "log", "old"


LEFT = {"copying": left_while_copying, "exchanged": left_before_the_drop}
ACTIONS = {"abort": ["--abort"], "delete": ["--method", "delete"], "swap": ["--method", "swap"], "auto": []}


def is_clean(site, text):
    """But for what is empty, out of the way, and named."""
    assert site.value("SELECT count(*) FROM pg_trigger WHERE tgname ~ '^djs_'") == 0
    assert site.psql(OURS) == []
    kept = [name for (name,) in site.psql("SELECT oid::regclass::text FROM pg_class WHERE relname ~ '^djs_kept_' AND relkind = 'r' "
                                          "UNION ALL SELECT oid::regprocedure::text FROM pg_proc WHERE proname ~ '^djs_kept_'")]
    for name in kept:
        assert name.endswith("()") or site.value(f"SELECT count(*) FROM {name}") == 0, name
        assert re.search(rf"public\.{re.escape(name)}[^;]*can't be dropped, since something depends on it: "
                         rf"[^;]*( of {STRANGER}|cast)[^;]*; (DROP|ALTER)", text), (name, text)
    return kept


@pytest.mark.some_cases(3)
@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("action", ACTIONS)
def test_what_others_made_of_the_leftovers_of_a_swap_stops_nothing(shop, stranger, start_cleanup, run_cleanup, left, action):
    tables = LEFT[left](shop, start_cleanup)
    objects = depend_on_all(shop, stranger, tables)
    rows = live(shop)
    plan = run_cleanup("--dry-run", user=SWAPPER)
    assert re.search(rf"table public\.djs_{oid(shop)}_state.* can't be dropped, since something depends on it: .* of {STRANGER}",
                     plan.stdout + plan.stderr), plan
    result = run_cleanup(*ACTIONS[action], "-v", "--no-progress", user=SWAPPER)
    assert result.code == DONE, str(result)
    assert "exchanged, but" not in result.stdout + result.stderr
    kept = is_clean(shop, result.stdout)
    assert len(kept) == len(tables) + 1
    assert theirs(shop) == objects and live(shop) == rows
    for options in (["--abort"], ["--method", "delete"], ["--method", "swap"]):
        again = run_cleanup(*options, "--no-progress", user=SWAPPER)
        expired = 2700 if (left, action) == ("copying", "abort") and "delete" in options else 0
        assert again.code == DONE and again.perfdata.get("deleted", [0])[0] == expired, again
        if "delete" not in options:
            assert len(is_clean(shop, again.stdout)) == len(kept)
    shop.psql("DROP SCHEMA theirs CASCADE")
    stranger.connection.close()
    wait_for(lambda: not shop.psql(f"SELECT 1 FROM pg_stat_activity WHERE usename = '{STRANGER}'"), "the end of his session")
    assert run_cleanup("--abort", user=SWAPPER).code == DONE
    assert helpers(shop) == [] and live(shop) == rows


@pytest.mark.parametrize("names", [("state", "log"), ("new",)], ids=" ".join)
def test_what_others_make_of_the_helpers_meanwhile_stops_nothing(shop, stranger, start_cleanup, run_cleanup, names):
    """A view of the copy would become one of the table, so it is copied anew."""
    rows = live(shop)
    with shop.cluster.locked(shop.database, TABLE, "ACCESS SHARE"):
        run = start_cleanup("--method", "swap", "-v", "--no-progress", user=SWAPPER)
        wait_for(lambda: shop.psql(f"SELECT 1 FROM pg_class WHERE relname = 'djs_{oid(shop)}_state'")
                 and shop.psql(f"SELECT 1 FROM djs_{oid(shop)}_state WHERE phase = 'ready'"), "the copy")
        if names == ("new",):
            depend(stranger, f"public.djs_{oid(shop)}_new", ALL_ON_TABLE)
        else:
            depend_on_all(shop, stranger, names)
    result = run.result()
    assert result.code == DONE and ("starting over" in result.stderr) == (names == ("new",)), str(result)
    is_clean(shop, result.stdout)
    assert shop.psql(OURS) == [] and shop.value("SELECT count(*) FROM pg_trigger WHERE tgname ~ '^djs_'") == 0
    for options in (["--abort"], ["--method", "delete"], ["--method", "swap"]):
        again = run_cleanup(*options, "--no-progress", user=SWAPPER)
        assert again.code == DONE, str(again)
    assert live(shop) == rows


@pytest.mark.some_cases(5)
@pytest.mark.parametrize("kind", cases([*ALL_ON_TABLE, *ON_FUNCTION, "nextval"],
                                       **{kind: pytest.mark.since(*since) for kind, since in SINCE.items()}))
def test_what_is_named_to_end_it_ends_it(shop, stranger, run_cleanup, kind):
    """Each kind by itself, of helpers that the owner has made as a swap does."""
    prefix = f"public.djs_{oid(shop)}_"
    shop.psql(f"CREATE TABLE {prefix}log (n int GENERATED ALWAYS AS IDENTITY, k text); "
              f"CREATE FUNCTION {prefix}note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'", OWNER)
    on = {"nextval": "log_n_seq", **{name: "note" for name in ON_FUNCTION}}.get(kind, "log")
    depend(stranger, prefix + on, {kind: {**ALL_ON_TABLE, **ON_FUNCTION, **ON_SEQUENCE}[kind]})
    result = run_cleanup("--abort", user=SWAPPER)
    assert result.code == DONE and len(is_clean(shop, result.message)) == 1, str(result)
    remedies = re.search(r"depends on it: [^;]*; (.*), then run django_session_cleanup --abort", result.message)[1]
    assert "drop or change" not in remedies, remedies
    for remedy in remedies.split("; "):
        stranger.execute(remedy)
    assert run_cleanup("--abort", user=SWAPPER).code == DONE
    assert helpers(shop) == []


def test_a_stranger_may_not_use_the_function_and_refers_to_no_helper(shop, stranger, start_cleanup):
    """Which would keep it, or what it refers to, from being emptied."""
    left_while_copying(shop, start_cleanup)
    prefix = f"public.djs_{oid(shop)}_"
    stranger.execute("CREATE TABLE theirs.t (a int)")
    for sql in (f"CREATE TRIGGER g AFTER INSERT ON theirs.t EXECUTE FUNCTION {prefix}note()",
                f"CREATE TABLE theirs.r (k text REFERENCES {prefix}new)",
                f"CREATE TABLE theirs.c () INHERITS ({prefix}log)",
                f"CREATE INDEX ON {prefix}log (k)",
                f"CREATE POLICY p ON {prefix}log",
                f"CREATE RULE r AS ON INSERT TO {prefix}log DO INSTEAD NOTHING",
                f"CREATE TRIGGER g AFTER INSERT ON {prefix}log EXECUTE FUNCTION {prefix}note()",
                f"CREATE PUBLICATION p FOR TABLE {prefix}log"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            stranger.execute(sql)


def test_a_foreign_key_to_the_copy_is_named(shop, stranger, start_cleanup, run_cleanup):
    """By whoever has REFERENCES on the table, which the copy has with its other grants."""
    shop.psql(f"GRANT REFERENCES ON {TABLE} TO {STRANGER}")
    left_while_copying(shop, start_cleanup)
    stranger.execute(f"CREATE TABLE theirs.r (k varchar(40) REFERENCES public.djs_{oid(shop)}_new)")
    result = run_cleanup("--abort", user=SWAPPER)
    assert result.code == DONE and shop.psql(OURS) == [], str(result)
    remedy = re.search(r"table constraint \S+ on theirs\.r of \S+; (ALTER TABLE theirs\.r DROP CONSTRAINT \S+),", result.message)[1]
    assert run_cleanup("--method", "swap", "--no-progress", user=SWAPPER).code == DONE
    stranger.execute(remedy)
    assert run_cleanup("--abort", user=SWAPPER).code == DONE
    assert helpers(shop) == []


def test_an_open_transaction_of_a_stranger_delays_no_deletion(shop, start_cleanup, run_cleanup):
    """His view isn't committed, and so its table stays locked."""
    left_while_copying(shop, start_cleanup)
    with contextlib.closing(shop.cluster.connect(shop.database, STRANGER, autocommit=False)) as other:
        other.cursor().execute(f"CREATE VIEW theirs.v AS SELECT FROM public.djs_{oid(shop)}_log")
        result = run_cleanup("--method", "delete", "--no-progress", user=SWAPPER)
        assert (result.code, result.deleted) == (DONE, 2700), str(result)
        assert f"of role {STRANGER}" in result.stderr and "deleting all the same" in result.stderr, result
        assert shop.value("SELECT count(*) FROM pg_trigger WHERE tgname ~ '^djs_'") == 0
        assert not shop.psql(f"SELECT 1 FROM pg_class WHERE relname = 'djs_{oid(shop)}_new'")
    assert run_cleanup("--abort", user=SWAPPER).code == DONE
    assert helpers(shop) == []


def test_the_figures_of_an_exchange_are_told_once(shop, start_cleanup, run_cleanup):
    left_before_the_drop(shop, start_cleanup)
    with contextlib.closing(shop.cluster.connect(shop.database, STRANGER, autocommit=False)) as other:
        other.cursor().execute(f"CREATE VIEW theirs.v AS SELECT FROM public.djs_{oid(shop)}_old")
        results = [run_cleanup("--method", "swap", "--no-progress", "--max-duration", "3", user=SWAPPER) for _ in range(2)]
    for result in results:
        assert result.code == STOPPED and "the tables are exchanged, but the replaced one is still there" in result.message, result
    assert [result.deleted for result in results] == [2700, 0]
    assert results[0].perfdata["before"][0] > results[1].perfdata["before"][0] == results[1].perfdata["after"][0]
    result = run_cleanup("--method", "swap", "--no-progress", user=SUPERUSER)
    assert (result.code, result.deleted) == (DONE, 0) and helpers(shop) == []
