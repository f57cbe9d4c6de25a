"""The plan: what --dry-run foresees is what the run then does."""

import contextlib
import re

import psycopg2
import pytest

import paths

from cleanup_command import CLEANER, DONE, REFUSED, STOPPED, SWAPPER, Cleanup
from cluster import SUPERUSER
from django_site import MONITOR, OWNER, TABLE, DjangoSite
from processes import private_folder, wait_for
from test_server_limits import begin_a_vacuum_against_wraparound

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


def with_a_fillfactor_since(site):
    """After the pages were filled."""
    site.fill(sessions=20_000, expired_share=0.2)
    site.psql(f"ALTER TABLE {TABLE} SET (fillfactor = 50); "
              f"ALTER INDEX public.django_session_pkey SET (fillfactor = 50)")


def cleaned_but_not_compacted(site):
    site.fill(sessions=60_000)
    site.psql(f"DELETE FROM {TABLE} WHERE expire_date < now(); {site.flush()}")
    site.psql(f"VACUUM (ANALYZE) {TABLE}")


STATES = [untouched, expired_came_later, live_came_later, in_toast, with_many_indexes, with_a_fillfactor,
          with_a_fillfactor_since,
          cleaned_but_not_compacted]


@pytest.mark.some_cases(6)
@pytest.mark.parametrize("options", [("swap",), ("swap", "--keep", "400d"), ("full",), ("delete",)], ids=" ".join)
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_the_size_afterwards_is_foreseen(cleaned_site, plan, run_cleanup, state, options):
    state(cleaned_site)
    planned = plan("--method", *options)
    result = run_cleanup("--method", *options, user=SWAPPER)
    assert (planned.result.code, result.code) == (DONE, DONE), (planned.text, result)
    assert planned.after == pytest.approx(cleaned_site.sizes()["total"], rel=0.2), planned.text


# -- live and expired sessions of different sizes ---------------------------------------------------------

INSERT = """INSERT INTO {table} SELECT md5('{sign}' || i),
    (SELECT left(string_agg(md5(i || '{sign}' || j), ''), {bytes}) FROM generate_series(0, {bytes} / 32) j),
    now() {sign} interval '1 day' {sign} i * interval '5 min' FROM generate_series(1, {sessions}) i"""


def sizes(live, expired, then=""):
    """2,000 live and 8,000 expired sessions of so many bytes each."""
    def state(site):
        for sign, data_bytes, sessions in (("+", live, 2000), ("-", expired, 8000)):
            site.psql(INSERT.format(table=TABLE, sign=sign, bytes=data_bytes, sessions=sessions))
        site.psql(f"{site.flush()}; {then}")
        site.psql(f"VACUUM (ANALYZE) {TABLE}")
    return state


MASS_DELETE = f"DELETE FROM {TABLE} WHERE expire_date < now() AND hashtext(session_key) % 8 <> 0"
LOWER = f"ALTER TABLE {TABLE} SET (fillfactor = 60)"
MIXTURES = {
    "live_are_big": sizes(1300, 30),
    "live_are_small": sizes(60, 1300),
    "live_are_in_toast": sizes(2560, 200),
    "expired_are_in_toast": sizes(60, 2560),
    "all_are_in_toast": sizes(3200, 9000),
    "after_a_mass_delete": sizes(1300, 200, then=MASS_DELETE),
    "in_toast_after_a_mass_delete": sizes(3200, 2600, then=MASS_DELETE),
    "fillfactor_lowered": sizes(300, 60, then=LOWER),
}


@pytest.mark.some_cases(3)
@pytest.mark.parametrize("mixture", MIXTURES)
def test_the_size_of_a_mixture_afterwards_is_foreseen(cleaned_site, plan, run_cleanup, mixture):
    MIXTURES[mixture](cleaned_site)
    plans = {user: plan("--method", "swap", user=user) for user in (SWAPPER, SUPERUSER, OWNER)}
    result = run_cleanup("--method", "swap", user=SWAPPER)
    assert result.code == DONE, result
    for user, planned in plans.items():
        assert planned.after == pytest.approx(cleaned_site.sizes()["total"], rel=0.2), (user, planned.text)


def test_a_table_of_many_columns_is_looked_at_in_time(cleaned_site, plan):
    """Where a column's place said the place before it twice, 35 columns took the server seconds and gigabytes."""
    more = ", ".join(f"ADD c{i} text DEFAULT 'x'" for i in range(60))
    cleaned_site.psql(f"ALTER TABLE {TABLE} {more}")
    cleaned_site.fill(sessions=5_000)
    mark = cleaned_site.cluster.log_mark()
    for user in (SWAPPER, SUPERUSER, OWNER):
        plan("--method", "swap", user=user)
    assert "canceling statement" not in cleaned_site.cluster.log_text(mark)


def test_what_a_role_may_not_read_is_not_tried(cleaned_site, plan):
    sizes(1300, 30)(cleaned_site)
    mark = cleaned_site.cluster.log_mark()
    assert "about" in plan("--method", "delete", user=CLEANER).lines["size"]
    assert "permission denied" not in cleaned_site.cluster.log_text(mark)


def test_a_table_that_will_grow_is_said_to(cleaned_site, plan, run_check):
    with_a_fillfactor_since(cleaned_site)
    planned = plan("--method", "swap", "--keep", "400d")
    assert planned.after > 1.1 * cleaned_site.sizes()["total"], planned.text
    assert float(re.match(r"([\d.]+) MB of disk", planned.lines["needs"])[1]) * UNITS["MB"] == planned.after
    assert "the table will grow" in planned.lines["note"]
    answer = run_check("-v", environment=cleaned_site.cluster.environment("site", MONITOR))
    assert answer.perfdata["reclaimable"][0] == 0, answer.stdout


def test_a_table_that_a_default_makes_grow_is_said_to(cleaned_site, plan):
    cleaned_site.fill(sessions=5_000, expired_share=0.1)
    cleaned_site.psql(f"ALTER TABLE {TABLE} ADD COLUMN kind text NOT NULL DEFAULT repeat('x', 300)")
    planned = plan("--method", "swap")
    assert planned.after > 1.3 * cleaned_site.sizes()["total"], planned.text
    assert "or a column was added with a DEFAULT" in planned.lines["note"], planned.text


def test_rows_that_never_expire_are_counted(cleaned_site, run_cleanup):
    cleaned_site.fill(sessions=100, expired_share=0.5)
    cleaned_site.psql(f"ALTER TABLE {TABLE} ALTER expire_date DROP NOT NULL; UPDATE {TABLE} SET expire_date = NULL "
                      "WHERE expire_date > now()")
    for options in (("--dry-run",), ()):
        for user in (OWNER, SWAPPER, CLEANER):
            result = run_cleanup(*options, "--method", "delete", user=user)
            assert result.code == DONE, result
            assert "50 rows without an expire_date never expire" in result.stdout + result.stderr, result
    cleaned_site.psql(f"INSERT INTO {TABLE} SELECT 'never' || i, '', NULL FROM generate_series(1, 100000) i")
    assert "at least 100k rows without an expire_date" in run_cleanup("--dry-run", user=OWNER).stdout
    cleaned_site.psql(f"UPDATE {TABLE} SET expire_date = now(); ALTER TABLE {TABLE} ALTER expire_date SET NOT NULL")
    assert "never expire" not in run_cleanup("--dry-run", user=OWNER).stdout


def test_an_index_that_is_not_kept_up_to_date_is_named(cleaned_site, run_cleanup):
    cleaned_site.fill(sessions=1000, expired_share=0.5)
    index = cleaned_site.value("SELECT indexrelid::regclass FROM pg_index WHERE indkey[0] = 3 AND indrelid = "
                               f"'{TABLE}'::regclass")
    cleaned_site.psql(f"UPDATE pg_index SET indisready = false WHERE indexrelid = '{index}'::regclass")
    cleaned_site.fill(sessions=50, expired_share=1, vacuum=False)
    for user, method in ((OWNER, "swap"), (OWNER, "auto"), (SWAPPER, "full"), (SWAPPER, "delete"), (CLEANER, "delete")):
        result = run_cleanup("--method", method, user=user)
        assert result.code == REFUSED and f"index {index} is marked as valid, but" in result.stderr, result
    cleaned_site.psql(f"REINDEX INDEX {index}")
    result = run_cleanup("--method", "delete", user=OWNER)
    assert (result.code, result.deleted) == (DONE, 550), result


@pytest.fixture
def server_18(cluster_of_version):
    """PostgreSQL 18, with an empty database `shop` of the site's owner."""
    server = cluster_of_version("18")
    server.create_role(OWNER)
    server.create_database("shop", OWNER)
    yield server
    server.drop_database("shop")


def test_a_constraint_that_is_not_enforced_is_not_to_be_validated(server_18, cleanup_program):
    server_18.psql("""CREATE TABLE django_session (session_key varchar(40) PRIMARY KEY, session_data text NOT NULL,
        expire_date timestamptz NOT NULL, CONSTRAINT small CHECK (length(session_data) < 9) NOT ENFORCED,
        CONSTRAINT full_ CHECK (length(session_data) > 0));
        CREATE INDEX ON django_session (expire_date);
        ALTER TABLE django_session ADD CONSTRAINT later CHECK (length(session_key) > 9) NOT VALID""", "shop", OWNER)
    result = Cleanup(cleanup_program, "--dry-run", "--method", "swap",
                     environment=server_18.environment("shop", OWNER)).result()
    assert "constraint small is not enforced; DROP CONSTRAINT" in result.stdout, result
    assert "constraint later has not been validated; VALIDATE CONSTRAINT" in result.stdout, result
    assert "full_" not in result.stdout, result


def test_a_foreign_key_that_is_not_enforced_forbids_no_delete(server_18, cleanup_program):
    server_18.psql("""CREATE TABLE django_session (session_key varchar(40) PRIMARY KEY, session_data text NOT NULL,
        expire_date timestamptz NOT NULL);
        CREATE INDEX ON django_session (expire_date);
        INSERT INTO django_session VALUES ('old', 'x', now() - interval '1 day');
        CREATE TABLE cart (id int PRIMARY KEY,
            session_key varchar(40) REFERENCES django_session ON DELETE CASCADE NOT ENFORCED);
        CREATE TABLE line (cart int REFERENCES cart, session_key varchar(40) REFERENCES django_session NOT ENFORCED);
        INSERT INTO cart VALUES (1, 'old');
        INSERT INTO line VALUES (1, 'old')""", "shop", OWNER)
    result = Cleanup(cleanup_program, "--method", "delete", environment=server_18.environment("shop", OWNER)).result()
    assert (result.code, result.deleted) == (DONE, 1), result
    assert server_18.psql("SELECT (SELECT count(*) FROM cart), (SELECT count(*) FROM line)", "shop") == [(1, 1)]
    server_18.psql("ALTER TABLE line ADD FOREIGN KEY (session_key) REFERENCES django_session NOT VALID", "shop", OWNER)
    result = Cleanup(cleanup_program, "--method", "delete", environment=server_18.environment("shop", OWNER)).result()
    assert result.code == REFUSED and "forbids deleting sessions that are referred to" in result.stderr, result


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


def test_to_try_a_delete_deletes_nothing(neglected, plan):
    """It is tried where a trigger finds another search_path than the site's."""
    neglected.psql(f"""CREATE SEQUENCE tries;
        CREATE FUNCTION count_try() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('public.tries'); RETURN OLD; END $$;
        CREATE TRIGGER count_try BEFORE DELETE ON {TABLE} FOR EACH ROW EXECUTE FUNCTION count_try()""", OWNER)
    for tries, user in enumerate((OWNER, SWAPPER, CLEANER), 1):
        assert plan("--method", "delete", user=user).result.code == DONE
        assert neglected.value("SELECT last_value FROM tries WHERE is_called") == tries
    assert neglected.value(f"SELECT count(*) FROM {TABLE}") == 30_000


def test_whoever_locks_the_table_is_named(neglected, run_cleanup):
    with neglected.cluster.locked("site"):
        result = run_cleanup("--dry-run")
        assert result.code == STOPPED and not result.stdout, result
        assert "the table is locked: pid" in result.stderr and "of role postgres" in result.stderr, result
        result = run_cleanup("-v")
        assert (result.code, result.word) == (STOPPED, "STOPPED"), result
        assert "the table is locked: pid" in result.message, result


def test_nothing_to_do_is_said(cleaned_site, plan):
    cleaned_site.fill(sessions=1000, expired_share=0)
    planned = plan("--method", "delete")
    assert planned.lines["method"] == "delete: nothing to do: no session has expired", planned.text
    assert planned.lines["needs"] == "nothing"


# -- what auto chooses -----------------------------------------------------------------------------------


def test_a_table_that_was_cleaned_but_not_compacted_is_swapped(cleaned_site, plan, run_cleanup):
    cleaned_site.fill(sessions=20_000, data_bytes=4_500)
    cleaned_site.psql(f"DELETE FROM {TABLE} WHERE expire_date < now(); {cleaned_site.flush()}")
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
    assert plan().lines["method"] == "swap: resumes the interrupted swap"
    assert "resumes" not in plan("--keep", "1d").lines["method"]  # the copy was made without
    state, comment = neglected.psql(r"""SELECT oid::regclass::text, obj_description(oid) FROM pg_class
        WHERE relname ~ '^djs_[0-9]+_state$'""")[0]
    for age, resumed in (("9 days", False), ("7 days", True)):
        neglected.psql(f"""UPDATE {state} SET started = now() - interval '{age}'; DO $$ BEGIN
            EXECUTE format('COMMENT ON TABLE {state} IS %L', regexp_replace('{comment}', 'started .*', 'started ' ||
              to_char((now() - interval '{age}') AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS"Z"'))); END $$""")
        assert ("resumes" in plan().lines["method"]) == resumed
    assert plan("--method", "delete").method == "delete"
    result = run_cleanup(user=SWAPPER)
    assert result.code == DONE and result.message.startswith("swap: "), result
    assert "resuming an interrupted swap" in result.stderr
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


# -- rights ----------------------------------------------------------------------------------------------

# ACL's letter for acldefault(), the words for GRANT, and a query for the objects that a swap may need.
OBJECTS = {
    "table": ("r", "TABLE", f"SELECT '{TABLE}'"),
    "schema": ("n", "SCHEMA", "SELECT 'public'"),
    "language": ("l", "LANGUAGE", "SELECT 'plpgsql'"),
    "database": ("d", "DATABASE", "SELECT current_database()"),
    "type": ("T", "TYPE", "SELECT format('pg_catalog.%I', typname) FROM pg_type WHERE oid IN ('text'::regtype, "
             "'varchar'::regtype, 'timestamptz'::regtype, 'bool'::regtype, 'int8'::regtype, 'name'::regtype)"),
}


def rights_on(site, kind):
    """(right, object) of everything that can be revoked there."""
    letter, words, objects = OBJECTS[kind]
    rights = site.psql(f"SELECT DISTINCT privilege_type FROM aclexplode(acldefault('{letter}', '{OWNER}'::regrole)) "
                       "ORDER BY 1")
    return [(right, f"{words} {name}") for right, in rights for name, in site.psql(objects)]


def holders(site):
    several = site.psql("SELECT rolname FROM pg_roles WHERE rolname = 'pg_database_owner'")
    return ", ".join(["PUBLIC", OWNER, *(name for name, in several)])


@pytest.mark.some_cases(2)
@pytest.mark.parametrize("kind", OBJECTS)
def test_the_plan_knows_every_right_that_is_needed(cleaned_site, plan, run_cleanup, kind):
    cleaned_site.fill(sessions=100)
    refused = []
    for right, name in rights_on(cleaned_site, kind):
        cleaned_site.psql(f"REVOKE {right} ON {name} FROM {holders(cleaned_site)}")
        for method in ("swap", "auto"):
            planned = plan("--method", method)
            result = run_cleanup("--method", method, user=SWAPPER)
            assert result.code == planned.result.code, (right, name, method, planned.text, result)
            assert result.code in (DONE, REFUSED), (right, name, method, result)
            if method == "swap" and result.code == REFUSED:
                refused.append(right)
        cleaned_site.psql(f"GRANT {right} ON {name} TO {OWNER}, PUBLIC")
        cleaned_site.psql(f"REVOKE ALL ON {TABLE} FROM PUBLIC")
    assert run_cleanup("--method", "swap", user=SWAPPER).code == DONE
    needed = {"table": {"SELECT", "INSERT", "UPDATE", "DELETE", "TRIGGER"}, "schema": {"CREATE", "USAGE"},
              "language": {"USAGE"}, "database": set(), "type": {"USAGE"}}
    assert set(refused) == needed[kind]


def functions_in_our_sql(site):
    folder = paths.ROOT / "lib/cleanup"
    text = "".join((folder / name).read_text() for name in ("swap_sql.cpp", "as_owner.cpp", "table_definition.cpp"))
    text += "".join((folder / "sql" / f"{name}.sql").read_text() for name in sorted(set(re.findall(r"<sql::(\w+)>", text))))
    names = set(re.findall(r"\b([a-z][a-z0-9_]+)\(", text))
    return [name for name, in site.psql(
        "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
        "WHERE n.nspname = 'pg_catalog' AND p.prokind IN ('f', 'a', 'w') AND has_function_privilege('public', p.oid, "
        f"'EXECUTE') AND p.proname IN ({', '.join(map(repr, sorted(names)))}) ORDER BY 1")]


@pytest.mark.some_cases(6)
@pytest.mark.parametrize("part", range(4))
def test_functions_that_were_revoked_are_noticed_before_anything_is_done(cleaned_site, plan, run_cleanup, part):
    """Where the plan doesn't need one of them, the swap doesn't either."""
    cleaned_site.fill(sessions=100)
    not_needed = []
    for function in functions_in_our_sql(cleaned_site)[part::4]:
        cleaned_site.psql(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC")
        if plan("--method", "swap").result.code == DONE:
            not_needed.append(function)
        cleaned_site.psql(f"GRANT EXECUTE ON FUNCTION {function} TO PUBLIC")
    for function in not_needed:
        cleaned_site.psql(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC")
    result = run_cleanup("--method", "swap", user=SWAPPER)
    assert result.code == DONE, (result, not_needed)


def test_a_swap_is_refused_where_the_server_passes_over_damaged_pages(neglected, plan, run_cleanup):
    """They would be gone with the replaced table."""
    for setting in ("zero_damaged_pages", "ignore_checksum_failure"):
        neglected.psql(f"ALTER DATABASE site SET {setting} = on")
        try:
            planned = plan("--method", "swap")
            assert planned.result.code == REFUSED and f"setting {setting} is on" in planned.text, planned.text
        finally:
            neglected.psql(f"ALTER DATABASE site RESET {setting}")
    assert plan("--method", "swap").result.code == DONE


def test_a_schema_whose_name_has_a_newline_is_refused_where_the_owners_code_is_locked_in(cleaned_site, plan):
    cleaned_site.psql('CREATE SCHEMA "a\nb"; GRANT ALL ON SCHEMA "a\nb" TO django')
    cleaned_site.psql(f'CREATE TABLE "a\nb".django_session (LIKE {TABLE} INCLUDING ALL)', OWNER)
    for method in ("delete", "full"):
        planned = plan("-T", '"a\nb".django_session', "--method", method)
        assert planned.result.code == REFUSED and "has a newline in it" in planned.text, planned.text
    cleaned_site.psql('DROP SCHEMA "a\nb" CASCADE')


def test_a_key_that_an_extension_compares_is_refused_by_name(neglected, plan, run_cleanup):
    """A swap would compare it as text."""
    neglected.psql("DO $$ BEGIN EXECUTE (SELECT string_agg(format('DROP INDEX %s', i.indexrelid::regclass), ';') FROM pg_index i "
                   f"WHERE i.indrelid = '{TABLE}'::regclass AND NOT i.indisprimary AND i.indkey[0] = 1); END $$; "
                   f"CREATE EXTENSION citext; ALTER TABLE {TABLE} ALTER session_key TYPE citext")
    planned = plan("--method", "swap")
    assert planned.result.code == REFUSED and "session_key compares by public.citext_ops" in planned.text, planned.text
    assert run_cleanup(user=SWAPPER).deleted == 29_100


# -- whom a role is told to ask --------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", "swap", "delete", "full"])
def test_the_measuring_role_is_told_which_role_to_use(neglected, plan, method):
    planned = plan("--method", method, user=MONITOR)
    assert planned.result.code == REFUSED, planned.text
    assert "conf.d/roles.sql" in planned.text and f"GRANT {OWNER}" not in planned.text, planned.text
    assert "GRANT DELETE" not in planned.text, planned.text


def test_nobody_is_told_to_become_a_superuser(neglected, plan):
    neglected.psql(f"ALTER TABLE {TABLE} OWNER TO {SUPERUSER}")
    for user in (SWAPPER, MONITOR):
        text = plan("--method", "swap", user=user).text
        assert f"GRANT {SUPERUSER}" not in text and "a superuser" in text, text


# -- event triggers --------------------------------------------------------------------------------------

TAGS = """SELECT t FROM unnest(ARRAY['CREATE', 'ALTER', 'DROP']) v, unnest(ARRAY['ACCESS METHOD', 'AGGREGATE', 'CAST',
    'COLLATION', 'CONVERSION', 'DOMAIN', 'EXTENSION', 'FOREIGN DATA WRAPPER', 'FOREIGN TABLE', 'FUNCTION', 'INDEX',
    'LANGUAGE', 'MATERIALIZED VIEW', 'OPERATOR', 'OPERATOR CLASS', 'OPERATOR FAMILY', 'POLICY', 'PROCEDURE',
    'PUBLICATION', 'ROUTINE', 'RULE', 'SCHEMA', 'SEQUENCE', 'SERVER', 'STATISTICS', 'SUBSCRIPTION', 'TABLE',
    'TEXT SEARCH CONFIGURATION', 'TRANSFORM', 'TRIGGER', 'TYPE', 'USER MAPPING', 'VIEW', 'TABLE AS']) o,
    LATERAL (SELECT v || ' ' || o AS t) x UNION SELECT unnest(ARRAY['COMMENT', 'GRANT', 'REVOKE', 'SECURITY LABEL',
    'ALTER DEFAULT PRIVILEGES', 'DROP OWNED', 'REFRESH MATERIALIZED VIEW', 'SELECT INTO', 'IMPORT FOREIGN SCHEMA',
    'REINDEX', 'ALTER LARGE OBJECT'])"""
RAISES = "CREATE FUNCTION public.fires() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'fired by %', tg_tag; END$$"


def fire_for_every_tag(site):
    """An event trigger for each tag that the server knows, called like it."""
    site.psql(RAISES)
    for tag, in site.psql(TAGS):
        with contextlib.suppress(psycopg2.Error):
            site.psql(f"CREATE EVENT TRIGGER \"{tag}\" ON ddl_command_start WHEN TAG IN ('{tag}') "
                      "EXECUTE FUNCTION public.fires()")
    return {name for name, in site.psql("SELECT evtname FROM pg_event_trigger")}


def test_event_triggers_are_in_the_way_only_if_they_would_fire(neglected, plan, run_cleanup):
    """Those that the plan doesn't mind may raise an error, and the swap is done all the same."""
    tags = fire_for_every_tag(neglected)
    refused = set(re.findall(r'event trigger "?([A-Z ]+?)"? would fire', plan("--method", "swap").text))
    assert len(tags) > 80 and {"CREATE TABLE", "CREATE TRIGGER"} <= refused <= tags - {"CREATE EXTENSION", "DROP TYPE"}
    for tag in refused:
        neglected.psql(f'DROP EVENT TRIGGER "{tag}"')
    result = run_cleanup("--method", "swap", user=SWAPPER)
    assert result.code == DONE, result


def test_event_triggers_are_in_the_way_of_a_delete_for_the_owner(neglected, run_cleanup):
    of_the_jail = {"CREATE FUNCTION", "CREATE MATERIALIZED VIEW", "DROP FUNCTION", "DROP MATERIALIZED VIEW"}
    fire_for_every_tag(neglected)
    refused = run_cleanup("--dry-run", "--method", "delete", user=SWAPPER)
    found = re.search(r'event trigger (.*) would fire: .*; clean up as django', refused.stdout)
    assert refused.code == REFUSED and found and set(re.findall('"(.*?)"', found[1])) == of_the_jail, refused
    assert run_cleanup("--dry-run", "--method", "delete", user=OWNER).code == DONE
    for tag in of_the_jail:
        neglected.psql(f'DROP EVENT TRIGGER "{tag}"')
    result = run_cleanup("--method", "delete", user=SWAPPER)
    assert (result.code, result.deleted) == (DONE, 29_100), result  # nothing else fires


def test_an_event_trigger_without_tags_is_in_the_way(neglected, plan):
    neglected.psql(RAISES + "; CREATE EVENT TRIGGER every ON sql_drop EXECUTE FUNCTION public.fires()")
    assert "event trigger every would fire" in plan("--method", "swap").text


# -- the disk --------------------------------------------------------------------------------------------


def test_temporary_files_are_foreseen(cleaned_site, plan, run_cleanup):
    cleaned_site.fill(sessions=60_000, expired_share=0.2)
    for setting in ("maintenance_work_mem = '1MB'", "work_mem = '64kB'"):
        cleaned_site.psql(f"ALTER ROLE {SWAPPER} IN DATABASE site SET {setting}")
    cleaned_site.psql("ALTER DATABASE site SET log_temp_files = 0")
    mark = cleaned_site.cluster.log_mark()
    planned = plan("--method", "swap")
    needs = re.search(r"([\d.]+) MB of it temporary files", planned.lines["needs"])
    assert needs, planned.text
    result = run_cleanup("--method", "swap", user=SWAPPER)
    assert result.code == DONE, result
    files, others = [], []
    for size, writer in re.findall(r'temporary file: path "[^"]*", size (\d+)\n[^\n]*CONTEXT:([^\n]*)', cleaned_site.cluster.log_text(mark)):
        (files if "INDEX djs_" in writer else others).append(int(size))
    # One index after the other: its file is gone when that of the next is written.
    assert max(files) == pytest.approx(float(needs[1]) * UNITS["MB"], rel=0.5), (needs, files)
    assert max(others, default=0) < 2**18, others  # questions to the catalogue: neither the copy nor what follows it


def test_a_limit_of_temporary_files_that_is_too_low_is_noticed(cleaned_site, plan, run_cleanup):
    cleaned_site.fill(sessions=60_000, expired_share=0.2)
    for setting in ("maintenance_work_mem = '1MB'", "temp_file_limit = '1MB'"):
        cleaned_site.psql(f"ALTER ROLE {SWAPPER} IN DATABASE site SET {setting}")
    planned = plan("--method", "swap")
    assert planned.result.code == REFUSED and "temp_file_limit" in planned.text, planned.text
    assert run_cleanup(user=SWAPPER).code == DONE


def test_a_servers_folder_that_is_another_one_here_is_not_looked_at(own_cluster, folder, start_cleanup):
    """As that of a server in a container: the same name, but not the same folder."""
    cluster = own_cluster()
    cluster.create_database("site", OWNER)
    site = DjangoSite(folder, cluster, "site")
    site.migrate()
    site.fill(sessions=1000)

    def fits():
        result = start_cleanup("--dry-run", environment=cluster.environment("site", SUPERUSER)).result()
        return Plan(result).lines["fits"]
    assert fits().startswith("yes: ")
    elsewhere = cluster.data.with_name("elsewhere")
    cluster.data.rename(elsewhere)
    private_folder(cluster.data.parent, cluster.data.name)
    try:
        assert fits() == "unknown: the server's disk is not visible from here"
    finally:
        cluster.data.rmdir()
        elsewhere.rename(cluster.data)


# -- other access methods, and wraparound ----------------------------------------------------------------


def test_another_default_access_method_does_not_matter(neglected, plan, run_cleanup):
    neglected.psql("CREATE ACCESS METHOD other TYPE TABLE HANDLER heap_tableam_handler")
    neglected.psql("ALTER DATABASE site SET default_table_access_method = other")
    assert plan("--method", "swap").result.code == DONE
    assert run_cleanup("--method", "swap", user=SWAPPER).code == DONE
    assert neglected.value("SELECT amname FROM pg_class c JOIN pg_am a ON a.oid = relam "
                           f"WHERE c.oid = '{TABLE}'::regclass") == "heap"


def test_the_tables_own_is_refused(neglected, plan):
    neglected.psql("CREATE ACCESS METHOD other TYPE TABLE HANDLER heap_tableam_handler")
    neglected.psql(f"CREATE TABLE public.copy (LIKE {TABLE} INCLUDING ALL) USING other; DROP TABLE {TABLE}; "
                   f"ALTER TABLE public.copy RENAME TO django_session; ALTER TABLE {TABLE} OWNER TO {OWNER}")
    assert "is not an ordinary, logged heap table" in plan("--method", "swap").text


def test_an_autovacuum_against_wraparound_by_the_tables_own_age_is_named(own_site, start_cleanup):
    site = own_site(autovacuum="on", autovacuum_naptime="1s")
    site.fill(sessions=10_000)
    begin_a_vacuum_against_wraparound(site)
    result = start_cleanup("--dry-run", "--method", "swap", environment=site.cluster.environment("site", OWNER)).result()
    assert "an autovacuum against wraparound is due or running" in Plan(result).lines["note"], result
