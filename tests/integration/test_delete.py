"""The method `delete`: what goes, what stays, whose rights it takes, and what it does when somebody is in the way."""

import contextlib
import os
import random
import re
import signal
import threading
import time

import psycopg2
import pytest

from cleanup_command import CLEANER, DONE, FAILED, REFUSED, STOPPED, SWAPPER, Cleanup
from django_site import OWNER, TABLE, DjangoSite
from gate import after_two_batches
from pgbouncer_server import PgBouncer
from processes import wait_for
from test_swap import oid
from traffic import Traffic
from wire_proxy import BeforeTheFirst, Fault, WireProxy

DELETE = ("--method", "delete", "--no-progress")
CONTENT = f"""SELECT md5(string_agg(s::text, ',' ORDER BY session_key)), count(*)
    FROM {TABLE} s WHERE expire_date > now()"""
INDEXES = f"""SELECT c.relname, pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisprimary, pg_relation_size(c.oid)
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = '{TABLE}'::regclass ORDER BY 1"""
EXPIRED = f"SELECT count(*) FROM {TABLE} WHERE expire_date < now()"


@contextlib.contextmanager
def transaction(site, *statements, user=OWNER, isolation=""):
    """A transaction left open after these statements."""
    with contextlib.closing(site.cluster.connect("site", user, autocommit=False)) as connection:
        cursor = connection.cursor()
        for statement in ([f"SET TRANSACTION ISOLATION LEVEL {isolation}"] if isolation else []) + list(statements):
            cursor.execute(statement)
        yield connection


def sent(site, mark):
    """The messages that the cleanup has sent since a mark, each with all its lines."""
    entries = re.split(r"^(?=\d{4}-\d\d-\d\d \S+ \S+ \[)", site.cluster.log_text(mark), flags=re.M)
    return [entry.partition("statement: ")[2] for entry in entries if " django_session LOG:  statement: " in entry]


def commands(site, mark, word):
    """Those that begin with a word: VACUUM, REINDEX, SET."""
    return [text for text in sent(site, mark) if re.match(rf"\s*{word}\b", text)]


def oldest(site):
    return site.value(f"SELECT session_key FROM {TABLE} ORDER BY expire_date LIMIT 1")


# -- what goes and what stays ------------------------------------------------------------------------


@pytest.mark.sanitizers
def test_expired_sessions_go_and_live_ones_stay_as_they_are(neglected, run_cleanup):
    before = neglected.psql(CONTENT)
    result = run_cleanup(*DELETE)
    assert (result.code, result.word, result.deleted) == (DONE, "DONE", 29_100), result
    assert neglected.psql(CONTENT) == before
    assert neglected.value(EXPIRED) == 0


def test_keep_leaves_what_expired_lately(neglected, run_cleanup):
    kept = neglected.value(f"SELECT count(*) FROM {TABLE} WHERE expire_date BETWEEN now() - interval '7 d' AND now()")
    result = run_cleanup(*DELETE, "--keep", "7d")
    assert result.code == DONE, result
    assert neglected.value(EXPIRED) == kept > 0


def test_a_table_without_expired_sessions_is_left_alone(cleaned_site, run_cleanup):
    cleaned_site.fill(sessions=100, expired_share=0)
    assert run_cleanup(*DELETE).deleted == 0
    assert cleaned_site.value(f"SELECT count(*) FROM {TABLE}") == 100


@pytest.mark.parametrize("method", ["delete", "swap", "full"])
def test_an_empty_table_has_0_expired_sessions(cleaned_site, run_cleanup, method):
    result = run_cleanup("--method", method, "--no-progress", user=SWAPPER)
    assert result.code == DONE, result
    assert result.message.startswith(f"{method}: 0 expired sessions deleted, "), result


def test_very_old_and_equal_times_are_no_obstacle(cleaned_site, run_cleanup):
    cleaned_site.fill(sessions=100)
    cleaned_site.psql(f"""INSERT INTO {TABLE} SELECT 'old' || i, '', '-infinity' FROM generate_series(1, 3) i;
        INSERT INTO {TABLE} SELECT 'same' || i, '', '2020-01-01' FROM generate_series(1, 5000) i""")
    assert run_cleanup(*DELETE).deleted == 97 + 5003


def test_other_schemas_odd_names_and_more_columns(cleaned_site, run_cleanup):
    cleaned_site.psql("""CREATE SCHEMA "Odd Schema"; CREATE TABLE "Odd Schema"."My.Sessions" (
        session_key varchar(40) PRIMARY KEY, session_data text, expire_date timestamptz NOT NULL, ip inet);
        CREATE INDEX ON "Odd Schema"."My.Sessions" (expire_date)""")
    cleaned_site.fill(sessions=1000, table='"Odd Schema"."My.Sessions"')
    cleaned_site.apply_roles(table='"Odd Schema"."My.Sessions"', cleaner=CLEANER)
    result = run_cleanup(*DELETE, "-T", '"Odd Schema"."My.Sessions"')
    assert (result.code, result.deleted) == (DONE, 970), result


@pytest.mark.parametrize("user", [CLEANER, OWNER])
def test_a_session_renewed_while_its_batch_runs_survives(neglected, start_cleanup, user):
    """The batch has seen the old row and waits for its lock: when it gets it, the row has a new expiry time."""
    key = oldest(neglected)
    renew = f"UPDATE {TABLE} SET expire_date = now() + interval '14 d' WHERE session_key = '{key}'"
    with transaction(neglected, renew) as client:
        cleanup = start_cleanup(*DELETE, "--lock-timeout", "20", user=user)
        wait_for(lambda: neglected.value("SELECT count(*) FROM pg_locks WHERE NOT granted") == 1, "the batch to wait")
        client.commit()
    result = cleanup.result()
    assert (result.code, result.deleted) == (DONE, 29_099), result
    assert neglected.value(f"SELECT expire_date > now() FROM {TABLE} WHERE session_key = '{key}'")


@pytest.mark.parametrize("user", [CLEANER, OWNER])
def test_what_expires_at_the_cutoff_or_right_after_it_stays(neglected, run_cleanup, user):
    cutoffs = {}  # and whether each is over

    def at(step, _):
        """The trial of the pre-flight has a cutoff of its own."""
        found = re.search(r"'(\d{4}-\d\d-\d\d [\d:.]+)'+::timestamp", step.text)
        if found and ("WITH turn" in step.text or "f.is_ours" in step.text) and found[1] not in cutoffs:
            cutoffs[found[1]] = neglected.value(f"SELECT '{found[1]} UTC'::timestamptz <= clock_timestamp()")
            neglected.psql(f"DELETE FROM {TABLE} WHERE session_key ~ '^at'; INSERT INTO {TABLE} SELECT 'at' || n, 'data', "
                           f"'{found[1]} UTC'::timestamptz + n * interval '1 microsecond' FROM unnest(ARRAY[-1, 0, 1, 900000]) n")
    with WireProxy(neglected.cluster, on_step=at) as proxy:
        result = run_cleanup("-d", proxy.conninfo("site", user), *DELETE)
    assert (result.code, result.deleted) == (DONE, 29_101) and cutoffs and all(cutoffs.values()), result
    kept = neglected.psql(f"SELECT session_key FROM {TABLE} WHERE session_key ~ '^at' ORDER BY expire_date")
    assert kept == [("at0",), ("at1",), ("at900000",)]


# -- how -----------------------------------------------------------------------------------------------


def batches(site, mark, pattern):
    """What a pattern finds in each batch."""
    return [re.search(pattern, text)[1] for text in sent(site, mark) if "WITH turn" in text]


def test_each_batch_begins_where_the_last_one_ended(neglected, run_cleanup):
    mark = neglected.cluster.log_mark()
    with transaction(neglected, "SELECT 1", isolation="REPEATABLE READ"):  # so that nothing deleted goes away
        run_cleanup(*DELETE, user=OWNER)
    found = batches(neglected, mark, r"s\.expire_date >= +\('+([^']*)'")
    assert len(found) > 4
    assert found[0] == "-infinity"
    assert sorted(found[1:]) == found[1:] and len(set(found[1:])) == len(found[1:])


def test_batches_aim_at_a_time_and_never_read_the_whole_table(cleaned_site, run_cleanup):
    cleaned_site.fill(sessions=150_000)
    cleaned_site.let_only_delete(CLEANER)  # a REINDEX reads it all
    cleaned_site.psql("SELECT pg_stat_reset()")
    mark = cleaned_site.cluster.log_mark()
    result = run_cleanup(*DELETE)
    assert result.code == DONE, result
    calls = [re.search(r"AT TIME ZONE 'UTC'\), (\d+), ", text) for text in sent(cleaned_site, mark)
             if "django_session_delete_expired" in text]
    sizes = [int(call[1]) for call in calls if call]  # the first only looks whether the function is there
    assert sizes[0] == 500 and max(sizes) > 1000 and 6 < len(sizes) < 300, sizes
    assert cleaned_site.value(f"SELECT seq_scan FROM pg_stat_user_tables WHERE relid = '{TABLE}'::regclass") <= 1


def test_nothing_is_set_beyond_a_transaction_while_deleting(neglected, run_cleanup):
    mark = neglected.cluster.log_mark()
    run_cleanup(*DELETE)
    assert "SET LOCAL" in "".join(sent(neglected, mark))
    assert not commands(neglected, mark, "SET")


# -- the role that can only delete -----------------------------------------------------------------------


def test_the_deleting_role_says_clearly_that_it_may_not_vacuum(neglected, run_cleanup):
    neglected.let_only_delete(CLEANER)
    mark = neglected.cluster.log_mark()
    result = run_cleanup(*DELETE)
    assert result.code == DONE
    assert result.message.startswith("delete: 29.1k expired sessions deleted"), result
    assert "not vacuumed: role django_session_cleaner may neither VACUUM nor REINDEX" in result.message
    assert not commands(neglected, mark, "(VACUUM|REINDEX)")
    assert result.stderr == "", "cron would mail it each time"


def test_no_key_and_no_data_is_in_any_output(neglected, run_cleanup):
    secrets = neglected.psql(f"SELECT session_key, session_data FROM {TABLE}")
    outputs = [run_cleanup("--method", "delete", "-v", user=user) for user in (CLEANER, SWAPPER, OWNER)]
    text = "".join(result.stdout + result.stderr for result in outputs)
    assert text and not [secret for row in secrets for secret in row if secret in text]


@pytest.mark.parametrize("user", [CLEANER, SWAPPER, OWNER])
def test_no_key_is_in_any_statement(neglected, run_cleanup, user):
    keys = [key for key, in neglected.psql(f"SELECT session_key FROM {TABLE}")]
    mark = neglected.cluster.log_mark()
    run_cleanup(*DELETE, user=user)
    log = neglected.cluster.log_text(mark)
    assert "SET LOCAL enable_seqscan" in log and not [key for key in keys if key in log]


# -- giving back ---------------------------------------------------------------------------------------


@pytest.mark.sanitizers
def test_indexes_are_rebuilt_and_stay_what_they_were(cleaned_site, run_cleanup):
    cleaned_site.fill(sessions=60_000)
    before = cleaned_site.psql(INDEXES)
    content = cleaned_site.psql(CONTENT)
    result = run_cleanup(*DELETE, user=SWAPPER)
    after = cleaned_site.psql(INDEXES)
    assert result.code == DONE, result
    assert [row[:4] for row in after] == [row[:4] for row in before]
    assert sum(row[4] for row in after) < 0.06 * sum(row[4] for row in before)
    assert cleaned_site.psql(CONTENT) == content
    assert result.perfdata["reclaimed"][0] == result.perfdata["before"][0] - result.perfdata["after"][0] > 0
    assert result.perfdata["after"][0] == cleaned_site.sizes()["total"]


# Lets 5 sessions in twice, as a damaged index does.
DAMAGE = ("UPDATE pg_index SET indisready = {} WHERE indexrelid = 'django_session_pkey'::regclass",
          f"INSERT INTO {TABLE} SELECT * FROM {TABLE} WHERE expire_date > now() ORDER BY expire_date DESC LIMIT 5")


@pytest.mark.parametrize("user", ["postgres", SWAPPER, OWNER])
def test_what_a_unique_index_holds_twice_is_not_in_the_servers_log(cleaned_site, run_cleanup, user):
    cleaned_site.fill(sessions=60_000)
    for statement in (DAMAGE[0].format("false"), DAMAGE[1], DAMAGE[0].format("true")):
        cleaned_site.psql(statement)
    keys = {key for key, in cleaned_site.psql(f"SELECT session_key FROM {TABLE} WHERE expire_date > now()")}
    mark = cleaned_site.cluster.log_mark()
    result = run_cleanup(*DELETE, user=user)
    log = cleaned_site.cluster.log_text(mark)
    assert not keys & set(re.findall(r"[0-9a-z]{32}", log + result.stdout + result.stderr))
    assert "index public.django_session_pkey is not rebuilt, because it is damaged" in result.message.replace('"', ""), str(result)
    assert "REINDEX INDEX CONCURRENTLY" in log and cleaned_site.psql(INVALID) == []


def test_who_may_not_look_for_keys_rebuilds_no_unique_index(cluster_of_version, cleanup_program, folder):
    server = cluster_of_version("17")
    server.create_role(OWNER)
    server.create_database("site", OWNER)
    site = DjangoSite(folder, server, "site")
    try:
        site.psql(f"CREATE TABLE {TABLE} (session_key varchar(40) PRIMARY KEY, session_data text NOT NULL, expire_date "
                  f"timestamptz NOT NULL); CREATE INDEX by_date ON {TABLE} (expire_date)", OWNER)
        site.apply_roles(cleaner=CLEANER)
        site.fill(sessions=60_000)
        mark = server.log_mark()
        result = Cleanup(cleanup_program, *DELETE, environment=server.environment("site", CLEANER)).result()
        rebuilt = re.findall(r"statement: REINDEX INDEX CONCURRENTLY (.*)", server.log_text(mark))
        assert result.code == DONE and [name.split(".")[-1].strip('"') for name in rebuilt] == ["by_date"], str(result)
        assert "is not rebuilt: it could not be checked for duplicate keys" in result.message, str(result)
    finally:
        server.drop_database("site")


def test_space_in_the_heap_is_used_again(cleaned_site, run_cleanup):
    cleaned_site.fill(sessions=30_000)
    heap = cleaned_site.sizes()["table"]
    run_cleanup(*DELETE, user=SWAPPER)
    cleaned_site.fill(sessions=20_000, vacuum=False)
    assert cleaned_site.sizes()["table"] <= heap * 1.02


def test_the_end_of_the_table_is_not_cut_off(cleaned_site, run_cleanup):
    """That takes the lock for which a standby ends whoever reads there."""
    cleaned_site.fill(sessions=10_000, expired_share=1)
    heap = cleaned_site.sizes()["table"]
    result = run_cleanup(*DELETE, user=SWAPPER)
    assert (result.code, result.deleted) == (DONE, 10_000), result
    assert cleaned_site.sizes()["table"] >= heap


def test_indexes_in_good_order_are_left_alone(cleaned_site, run_cleanup):
    cleaned_site.fill(sessions=60_000, expired_share=0.05)
    mark = cleaned_site.cluster.log_mark()
    assert run_cleanup(*DELETE, user=SWAPPER).code == DONE
    assert commands(cleaned_site, mark, "VACUUM") and not commands(cleaned_site, mark, "REINDEX")


def leave_an_invalid_index(site, index="django_session_pkey", table=TABLE):
    """As a real REINDEX that was interrupted while it waited for an older transaction."""
    with transaction(site, f"SELECT count(*) FROM {table}", user="postgres", isolation="REPEATABLE READ"):
        with pytest.raises(psycopg2.errors.QueryCanceled):
            with contextlib.closing(site.cluster.connect("site")) as connection:
                connection.cursor().execute("SET statement_timeout = 1500")
                connection.cursor().execute(f"REINDEX INDEX CONCURRENTLY {index}")


INVALID = "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE NOT indisvalid ORDER BY 1"


def test_the_deleting_role_leaves_what_it_may_not_remove_without_a_word(neglected, run_cleanup):
    leave_an_invalid_index(neglected)
    result = run_cleanup(*DELETE)
    assert result.code == DONE and "_ccnew" not in result.stdout + result.stderr, result
    assert neglected.psql(INVALID) == [("django_session_pkey_ccnew",)]


def test_what_an_interrupted_reindex_left_is_removed(neglected, run_cleanup):
    leave_an_invalid_index(neglected)
    assert neglected.psql(INVALID) == [("django_session_pkey_ccnew",)]
    result = run_cleanup(*DELETE, user=SWAPPER)
    assert result.code == DONE, result
    assert "removed index django_session_pkey_ccnew" in result.stderr
    assert neglected.psql(INVALID) == []


def test_abort_removes_it_too(neglected, run_cleanup):
    leave_an_invalid_index(neglected)
    assert run_cleanup("--abort", user=SWAPPER).code == DONE
    assert neglected.psql(INVALID) == []


def test_somebody_elses_invalid_index_stays(neglected, run_cleanup):
    neglected.psql(f"CREATE TABLE other (a int); CREATE INDEX other_a ON other (a); ALTER TABLE other OWNER TO {OWNER}")
    leave_an_invalid_index(neglected, "other_a", "other")
    neglected.psql(f"CREATE INDEX mine ON {TABLE} (session_data); "
                   "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'mine'::regclass")
    run_cleanup(*DELETE, user=SWAPPER)
    assert neglected.psql(INVALID) == [("mine",), ("other_a_ccnew",)]


# -- somebody in the way ---------------------------------------------------------------------------------


def test_an_old_snapshot_is_named_and_what_it_spoils_is_not_tried(neglected, run_cleanup):
    """VACUUM does what it can, and REINDEX CONCURRENTLY would wait for it."""
    mark = neglected.cluster.log_mark()
    with transaction(neglected, "SELECT 1", isolation="REPEATABLE READ") as client:
        pid = client.get_backend_pid()
        result = run_cleanup(*DELETE, user=SWAPPER)
    assert (result.code, result.word, result.deleted) == (DONE, "DONE", 29_100), result
    assert result.message.startswith("delete: 29.1k expired sessions deleted, ")
    assert "; vacuumed, but the space of what was deleted can't be reused" in result.message
    assert f"until this ends: pid {pid} of role {OWNER}" in result.message
    assert commands(neglected, mark, "VACUUM") and not commands(neglected, mark, "REINDEX")
    again = run_cleanup(*DELETE, user=SWAPPER)
    assert again.code == DONE and again.perfdata["reclaimed"][0] > 0, again


def test_an_old_snapshot_of_another_database_is_no_obstacle(neglected, run_cleanup):
    with contextlib.closing(neglected.cluster.connect("postgres", autocommit=False)) as connection:
        connection.cursor().execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.cursor().execute("SELECT txid_current()")
        assert run_cleanup(*DELETE, user=SWAPPER).code == DONE


def test_a_slot_that_holds_rows_back_is_named(neglected, run_cleanup):
    neglected.psql("SELECT pg_create_physical_replication_slot('feedback', true)")
    try:
        # Such a slot gets its xmin from a standby; a logical one has a catalog_xmin, which is no obstacle.
        result = run_cleanup(*DELETE, user=SWAPPER)
        assert result.code == DONE, result
    finally:
        neglected.psql("SELECT pg_drop_replication_slot('feedback')")


def test_a_row_that_somebody_holds_is_left_and_the_others_go(neglected, run_cleanup):
    key = neglected.value(f"SELECT session_key FROM {TABLE} ORDER BY expire_date OFFSET 700 LIMIT 1")
    with transaction(neglected, f"SELECT 1 FROM {TABLE} WHERE session_key = '{key}' FOR UPDATE"):
        result = run_cleanup(*DELETE)
        assert (result.code, result.deleted) == (DONE, 29_099), result
        assert re.search(rf"1 expired session is locked by pid \d+ of role {OWNER}", result.message)
    assert run_cleanup(*DELETE).deleted == 1


@pytest.mark.alone
def test_nobody_waits_longer_than_the_lock_timeout_because_of_a_locked_row(neglected, start_cleanup):
    """The batch that waits for a held row holds locks on other expired rows meanwhile."""
    held, wanted = [key for key, in neglected.psql(
        f"SELECT session_key FROM {TABLE} ORDER BY expire_date OFFSET 10 LIMIT 2")]
    with transaction(neglected, f"SELECT 1 FROM {TABLE} WHERE session_key = '{held}' FOR UPDATE"):
        cleanup = start_cleanup(*DELETE)
        longest = 0
        while cleanup.running:
            start = time.monotonic()
            neglected.psql(f"UPDATE {TABLE} SET session_data = 'x' WHERE session_key = '{wanted}'")
            longest = max(longest, time.monotonic() - start)
        assert cleanup.result().code == DONE
    assert longest < 1


@contextlib.contextmanager
def locked_while_it_runs(site, start_cleanup, mode, *options, **of_whom):
    """A cleanup that finds the table locked after its first batches; gives it, and the holder's pid."""
    with contextlib.ExitStack() as until_the_end:
        with after_two_batches(site.cluster, start_cleanup, *options, **{"user": CLEANER, **of_whom}) as cleanup:
            holder = until_the_end.enter_context(site.cluster.locked("site", mode=mode))
        yield cleanup, holder.get_backend_pid()


@pytest.mark.parametrize("mode, of_whom", [("ACCESS EXCLUSIVE", {}), ("SHARE ROW EXCLUSIVE", {}),
                                           ("SHARE ROW EXCLUSIVE", {"user": OWNER, "words": b"WITH turn"})],
                         ids=["function", "weaker", "owner"])
def test_a_locked_table_is_waited_for_and_the_holder_is_named(cleaned_site, start_cleanup, mode, of_whom):
    cleaned_site.fill(sessions=100_000)
    with locked_while_it_runs(cleaned_site, start_cleanup, mode, "--max-duration", "3", **of_whom) as (cleanup, pid):
        result = cleanup.result()
    assert (result.code, result.message) == (STOPPED, "max-duration reached; run it again to continue"), result
    assert f"waiting for the table's lock: pid {pid} of role postgres" in result.stderr
    run_cleanup_again(cleaned_site, start_cleanup)


def test_it_goes_on_when_the_table_is_free_again(cleaned_site, start_cleanup):
    cleaned_site.fill(sessions=100_000)
    with locked_while_it_runs(cleaned_site, start_cleanup, "ACCESS EXCLUSIVE") as (cleanup, _):
        time.sleep(2)
    result = cleanup.result()
    assert (result.code, result.deleted) == (DONE, 97_000), result


def test_a_table_that_is_locked_from_the_start_is_no_failure(neglected, run_cleanup):
    with neglected.cluster.locked("site") as connection:
        holder = connection.get_backend_pid()
        visitor = threading.Thread(target=neglected.value, args=(f"SELECT count(*) FROM {TABLE}", OWNER))
        visitor.start()
        wait_for(lambda: neglected.psql("SELECT 1 FROM pg_locks WHERE NOT granted"), "a visitor who waits, too")
        result = run_cleanup(*DELETE, timeout=20)
    visitor.join()
    assert result.code == STOPPED and set(result.perfdata) == {"duration", "longest_lock"}, result
    assert re.match(rf"the table is locked: pid {holder} of role postgres", result.message)
    assert result.message.count("pid ") == 1, "who waits holds up nobody"
    assert run_cleanup(*DELETE).deleted == 29_100


def test_a_trigger_that_prevents_the_delete_is_found_out(neglected, run_cleanup):
    neglected.psql(f"""CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER keep BEFORE DELETE ON {TABLE} FOR EACH ROW EXECUTE FUNCTION keep()""")
    result = run_cleanup(*DELETE, timeout=30)
    assert result.code == FAILED, result
    assert "a trigger or a rule must have prevented it" in result.message
    planned = run_cleanup(*DELETE, "--dry-run", user="postgres")
    assert planned.code == DONE and "a trigger or a rule prevents it" in planned.stdout, planned


def test_what_a_trigger_keeps_is_no_failure_after_a_lost_connection(neglected, run_cleanup):
    """What was deleted before the loss has been deleted."""
    neglected.psql(f"""CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN RETURN CASE WHEN OLD.session_key <> '{oldest(neglected)}' THEN OLD END; END $$;
        CREATE TRIGGER keep BEFORE DELETE ON {TABLE} FOR EACH ROW EXECUTE FUNCTION keep()""", OWNER)
    with WireProxy(neglected.cluster, Fault.CUT_BEFORE, at=lambda step: step.text.startswith("VACUUM")) as proxy:
        result = run_cleanup("-d", proxy.conninfo("site", OWNER), *DELETE)
        assert proxy.happened
    assert (result.code, result.deleted) == (DONE, 29_099), result


@pytest.mark.parametrize("locked", ["a row", "the table"])
def test_a_lock_that_is_waited_for_longer_than_an_answer_is_a_lock(neglected, run_cleanup, locked):
    row = f"SELECT 1 FROM {TABLE} WHERE session_key = '{oldest(neglected)}' FOR UPDATE"
    with transaction(neglected, row if locked == "a row" else f"LOCK TABLE {TABLE}") as client:
        result = run_cleanup(*DELETE, "--lock-timeout", "5", "-t", "4", "--max-duration", "20", user=OWNER)
        assert f"pid {client.info.backend_pid}" in result.stdout + result.stderr, result
    assert result.code == (DONE if locked == "a row" else STOPPED), result
    assert neglected.value(EXPIRED) == (1 if locked == "a row" else 29_100)


@pytest.mark.parametrize("user", [CLEANER, "postgres"])
def test_a_trigger_that_puts_expired_sessions_back_ends_it(cleaned_site, run_cleanup, user):
    cleaned_site.fill(sessions=500)
    cleaned_site.psql(f"""CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          INSERT INTO {TABLE} VALUES (OLD.session_key, OLD.session_data, now() - interval '1 minute'); RETURN NULL; END $$;
        CREATE TRIGGER again AFTER DELETE ON {TABLE} FOR EACH ROW EXECUTE FUNCTION again()""", OWNER)
    result = run_cleanup(*DELETE, user=user, timeout=100)
    assert result.code == FAILED and "puts expired ones back" in result.message, result


def test_a_table_without_a_replica_identity_is_refused_where_deletions_are_published(cleaned_site, run_cleanup):
    cleaned_site.fill(sessions=500)
    cleaned_site.psql(f"ALTER TABLE {TABLE} REPLICA IDENTITY NOTHING; CREATE PUBLICATION feed FOR TABLE {TABLE}")
    try:
        refused = run_cleanup(*DELETE)
        assert refused.code == REFUSED and "REPLICA IDENTITY DEFAULT" in refused.stderr, refused
        cleaned_site.psql("ALTER PUBLICATION feed SET (publish = 'insert, update, truncate')")
        assert run_cleanup(*DELETE).deleted == 485
    finally:
        cleaned_site.psql("DROP PUBLICATION feed")


# -- slowing down ----------------------------------------------------------------------------------------


MORE_WAL = "SELECT pg_logical_emit_message(false, 'more', repeat('than the slot may be behind', 100000))"


@pytest.fixture
def slot(neglected):
    neglected.psql("SELECT pg_create_physical_replication_slot('sleepy', true)")
    yield "sleepy"
    neglected.psql("SELECT pg_drop_replication_slot('sleepy') FROM pg_replication_slots WHERE slot_name = 'sleepy'")


def test_a_slot_that_holds_back_wal_stops_it(neglected, slot, run_cleanup):
    result = run_cleanup(*DELETE, "--max-lag", "1MB", "--max-duration", "4")
    assert result.code == STOPPED and result.deleted < 29_100, result
    assert re.search(r'gave up waiting: replication slot "sleepy" is [\d.]+ MB behind \(--max-lag 1 MB\)',
                     result.message)


@pytest.mark.parametrize("method", ["delete", "swap"])
def test_a_plan_says_that_a_slot_is_too_far_behind(neglected, slot, run_cleanup, method):
    neglected.psql(MORE_WAL)
    behind = r'replication slot "sleepy" is [\d.]+ MB behind \(--max-lag 1 MB\): the cleanup stops if'
    assert re.search(behind, run_cleanup("--dry-run", "--method", method, "--max-lag", "1MB", user=SWAPPER).stdout)
    assert "behind" not in run_cleanup("--dry-run", "--method", method, user=SWAPPER).stdout


def test_it_goes_on_when_the_slot_has_caught_up(neglected, slot, start_cleanup):
    cleanup = start_cleanup(*DELETE, "--max-lag", "1MB")
    time.sleep(3)
    assert cleanup.running
    neglected.psql("SELECT pg_drop_replication_slot('sleepy')")
    result = cleanup.result()
    assert (result.code, result.deleted) == (DONE, 29_100), result
    assert "all replicas have caught up; resuming" in result.stderr


# -- the end before the end ------------------------------------------------------------------------------


@pytest.mark.sanitizers
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_it_after_the_batch(cleaned_site, start_cleanup, number):
    cleaned_site.fill(sessions=100_000)
    content = cleaned_site.psql(CONTENT)
    cleanup = start_cleanup(*DELETE)
    wait_for(lambda: cleaned_site.value(EXPIRED) < 97_000, "some batches")
    start = time.monotonic()
    cleanup.send(number)
    result = cleanup.result()
    assert time.monotonic() - start < 2
    assert (result.code, result.message) == (STOPPED, "interrupted; run it again to continue"), result
    assert result.deleted == 97_000 - cleaned_site.value(EXPIRED) < 97_000
    assert cleaned_site.psql(CONTENT) == content
    assert run_cleanup_again(cleaned_site, start_cleanup).deleted == 97_000 - result.deleted


def test_started_with_nohup_it_outlives_its_terminal(cleaned_site, cleanup_program):
    cleaned_site.fill(sessions=100_000)
    cleanup = Cleanup("/usr/bin/env", "--ignore-signal=HUP", cleanup_program, *DELETE,
                      environment=cleaned_site.cluster.environment("site", CLEANER))
    wait_for(lambda: cleaned_site.value(EXPIRED) < 97_000, "some batches")
    cleanup.send(signal.SIGHUP)
    result = cleanup.result()
    assert (result.code, result.deleted) == (DONE, 97_000), result


def run_cleanup_again(site, start_cleanup):
    result = start_cleanup(*DELETE).result()
    assert result.code == DONE and site.value(EXPIRED) == 0, result
    return result


def test_a_vacuum_that_waits_is_cancelled_by_a_signal(neglected, start_cleanup):
    busy = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'VACUUM%' AND state = 'active'"
    with neglected.cluster.locked("site", mode="SHARE UPDATE EXCLUSIVE") as holder:
        cleanup = start_cleanup(*DELETE, user=SWAPPER)
        wait_for(lambda: neglected.value(busy) == 1, "VACUUM")
        start = time.monotonic()
        cleanup.send(signal.SIGTERM)
        result = cleanup.result()
        assert time.monotonic() - start < 2
        assert (result.code, result.message, result.deleted) == (STOPPED, "interrupted; run it again to continue", 29_100), result
        assert neglected.value(busy) == 0
        assert f"was waiting for pid {holder.get_backend_pid()} of role " in result.stderr, result


def test_a_vacuum_that_never_gets_its_lock_names_the_holder(neglected, run_cleanup):
    with neglected.cluster.locked("site", mode="SHARE UPDATE EXCLUSIVE") as holder:
        result = run_cleanup(*DELETE, user=SWAPPER)
        assert result.code == STOPPED, result
        assert f"VACUUM's lock was never granted: pid {holder.get_backend_pid()}" in result.message


@pytest.mark.parametrize("options, why", [((), "no progress for"), (("--max-duration", "12"), "max-duration reached")])
def test_a_frozen_server_process_is_given_up(neglected, start_cleanup, running_cluster, options, why):
    """The server itself answers, and the process reacts neither to a cancel request nor to a time limit."""
    with neglected.cluster.locked("site", mode="SHARE UPDATE EXCLUSIVE") as holder:
        cleanup = start_cleanup(*DELETE, "-t", "1", *options, user=OWNER)  # less is too little on a busy machine
        frozen = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'VACUUM%' AND wait_event = 'relation'"
        wait_for(lambda: neglected.psql(frozen), "VACUUM")
        pid = neglected.value(frozen)
        os.kill(pid, signal.SIGSTOP)
        try:
            holder.rollback()
            result = cleanup.result(120)
        finally:
            os.kill(pid, signal.SIGCONT)
    assert result.code == FAILED and result.deleted == 29_100, result
    assert re.search(rf"{why}.*, and the statement can't be cancelled: the server process \(pid {pid}\) hangs",
                     result.stderr), result


def test_an_index_build_that_is_stopped_leaves_nothing(cleaned_site, start_cleanup):
    """REINDEX CONCURRENTLY waits for a client that has written to the table; then it is told to stop."""
    cleaned_site.fill(sessions=60_000)
    busy = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'REINDEX%' AND state = 'active'"
    writer = f"LOCK TABLE {TABLE} IN ROW EXCLUSIVE MODE"
    cleanup = start_cleanup(*DELETE, user=SWAPPER)
    wait_for(lambda: cleaned_site.value(EXPIRED) == 0, "the delete's end")
    with transaction(cleaned_site, writer) as holder:
        wait_for(lambda: cleaned_site.value(busy) == 1, "REINDEX")
        time.sleep(0.5)
        cleanup.send(signal.SIGTERM)
        result = cleanup.result()
        assert f"was waiting for pid {holder.get_backend_pid()} of role " in result.stderr, result
    assert (result.code, result.message) == (STOPPED, "interrupted; run it again to continue"), result
    left = cleaned_site.psql(INVALID)
    assert left == [] or "left by an interrupted REINDEX" in result.stderr
    again = start_cleanup(*DELETE, user=SWAPPER).result()
    assert again.code == DONE and cleaned_site.psql(INVALID) == [], again


@pytest.mark.chance
def test_killed_at_any_moment_the_next_run_goes_on(cleaned_site, start_cleanup, rounds):
    random.seed(6)
    for _ in range(4 * rounds):
        cleaned_site.fill(sessions=60_000)
        content = cleaned_site.psql(CONTENT)
        expired = cleaned_site.value(EXPIRED)
        cleanup = start_cleanup(*DELETE, user=SWAPPER)
        wait_for(lambda: cleaned_site.value(EXPIRED) < expired, "the first batch", pause=0.005)
        time.sleep(random.uniform(0, 0.7))
        cleanup.send(signal.SIGKILL)
        cleanup.result()
        assert start_cleanup(*DELETE, user=SWAPPER).result().code == DONE
        assert cleaned_site.value(EXPIRED) == 0
        assert cleaned_site.psql(CONTENT) == content
        assert cleaned_site.psql(INVALID) == []


def test_of_two_at_once_one_stops(neglected, slot, start_cleanup):
    first = start_cleanup(*DELETE, "--max-lag", "1MB")  # it waits for the slot
    wait_for(neglected.is_claimed, "its claim")
    second = start_cleanup(*DELETE).result()
    assert second.code == STOPPED and "another cleanup of this table" in second.message, second
    neglected.psql(f"SELECT pg_drop_replication_slot('{slot}')")
    assert first.result().code == DONE
    assert neglected.value(EXPIRED) == 0


# -- through PgBouncer -----------------------------------------------------------------------------------


@pytest.fixture
def pooled(neglected, folder):
    server = PgBouncer(folder, neglected.cluster, [OWNER, CLEANER, SWAPPER, "postgres"]).start()
    yield server
    server.stop()


def pooled_environment(server, user):
    parameters = server.parameters("site", user)
    return {"PGHOST": parameters["host"], "PGPORT": str(parameters["port"]), "PGDATABASE": "site", "PGUSER": user}


@pytest.mark.parametrize("user", [CLEANER, SWAPPER])
def test_it_works_through_pgbouncer(neglected, pooled, run_cleanup, user):
    mark = neglected.cluster.log_mark()
    result = run_cleanup(*DELETE, environment=pooled_environment(pooled, user))
    assert (result.code, result.deleted) == (DONE, 29_100), result
    assert not commands(neglected, mark, "SET")


def test_of_two_through_pgbouncer_one_stops(cleaned_site, pooled, start_cleanup):
    cleaned_site.fill(sessions=150_000)
    environment = pooled_environment(pooled, CLEANER)
    both = [start_cleanup(*DELETE, environment=environment) for _ in range(2)]
    results = sorted((cleanup.result() for cleanup in both), key=lambda result: result.code)
    assert [result.code for result in results] == [DONE, STOPPED], "\n".join(map(str, results))
    assert cleaned_site.value(EXPIRED) == 0


@pytest.mark.parametrize("user", [CLEANER, OWNER])
def test_beside_another_that_has_just_begun_no_session_is_deleted(neglected, pooled, run_cleanup, user):
    """Behind a pooler each batch takes the lock anew."""
    with neglected.cluster.asking("site") as ask:
        def at(step, _):
            if "pg_try_advisory_xact_lock" in step.text and "WITH turn" in step.text or "f.is_ours" in step.text:
                ask(f"SELECT pg_try_advisory_lock(1684697955, '{TABLE}'::regclass::oid::int)")
        with WireProxy(pooled, on_step=at) as proxy:
            result = run_cleanup("-d", proxy.conninfo("site", user), *DELETE)
    assert result.code == STOPPED and "another cleanup of this table" in result.message, result
    assert neglected.value(EXPIRED) == 29_100


STATE = "SELECT count(*) FROM pg_class WHERE relname ~ '^djs_[0-9]+_state$'"


@contextlib.contextmanager
def living_swap(site, slot, start_cleanup, environment):
    """A swap that has begun to copy, and waits for a slot."""
    site.psql(MORE_WAL)
    swap = start_cleanup("--method", "swap", "--no-progress", "--max-lag", "1MB", environment=environment)
    wait_for(lambda: site.value(STATE) == 1, "the swap's state")
    yield
    site.psql(f"SELECT pg_drop_replication_slot('{slot}')")
    result = swap.result()
    assert result.code == DONE and "again" not in result.stderr, result
    assert site.value(EXPIRED) == 0


def test_a_swap_that_runs_through_another_pooler_is_left_alone(neglected, slot, pooled, start_cleanup):
    with living_swap(neglected, slot, start_cleanup, pooled_environment(pooled, SWAPPER)):
        result = start_cleanup(*DELETE, environment=pooled_environment(pooled, CLEANER)).result()
        assert result.code == STOPPED and "a swap of this table is running" in result.message, result


@pytest.mark.parametrize("user, words", [(CLEANER, b".django_session_delete_expired("), (OWNER, b"WITH turn")],
                         ids=["function", "owner"])
def test_a_deletion_makes_way_for_a_swap_that_began_meanwhile(neglected, slot, pooled, start_cleanup, user, words):
    with contextlib.ExitStack() as swap:
        with after_two_batches(pooled, start_cleanup, user=user, words=words) as delete:
            swap.enter_context(living_swap(neglected, slot, start_cleanup, pooled_environment(pooled, SWAPPER)))
        result = delete.result()
        assert result.code == STOPPED and "a swap of this table is running" in result.message, result
        assert result.deleted < 29_100


def test_a_swap_that_waits_for_a_slot_keeps_its_lease(neglected, slot, pooled, start_cleanup):
    """Behind a pooler nothing else says that it lives."""
    state = f"djs_{oid(neglected)}_state"
    with living_swap(neglected, slot, start_cleanup, pooled_environment(pooled, SWAPPER)):
        neglected.psql(f"UPDATE {state} SET lease_until = now()")
        wait_for(lambda: neglected.value(f"SELECT lease_until > now() + interval '20 s' FROM {state}"), "a new lease")


def test_no_index_is_rebuilt_under_a_swap_that_began_meanwhile(neglected, slot, pooled, start_cleanup):
    mark = neglected.cluster.log_mark()
    with transaction(neglected, "SELECT 1", isolation="REPEATABLE READ") as old:  # which VACUUM is held back for
        delete = start_cleanup(*DELETE, environment=pooled_environment(pooled, SWAPPER))
        wait_for(lambda: neglected.value(EXPIRED) == 0, "the delete's end")
        with living_swap(neglected, slot, start_cleanup, pooled_environment(pooled, SWAPPER)):
            old.rollback()
            result = delete.result()
            assert result.code == STOPPED and "a swap of this table is running" in result.message, result
            assert not commands(neglected, mark, "REINDEX")


def test_no_index_is_rebuilt_under_a_swap_that_began_beside_the_vacuum(neglected, slot, pooled, start_cleanup):
    mark = neglected.cluster.log_mark()
    begun = threading.Event()
    at = BeforeTheFirst("VACUUM (ANALYZE", lambda: begun.wait(20))
    with WireProxy(pooled, on_step=at) as proxy:
        delete = start_cleanup(*DELETE, "-d", proxy.conninfo("site", SWAPPER))
        wait_for(lambda: at.count, "its VACUUM")
        with living_swap(neglected, slot, start_cleanup, pooled_environment(pooled, SWAPPER)):
            begun.set()
            result = delete.result()
            assert result.code == STOPPED and "a swap of this table is running" in result.message, result
            assert not commands(neglected, mark, "REINDEX")


# -- under traffic -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["delete", "full"])
@pytest.mark.alone
def test_nobody_loses_a_session_while_it_runs(cleaned_site, start_cleanup, method):
    """`full` stops everybody for its rewrite, which is short here; `delete` must hardly be noticed."""
    cleaned_site.fill(sessions=200_000)
    with Traffic(lambda: cleaned_site.cluster.connect("site", OWNER, autocommit=False), clients=4) as traffic:
        time.sleep(1)
        result = start_cleanup("--method", method, "--no-progress", user=SWAPPER).result()
    assert (result.code, result.deleted) == (DONE, 194_000), result
    assert traffic.count.operations > 1000
    assert traffic.count.anomalies == {}, traffic.messages
    assert cleaned_site.value(EXPIRED) == 0
    if method == "delete":
        assert traffic.count.longest < 1


@pytest.mark.since(17, "there is no MAINTAIN")
def test_a_cleaner_who_may_maintain_the_table_gives_back_what_its_owner_could(cleaned_site, run_cleanup):
    """roles.sql grants it."""
    cleaned_site.fill(sessions=60_000)
    index = f"{TABLE}_expire_date_a5c62663".removeprefix("public.")
    before = cleaned_site.value(f"SELECT pg_relation_size('{index}')")
    result = run_cleanup("--method", "delete", user=CLEANER)
    assert (result.code, result.deleted) == (DONE, 58_200) and "not vacuumed" not in result.message, result
    assert cleaned_site.value(f"SELECT last_vacuum > now() - interval '1 min' FROM pg_stat_user_tables WHERE relid = '{TABLE}'::regclass")
    assert cleaned_site.value(f"SELECT pg_relation_size('{index}')") < before / 2
