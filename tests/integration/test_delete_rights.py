"""The method `delete` and code of the table's owner: it runs with his rights, whoever cleans up."""

import contextlib

import pytest

from cleanup_command import CLEANER, DONE, REFUSED, STOPPED, SWAPPER
from django_site import OWNER, TABLE
from pgbouncer_server import PgBouncer
from processes import wait_for

DELETE = ("--method", "delete", "--no-progress")
EXPIRED = f"SELECT count(*) FROM {TABLE} WHERE expire_date < now()"
SUPERUSERS = f"SELECT rolname FROM pg_roles WHERE rolsuper AND rolname IN ('{OWNER}', '{CLEANER}', '{SWAPPER}')"

# Tries to become a superuser; a trigger notes as whom it ran.
EVIL = f"""
CREATE TABLE spy (who name);
CREATE FUNCTION evil(text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  BEGIN EXECUTE 'RESET ROLE'; EXECUTE 'RESET SESSION AUTHORIZATION'; EXCEPTION WHEN OTHERS THEN NULL; END;
  BEGIN EXECUTE 'ALTER ROLE {OWNER} SUPERUSER'; EXCEPTION WHEN OTHERS THEN NULL; END;
  RETURN true;
END $$;
CREATE FUNCTION evil_trigger() RETURNS trigger LANGUAGE plpgsql AS
  $$BEGIN PERFORM public.evil(''); INSERT INTO public.spy VALUES (current_user); RETURN OLD; END$$;
"""
TRIGGER = f"ON {TABLE} FOR EACH ROW EXECUTE FUNCTION evil_trigger()"
CHILD = f"""
CREATE TABLE child (session_key varchar(40) REFERENCES {TABLE} ON DELETE CASCADE);
INSERT INTO child SELECT session_key FROM {TABLE} LIMIT 10;
"""
PLACES = {
    "before each row": f"CREATE TRIGGER t BEFORE DELETE {TRIGGER}",
    "after each row": f"CREATE TRIGGER t AFTER DELETE {TRIGGER}",
    "after all": f"CREATE TRIGGER t AFTER DELETE ON {TABLE} EXECUTE FUNCTION evil_trigger()",
    "condition": f"""CREATE TRIGGER t BEFORE DELETE ON {TABLE} FOR EACH ROW WHEN (evil(OLD.session_key))
        EXECUTE FUNCTION evil_trigger()""",
    "child": CHILD + "CREATE TRIGGER t AFTER DELETE ON child FOR EACH ROW EXECUTE FUNCTION evil_trigger()",
    "expression": f"CREATE INDEX i ON {TABLE} ((evil(session_key)))",
    "predicate": f"CREATE INDEX i ON {TABLE} (session_data) WHERE evil('planned')",
    "check": f"ALTER TABLE {TABLE} ADD CHECK (evil('planned'))",
}
DEFERRED = f"CREATE CONSTRAINT TRIGGER t AFTER DELETE ON {TABLE} INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION evil_trigger()"
DEFERRED_CHILD = CHILD + DEFERRED.replace(TABLE, "child")


@pytest.fixture
def attacked(cleaned_site):
    cleaned_site.fill(sessions=500)
    yield cleaned_site
    cleaned_site.psql(f"ALTER ROLE {OWNER} NOSUPERUSER")


def place(site, code):
    """As the owner; his index build and his own CHECK run it with his rights, which proves nothing."""
    site.psql(EVIL + code, OWNER)
    site.psql("TRUNCATE spy", OWNER)


@pytest.mark.parametrize("user", ["postgres", SWAPPER, CLEANER])
@pytest.mark.parametrize("code", PLACES.values(), ids=PLACES)
def test_the_owners_code_runs_as_the_owner(attacked, run_cleanup, user, code):
    place(attacked, code)
    result = run_cleanup(*DELETE, user=user)
    assert attacked.psql(SUPERUSERS) == []
    assert (result.code, result.deleted) == (DONE, 485), result
    assert attacked.value(EXPIRED) == 0
    assert attacked.psql("SELECT DISTINCT who FROM spy") == ([(OWNER,)] if "TRIGGER" in code else [])


@pytest.mark.parametrize("user", ["postgres", SWAPPER])
def test_what_waits_for_the_commit_is_refused_by_name(attacked, run_cleanup, user):
    place(attacked, DEFERRED)
    result = run_cleanup(*DELETE, user=user)
    assert result.code == REFUSED, result
    assert "trigger t is deferred" in result.stderr and f"clean up as {OWNER}" in result.stderr
    assert attacked.psql(SUPERUSERS) == [] and attacked.psql("SELECT * FROM spy") == []
    assert run_cleanup(*DELETE, user=OWNER).deleted == 485


@pytest.mark.parametrize("user", ["postgres", SWAPPER])
def test_what_waits_for_the_commit_elsewhere_does_not_run(attacked, run_cleanup, user):
    place(attacked, DEFERRED_CHILD)
    result = run_cleanup(*DELETE, user=user)
    assert result.code not in (DONE, STOPPED), result
    assert "security-restricted operation" in result.message and f"clean up as {OWNER}" in result.message
    assert attacked.psql(SUPERUSERS) == [] and attacked.psql("SELECT * FROM spy") == []


def test_a_member_of_two_owners_does_not_lend_one_the_others_rights(attacked, run_cleanup):
    attacked.cluster.create_role("shop")
    attacked.psql(f"CREATE TABLE secret (a int); ALTER TABLE secret OWNER TO shop; GRANT shop TO {SWAPPER}")
    try:
        attacked.psql(EVIL.replace(f"ALTER ROLE {OWNER} SUPERUSER", "GRANT SELECT ON secret TO PUBLIC") +
                      PLACES["before each row"], OWNER)
        assert run_cleanup(*DELETE, user=SWAPPER).deleted == 485
        assert not attacked.value(f"SELECT has_table_privilege('{OWNER}', 'secret', 'SELECT')")
    finally:
        attacked.psql("DROP TABLE secret; DROP ROLE shop")


@pytest.mark.parametrize("more", [
    "CREATE TABLE secret (a int); GRANT SELECT ON secret TO {0}", "GRANT pg_read_all_stats TO {0}",
    "ALTER ROLE {0} CREATEDB", "CREATE SCHEMA closed; GRANT CREATE ON SCHEMA closed TO {0}"])
def test_a_role_with_rights_beyond_the_owners_calls_no_function_of_his(attacked, run_cleanup, more):
    attacked.psql(more.format(CLEANER))
    try:
        result = run_cleanup(*DELETE)
    finally:
        attacked.psql(f"ALTER ROLE {CLEANER} NOCREATEDB; REVOKE pg_read_all_stats FROM {CLEANER}")
    assert result.code == REFUSED and "has rights that django, whose code deletes, hasn't" in result.stderr, result
    assert attacked.value(EXPIRED) == 485


@pytest.mark.parametrize("change", [
    "ALTER FUNCTION public.django_session_delete_expired SECURITY INVOKER",
    "DROP FUNCTION public.django_session_delete_expired"])
def test_a_function_that_is_not_what_roles_sql_made_is_not_called(attacked, run_cleanup, change):
    attacked.psql(change, OWNER)
    result = run_cleanup(*DELETE)
    assert result.code == REFUSED and f"run conf.d/roles.sql (psql -v cleaner={CLEANER})" in result.stderr, result


def test_a_right_to_delete_alone_is_not_used(attacked, run_cleanup):
    """The owner's trigger would run with all that this role may do."""
    attacked.psql(f"CREATE ROLE reaper LOGIN; GRANT SELECT, DELETE ON {TABLE} TO reaper")
    try:
        result = run_cleanup(*DELETE, user="reaper")
        assert result.code == REFUSED and f"clean up as {OWNER}, or as" in result.stderr, result
    finally:
        attacked.psql("DROP OWNED BY reaper; DROP ROLE reaper")


def test_where_the_owner_may_not_create_a_superuser_is_told_what_to_do(attacked, run_cleanup):
    attacked.psql(f"REVOKE CREATE ON SCHEMA public FROM PUBLIC; REVOKE CREATE ON SCHEMA public FROM {OWNER}; "
                  "ALTER DATABASE site OWNER TO postgres")
    result = run_cleanup(*DELETE, user="postgres")
    assert result.code == REFUSED, result
    assert f"run it as {OWNER}, or GRANT USAGE, CREATE ON SCHEMA public TO {OWNER}" in result.stderr
    assert run_cleanup(*DELETE, user=OWNER).deleted == 485


def test_a_batch_leaves_nothing_in_the_catalogue(attacked, run_cleanup):
    made = "SELECT relname FROM pg_class WHERE relname LIKE 'djs%' UNION SELECT proname FROM pg_proc WHERE proname LIKE 'djs%'"
    assert run_cleanup(*DELETE, user="postgres").code == DONE
    assert attacked.psql(made) == []
