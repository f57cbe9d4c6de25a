"""conf.d/roles.sql: what the roles that delete and swap can do, and what the server refuses them."""

import psycopg2
import pytest

from cleanup_command import CLEANER, DONE, SWAPPER
from django_site import MONITOR, OWNER, TABLE

FUNCTION = "public.django_session_delete_expired"
FIRST = f"(SELECT ctid FROM {TABLE} LIMIT 1)"


@pytest.fixture
def neglected(cleaned_site):
    cleaned_site.fill(sessions=1000)
    return cleaned_site


def call(table=TABLE, cutoff="infinity", function=FUNCTION):
    return f"SELECT deleted FROM {function}('{table}', '{cutoff}', '-infinity', 50000, '{{}}', '{{}}', false)"


def version(site):
    return site.value("SELECT current_setting('server_version_num')::int")


# -- deleting ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sql", [
    f"SELECT session_key FROM {TABLE}", f"SELECT session_data FROM {TABLE}", f"SELECT * FROM {TABLE}",
    f"SELECT s FROM {TABLE} s", f"TABLE {TABLE}", f"COPY {TABLE} TO STDOUT",
    f"SELECT count(*) FROM {TABLE} WHERE session_key LIKE 'a%'",
    f"DELETE FROM {TABLE} WHERE session_key = 'a'", f"DELETE FROM {TABLE} RETURNING session_key",
    f"DELETE FROM {TABLE} WHERE expire_date < now()", f"SELECT ctid FROM {TABLE}", f"DELETE FROM {TABLE} RETURNING *", f"DELETE FROM {TABLE} WHERE session_data IS NOT NULL",
    f"UPDATE {TABLE} SET expire_date = now()", f"UPDATE {TABLE} SET session_key = 'a'",
    f"INSERT INTO {TABLE} VALUES ('a', 'b', now())", f"TRUNCATE {TABLE}", f"DROP TABLE {TABLE}",
    f"ALTER TABLE {TABLE} ADD COLUMN a int", f"CREATE TRIGGER t BEFORE DELETE ON {TABLE} EXECUTE FUNCTION "
    "suppress_redundant_updates_trigger()", "CREATE TABLE public.mine (a int)",
    f"SELECT FROM {TABLE} WHERE ctid = {FIRST} FOR UPDATE", "DROP INDEX public.django_session_pkey",
    f"SET ROLE {OWNER}", "SELECT pg_read_file('/etc/passwd')"])
def test_the_server_refuses_the_deleting_role(neglected, sql):
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        neglected.psql(sql, CLEANER)


def test_the_deleting_role_can_only_delete_what_has_expired(neglected):
    assert neglected.value(call(), CLEANER) == 970
    assert neglected.value(f"SELECT count(*) FROM {TABLE} WHERE expire_date > now()") == 30
    live = neglected.value(f"SELECT array_agg(ctid)::text FROM {TABLE}")
    assert neglected.value(f"SELECT deleted FROM {FUNCTION}('{TABLE}', NULL, NULL, NULL, NULL, '{live}', true)",
                           CLEANER) == 0
    assert neglected.value(f"SELECT count(*) FROM {TABLE}") == 30


@pytest.mark.parametrize("columns, owner", [("session_key, expire_date", OWNER), ("*", "postgres")])
def test_the_function_is_for_session_tables_of_its_owner(neglected, columns, owner):
    neglected.psql(f"CREATE TABLE other AS SELECT {columns} FROM {TABLE}; ALTER TABLE other OWNER TO {owner}")
    with pytest.raises(psycopg2.errors.RaiseException, match=f"that is no session table of {OWNER}"):
        neglected.psql(call("other"), CLEANER)


def test_running_the_script_again_takes_the_former_rights_away(neglected, run_cleanup):
    neglected.psql(f"GRANT SELECT (ctid), DELETE ON {TABLE} TO {CLEANER}")
    neglected.apply_roles(cleaner=CLEANER)
    assert not neglected.value(f"SELECT has_table_privilege('{CLEANER}', '{TABLE}', 'DELETE')")
    assert run_cleanup("--method", "delete").deleted == 970


def test_a_strangers_function_of_that_name_is_left_alone(site, start_cleanup):
    site.cluster.create_role("stranger")
    site.psql(f"""GRANT CREATE ON SCHEMA public TO stranger; SET ROLE stranger;
        CREATE FUNCTION {FUNCTION}(regclass, timestamptz, timestamptz, int, tid[], tid[], bool) RETURNS int
        LANGUAGE sql AS 'SELECT 1'""")
    try:
        site.apply_roles(cleaner=CLEANER)
        assert site.value(f"SELECT prosrc FROM pg_proc WHERE oid = '{FUNCTION}'::regproc") == "SELECT 1"
        site.fill(sessions=1000)
        result = start_cleanup("--method", "delete").result()
        assert (result.code, result.deleted) == (DONE, 970), result
    finally:
        site.psql("DROP OWNED BY stranger; DROP ROLE stranger")


def test_two_tables_of_two_owners_in_one_schema(site, start_cleanup):
    site.cluster.create_role("shop")
    site.psql(f"""CREATE TABLE public.shop_session (LIKE {TABLE} INCLUDING ALL);
        ALTER TABLE public.shop_session OWNER TO shop""")
    try:
        site.apply_roles(cleaner=CLEANER)
        site.apply_roles(cleaner="shop_cleaner", table="public.shop_session")
        for table, cleaner in ((TABLE, CLEANER), ("public.shop_session", "shop_cleaner")):
            site.fill(sessions=1000, table=table)
            result = start_cleanup("--method", "delete", "-T", table, user=cleaner).result()
            assert (result.code, result.deleted) == (DONE, 970), result
        # One role for both would be a way from one owner to what the other has granted.
        site.apply_roles(cleaner=CLEANER, table="public.shop_session")
        result = start_cleanup("--method", "delete").result()
        assert result.code == 3 and "has rights that django, whose code deletes, lacks (" in result.stderr, result
    finally:
        site.psql("DROP OWNED BY shop, shop_cleaner CASCADE; DROP ROLE shop, shop_cleaner")


def test_the_deleting_role_sees_no_statistics_of_keys_or_data(neglected):
    assert neglected.psql("SELECT attname FROM pg_stats WHERE tablename = 'django_session'", CLEANER) == [
        ("expire_date",)]
    for name, *_, values, frequencies, histogram in neglected.psql(
            f"SELECT * FROM public.django_session_statistics('{TABLE}')", CLEANER):
        assert name == "expire_date" or (values, frequencies, histogram) == (None, None, None)


def test_the_deleting_role_does_not_see_what_others_run(neglected):
    """Statements of Django have keys in them."""
    with neglected.cluster.locked("site"):
        seen = {text for text, in neglected.psql(
            f"SELECT query FROM pg_stat_activity WHERE usename <> '{CLEANER}'", CLEANER)}
    assert seen <= {"<insufficient privilege>", "", None}


@pytest.mark.parametrize("command", ["VACUUM", "ANALYZE"])
def test_the_deleting_role_vacuums_where_that_can_be_granted(neglected, command):
    connection = neglected.cluster.connect("site", CLEANER)
    connection.cursor().execute(f"{command} {TABLE}")
    warned = any("WARNING" in notice for notice in connection.notices)
    connection.close()
    assert warned == (version(neglected) < 170000)


def test_the_deleting_role_is_a_member_of_nothing(neglected):
    assert neglected.value(f"""SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
        WHERE r.rolname = '{CLEANER}'""") == 0
    assert neglected.psql(f"""SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolcanlogin
        FROM pg_roles WHERE rolname IN ('{CLEANER}', '{SWAPPER}') GROUP BY 1, 2, 3, 4, 5, 6""") == [
            (False, False, False, False, False, True)]


@pytest.mark.parametrize("right, needed", [
    (f"EXECUTE ON FUNCTION {FUNCTION}", f"conf.d/roles.sql makes (psql -v cleaner={CLEANER})"),
    (f"SELECT (expire_date) ON {TABLE}", "GRANT SELECT (expire_date)")])
def test_each_right_is_needed_and_its_lack_is_explained(neglected, run_cleanup, right, needed):
    neglected.psql(f"REVOKE {right} FROM {CLEANER}")
    result = run_cleanup("--method", "delete")
    assert result.code == 3 and needed in result.stderr, result
    assert neglected.value(f"SELECT count(*) FROM {TABLE}") == 1000


def test_the_statistics_function_is_a_help_and_no_need(neglected, run_cleanup):
    neglected.psql(f"REVOKE EXECUTE ON FUNCTION public.django_session_statistics FROM {CLEANER}")
    assert run_cleanup("--method", "delete").deleted == 970


# -- swapping ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["delete", "swap", "full"])
def test_the_swapping_role_can_use_every_method(neglected, run_cleanup, method):
    owners = "SELECT relname, pg_get_userbyid(relowner) FROM pg_class WHERE relname LIKE 'django_session%' ORDER BY 1"
    before = neglected.psql(owners)
    result = run_cleanup("--method", method, user=SWAPPER)
    assert result.code == DONE, result
    assert neglected.value(f"SELECT count(*) FROM {TABLE}") == 30
    assert neglected.psql(owners) == before


def test_the_roles_keep_their_rights_after_a_swap(neglected, run_cleanup):
    acl = f"SELECT relacl::text FROM pg_class WHERE oid = '{TABLE}'::regclass"
    before = neglected.value(acl)
    run_cleanup("--method", "swap", user=SWAPPER)
    assert neglected.value(acl) == before
    neglected.fill(sessions=1000)
    assert run_cleanup("--method", "delete", user=CLEANER).deleted == 970


@pytest.mark.parametrize("sql", [
    "CREATE ROLE evil", "ALTER SYSTEM SET fsync = off", "SET ROLE postgres", "SELECT pg_read_file('/etc/passwd')",
    "COPY (SELECT 1) TO PROGRAM 'true'", "CREATE DATABASE evil"])
def test_the_server_refuses_the_swapping_role(neglected, sql):
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        neglected.psql(sql, SWAPPER)


# -- the script --------------------------------------------------------------------------------------


@pytest.fixture
def no_such_roles(cluster):
    """Roles with odd names that this test alone makes, in the databases that it drops."""
    yield ("odd cleaner", 'the "swapper"')


def test_without_a_request_nobody_else_may_delete(site):
    grantees = f"""SELECT DISTINCT g.grantee::regrole::text FROM pg_class c, aclexplode(c.relacl) g
        WHERE c.oid = '{TABLE}'::regclass AND g.privilege_type = 'DELETE'"""
    assert site.psql(grantees) in ([], [(OWNER,)])  # without any grant there is no list
    assert not site.psql(f"SELECT 1 FROM pg_auth_members WHERE roleid = '{OWNER}'::regrole "
                         f"AND member = '{MONITOR}'::regrole")


def test_the_script_may_run_again_and_with_odd_names(site, no_such_roles):
    cleaner, swapper = no_such_roles
    for _ in range(2):
        site.apply_roles(cleaner=cleaner, swapper=swapper)
    site.fill(sessions=10)
    assert site.value(call(), cleaner) == 10
    assert site.value(f"SELECT count(*) FROM {TABLE}", swapper) == 0


def test_one_role_can_be_had_without_the_other(site):
    site.apply_roles(cleaner=CLEANER)
    site.psql("DROP ROLE IF EXISTS lonely_swapper")
    assert not site.psql("SELECT 1 FROM pg_roles WHERE rolname = 'lonely_swapper'")
    site.apply_roles(swapper="lonely_swapper")
    assert site.value(f"SELECT pg_has_role('lonely_swapper', '{OWNER}', 'USAGE')")
    assert not site.value(f"SELECT pg_has_role('{CLEANER}', '{OWNER}', 'MEMBER')")


def test_nobody_becomes_a_superuser_by_it(site):
    site.psql(f"ALTER TABLE {TABLE} OWNER TO postgres")
    said = site.apply_roles(swapper="careful_swapper").stderr
    assert "The table belongs to a superuser" in said
    assert not site.value("SELECT pg_has_role('careful_swapper', 'postgres', 'MEMBER')")


def test_an_owner_that_may_not_create_tables_is_pointed_out(site):
    site.cluster.create_role("plain")
    site.psql(f"ALTER TABLE {TABLE} OWNER TO plain; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    try:
        said = site.apply_roles(swapper=SWAPPER).stderr
        assert "may not create tables in the schema" in said
    finally:
        site.psql(f"ALTER TABLE {TABLE} OWNER TO {OWNER}; DROP OWNED BY plain; DROP ROLE plain")


def test_the_measuring_role_is_as_before(neglected):
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        neglected.psql(f"DELETE FROM {TABLE} WHERE ctid = '(0,1)'", MONITOR)
