"""Measuring with more rights than the table's owner has: his code is not run with them.

Merely planning a statement evaluates what is constant in the predicates of indexes and in extended statistics, with the
rights of whoever asks; a function that is called IMMUTABLE may do anything there. A trap is such a function: it writes
into the server's log with whose rights it was run.
"""

import contextlib
import threading

import psycopg2
import pytest

import check
from cluster import SUPERUSER
from conftest import cases
from collectd_daemon import database_block, plugin_block
from django_site import MONITOR, OWNER
from processes import status, wait_for
from test_throttle import CAUGHT_UP, new_site, primary, standby  # noqa: F401

TRAP = """
CREATE FUNCTION public.jaw() RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
  BEGIN EXECUTE 'RESET ROLE'; EXCEPTION WHEN OTHERS THEN NULL; END;  -- refused in the owner's jail
  RAISE LOG 'run for %', current_user;
  RETURN true;
END $$;
CREATE FUNCTION public.trap(i int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS
  $$ BEGIN RETURN public.jaw(); END $$;
"""

OF_EXPRESSIONS = pytest.mark.since(14, "there are no statistics of expressions")
PLANTS = {
    "predicate": "CREATE INDEX planted ON django_session (expire_date) WHERE trap(1)",
    "expression": "CREATE INDEX planted ON django_session ((CASE WHEN trap(1) THEN expire_date END))",
    "statistics": "CREATE STATISTICS planted ON (CASE WHEN trap(1) THEN 1 END), expire_date FROM django_session",
    "operator": """CREATE FUNCTION public.trap(int, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT public.trap($1)';
        CREATE OPERATOR public.<<<<< (LEFTARG = int, RIGHTARG = int, FUNCTION = public.trap);
        CREATE INDEX planted ON django_session (expire_date) WHERE 1 <<<<< 1""",
    "domain": """CREATE DOMAIN public.trapped AS int CHECK (public.trap(VALUE));
        CREATE INDEX planted ON django_session ((1::trapped), expire_date)""",
}
UP = "django_session-site/bool-up"
OVERDUE = "django_session-site/duration-overdue"
# A member of two owners.
ADMIN = "site_admin"


@pytest.fixture
def filled(site):
    site.psql(f"GRANT CREATE ON SCHEMA public TO {OWNER}")
    site.fill(sessions=1000)
    site.psql(TRAP, OWNER)
    return site


# What the owner's code may leave in a session that is kept: each calls what isn't IMMUTABLE by what says that it is.
LEFT_BEHIND = """
CREATE SCHEMA decoy;
CREATE TABLE decoy.django_session (LIKE public.django_session INCLUDING ALL);
GRANT USAGE ON SCHEMA decoy TO PUBLIC;
GRANT SELECT ON decoy.django_session TO PUBLIC;
CREATE FUNCTION public.leave() RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
  IF session_user = 'django_session_monitor' THEN
    {}
    RAISE LOG 'left behind';
  END IF;
  RETURN true;
END $$;
CREATE FUNCTION public.imitation() RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN public.leave(); END $$;
CREATE INDEX planted ON django_session (expire_date) WHERE imitation();
"""
TOTAL = "django_session-site/bytes-total"


def read_after_the_owners_code_left(leaves, site, collectd, seen="left behind"):
    """A daemon that goes on after it has run that code, and has read the definition again."""
    site.psql(f"GRANT CREATE ON DATABASE site TO {OWNER}")
    site.psql(LEFT_BEHIND.format(leaves), OWNER)
    mark = site.cluster.log_mark()
    daemon = collectd(plugin_block(database_block(site.cluster, "site")))
    wait_for(lambda: "left behind" in site.cluster.log_text(mark), "the owner's code to run")
    site.psql("ANALYZE django_session")
    wait_for(lambda: seen in site.cluster.log_text(mark), "what it has left")
    return daemon


def test_a_reading_is_of_the_same_table_whatever_search_path_the_owners_code_sets(filled, plain_monitor, collectd):
    """The kept connection's later readings, too."""
    daemon = read_after_the_owners_code_left("PERFORM set_config('search_path', 'decoy', false);", filled, collectd)
    daemon.wait_for_reads(TOTAL, 3)
    sizes = {value for _, value in daemon.history()[TOTAL]}
    assert min(sizes) > filled.value("SELECT pg_total_relation_size('decoy.django_session')"), sizes


def test_what_the_owners_code_has_us_listen_to_takes_no_memory(filled, plain_monitor, collectd):
    daemon = read_after_the_owners_code_left(
        "EXECUTE 'LISTEN noise'; RAISE LOG 'listens to %', ARRAY(SELECT pg_listening_channels());", filled, collectd,
        seen="listens to {noise}")
    daemon.wait_for_reads(TOTAL, 2)
    before = status(daemon.pid, "RssAnon")
    for _ in range(10):
        filled.psql("SELECT count(pg_notify('noise', i || repeat('y', 7900))) FROM generate_series(1, 300) i")
        daemon.wait_for_reads(TOTAL, 1)
    daemon.wait_for_reads(TOTAL, 2)
    assert status(daemon.pid, "RssAnon") - before < 8_000  # kB, of 24,000 that were sent


# What may be there when the command is typed, later than it was printed.
THERE_BY_THEN = {"view": f"""ALTER TABLE django_session RENAME TO rows;
        CREATE VIEW django_session AS SELECT * FROM rows WHERE public.jaw();
        GRANT SELECT ON django_session TO {MONITOR}""",
                 **{name: plant for name, plant in PLANTS.items() if name != "domain"}}


@pytest.mark.parametrize("plant", cases(THERE_BY_THEN, statistics=OF_EXPRESSIONS))
def test_what_the_page_has_typed_runs_the_owners_code_for_nobody_who_can_do_more(site, run_check, plant):
    site.psql(f"GRANT CREATE ON SCHEMA public TO {OWNER}")
    site.fill(sessions=1000, expired_share=0)
    site.psql(TRAP, OWNER)
    answer = run_check("-w", "total=10kB")
    command, = [line for line in answer.long_text.splitlines() if "SELECT expire_date" in line]
    site.psql(THERE_BY_THEN[plant], OWNER)
    mark = site.cluster.log_mark()
    assert " expire " in check.typed(command).stdout
    assert run_for(site, mark) <= {MONITOR}


def test_to_a_superuser_nothing_is_said_that_reads_the_table(site, run_check, cluster):
    site.fill(sessions=1000, expired_share=0)
    answer = run_check("-w", "total=10kB", environment=cluster.environment("site", SUPERUSER))
    assert "SESSION_COOKIE_AGE" in answer.stdout and "SELECT expire_date" not in answer.stdout, answer.stdout


@pytest.fixture
def admin(filled):
    """A role that is a member of two owners."""
    filled.psql(f"""DROP ROLE IF EXISTS {ADMIN}, other_owner;
        CREATE ROLE other_owner; CREATE ROLE {ADMIN} LOGIN; GRANT {OWNER}, other_owner TO {ADMIN}""")
    yield ADMIN
    filled.psql(f"DROP ROLE {ADMIN}, other_owner")


@pytest.fixture
def ask_as(run_check, run_cleanup, cluster):
    """The check, counting or not, and the plan of a cleanup, as some role."""
    def ask(user, *options):
        environment = cluster.environment("site", user)
        return [run_check("-v", *options, environment=environment),
                run_check("--exact", *options, environment=environment),
                run_cleanup("--dry-run", user=user)]
    return ask


def run_for(site, since):
    """With whose rights the trap was run."""
    return {line.rpartition("run for ")[2] for line in site.cluster.log_text(since).splitlines()
            if "LOG:  run for " in line}


@pytest.mark.parametrize("plant", cases(PLANTS, statistics=OF_EXPRESSIONS))
def test_the_owners_code_is_not_run_for_a_superuser(filled, ask_as, plant):
    filled.psql(PLANTS[plant], OWNER)
    mark = filled.cluster.log_mark()
    estimate, exact, plan = ask_as(SUPERUSER)
    assert run_for(filled, mark) <= {OWNER}
    for answer in (estimate, exact):
        assert answer.state == "UNKNOWN" and "overdue" not in answer.perfdata
        assert answer.perfdata["total"][0] > 0 and answer.perfdata["live"][0] > 0
        assert f"of role {OWNER}; run it as {OWNER}, or as the monitor of roles.sql" in answer.line + answer.long_text
    assert plan.code in (0, 3), plan


@pytest.mark.parametrize("plant", cases(["predicate", "statistics"], statistics=OF_EXPRESSIONS))
def test_the_owners_code_is_not_run_for_a_member_of_two_owners(filled, admin, ask_as, plant):
    filled.psql(PLANTS[plant], OWNER)
    mark = filled.cluster.log_mark()
    ask_as(admin)
    assert run_for(filled, mark) <= {OWNER}


def test_the_owner_and_the_monitor_measure_all_the_same(filled, ask_as):
    """Neither can do anything that the owner can't."""
    filled.psql(PLANTS["predicate"], OWNER)
    mark = filled.cluster.log_mark()
    for role in (OWNER, MONITOR):
        estimate, exact, _ = ask_as(role, "-w", "overdue=9999d")
        assert estimate.state == exact.state == "OK" and "overdue" in estimate.perfdata
    assert run_for(filled, mark) <= {OWNER, MONITOR}
    assert "SHARE UPDATE EXCLUSIVE" not in filled.cluster.log_text(mark)


def test_a_superuser_measures_an_ordinary_table(site, ask_as):
    site.fill(sessions=1000)
    for answer in ask_as(SUPERUSER, "-w", "overdue=9999d")[:2]:
        assert answer.state == "OK" and answer.perfdata["live"][0] == 30
        assert answer.perfdata["overdue"][0] > 700 * 86400


# -- against an owner who changes things meanwhile -------------------------------------------------


@contextlib.contextmanager
def in_a_loop(site, *statements, user=OWNER):
    """Runs statements over and over on a connection of its own; those that fail (a lock, say) don't matter."""
    stop = threading.Event()
    rounds = [0]

    def run():
        with contextlib.closing(site.cluster.connect("site", user)) as connection:
            cursor = connection.cursor()
            cursor.execute("SET lock_timeout = 20")
            while not stop.is_set():
                for statement in statements:
                    with contextlib.suppress(psycopg2.Error):
                        cursor.execute(statement)
                rounds[0] += 1
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield rounds
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("loop", [
    pytest.param((PLANTS["statistics"], "DROP STATISTICS planted"), marks=OF_EXPRESSIONS),
    ("CREATE INDEX planted ON django_session (expire_date) WHERE trap(1)", "DROP INDEX planted"),
    # The name means another table for a moment, with the lock on the first one or not.
    ("ALTER TABLE django_session RENAME TO real; ALTER TABLE fake RENAME TO django_session",
     "ALTER TABLE django_session RENAME TO fake; ALTER TABLE real RENAME TO django_session"),
    ("ALTER SCHEMA public RENAME TO real; ALTER SCHEMA other RENAME TO public",
     "ALTER SCHEMA public RENAME TO other; ALTER SCHEMA real RENAME TO public"),
], ids=["statistics", "index", "table", "schema"])
def test_an_owner_who_plants_code_between_two_statements_gains_nothing(filled, run_check, loop):
    filled.psql(f"""ALTER SCHEMA public OWNER TO {OWNER}; CREATE SCHEMA other AUTHORIZATION {OWNER};
        GRANT CREATE ON DATABASE site TO {OWNER}""")
    for fake in ("public.fake", "other.django_session"):
        filled.psql(f"""CREATE TABLE {fake} (LIKE public.django_session INCLUDING ALL);
            CREATE INDEX ON {fake} (expire_date) WHERE public.trap(1)""", OWNER)
    environment = filled.cluster.environment("site", SUPERUSER)
    mark = filled.cluster.log_mark()
    states = set()
    with in_a_loop(filled, *loop) as rounds:
        for _ in range(12):
            states.add(run_check("-T", "public.django_session", "-w", "overdue=9999d", environment=environment).state)
    assert rounds[0] > 5 and states <= {"OK", "UNKNOWN"}
    assert run_for(filled, mark) <= {OWNER}


def test_the_statistics_function_is_not_called_by_whoever_can_do_more(filled, run_check):
    """Its owner may let it run with the caller's rights after the caller has looked at it."""
    filled.psql("""DROP FUNCTION public.django_session_statistics(regclass);
        CREATE FUNCTION public.django_session_statistics(regclass) RETURNS TABLE (column_name name, average_width int4,
            null_fraction float4, n_distinct float4, common_values numeric[], common_frequencies float4[],
            histogram numeric[])
          LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN PERFORM public.jaw(); END $$""", OWNER)
    mark = filled.cluster.log_mark()
    flip = "ALTER FUNCTION public.django_session_statistics(regclass) SECURITY "
    with in_a_loop(filled, flip + "INVOKER", flip + "DEFINER"):
        for _ in range(10):
            run_check(environment=filled.cluster.environment("site", SUPERUSER))
    assert run_for(filled, mark) == set()
    filled.psql(f"GRANT EXECUTE ON FUNCTION public.django_session_statistics(regclass) TO {MONITOR}")
    run_check("-v")
    assert run_for(filled, mark) == {OWNER}


def test_a_function_in_the_place_of_the_owners_is_not_called(filled, run_check):
    """Whoever may create in the schema can put it there, after the check has learned of the owner's."""
    filled.cluster.create_role("stranger")
    filled.psql("GRANT CREATE ON SCHEMA public TO stranger")
    filled.interfere("PERFORM pg_sleep(0.7)")
    answers = []
    check = threading.Thread(target=lambda: answers.append(run_check("-t", "30", "-w", "overdue=9999d")))
    check.start()
    wait_for(lambda: filled.psql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"), "the first question")
    filled.psql("ALTER FUNCTION public.django_session_statistics(regclass) RENAME TO theirs")
    filled.psql(f"""CREATE FUNCTION public.django_session_statistics(regclass) RETURNS TABLE (column_name name,
            average_width int4, null_fraction float4, n_distinct float4, common_values numeric[],
            common_frequencies float4[], histogram numeric[])
          LANGUAGE plpgsql AS $$ BEGIN PERFORM public.jaw(); END $$;
        GRANT EXECUTE ON FUNCTION public.django_session_statistics(regclass) TO {MONITOR}""", "stranger")
    mark = filled.cluster.log_mark()
    check.join()
    filled.calm()
    assert answers[0].state == "OK" and run_for(filled, mark) == set()
    assert f"the rights of {MONITOR} have changed" in filled.cluster.log_text(mark)
    filled.psql("DROP OWNED BY stranger CASCADE")


def test_while_others_have_the_lock_a_superuser_gets_what_the_statistics_say(filled, ask_as):
    with filled.cluster.locked("site", mode="SHARE UPDATE EXCLUSIVE"):  # as VACUUM has
        estimate = ask_as(SUPERUSER)[0]
    assert estimate.state == "UNKNOWN" and "another session holds the lock that keeps code out" in estimate.stdout
    assert estimate.perfdata["live"][0] == pytest.approx(30, abs=10) and estimate.perfdata["total"][0] > 0


# -- against a change at a chosen moment -----------------------------------------------------------

INDEX = "django_session_expire_date_a5c62663"


@contextlib.contextmanager
def while_a_reading_waits(site, *statements, user=OWNER):
    """Has the lock of an index, and when a reading waits for it, runs statements before it gives it back."""
    failed = []

    def run():
        try:
            site.psql(f"""DO $race$ DECLARE wanted oid := 'public.{INDEX}'::regclass; BEGIN
                ALTER INDEX public.{INDEX} SET TABLESPACE pg_default;
                FOR i IN 1..10000 LOOP
                  IF EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = wanted) THEN
                    {"; ".join(statements)};
                    RETURN;
                  END IF;
                  PERFORM pg_sleep(0.001);
                END LOOP;
                RAISE EXCEPTION 'nobody came';
              END $race$""", user)
        except psycopg2.Error as error:
            failed.append(error)
    thread = threading.Thread(target=run)
    thread.start()
    wait_for(lambda: failed or site.psql(f"""SELECT 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted
        AND relation = 'public.{INDEX}'::regclass"""), "the lock")
    yield
    thread.join()
    assert not failed, failed


@pytest.mark.parametrize("options", [(), ("--exact",)], ids=["estimate", "exact"])
def test_a_schema_renamed_while_a_member_reads_gains_nothing(filled, admin, run_check, options):
    """No lock on the table keeps its schema's name."""
    filled.psql(f"""ALTER SCHEMA public OWNER TO {OWNER}; CREATE SCHEMA other AUTHORIZATION {OWNER};
        CREATE SCHEMA code AUTHORIZATION {OWNER}; ALTER FUNCTION jaw() SET SCHEMA code; ALTER FUNCTION trap(int) SET SCHEMA code;
        CREATE OR REPLACE FUNCTION code.trap(i int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN code.jaw(); END'""")
    filled.psql("""CREATE TABLE other.django_session (LIKE public.django_session INCLUDING ALL);
        CREATE INDEX ON other.django_session (expire_date) WHERE code.trap(1)""", OWNER)
    mark = filled.cluster.log_mark()
    with while_a_reading_waits(filled, "ALTER SCHEMA public RENAME TO real", "ALTER SCHEMA other RENAME TO public"):
        answer = run_check("-v", "-T", "public.django_session", *options,
                           environment=filled.cluster.environment("site", admin))
    assert run_for(filled, mark) == set()
    assert answer.state == "UNKNOWN" and "by renaming schema public" in answer.stdout


# Who owns the schema or the database, and who could rename it without being able to do what site_admin can.
RENAMERS = {
    "a superuser owns both": ("ALTER DATABASE site OWNER TO postgres; ALTER SCHEMA public OWNER TO pg_database_owner", None),
    "a superuser owns the schema": ("ALTER SCHEMA public OWNER TO postgres", None),
    "the database's owner": ("ALTER SCHEMA public OWNER TO pg_database_owner", OWNER),
    "another owner": ("ALTER DATABASE site OWNER TO postgres; ALTER SCHEMA public OWNER TO other_owner", "other_owner"),
    "a member": (f"ALTER SCHEMA public OWNER TO keeper; ALTER DATABASE site OWNER TO postgres; GRANT keeper TO a_plain", "a_plain"),
    "a member of a superuser": ("ALTER SCHEMA public OWNER TO postgres; GRANT postgres TO keeper; GRANT keeper TO a_plain", None),
    "itself": (f"ALTER SCHEMA public OWNER TO {ADMIN}", None),
    "a member of itself": (f"ALTER SCHEMA public OWNER TO {ADMIN}; GRANT {ADMIN} TO a_plain", None),
}


@pytest.mark.parametrize("setting", cases(RENAMERS, **dict.fromkeys(
    ["a superuser owns both", "the database's owner"], pytest.mark.since(14, "there is no pg_database_owner"))))
def test_a_member_of_two_owners_reads_where_nobody_can_rename_the_schema(filled, admin, run_check, setting):
    sql, renamer = RENAMERS[setting]
    filled.psql(f"DROP ROLE IF EXISTS keeper, a_plain; CREATE ROLE keeper; CREATE ROLE a_plain; {sql}")
    answer = run_check("-v", "-w", "overdue=9999d", environment=filled.cluster.environment("site", admin))
    filled.psql(f"ALTER SCHEMA public OWNER TO {OWNER}; DROP ROLE keeper, a_plain")
    if renamer:
        assert answer.state == "UNKNOWN" and "overdue" not in answer.perfdata
        assert f"role {renamer} can put another table in its place" in answer.stdout
    else:
        assert answer.state == "OK" and answer.perfdata["overdue"][0] > 0


def test_a_table_given_to_another_owner_while_the_old_one_reads_gains_nothing(filled, run_check):
    """From before we look who the owner is until the end, there is no other."""
    filled.cluster.create_role("shop")
    filled.psql("GRANT CREATE, USAGE ON SCHEMA public TO shop")
    mark = filled.cluster.log_mark()
    with while_a_reading_waits(filled, "ALTER TABLE django_session OWNER TO shop",
                               f"GRANT SELECT ON django_session TO {OWNER}",
                               PLANTS["predicate"], user=SUPERUSER):
        run_check("-v", environment=filled.cluster.environment("site", OWNER))
    assert run_for(filled, mark) <= {SUPERUSER, "shop"}


HARMLESS_NO_MORE = {
    "another owner": "ALTER TABLE django_session OWNER TO shop",
    "a grant": f"CREATE TABLE secret (); GRANT SELECT ON secret TO {MONITOR}",
    "a membership": f"GRANT pg_monitor TO {MONITOR}",
    "an attribute": f"ALTER ROLE {MONITOR} CREATEDB",
}


@pytest.fixture
def plain_monitor(filled):
    yield
    filled.psql(f"REVOKE pg_monitor FROM {MONITOR}; ALTER ROLE {MONITOR} NOCREATEDB")


@pytest.mark.parametrize("change", HARMLESS_NO_MORE)
def test_rights_are_looked_at_again_for_each_reading(filled, plain_monitor, collectd, change):
    """A reader that stays connected may come to have more rights than the owner, or the table another owner."""
    filled.cluster.create_role("shop")
    filled.psql("GRANT CREATE, USAGE ON SCHEMA public TO shop")
    if change == "another owner":  # whom the reader could do no more than, so far
        filled.psql(f"CREATE TABLE theirs (); ALTER TABLE theirs OWNER TO {OWNER}; GRANT SELECT ON theirs TO {MONITOR}")
    daemon = collectd(plugin_block(database_block(filled.cluster, "site")))
    daemon.wait_for_value(OVERDUE, bool)
    filled.psql(HARMLESS_NO_MORE[change])
    mark = filled.cluster.log_mark()
    filled.psql(PLANTS["predicate"], "shop" if change == "another owner" else OWNER)
    read = len(daemon.history()[UP])
    wait_for(lambda: len(daemon.history()[UP]) > read + 2, "more readings")
    assert run_for(filled, mark) <= {OWNER, "shop"}
    assert daemon.values()[UP] == 1


@pytest.mark.parametrize("user", [OWNER, SUPERUSER])
def test_a_table_given_to_another_owner_while_a_cleanup_is_planned_gains_nothing(filled, run_cleanup, user):
    """Where all sessions have expired, the plan looks for two seconds whether new ones are saved."""
    filled.cluster.create_role("shop")
    filled.psql("""GRANT CREATE, USAGE ON SCHEMA public TO shop;
        DELETE FROM django_session WHERE expire_date > now() - interval '9 days'""")
    mark = filled.cluster.log_mark()
    plan = threading.Thread(target=run_cleanup, args=("--dry-run",), kwargs={"user": user})
    plan.start()
    wait_for(lambda: "AS newest" in filled.cluster.log_text(mark), "the first look", pause=0.005)
    filled.psql(f"""ALTER TABLE django_session OWNER TO shop; GRANT SELECT ON django_session TO {OWNER};
        {PLANTS["predicate"]}""")
    planted = filled.cluster.log_mark()
    plan.join()
    assert run_for(filled, mark) <= {"shop"}
    assert filled.cluster.log_text(planted).count("AS newest") > 0


# -- odd ground ------------------------------------------------------------------------------------


def test_rows_that_a_policy_hides_are_unknown(filled, run_check):
    """They were missing from the figures, and the policy's code ran with the rights of whoever asked."""
    filled.psql(f"""ALTER TABLE django_session ENABLE ROW LEVEL SECURITY;
        CREATE POLICY planted ON django_session USING (public.jaw())""", OWNER)
    mark = filled.cluster.log_mark()
    answer = run_check()
    assert answer.state == "UNKNOWN" and f"row security hides rows from role {MONITOR}" in answer.stdout
    assert "overdue" not in answer.perfdata and "0 B" not in answer.line
    assert run_for(filled, mark) == set()


def test_a_monitor_of_two_owners_tables_runs_the_code_of_neither(filled, run_check):
    """In one database it can read what the other one can't."""
    filled.cluster.create_role("shop")
    filled.psql(f"""CREATE TABLE other (LIKE django_session INCLUDING ALL); ALTER TABLE other OWNER TO shop;
        GRANT SELECT (expire_date) ON other TO {MONITOR}; ANALYZE other""")
    assert run_check("-w", "overdue=9999d").state == "OK"
    filled.psql(PLANTS["predicate"], OWNER)
    mark = filled.cluster.log_mark()
    assert run_check("-w", "overdue=9999d").state == "UNKNOWN"
    assert run_for(filled, mark) == set()


def test_a_superuser_reads_no_rows_of_a_child(filled, run_check):
    """Whoever owns the table can make tables that inherit from it."""
    filled.psql("""CREATE TABLE child () INHERITS (django_session);
        CREATE INDEX ON child (expire_date) WHERE public.trap(1)""", OWNER)
    mark = filled.cluster.log_mark()
    answer = run_check("--exact", "-w", "overdue=9999d", environment=filled.cluster.environment("site", SUPERUSER))
    assert answer.state == "OK" and run_for(filled, mark) == set()


LIES = {
    "absurd": "'expire_date'::name, -7, 'NaN'::float4, 'Infinity'::float4, '{NaN,1,2,NULL}'::numeric[], "
              "'{NaN,9,-1,NULL}'::float4[], '{5,NaN,1,NULL}'::numeric[]",
    "huge": "'expire_date'::name, 2147483647, 1, -1, array_fill(1::numeric, ARRAY[300000]), "
            "array_fill(1::float4, ARRAY[300000]), array_fill(1::numeric, ARRAY[300000])",
    "too large": "'expire_date'::name, 1, 0, -1, ARRAY[1e400], '{1}'::float4[], ARRAY[1e400, 1e401]",
    "null": "NULL::name, NULL::int4, NULL::float4, NULL::float4, NULL::numeric[], NULL::float4[], NULL::numeric[]",
    "many": "c, 1, 0, -1, NULL::numeric[], NULL::float4[], NULL::numeric[] FROM generate_series(1, 100000) i, "
            "unnest('{expire_date,session_key,nosuch}'::name[]) c",
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_of_the_statistics_function_break_nothing(filled, run_check, lie):
    filled.psql(f"""DROP FUNCTION public.django_session_statistics(regclass);
        CREATE FUNCTION public.django_session_statistics(regclass) RETURNS TABLE (column_name name, average_width int4,
            null_fraction float4, n_distinct float4, common_values numeric[], common_frequencies float4[],
            histogram numeric[]) LANGUAGE sql SECURITY DEFINER AS $$ SELECT {LIES[lie]} $$;
        GRANT EXECUTE ON FUNCTION public.django_session_statistics(regclass) TO {MONITOR}""", OWNER)
    answer = run_check("-v", "-w", "overdue=9999d")
    assert answer.state == "OK" and answer.perfdata["total"][0] > 0 and answer.perfdata["overdue"][0] > 0
    assert len(answer.stdout) < 5000 and "nan" not in answer.stdout.lower() and "inf" not in answer.stdout.lower()


def test_a_virtual_column_can_call_nobodys_code(cluster_of_version, check_program):
    """The server sees to it, as of 18. One of the system's functions is no obstacle."""
    server = cluster_of_version("18")
    server.create_role(OWNER)
    server.create_database("shop", OWNER)
    server.psql("""CREATE TABLE django_session (session_key varchar(40) PRIMARY KEY, session_data text NOT NULL,
        expire_date timestamptz NOT NULL, long bool GENERATED ALWAYS AS (length(session_data) > 9) VIRTUAL);
        CREATE INDEX ON django_session (expire_date); ANALYZE django_session""", "shop", OWNER)
    server.psql(TRAP, "shop", SUPERUSER)
    with pytest.raises(psycopg2.Error, match="user-defined"):
        server.psql("ALTER TABLE django_session ADD trap bool GENERATED ALWAYS AS (trap(1)) VIRTUAL", "shop", OWNER)
    answer = check.run_check(check_program, environment=server.environment("shop", SUPERUSER))
    assert answer.state == "OK" and answer.perfdata["overdue"][0] == 0
    server.drop_database("shop")


def test_a_superuser_reads_no_rows_on_a_standby(primary, standby, folder, check_program):  # noqa: F811
    """There is no lock there that would keep code out. Sizes are given all the same."""
    new_site(primary, folder, sessions=1000)
    wait_for(lambda: primary.psql(CAUGHT_UP) == [(True,)], "the standby to catch up")
    answer = check.run_check(check_program, environment=standby.environment("site", SUPERUSER))
    assert answer.state == "UNKNOWN" and "(on a standby there is none)" in answer.stdout
    assert answer.perfdata["total"][0] > 0 and "overdue" not in answer.perfdata
    answer = check.run_check(check_program, "-w", "overdue=9999d", environment=standby.environment("site", MONITOR))
    assert answer.state == "OK" and answer.perfdata["overdue"][0] > 0


def test_on_a_standby_a_lock_is_the_replays(primary, standby, folder, check_program):  # noqa: F811
    """What the primary's locks are doesn't help, nor would it to end the process that replays."""
    new_site(primary, folder, sessions=1000)
    standby.psql("ALTER SYSTEM SET max_standby_streaming_delay = -1")
    standby.reload()
    wait_for(lambda: primary.psql(CAUGHT_UP) == [(True,)], "the standby to catch up")
    with contextlib.closing(standby.connect("site", autocommit=False)) as reader:
        reader.cursor().execute("SELECT count(*) FROM django_session")
        primary.psql("BEGIN; LOCK TABLE django_session; COMMIT", "site")
        wait_for(lambda: standby.psql("SELECT 1 FROM pg_locks WHERE NOT granted"), "the replay to wait")
        answer = check.run_check(check_program, environment=standby.environment("site", MONITOR))
        command = next(line for line in answer.stdout.splitlines() if line.startswith("  "))
        assert answer.state == "UNKNOWN" and "on this standby" in answer.stdout and "terminate" not in answer.stdout
        assert f"-p {standby.port}" in command and "pg_locks" in command, answer.stdout
