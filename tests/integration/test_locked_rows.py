"""The method `delete` beside sessions that others hold: what it reaches goes, and what stays is counted and named."""

import contextlib
import time

import pytest

from cleanup_command import CLEANER, DONE, STOPPED, SWAPPER, Cleanup
from django_site import OWNER, TABLE
from processes import wait_for

DELETE = ("--method", "delete", "--no-progress")
EXPIRED = f"SELECT count(*) FROM {TABLE} WHERE expire_date < now()"


@contextlib.contextmanager
def held(site, condition, mode="FOR UPDATE", user=OWNER):
    """Sessions that somebody holds meanwhile; gives his pid."""
    with contextlib.closing(site.cluster.connect("site", user, autocommit=False)) as connection:
        connection.cursor().execute(f"SELECT count(*) FROM (SELECT FROM {TABLE} WHERE {condition} {mode}) held")
        yield connection.get_backend_pid()
        connection.rollback()


def of_one_moment(site, sessions, moment="2020-01-01"):
    site.psql(f"INSERT INTO {TABLE} SELECT 'same' || i, '', '{moment}' FROM generate_series(1, {sessions}) i")


@pytest.mark.some_cases(3)
@pytest.mark.parametrize("user, moment", [(CLEANER, "2020-01-01"), (SWAPPER, "2020-01-01"), (OWNER, "-infinity")])
def test_one_that_is_held_keeps_no_other_of_its_moment(cleaned_site, run_cleanup, user, moment):
    of_one_moment(cleaned_site, 20_000, moment)
    with held(cleaned_site, "session_key = 'same777'") as pid:
        result = run_cleanup(*DELETE, user=user)
    assert (result.code, result.deleted) == (DONE, 19_999), result
    assert f"1 expired session is locked by pid {pid} of role {OWNER}" in result.message
    assert cleaned_site.psql(f"SELECT session_key FROM {TABLE}") == [("same777",)]
    assert run_cleanup(*DELETE, user=user).deleted == 1


@pytest.mark.parametrize("every, code", [(233, DONE), (15, STOPPED)])
def test_many_that_are_held_make_it_hardly_slower(cleaned_site, run_cleanup, every, code):
    """257 and 4,000 of 60,000."""
    cleaned_site.fill(sessions=60_000, expired_share=1)
    number = "row_number() OVER (ORDER BY expire_date)"
    few = f"ctid IN (SELECT ctid FROM (SELECT ctid, {number} AS n FROM {TABLE}) x WHERE n % {every} = 0)"
    count = 60_000 // every
    if cleaned_site.cluster.version >= 17:  # VACUUM waits for old transactions
        cleaned_site.psql(f"REVOKE MAINTAIN ON {TABLE} FROM {CLEANER}")
    cleaned_site.psql("CREATE TABLE again AS TABLE django_session")
    free = run_cleanup(*DELETE)
    assert free.deleted == 60_000
    cleaned_site.psql(f"INSERT INTO {TABLE} TABLE again")
    with held(cleaned_site, few) as pid:
        result = run_cleanup(*DELETE)
    assert (result.code, result.deleted) == (code, 60_000 - count), result
    assert f"{count} expired sessions are locked by pid {pid}" in result.message
    assert cleaned_site.value(EXPIRED) == count
    assert result.seconds < 2.5 * free.seconds + 5  # three last tries of what is held


def test_some_that_are_held_are_no_reason_to_fail(neglected, run_cleanup):
    with held(neglected, f"ctid IN (SELECT ctid FROM {TABLE} ORDER BY expire_date LIMIT 100)"):
        result = run_cleanup(*DELETE)
    assert (result.code, result.deleted) == (DONE, 29_000), result
    assert "; 100 expired sessions are locked by pid" in result.message


def test_where_all_are_held_it_has_not_done_its_work(cleaned_site, run_cleanup):
    cleaned_site.fill(sessions=50, expired_share=1)
    with held(cleaned_site, "true"):
        result = run_cleanup(*DELETE)
    assert (result.code, result.deleted) == (STOPPED, 0), result
    assert "0 deleted, but 50 expired sessions are locked by pid" in result.message


def test_beside_another_job_that_deletes_it_stops_and_names_it(neglected, run_cleanup):
    """As beside a clearsessions that takes hours: none is free, and reading on costs it time for nothing."""
    with held(neglected, "expire_date < now()") as pid:
        result = run_cleanup(*DELETE)
    assert (result.code, result.deleted) == (STOPPED, 0), result
    assert f"thousands of expired sessions in a row are locked by pid {pid}" in result.message


def test_what_is_held_for_a_moment_goes_in_the_same_run(neglected, start_cleanup):
    with held(neglected, f"ctid IN (SELECT ctid FROM {TABLE} ORDER BY expire_date LIMIT 300)"):
        cleanup = start_cleanup(*DELETE)
        wait_for(lambda: neglected.value(EXPIRED) < 15_000, "half of them")
    result = cleanup.result()
    assert (result.code, result.deleted) == (DONE, 29_100), result
    assert "locked by" not in result.message


def test_several_that_hold_it_together_are_named(neglected, run_cleanup):
    """Then the row has no transaction's id but that of a group."""
    one = f"ctid = (SELECT ctid FROM {TABLE} ORDER BY expire_date LIMIT 1)"
    with held(neglected, one, "FOR SHARE") as first, held(neglected, one, "FOR SHARE") as second:
        result = run_cleanup(*DELETE)
    assert (result.code, result.deleted) == (DONE, 29_099), result
    assert f"pid {first} of role" in result.message and f"pid {second} of role" in result.message


def test_a_prepared_transaction_that_holds_one_is_named(own_site, cleanup_program):
    site = own_site(max_prepared_transactions=2)
    site.fill(sessions=1000)
    with contextlib.closing(site.cluster.connect("site", OWNER, autocommit=False)) as client:
        client.cursor().execute(f"DELETE FROM {TABLE} WHERE ctid = (SELECT min(ctid) FROM {TABLE}); "
                                "PREPARE TRANSACTION 'forgotten'")
    result = Cleanup(cleanup_program, *DELETE, environment=site.cluster.environment("site", OWNER)).result()
    assert (result.code, result.deleted) == (DONE, 969), result
    assert f'1 expired session is locked by prepared transaction "forgotten" of role {OWNER}' in result.message


def test_those_that_a_trigger_keeps_are_told_from_those_that_are_held(neglected, run_cleanup):
    neglected.psql(f"""CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS
          $$BEGIN IF OLD.session_data = 'keep' THEN RETURN NULL; END IF; RETURN OLD; END$$;
        ALTER FUNCTION keep() OWNER TO {OWNER};
        CREATE TRIGGER keep BEFORE DELETE ON {TABLE} FOR EACH ROW EXECUTE FUNCTION keep();
        UPDATE {TABLE} SET session_data = 'keep' WHERE ctid IN (SELECT ctid FROM {TABLE}
          WHERE expire_date < now() LIMIT 7)""")
    result = run_cleanup(*DELETE)
    assert (result.code, result.deleted) == (DONE, 29_093), result
    assert "7 expired sessions are still there after the DELETE" in result.message and "locked" not in result.message


# -- What a DELETE sets off ------------------------------------------------------------------------------

CASCADE = f"""CREATE TABLE extra (session_key varchar(40) PRIMARY KEY REFERENCES {TABLE} ON DELETE CASCADE, note text);
    INSERT INTO extra SELECT session_key FROM {TABLE} WHERE expire_date < now() ORDER BY expire_date LIMIT 1;
    ALTER TABLE extra OWNER TO {OWNER}"""
TRIGGER = f"""CREATE TABLE extra (note text); INSERT INTO extra VALUES (''); ALTER TABLE extra OWNER TO {OWNER};
    CREATE FUNCTION count_it() RETURNS trigger LANGUAGE plpgsql AS
      $$BEGIN UPDATE public.extra SET note = note; RETURN OLD; END$$;
    ALTER FUNCTION count_it() OWNER TO {OWNER};
    CREATE TRIGGER count_it BEFORE DELETE ON {TABLE} FOR EACH STATEMENT EXECUTE FUNCTION count_it()"""
NEEDED = "lock that a trigger or a foreign key needs"


@contextlib.contextmanager
def extra_held(site, and_then="SELECT"):
    with contextlib.closing(site.cluster.connect("site", OWNER, autocommit=False)) as connection:
        connection.cursor().execute(f"UPDATE extra SET note = 'y'; {and_then}")
        yield connection.get_backend_pid()
        connection.rollback()


@pytest.mark.parametrize("user, needs", [(OWNER, CASCADE), (SWAPPER, TRIGGER), (CLEANER, CASCADE)],
                         ids=["cascade", "trigger as owner", "cascade by function"])
def test_who_holds_what_a_deletion_sets_off_is_named(neglected, start_cleanup, user, needs):
    neglected.psql(needs)
    with extra_held(neglected) as pid:
        cleanup = start_cleanup(*DELETE, user=user)
        time.sleep(6)
        assert cleanup.running
    result = cleanup.result()
    assert (result.code, result.deleted) == (DONE, 29_100), result
    assert f"waiting for the {NEEDED}: pid {pid} of role {OWNER}" in result.stderr, result


def test_what_a_deletion_sets_off_is_not_waited_for_without_end(neglected, run_cleanup):
    neglected.psql(CASCADE)
    with extra_held(neglected) as pid:
        result = run_cleanup(*DELETE)
    assert (result.code, result.deleted) == (STOPPED, 0) and 55 < result.seconds < 90, result
    assert f"the {NEEDED} was never granted: pid {pid} of role {OWNER}" in result.message


def test_a_prepared_transaction_that_holds_what_a_deletion_sets_off_is_named(own_site, cleanup_program):
    site = own_site(max_prepared_transactions=2)
    site.fill(sessions=1000)
    site.psql(CASCADE)
    with extra_held(site, "PREPARE TRANSACTION 'forgotten'"):
        cleanup = Cleanup(cleanup_program, *DELETE, environment=site.cluster.environment("site", OWNER))
        time.sleep(6)
    site.psql("ROLLBACK PREPARED 'forgotten'")
    result = cleanup.result()
    assert (result.code, result.deleted) == (DONE, 970), result
    assert f'waiting for the {NEEDED}: prepared transaction "forgotten" of role {OWNER}' in result.stderr, result
