"""conf.d/roles.sql: what the measuring role can do, and what the server refuses it."""

import re

import psycopg2
import pytest

from cleanup_command import SWAPPER, Cleanup
from django_site import MONITOR, OWNER, TABLE
from paths import ROLES_SQL


@pytest.mark.parametrize("sql", [
    f"SELECT session_key FROM {TABLE}", f"SELECT session_data FROM {TABLE}", f"SELECT * FROM {TABLE}",
    f"SELECT t FROM {TABLE} t", f"SELECT count(session_key) FROM {TABLE}", f"TABLE {TABLE}",
    f"COPY {TABLE} TO STDOUT", f"DELETE FROM {TABLE}", f"TRUNCATE {TABLE}",
    f"UPDATE {TABLE} SET expire_date = now()", f"INSERT INTO {TABLE} VALUES ('a', 'b', now())",
    f"DROP TABLE {TABLE}", f"BEGIN; LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE"])
def test_the_server_refuses_the_measuring_role(site, sql):
    site.fill(sessions=10)
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        site.psql(sql, MONITOR)


def test_the_measuring_role_sees_no_statistics_of_keys_or_data(site):
    site.fill(sessions=1000)
    columns = site.psql("SELECT attname FROM pg_stats WHERE tablename = 'django_session'", MONITOR)
    assert columns == [("expire_date",)]
    rows = site.psql(f"SELECT * FROM public.django_session_statistics('{TABLE}')", MONITOR)
    assert sorted(row[0] for row in rows) == ["expire_date", "session_data", "session_key"]
    for name, width, nulls, distinct, *values in rows:
        assert width > 0 and nulls == 0 and distinct != 0
        assert (values != [None] * 3) == (name == "expire_date")


def test_the_function_tells_nothing_of_other_tables(site):
    site.psql(f"""CREATE TABLE payroll (salary int, expire_date timestamptz);
        INSERT INTO payroll SELECT i, now() FROM generate_series(1, 100) i;
        ALTER TABLE payroll OWNER TO {OWNER}; ANALYZE payroll""")
    assert site.psql("SELECT * FROM public.django_session_statistics('payroll')", MONITOR) == []


def test_the_measuring_role_counts(site):
    site.fill(sessions=100)
    assert site.value(f"SELECT count(*) FROM {TABLE} WHERE expire_date < now()", MONITOR) == 97


def test_the_function_is_the_owners_and_nobody_elses(site):
    owner, definer, acl = site.psql("""SELECT pg_get_userbyid(proowner), prosecdef, proacl::text
        FROM pg_proc WHERE proname = 'django_session_statistics'""")[0]
    assert (owner, definer) == (OWNER, True)
    assert "=X/" not in acl.replace(f"{OWNER}=X/", "").replace(f"{MONITOR}=X/", "")


def test_a_planted_function_is_not_called(site, run_check):
    """Only a function of the table's owner is trusted with the measuring role's rights."""
    site.fill(sessions=100)
    mark = site.cluster.log_mark()
    assert run_check().state == "WARNING" and "django_session_statistics(" in site.cluster.log_text(mark)
    site.psql("ALTER FUNCTION public.django_session_statistics OWNER TO postgres")
    mark = site.cluster.log_mark()
    assert run_check().state == "WARNING" and "django_session_statistics(" not in site.cluster.log_text(mark)


def test_the_script_may_run_again_and_for_another_role_and_table(site):
    site.psql("DROP ROLE IF EXISTS watcher")
    site.psql('CREATE SCHEMA "Odd Schema"; CREATE TABLE "Odd Schema"."Sessions" '
              "(session_key varchar(40) PRIMARY KEY, session_data text, expire_date timestamptz)")
    for _ in range(2):
        site.apply_roles()
        site.apply_roles(table='"Odd Schema"."Sessions"', monitor="watcher")
    assert site.value('SELECT count(expire_date) FROM "Odd Schema"."Sessions"', "watcher") == 0
    site.psql('DROP SCHEMA "Odd Schema" CASCADE; DROP OWNED BY watcher; DROP ROLE watcher')


def test_a_wrong_table_is_refused(site):
    with pytest.raises(AssertionError, match="nosuch"):
        site.apply_roles(table="public.nosuch")


@pytest.fixture
def planted(site):
    """What a stranger with CREATE on public puts there, to be found instead of the system's: each says in the server's
    log for whom it was run."""
    site.cluster.create_role("stranger")
    site.psql("GRANT CREATE ON SCHEMA public TO stranger")
    site.psql("""
        CREATE FUNCTION public.same(oid, regclass) RETURNS bool LANGUAGE plpgsql AS
          $$ BEGIN RAISE LOG 'run for %', session_user; RETURN $1 OPERATOR(pg_catalog.=) $2::oid; END $$;
        CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = public.same)""", "stranger")
    yield site
    site.psql("DROP OWNED BY stranger CASCADE")


def test_the_script_runs_nobodys_operators(planted):
    mark = planted.cluster.log_mark()
    planted.psql("SELECT 1::oid = 'pg_class'::regclass", "stranger")
    assert "LOG:  run for " in planted.cluster.log_text(mark)  # where it is found, it is run
    mark = planted.cluster.log_mark()
    planted.apply_roles()
    assert "LOG:  run for " not in planted.cluster.log_text(mark)


def functions(site):
    return site.psql("""SELECT p.proname, pg_get_userbyid(p.proowner), p.prosrc LIKE '%pg_stats%' FROM pg_proc p
        WHERE p.proname LIKE 'django_session_statistics%' ORDER BY 1""")


def test_two_owners_in_one_schema_have_a_function_each(site, run_check):
    site.cluster.create_role("shop")
    site.psql("CREATE TABLE other (LIKE django_session INCLUDING ALL); ALTER TABLE other OWNER TO shop")
    site.fill(sessions=1000)
    site.fill(sessions=1000, table="public.other")
    for _ in range(2):
        site.apply_roles(table="public.other")
        site.apply_roles()
    assert functions(site) == [("django_session_statistics", OWNER, True),
                               ("django_session_statistics_shop", "shop", True)]
    for table in ("django_session", "other"):
        answer = run_check("-T", table, "-v")
        assert "reclaimable at least" not in answer.stdout and answer.perfdata["live"][0] == 30, answer


def test_somebody_elses_function_of_that_name_is_left_alone(site):
    site.cluster.create_role("stranger")
    site.psql("""DROP FUNCTION public.django_session_statistics; GRANT CREATE ON SCHEMA public TO stranger""")
    site.psql("""CREATE FUNCTION public.django_session_statistics(regclass) RETURNS int LANGUAGE sql
                 AS 'SELECT 1'""", "stranger")
    site.apply_roles()
    assert functions(site) == [("django_session_statistics", "stranger", False),
                               (f"django_session_statistics_{OWNER}", OWNER, True)]
    assert not site.value("""SELECT proacl::text LIKE '%monitor%' FROM pg_proc
                             WHERE proname = 'django_session_statistics' AND proacl IS NOT NULL
                             UNION ALL SELECT false LIMIT 1""")
    site.psql("DROP OWNED BY stranger CASCADE")


# -- advice ----------------------------------------------------------------------------------------


def test_nobody_is_advised_to_make_a_superuser(cleaned_site, run_cleanup):
    cleaned_site.fill(sessions=1000)
    cleaned_site.psql("ALTER TABLE django_session OWNER TO postgres")
    for options in (["--method", "swap"], ["-v"]):
        plan = run_cleanup("--dry-run", *options)
        text = plan.stdout + plan.stderr
        assert "GRANT postgres" not in text
        assert f"postgres, and must not be: that is a superuser, or a member of one; ALTER TABLE {TABLE} OWNER TO" in text
    answer = cleaned_site.apply_roles(swapper=SWAPPER)
    assert "nobody is made a member of its owner" in answer.stderr


def test_a_membership_without_set_is_told_from_none(cluster_of_version, cleanup_program):
    """As PostgreSQL knows it since 16. The advice is followed, and helps."""
    server = cluster_of_version("16")
    server.create_role(OWNER)
    server.create_role("helper")
    server.create_database("shop", OWNER)
    server.psql("""CREATE TABLE django_session (session_key varchar(40) PRIMARY KEY, session_data text NOT NULL,
        expire_date timestamptz NOT NULL); CREATE INDEX ON django_session (expire_date)""", "shop", "postgres")
    server.psql(f"""ALTER TABLE django_session OWNER TO {OWNER}; GRANT CREATE ON SCHEMA public TO {OWNER};
        GRANT {OWNER} TO helper WITH SET FALSE; ANALYZE django_session""", "shop")

    def refusals():
        plan = Cleanup(cleanup_program, "--dry-run", "--method", "swap",
                       environment=server.environment("shop", "helper")).result()
        return plan.stdout + plan.stderr
    advice = re.search(r"may not become the owner; (GRANT .* WITH SET TRUE)", refusals())
    assert advice
    server.psql(advice.group(1), "shop")
    assert "GRANT" not in refusals()
    server.drop_database("shop")


@pytest.mark.parametrize("version", ["15", "16"])
def test_a_role_that_others_may_become_is_not_made_a_member_of_the_owner(cluster_of_version, version):
    """Who has made it with CREATEROLE may grant it to himself since 16; and it may have members."""
    server = cluster_of_version(version)
    for role, attributes in ((OWNER, "LOGIN"), ("maker", "LOGIN CREATEROLE"), ("swapper_of_others", "LOGIN")):
        server.psql(f"DROP ROLE IF EXISTS {role}" if role != OWNER else "SELECT 1")
        if role != "swapper_of_others":
            server.create_role(role, attributes)
    server.create_database("shop", OWNER)
    server.psql("CREATE TABLE django_session (session_key varchar(40) PRIMARY KEY, session_data text, expire_date timestamptz);"
                f"ALTER TABLE django_session OWNER TO {OWNER}; GRANT CREATE ON SCHEMA public TO {OWNER}", "shop")
    server.psql("CREATE ROLE swapper_of_others LOGIN", user="maker")
    if version == "15":
        server.psql("GRANT swapper_of_others TO maker")
    is_member = f"SELECT pg_has_role('{{}}', '{OWNER}', 'MEMBER')"

    def apply():
        return server.run_file(ROLES_SQL, "shop", "postgres", swapper="swapper_of_others").stderr
    try:
        text = apply()
        assert "not made a member of the owner" in text and "its members: maker" in text
        assert server.psql(is_member.format("swapper_of_others")) == [(False,)]
        server.psql("REVOKE swapper_of_others FROM maker CASCADE")
        assert "member of the owner" not in apply() and "member of the owner" not in apply()
        assert server.psql(is_member.format("swapper_of_others")) == [(True,)]
        server.psql("GRANT swapper_of_others TO maker")
        assert "its members: maker" in apply(), "though they are the owner's members by now"
        server.psql(f"REVOKE swapper_of_others FROM maker; GRANT {OWNER} TO maker; GRANT swapper_of_others TO maker")
        assert "its members" not in apply(), "they gain nothing"
    finally:
        server.drop_database("shop")
        server.psql("DROP ROLE swapper_of_others; DROP ROLE maker")
