"""Settings of a database or a role that change how the server writes names and times, or when it gives up."""

import contextlib
import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from cleanup_command import CLEANER, DONE, FAILED, REFUSED, STOPPED, SWAPPER
from cluster import SUPERUSER
from collectd_daemon import database_block, plugin_block
from django_site import OWNER, TABLE
from processes import AM_ROOT, hand_over, private_folder, wait_for
from test_swap_what_stays import DOUBLE, READY

EXPIRED = f"SELECT count(*) FROM {TABLE} WHERE expire_date < now()"
HELPERS = "SELECT count(*) FROM pg_class WHERE relname LIKE 'djs%'"


# -- quote_all_identifiers -------------------------------------------------------------------------------


@pytest.fixture
def quoting(neglected):
    neglected.psql("ALTER DATABASE site SET quote_all_identifiers = on")
    return neglected


def test_roles_sql_may_run_again_where_every_name_is_quoted(quoting):
    before = quoting.psql("SELECT proname FROM pg_proc WHERE proname LIKE 'django%'")
    for _ in range(2):
        quoting.apply_roles(cleaner=CLEANER, swapper=SWAPPER)
    assert quoting.psql("SELECT proname FROM pg_proc WHERE proname LIKE 'django%'") == before


@pytest.mark.some_cases(2)
@pytest.mark.parametrize("user", [OWNER, CLEANER, SWAPPER, SUPERUSER])
@pytest.mark.parametrize("method", ["delete", "swap", "full"])
def test_every_method_works_where_every_name_is_quoted(quoting, run_cleanup, method, user):
    quoting.let_only_delete(CLEANER)
    planned = run_cleanup("--dry-run", "--method", method, user=user)
    result = run_cleanup("--method", method, user=user)
    wanted = REFUSED if user == CLEANER and method != "delete" else DONE
    assert (planned.code, result.code) == (wanted, wanted), (planned, result)
    assert quoting.value(EXPIRED) == (0 if wanted == DONE else 29_100)
    assert quoting.value(HELPERS) == 0


def test_the_readings_are_the_same_where_every_name_is_quoted(neglected, run_check, collectd, cluster):
    before = run_check("-v")
    neglected.psql("ALTER DATABASE site SET quote_all_identifiers = on")
    after = run_check("-v")
    assert after.code == before.code and after.perfdata.keys() == before.perfdata.keys()
    for name in ("expired", "live", "reclaimable", "overdue"):
        assert after.perfdata[name][0] == pytest.approx(before.perfdata[name][0], rel=0.01), name
    daemon = collectd(plugin_block(database_block(cluster, "site")))
    daemon.wait_for_value("django_session-site/bool-up", lambda up: up == 1)


def interrupt_a_swap(site, start_cleanup):
    """Once it has its copy."""
    with site.cluster.locked("site", mode="ROW SHARE"):  # in the way of the exchange alone
        cleanup = start_cleanup("--method", "swap", user=SWAPPER)
        wait_for(lambda: site.value("SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid "
                                    "WHERE c.relname ~ '^djs_[0-9]+_new$'") == 3, "its copy")
        cleanup.send(signal.SIGTERM)
        assert cleanup.result().code == STOPPED


@pytest.mark.parametrize("options, outcome", [(("--method", "swap"), "resuming an interrupted swap"),
                                              (("--abort",), "removed what an interrupted cleanup left")])
def test_an_interrupted_swap_is_known_where_every_name_is_quoted(neglected, start_cleanup, run_cleanup, options, outcome):
    """By whoever comes next, with other settings than the run that was interrupted had."""
    interrupt_a_swap(neglected, start_cleanup)
    neglected.psql("ALTER DATABASE site SET quote_all_identifiers = on")
    result = run_cleanup(*options, user=SWAPPER)
    assert result.code == DONE and outcome in result.stderr + result.stdout, result
    assert "starting over" not in result.stderr and neglected.value(HELPERS) == 0


# -- standard_conforming_strings -------------------------------------------------------------------------


def test_an_interrupted_swap_is_resumed_where_a_backslash_escapes(neglected, start_cleanup, run_cleanup, cluster):
    interrupt_a_swap(neglected, start_cleanup)
    neglected.psql("ALTER DATABASE site SET standard_conforming_strings = off")
    mark = cluster.log_mark()
    planned = run_cleanup("--dry-run", user=SWAPPER)
    assert "resumes the interrupted swap" in planned.stdout, planned
    result = run_cleanup(user=SWAPPER)
    assert result.code == DONE and "resuming an interrupted swap" in result.stderr, result
    assert neglected.value(HELPERS) == 0 and neglected.value(EXPIRED) == 0
    assert r"nonstandard use of \\ in" not in cluster.log_text(mark)


# -- time zones ------------------------------------------------------------------------------------------

# What is written in them can't be read again, or isn't what it seems (IST).
ZONES = {"far west": ("<XYZ>+20", "ISO"), "far east": ("<XYZ>-20:30", "ISO"), "ambiguous": ("Asia/Kolkata", "Postgres, DMY"),
         "half an hour": ("<LMT>-5:30", "SQL, MDY"), "summer time": ("America/St_Johns", "German")}


@pytest.fixture(params=ZONES)
def odd_zone(request, cleaned_site):
    cleaned_site.fill(sessions=3_000)
    zone, style = ZONES[request.param]
    cleaned_site.psql(f"ALTER DATABASE site SET timezone = '{zone}'; ALTER DATABASE site SET datestyle = '{style}'")
    return zone


def test_every_method_works_in_every_time_zone(cleaned_site, odd_zone, run_cleanup):
    live = f"SELECT md5(string_agg(s::text, '' ORDER BY session_key)) FROM {TABLE} s WHERE expire_date > now()"
    before = cleaned_site.psql(live)
    for user, method in ((CLEANER, "delete"), (OWNER, "delete"), (SWAPPER, "delete"), (SWAPPER, "swap"), (OWNER, "full")):
        cleaned_site.psql(f"INSERT INTO {TABLE} SELECT 'old' || i, '', now() - i * interval '1 hour' FROM generate_series(1, 50) i")
        result = run_cleanup("--method", method, user=user)
        assert result.code == DONE, (odd_zone, user, method, result)
        assert cleaned_site.value(EXPIRED) == 0 and cleaned_site.psql(live) == before


def test_what_is_kept_is_kept_in_every_time_zone(cleaned_site, odd_zone, run_cleanup):
    cleaned_site.psql(f"INSERT INTO {TABLE} SELECT 'old' || i, '', now() - i * interval '1 hour' FROM generate_series(1, 50) i")
    for user in (CLEANER, SWAPPER):
        assert run_cleanup("--method", "delete", "--keep", "24h", user=user).code == DONE, odd_zone
        assert cleaned_site.value(f"SELECT count(*) FROM {TABLE} WHERE session_key LIKE 'old%'") in (23, 24)


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp"])
def test_the_check_reads_every_time_zone(cleaned_site, odd_zone, run_check, kind):
    """A timestamp is meant in the zone of the database."""
    cleaned_site.psql(f"ALTER TABLE {TABLE} ALTER expire_date TYPE {kind}")
    cleaned_site.psql(f"VACUUM (ANALYZE) {TABLE}")
    answer = run_check("-v")
    oldest, expired = cleaned_site.psql(
        f"SELECT extract(epoch FROM now() - min(expire_date)::timestamptz), count(*) FILTER (WHERE expire_date < now()) "
        f"FROM {TABLE}")[0]
    assert answer.perfdata["overdue"][0] == pytest.approx(float(oldest), abs=60), (odd_zone, answer.stdout)
    assert answer.perfdata["expired"][0] == pytest.approx(expired, rel=0.02, abs=5), (odd_zone, answer.stdout)


# -- limits of time --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["swap", "full", "delete"])
def test_a_deadlock_timeout_of_weeks_does_not_matter(neglected, run_cleanup, method):
    neglected.psql("ALTER DATABASE site SET deadlock_timeout = 2147483647")
    result = run_cleanup("--method", method, user=SWAPPER)
    assert result.code == DONE, result
    assert neglected.value(EXPIRED) == 0 and neglected.value(HELPERS) == 0


def test_a_statement_timeout_that_is_too_short_is_named(neglected, pgbouncer, run_cleanup):
    """Behind a pooler VACUUM has no limit of ours."""
    neglected.psql(f"ALTER ROLE {OWNER} IN DATABASE site SET statement_timeout = 20")
    for setting in ("vacuum_cost_delay = 100", "vacuum_cost_limit = 1"):  # however quick the machine
        neglected.psql(f"ALTER ROLE {OWNER} IN DATABASE site SET {setting}")
    parameters = pgbouncer.parameters("site", OWNER)
    result = run_cleanup("--method", "delete", environment={
        "PGHOST": parameters["host"], "PGPORT": str(parameters["port"]), "PGDATABASE": "site", "PGUSER": OWNER})
    assert result.code == FAILED, result
    assert f"role {OWNER} has a statement_timeout of 20 ms here, which is too short: ALTER ROLE {OWNER}" in result.message


# -- what is told of a swap ------------------------------------------------------------------------------


def test_what_others_delete_before_the_copy_is_not_told_as_the_swaps(neglected, start_cleanup):
    with neglected.cluster.locked("site", mode="ROW EXCLUSIVE"):  # in the way of the triggers
        cleanup = start_cleanup("--method", "swap", user=SWAPPER)
        wait_for(lambda: neglected.value(HELPERS) > 0, "its helpers")
        neglected.psql(f"DELETE FROM {TABLE} WHERE expire_date < now() AND session_key < 'h'")
        left = neglected.value(EXPIRED)
    result = cleanup.result()
    assert result.code == DONE and 0 < left < 29_100, result
    assert result.deleted == left


def test_auto_deletes_where_a_swap_finds_the_data_unsound(cleaned_site, run_cleanup):
    cleaned_site.fill(sessions=20_000, data_bytes=4_500)
    for statement in (READY.format("false"), DOUBLE, READY.format("true")):
        cleaned_site.psql(statement)
    live = cleaned_site.value(f"SELECT count(*) FROM {TABLE} WHERE expire_date > now()")
    result = run_cleanup(user=OWNER)
    assert result.code == FAILED and result.deleted >= 19_400, result
    assert "django_session_pkey is damaged" in result.message and "were deleted instead" in result.message
    assert cleaned_site.value(EXPIRED) == 0 and cleaned_site.value(HELPERS) == 0
    assert cleaned_site.value(f"SELECT count(*) FROM {TABLE} WHERE expire_date > now()") == live


# -- triggers --------------------------------------------------------------------------------------------

AUDIT = f"""CREATE TABLE public.audit (at timestamptz);
CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS
  $$BEGIN INSERT INTO audit VALUES (now()); RETURN OLD; END$$;
CREATE TRIGGER noted AFTER DELETE ON {TABLE} FOR EACH ROW EXECUTE FUNCTION public.note()"""
REMEDY = "ALTER FUNCTION public.note() SET search_path = "


@pytest.fixture
def audited(neglected):
    neglected.psql(AUDIT, OWNER)
    return neglected


@pytest.mark.some_cases(2)
@pytest.mark.parametrize("user", [OWNER, CLEANER, SWAPPER])
@pytest.mark.parametrize("method", ["auto", "delete"])
def test_a_trigger_that_does_not_find_its_tables_is_named_by_the_plan(audited, run_cleanup, method, user):
    for options in (("--dry-run",), ()):
        result = run_cleanup(*options, "--method", method, user=user)
        assert result.code == REFUSED, result
        text = result.stdout + result.stderr
        assert "SQLSTATE 42P01" in text and "; trigger noted calls public.note()" in text, text
        assert REMEDY in text
    audited.psql(REMEDY + "public, pg_temp", OWNER)
    assert REMEDY not in run_cleanup("--dry-run", "--method", "delete", user=user).stdout
    assert audited.value("SELECT count(*) FROM audit") == 0
    assert run_cleanup("--method", "delete", user=user).code == DONE
    assert audited.value("SELECT count(*) FROM audit") == 29_100


def test_a_trigger_that_names_all_in_full_is_only_mentioned(audited, run_cleanup):
    audited.psql("CREATE OR REPLACE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS "
                 "$$BEGIN INSERT INTO public.audit VALUES (now()); RETURN OLD; END$$", OWNER)
    planned = run_cleanup("--dry-run", "--method", "delete", user=OWNER)
    assert planned.code == DONE and REMEDY in planned.stdout, planned
    assert audited.value("SELECT count(*) FROM audit") == 0
    assert run_cleanup("--method", "delete", user=OWNER).code == DONE


def test_what_no_rollback_undoes_is_not_tried(audited, run_cleanup):
    """The failure names the trigger all the same."""
    audited.psql("CREATE EXTENSION dblink")
    assert run_cleanup("--dry-run", "--method", "delete", user=OWNER).code == DONE
    result = run_cleanup("--method", "delete", user=OWNER)
    assert result.code == FAILED and REMEDY in result.message, result
    assert audited.value(EXPIRED) == 29_100


# -- disks -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(site, megabytes):
    """A tablespace `small` on a file system of its own; yields its folder."""
    assert AM_ROOT, "only root may mount"
    folder = Path(tempfile.mkdtemp(prefix="small.", dir=site.cluster.folder.parent))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], check=True)
    try:
        private_folder(folder, "space")
        hand_over(folder)
        site.psql(f"CREATE TABLESPACE small LOCATION '{folder}/space'")
        site.psql("GRANT CREATE ON TABLESPACE small TO PUBLIC")
        yield folder
    finally:
        try:
            site.psql(f"DROP TABLE {TABLE}")
            site.psql("CHECKPOINT")
            site.psql("DROP TABLESPACE small")
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


def fits(result):
    return re.search(r"^  fits       (.*)$", result.stdout, re.M)[1]


def test_an_index_on_a_full_disk_is_in_the_way_of_a_swap(cleaned_site, run_cleanup):
    with small_disk(cleaned_site, 12) as folder:
        cleaned_site.psql("ALTER INDEX django_session_pkey SET TABLESPACE small")
        cleaned_site.fill(sessions=20_000, expired_share=0.7)
        cleaned_site.psql("REINDEX INDEX django_session_pkey; CHECKPOINT")
        free = os.statvfs(folder)
        (folder / "ballast").write_bytes(bytes(free.f_bavail * free.f_frsize - 200_000))
        planned = run_cleanup("--dry-run", "--method", "swap", user=SUPERUSER)
        assert planned.code == REFUSED and fits(planned).startswith("no: only "), planned
        assert f"free in {folder}/space, not the" in planned.stdout and "for its indexes" in planned.stdout
        automatic = run_cleanup("--dry-run", user=SUPERUSER)
        assert automatic.code == DONE and "delete: a swap is not possible: the server's disk" in automatic.stdout
        assert run_cleanup(user=SUPERUSER).code == DONE
        (folder / "ballast").unlink()
        assert run_cleanup("--method", "swap", user=SUPERUSER).code == DONE


def test_wal_does_not_count_where_it_does_not_go(cleaned_site, run_cleanup):
    with small_disk(cleaned_site, 24) as folder:
        cleaned_site.psql(f"ALTER TABLE {TABLE} SET TABLESPACE small")
        for index, in cleaned_site.psql("SELECT indexrelid::regclass::text FROM pg_index "
                                        f"WHERE indrelid = '{TABLE}'::regclass"):
            cleaned_site.psql(f"ALTER INDEX {index} SET TABLESPACE small")
        cleaned_site.fill(sessions=24_000, expired_share=0.3, data_bytes=200)
        cleaned_site.psql("CHECKPOINT")
        free = os.statvfs(folder)
        (folder / "ballast").write_bytes(bytes(free.f_bavail * free.f_frsize - 10 * 1024 * 1024))
        planned = run_cleanup("--dry-run", "--method", "swap", user=SUPERUSER)
        assert planned.code == DONE and fits(planned).startswith("yes: "), planned
        result = run_cleanup("--method", "swap", user=SUPERUSER)
        assert result.code == DONE, result
