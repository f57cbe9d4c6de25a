"""check_django_session against real servers: states, text, perfdata, every way of going wrong."""

import contextlib
import datetime
import re
import select
import socket
import subprocess
import threading

import psycopg2
import pytest

import check
from django_site import MONITOR, OWNER, TABLE
from paths import ROLES_FILE
from processes import PLAIN_ENVIRONMENT, ordinary, private_file, wait_for

LONGEST_FIRST_LINE = 119
VOCABULARY = ["database", "table", "toast", "indexes", "total", "reclaimable", "live", "expired",
              "dead", "expired_percent", "database_percent", "overdue"]


def lines(answer):
    return answer.long_text.splitlines()


def advised(answer, end):
    """The command of the page that ends so."""
    return next(line for line in lines(answer) if line.startswith("  ") and line.endswith(end))


def has_the_shape_of_a_nagios_answer(answer):
    assert answer.code in check.STATES
    assert answer.stderr == ""
    assert re.match(rf"DJANGO_SESSION {answer.state} - .", answer.line)
    assert len(answer.line) <= LONGEST_FIRST_LINE
    assert "DJANGO_SESSION" not in answer.long_text, "a second state line"
    assert "|" not in answer.line + answer.long_text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", answer.stdout)


@pytest.fixture
def ask(run_check):
    """run_check, whose answer has been looked at as far as all answers are the same."""
    def run(*options, **more):
        answer = run_check(*options, **more)
        has_the_shape_of_a_nagios_answer(answer)
        return answer
    return run


@pytest.fixture
def silent_port():
    """A listener that accepts connections (the kernel does) and never answers."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0), backlog=8)) as listener:
        yield listener.getsockname()[1]


# -- states and the picture ----------------------------------------------------------------------


def test_an_empty_table_is_ok(site, ask):
    answer = ask()
    assert (answer.state, answer.long_text) == ("OK", "")
    assert answer.line.startswith("DJANGO_SESSION OK - django_session ")
    assert answer.line.endswith("no sessions")
    assert answer.perfdata["overdue"][0] == 0


def test_a_neglected_site_warns_and_says_what_to_do(site, ask):
    site.fill(sessions=50_000)
    answer = ask()
    assert answer.state == "WARNING"
    assert re.match(r"DJANGO_SESSION WARNING - overdue 730 d: django_session [\d.]+ MB "
                    r"\(\d+% of site\), ~97% of 50k sessions expired$", answer.line)
    assert "  python manage.py clearsessions" in lines(answer)
    assert any(re.fullmatch(rf"  python manage\.py clearsessions && .* -c 'VACUUM \(FULL, ANALYZE\) {TABLE}'", line)
               for line in lines(answer))
    assert any(line.endswith("* * *  cd /path/to/site && /path/to/venv/bin/python manage.py clearsessions")
               for line in lines(answer))
    assert any(re.match(r"Largest tables of site: public\.django_session ~[\d.]+ MB", line)
               for line in lines(answer))


@pytest.mark.parametrize("way", ["online", "full"])
def test_the_advice_mends_what_was_found(site, ask, way):
    site.fill(sessions=50_000)
    site.manage("clearsessions")
    site.psql(f"VACUUM (ANALYZE) {TABLE}")
    answer = ask("-w", "reclaimable=1MB")
    advice = [line.strip() for line in lines(answer) if line.startswith("  ")]
    assert advice[0].endswith(f"-d site -T {TABLE} --method swap --dry-run")
    assert advice[-1].endswith(f" -c 'VACUUM (FULL, ANALYZE) {TABLE}'") and "lock_timeout" in advice[-1]
    assert answer.long_text.count("Next: ") == 1 and "manage.py" not in answer.long_text
    assert answer.stdout.index("--dry-run") < 1024
    if way == "online":
        plan = check.typed(advice[0]).stdout
        assert "swap" in plan, plan
        check.typed(advice[0].removesuffix(" --dry-run"))
    else:
        check.typed(advice[-1])
    answer = ask("-v", "-w", "reclaimable=1MB")
    assert answer.state == "OK", answer.stdout
    assert "Next:" not in answer.long_text


@pytest.mark.parametrize("threshold, code", [
    (["-w", "1TB"], 0), (["-c", "1TB"], 0), (["-w", "1"], 1), (["-c", "1"], 2),
    (["-w", "1", "-c", "1"], 2), (["-w", "1", "-c", "1TB"], 1),
    (["-w", "live=~:0"], 1), (["-w", "@live=1"], 3), (["-c", "live=@90:110"], 2),
    (["-c", "expired_percent=95%"], 2), (["-c", "expired_percent=99%"], 0),
    (["--critical=overdue=1w"], 2), (["--warning", "overdue=200w"], 0)])
def test_thresholds_decide(site, ask, threshold, code):
    site.fill(sessions=3000, expired_share=2900 / 3000)
    assert ask(*threshold).code == code


def test_perfdata_has_the_whole_vocabulary_and_sql_agrees(site, ask):
    site.fill(sessions=20_000)
    answer = ask("-w", "overdue=2d", "-c", "total=1GB:5GB")
    assert list(answer.perfdata) == VOCABULARY
    sizes = site.sizes()
    for name in ("table", "toast", "indexes", "total"):
        assert answer.perfdata[name][:2] == (sizes[name], "B")
    assert answer.perfdata["database"][0] == pytest.approx(sizes["database"], rel=0.01)
    assert answer.perfdata["overdue"][2] == ["172800", "", "0"]
    assert answer.perfdata["total"][2] == ["", "1073741824:5368709120", "0"]
    assert answer.perfdata["expired_percent"][2] == ["", "", "0", "100"]


def test_perfdata_shows_the_threshold_that_decides(site, ask):
    for ranges in (["1TB", "1kB"], ["1kB", "1TB"]):
        answer = ask(*(word for text in ranges for word in ("-w", f"total={text}")))
        assert answer.state == "WARNING" and answer.perfdata["total"][2][0] == "1024"


def test_exact_counts(site, ask):
    site.fill(sessions=20_000, vacuum=False)
    answer = ask("--exact", "-v")
    truth = site.value("SELECT count(*) FROM django_session WHERE expire_date < now()")
    assert answer.perfdata["expired"][0] == truth == 19_400
    assert answer.perfdata["live"][0] == 600
    assert ", 97% of 20k sessions expired" in answer.line
    assert "(sessions counted)" in answer.long_text


def test_an_estimate_says_that_it_is_one(site, ask):
    site.fill(sessions=20_000)
    answer = ask("-v")
    assert ", ~97% of 20k sessions expired" in answer.line
    assert "(estimated from the planner's statistics)" in answer.long_text


def test_verbosity_adds_lines(site, ask):
    site.fill(sessions=3000, expired_share=0, live_for=datetime.timedelta(days=14))
    counts = [len(lines(ask(*flags))) for flags in ([], ["-v"], ["-vv"], ["-v", "-vv"])]
    assert counts == sorted(set(counts))
    answer = ask("-vvv")
    assert "Judged: -c reclaimable=10737418240: " in answer.long_text
    assert f"database site, as {MONITOR}; the server is a primary" in answer.long_text


# -- what can't be known -------------------------------------------------------------------------


def test_a_locked_table_of_which_no_page_is_known_is_not_called_empty(site, cluster, run_check):
    site.psql(f"ANALYZE {TABLE}")
    site.fill(sessions=1000, vacuum=False)
    with cluster.locked("site"):
        answer = run_check("-w", "expired=1")
    assert answer.state == "UNKNOWN" and "no sessions" not in answer.stdout, answer.stdout
    assert not {"live", "expired", "dead", "expired_percent"} & answer.perfdata.keys(), answer.stdout


def test_a_locked_table_is_reported_at_once(cluster, site, ask):
    site.fill(sessions=20_000)
    with cluster.locked("site"):
        answer = ask()
    assert answer.seconds < 1
    assert answer.state == "UNKNOWN"
    assert "overdue unknown (the table is locked): django_session (locked) ~" in answer.line
    assert re.search(r"Next: the table is locked by pid \d+", answer.long_text)
    assert answer.perfdata["total"][0] > 0
    assert "overdue" not in answer.perfdata


@contextlib.contextmanager
def queue_behind_a_reader(cluster):
    """Who reads in an open transaction, whom a VACUUM FULL waits for, and all others for that."""
    with contextlib.closing(cluster.connect("site", autocommit=False)) as reader, \
            contextlib.closing(cluster.connect("site")) as admin:
        reader.cursor().execute(f"SELECT count(*) FROM {TABLE}")
        admin.cursor().execute("SET application_name = 'nightly'")
        vacuum = threading.Thread(target=ended_somehow, args=(admin, f"VACUUM FULL {TABLE}"))
        vacuum.start()
        wait_for(lambda: cluster.psql("SELECT 1 FROM pg_locks WHERE NOT granted", "site"), "the queue")
        try:
            yield reader
        finally:
            admin.cancel()
            vacuum.join()


def ended_somehow(connection, statement):
    with contextlib.suppress(psycopg2.Error):
        connection.cursor().execute(statement)


def test_who_heads_the_queue_at_the_table_is_named_and_ended_by_what_is_printed(cluster, site, ask):
    site.fill(sessions=20_000)
    with queue_behind_a_reader(cluster) as reader:
        answer = ask()
        assert answer.state == "UNKNOWN"
        head = f"pid {reader.info.backend_pid}"
        assert re.search(rf"Next: the table is locked by pid \d+ \(role postgres, nightly\), .*waits for {head} \(role "
                         "postgres", answer.long_text), answer.long_text
        assert f"end {head}, which undoes its work; as its role or a superuser:" in answer.long_text
        end_it = next(line for line in lines(answer) if "pg_terminate_backend" in line)
        assert answer.stdout.index(end_it) < 1024
        check.typed(end_it)
        wait_for(lambda: cluster.psql("SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_locks WHERE NOT granted)", "site"), "the end")
    assert ask("-w", "1TB").state == "OK"


INDEXING = "CREATE INDEX CONCURRENTLY ON {} (session_data)"
SOMEBODY_WAITS = "all who read or save a session wait"


@pytest.mark.parametrize("waiting, said", [
    ([], "nobody waits yet"), ([INDEXING], "nobody waits yet"), (["SELECT count(*) FROM {}"], SOMEBODY_WAITS),
    ([INDEXING, "DELETE FROM {}"], SOMEBODY_WAITS), (["TRUNCATE {}"], SOMEBODY_WAITS)])
def test_who_waits_for_a_locked_table_is_told_from_who_has_it(cluster, site, run_check, waiting, said):
    """Though the check may see since when it is locked: by one of its own role."""
    site.fill(sessions=1000)
    environment = cluster.environment("site", OWNER)
    with contextlib.ExitStack() as stack:
        holder = stack.enter_context(contextlib.closing(cluster.connect("site", OWNER, autocommit=False)))
        holder.cursor().execute(f"LOCK TABLE {TABLE}")
        for statement in waiting:
            waiter = stack.enter_context(contextlib.closing(cluster.connect("site", OWNER)))
            thread = threading.Thread(target=ended_somehow, args=(waiter, statement.format(TABLE)))
            thread.start()
            stack.callback(thread.join)
            stack.callback(waiter.cancel)
        wait_for(lambda: cluster.psql("SELECT count(*) FROM pg_locks WHERE NOT granted", "site") == [(len(waiting),)], "them all")
        answer = run_check(environment=environment)
        holder.rollback()
    assert answer.state == "UNKNOWN" and f": {said}" in answer.long_text, answer.stdout


class EndingWay:
    """Between the check and the server: ends, or falls silent, after so many bytes of the server's."""

    def __init__(self, cluster, after=None, silent=False):
        self._server = ("127.0.0.1", cluster.port)
        self._after, self._silent = after, silent
        self.sent = 0

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()
        host, port = self._listener.getsockname()
        self.conninfo = f"host={host} port={port} dbname=site user={MONITOR} sslmode=disable gssencmode=disable"
        return self

    def __exit__(self, *exception):
        self._over.set()
        self._thread.join()
        self._listener.close()

    def _listen(self):
        while not self._over.is_set():
            if select.select([self._listener], [], [], 0.02)[0]:
                with self._listener.accept()[0] as client, socket.create_connection(self._server) as server, \
                        contextlib.suppress(OSError):
                    self._pass_on(client, server)

    def _pass_on(self, client, server):
        while not self._over.is_set():
            for end in select.select([client, server], [], [], 0.02)[0]:
                data = end.recv(64)
                if not data:
                    return
                if end is server:
                    self.sent += len(data)
                    if self._after is not None and self.sent > self._after:
                        self._over.wait(60 if self._silent else 0)
                        return
                (server if end is client else client).sendall(data)


def test_wherever_the_connection_ends_what_it_has_told_is_reported(cluster, site, run_check):
    """After the table's values comes the size of the whole database, which may take long."""
    site.fill(sessions=1000)

    def ask(way, *options):
        return run_check("-w", "expired=1", *options, "-d", way.conninfo, environment={})
    with EndingWay(cluster) as way:
        whole = ask(way)
    assert whole.state == "WARNING" and whole.perfdata["database"]
    states = []
    for after in [*range(0, way.sent, 500), way.sent - 4000]:
        with EndingWay(cluster, after) as cut:
            answer = ask(cut)
        assert "internal error" not in answer.stdout and answer.state != "OK", answer.stdout
        assert (answer.state == "WARNING") == bool(answer.perfdata), answer.stdout
        states.append(answer.state)
    assert {"WARNING", "CRITICAL"} <= set(states), states
    with EndingWay(cluster, way.sent - 4000, silent=True) as cut:
        answer = ask(cut, "-t", "4")
    assert answer.state == "WARNING" and answer.perfdata["total"] and "database" not in answer.perfdata, answer.stdout


def test_a_prepared_transaction_that_locks_the_table_is_named(own_site, check_program):
    site = own_site(max_prepared_transactions="2")
    environment = site.cluster.environment("site", OWNER)
    site.psql(f"BEGIN; LOCK TABLE {TABLE}; PREPARE TRANSACTION 'it''s left'")
    answer = check.run_check(check_program, environment=environment)
    assert "locked by prepared transaction it's left: nobody waits yet" in answer.long_text, answer.stdout
    check.typed(next(line for line in lines(answer) if "ROLLBACK PREPARED" in line))
    assert check.run_check(check_program, environment=environment).state == "OK"


# Others' times are hidden from the monitor, the transactions since are not.
MANY_TRANSACTIONS = "DO $$ BEGIN FOR i IN 1..1001 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"


def many_dead_sessions(site, *changes):
    """VACUUM leaves them, for what is done first."""
    site.fill(sessions=20_000, expired_share=0)
    for change in changes:
        site.psql(change, OWNER)
    site.psql(f"DELETE FROM {TABLE} WHERE session_key < '8'")
    site.psql(MANY_TRANSACTIONS)
    site.psql(f"VACUUM ANALYZE {TABLE}")
    wait_for(lambda: site.value(f"SELECT n_dead_tup > 5000 FROM pg_stat_all_tables WHERE relid = '{TABLE}'::regclass"),
             "the counter of dead rows, which servers before PostgreSQL 15 have half a second late")


def ends_what_keeps_dead_rows(answer, who, end_it):
    """Types what the page says, in its order."""
    assert f"VACUUM can't remove what was deleted or changed since this began: {who}" in answer.long_text, answer.stdout
    commands = [line for line in lines(answer) if line.startswith("  ") and (end_it in line or "VACUUM (ANALYZE)" in line)]
    assert len(commands) == 2 and end_it in commands[0] and answer.stdout.index(commands[1]) < 1024
    assert answer.perfdata["dead"][0] > 5_000
    for command in commands:
        check.typed(command)


def without_dead_rows(answer):
    """It, or None while the counter is late."""
    return answer if answer.perfdata["dead"][0] == 0 else None


def test_who_keeps_dead_rows_is_named_and_ended_by_what_is_printed(site, cluster, ask):
    with contextlib.closing(cluster.connect("site", OWNER, autocommit=False)) as reader:
        reader.set_session(isolation_level="REPEATABLE READ")
        reader.cursor().execute("SET application_name = 'report'; SELECT 1")
        many_dead_sessions(site)
        answer = ask("-w", "reclaimable=1MB")
        ends_what_keeps_dead_rows(answer, f"pid {reader.info.backend_pid} of role {OWNER} (report)", "pg_terminate_backend")
    after = wait_for(lambda: without_dead_rows(ask("-w", "reclaimable=1MB")), "no dead row")
    assert "since this began" not in after.long_text


def test_a_prepared_transaction_that_keeps_dead_rows_is_named_and_ended(own_site, check_program):
    site = own_site(max_prepared_transactions="2")
    many_dead_sessions(site, "CREATE TABLE other (a int)", "BEGIN; INSERT INTO other VALUES (1); PREPARE TRANSACTION 'left'")
    asked = {"environment": site.cluster.environment("site", OWNER)}
    answer = check.run_check(check_program, "-w", "reclaimable=1MB", **asked)
    ends_what_keeps_dead_rows(answer, f'prepared transaction "left" of role {OWNER}', "ROLLBACK PREPARED")
    wait_for(lambda: without_dead_rows(check.run_check(check_program, **asked)), "no dead row")


def test_another_session_table_is_named(cluster, site, ask):
    site.psql(f"""CREATE SCHEMA shop; CREATE TABLE shop."Visits" (LIKE {TABLE}); CREATE TABLE shop.djs_1_new (LIKE {TABLE})""")
    named = "Not looked at here, though of the same kind: -T shop.Visits; give each a check of its own"
    assert named in lines(ask("-v"))
    site.psql('DROP TABLE shop."Visits"')
    assert "Not looked at here" not in ask("-v").long_text


def test_what_others_call_their_tables_is_one_word_for_a_shell(site, ask):
    name = "s$(echo x)`echo y`'z"
    site.psql(f'CREATE TABLE public."{name}" (LIKE {TABLE})')
    for answer, words in (ask("-v"), "same kind: -T (.*); give"), (ask("-T", "nosuch"), r"public\.django_session, (.*)$"):
        shown = re.findall(words, answer.stdout, re.M)[-1]  # a long first line is cut
        assert check.typed(f"printf %s {shown}").stdout == f"public.{name}", answer.stdout


def test_no_largest_table_is_no_line(site, cluster, ask):
    """It is ours alone, locked, and nobody has measured it yet."""
    site.psql("DROP TABLE django_migrations")
    with cluster.locked("site"):
        assert "Largest tables" not in ask("-v").stdout
    assert re.search(r"^Largest tables of site: public\.django_session", ask("-v").stdout, re.M)


def test_a_right_that_is_missing_is_named_with_its_grant(site, ask):
    site.fill(sessions=5000)
    site.psql(f"REVOKE SELECT (expire_date) ON {TABLE} FROM {MONITOR}")
    answer = ask()
    grant = f"GRANT SELECT (expire_date) ON {TABLE} TO {MONITOR}"
    assert answer.state == "UNKNOWN"
    check.typed(advised(answer, f"-d site -c '{grant}'"))
    assert ask().state == "WARNING"
    site.psql(f"REVOKE SELECT (expire_date) ON {TABLE} FROM {MONITOR}")
    assert ask("-w", "1TB").state == "OK", "sizes need no right"


def test_the_schema_s_right_is_named_too(site, ask):
    site.psql(f"""CREATE SCHEMA shop; CREATE TABLE shop.basket (LIKE {TABLE} INCLUDING ALL);
        GRANT SELECT (expire_date) ON shop.basket TO {MONITOR}""")
    answer = ask("-T", "shop.basket")
    assert answer.state == "UNKNOWN"
    check.typed(advised(answer, f"-d site -c 'GRANT USAGE ON SCHEMA shop TO {MONITOR}'"))
    assert ask("-T", "shop.basket", "-w", "1TB").state == "OK"


def test_the_database_s_right_is_named_too(site, ask, cluster):
    site.psql(f"REVOKE CONNECT ON DATABASE site FROM PUBLIC, {MONITOR}")
    answer = ask("-d", cluster.conninfo("site"), "-U", MONITOR)
    assert answer.state == "UNKNOWN"
    assert f"GRANT CONNECT ON DATABASE site TO {MONITOR};" in answer.line
    check.typed(advised(answer, f" -c 'GRANT CONNECT ON DATABASE site TO {MONITOR}'"))
    assert ask("-d", cluster.conninfo("site"), "-U", MONITOR).state == "OK"


@pytest.mark.debians("the others come without translations")
def test_a_missing_connect_is_named_whatever_language_the_server_speaks(own_cluster, check_program):
    server = own_cluster(prefix=["env", "LANGUAGE=de"])
    server.create_role(MONITOR)
    server.create_database("site", OWNER)
    server.psql("REVOKE CONNECT ON DATABASE site FROM PUBLIC")
    answer = check.run_check(check_program, "-U", MONITOR, environment=server.environment("site"))
    assert "keine Berechtigung" in server.log_text()  # else this tests nothing
    assert answer.state == "UNKNOWN" and f"GRANT CONNECT ON DATABASE site TO {MONITOR};" in answer.line


def test_no_statistics_are_unknown_and_analyze_is_advised(site, ask):
    site.fill(sessions=200_000, expired_share=0.5, vacuum=False)
    wait_for(lambda: site.value("SELECT pg_stat_get_live_tuples('django_session'::regclass)"),
             "the statistics of the fill")
    answer = ask("-w", "expired=1")
    assert answer.state == "UNKNOWN"
    assert "expired unknown (no statistics yet: ANALYZE public.django_session)" in answer.line
    check.typed(advised(answer, f"-d site -c 'ANALYZE {TABLE}'"))
    assert ask("-w", "expired=1").state == "WARNING"


def test_free_space_hidden_from_the_role_is_at_least(site, ask):
    site.fill(sessions=5000)
    site.psql("DROP FUNCTION django_session_statistics(regclass)")
    answer = ask("-w", "reclaimable=1")
    assert re.search(r"reclaimable at least [\d.]+ ", answer.line)
    assert advised(answer, f"-d site -v table={TABLE} -v monitor={MONITOR} -f {ROLES_FILE}")


def test_an_invalid_index_is_to_be_dropped(site, ask):
    site.psql("""CREATE INDEX django_session_pkey_ccnew ON django_session (session_key);
        UPDATE pg_index SET indisvalid = false
        WHERE indexrelid = 'django_session_pkey_ccnew'::regclass""")
    check.typed(advised(ask("-v"), "-d site -c 'DROP INDEX CONCURRENTLY public.django_session_pkey_ccnew'"))
    assert "Next:" not in ask("-v").long_text


def test_no_such_table_says_which_there_are(site, ask):
    answer = ask("-T", "sessions")
    assert answer.state == "UNKNOWN"
    assert answer.line.endswith(f"no table sessions in this database; session tables here: {TABLE}")
    answer = ask("-T", "pg_catalog.pg_class")
    assert "not a table of Django sessions" in answer.stdout
    site.psql("CREATE VIEW some_view AS SELECT * FROM django_session")
    assert "public.some_view is a view, not a table" in ask("-T", "some_view").line


@pytest.mark.some_cases(2)
@pytest.mark.parametrize("name", [
    "Odd Name", "semi;colon", "quote'quote", 'double"quote', "pipe|pipe", "new\nline", "schlüssel",
    "{brace}", "percent%s", "back\\slash", "t" * 63, "é" * 31])
def test_odd_names_are_measured_and_can_be_pasted(cluster, site, ask, name):
    quoted = '"' + name.replace('"', '""') + '"'
    site.psql(f"""CREATE SCHEMA {quoted};
        CREATE TABLE {quoted}.{quoted} (LIKE {TABLE} INCLUDING ALL);
        GRANT USAGE ON SCHEMA {quoted} TO {MONITOR};
        GRANT SELECT (expire_date) ON {quoted}.{quoted} TO {MONITOR}""")
    site.fill(sessions=30_000, table=f"{quoted}.{quoted}")
    answer = ask("-T", f"{quoted}.{quoted}")
    assert answer.state == "WARNING"
    assert answer.line.startswith("DJANGO_SESSION WARNING - overdue 730 d: ")
    vacuum = next(line for line in lines(answer) if "VACUUM (FULL" in line).partition(" && ")[2]
    before = site.sizes(f"{quoted}.{quoted}".replace("'", "''"))["total"]
    site.psql(f"DELETE FROM {quoted}.{quoted} WHERE expire_date < now()")
    check.typed(vacuum)
    assert site.sizes(f"{quoted}.{quoted}".replace("'", "''"))["total"] < before / 10


def test_an_odd_database_name_is_no_connection_string(cluster, new_site, ask):
    new_site("odd name|x")
    answer = ask("-d", "odd name|x")
    assert answer.state == "OK"
    assert "of odd name/x)" in answer.line


# -- servers that don't answer -------------------------------------------------------------------


def test_a_login_that_is_refused_is_explained_with_what_is_known(site, ask, cluster):
    answer = ask("-d", f"dbname=nosuch user={MONITOR}")
    assert re.search(r"\n  sudo -u postgres psql -h \S+ -p \d+ -l\n", answer.stdout), answer.stdout
    databases = check.typed(next(line for line in lines(answer) if line.endswith(" -l"))).stdout
    assert "site" in databases
    answer = ask("-d", "dbname=site user=nosuch", environment={**cluster.environment("site"), "PGUSER": "nobody"})
    assert advised(answer, f" -d site -v monitor=nosuch -f {ROLES_FILE}")
    assert advised(answer, " -c 'ALTER ROLE nosuch LOGIN'")


def test_the_address_beside_a_name_is_that_of_the_commands(cluster, site, check_program):
    site.fill(sessions=20_000)
    answer = check.run_check(check_program, "-d", f"host=elsewhere.example hostaddr=127.0.0.1 port={cluster.port} "
                             f"dbname=site user={MONITOR}")
    assert advised(answer, "--method swap --dry-run").startswith(
        f"  django_session_cleanup -H 127.0.0.1 -p {cluster.port} -d site -U {OWNER} "), answer.stdout
    assert "swap" in check.typed(advised(answer, "--method swap --dry-run")).stdout


def test_nobody_listens(ask):
    answer = ask("-d", "site", environment={"PGHOST": "127.0.0.1", "PGPORT": "1"})
    assert answer.state == "CRITICAL"
    assert answer.line.startswith("DJANGO_SESSION CRITICAL - cannot connect: ")
    assert answer.line.endswith("cannot connect: Connection refused (127.0.0.1:1, database site)")
    assert "\n  pg_isready -h 127.0.0.1 -p 1\n" in answer.stdout
    assert answer.perfdata == {}


def test_no_such_database_role_or_service(site, ask):
    for options, words in [(["-d", "nosuch"], 'database "nosuch" does not exist'),
                           (["-U", "nosuch"], 'role "nosuch" does not exist'),
                           (["--service", "nosuch"], 'service "nosuch" not found')]:
        answer = ask(*options)
        assert answer.state == "CRITICAL"
        assert words in answer.stdout


@pytest.mark.parametrize("limit", ["1", "1.5"])
def test_a_listener_that_never_answers_costs_one_timeout(ask, silent_port, limit):
    answer = ask("-H", "127.0.0.1", "-p", str(silent_port), "-t", limit, environment={})
    assert answer.state == "CRITICAL"
    assert answer.line == ("DJANGO_SESSION CRITICAL - "
                           f"timed out after {limit} s while connecting to 127.0.0.1")
    assert float(limit) <= answer.seconds < float(limit) + 1


@pytest.mark.parametrize("tcp", [False, True])
def test_a_stopped_server_costs_one_timeout(running_cluster, site, ask, tcp):
    parameters = running_cluster.parameters("site", MONITOR, tcp)
    running_cluster.pause()
    answer = ask("-H", parameters["host"], "-t", "1")
    running_cluster.resume()
    assert answer.state == "CRITICAL"
    assert "timed out after 1 s while " in answer.line
    assert 1 <= answer.seconds < 2


def test_a_slow_catalogue_may_take_the_time_that_there_is(site, ask):
    site.interfere("PERFORM pg_sleep(0.3)")  # for each time that it is asked for a role
    answer = ask("-t", "20")
    assert answer.state == "OK" and answer.seconds > 3, answer


def test_a_time_limit_of_the_server_is_a_timeout(site, ask):
    site.interfere("RAISE EXCEPTION 'too long' USING ERRCODE = 'query_canceled'")
    answer = ask()
    assert answer.line == ("DJANGO_SESSION CRITICAL - timed out: an error was raised in function "
                           "public.interfering(), SQLSTATE 57014; the messa...")
    assert "too long" not in answer.stdout, answer


def test_a_server_that_is_gone_and_comes_back(running_cluster, site, ask):
    running_cluster.stop()
    assert ask().state == "CRITICAL"
    running_cluster.start()
    assert ask().state == "OK"


# -- ways to connect -----------------------------------------------------------------------------


def test_an_empty_host_is_the_default(site, ask):
    """As Nagios and Icinga pass a macro without a value."""
    assert ask("-H", "").state == ask("--host=").state == "OK"


def test_options_conninfo_and_uri_reach_the_same_table(cluster, site, ask):
    host, port = str(cluster.socket), str(cluster.port)
    for options in (["-H", host, "-p", port, "-d", "site", "-U", MONITOR],
                    ["-d", cluster.conninfo("site", MONITOR)],
                    ["-d", f"postgresql://{MONITOR}@127.0.0.1:{port}/site"],
                    ["-d", f"postgresql://{MONITOR}@127.0.0.1:1/site", "-p", port]):
        assert ask(*options, environment={}).state == "OK"


def test_a_service_file_is_read(cluster, site, ask, folder):
    services = private_file(folder / "services", "[shop]\n" + "\n".join(
        f"{key}={value}" for key, value in cluster.parameters("site", MONITOR).items()))
    assert ask("--service", "shop", environment={"PGSERVICEFILE": str(services)}).state == "OK"


def test_through_pgbouncer(site, ask, pgbouncer):
    site.fill(sessions=20_000)
    for options in ([], ["--exact"]):
        answer = ask("-v", "-d", pgbouncer.conninfo("site", MONITOR), *options, environment={})
        assert answer.state == "WARNING"
        assert list(answer.perfdata) == VOCABULARY
    assert [value for value, in site.psql("SHOW lock_timeout")] == ["0"]


def test_a_password_file_that_others_may_read_is_mentioned(cluster, site, ask, folder):
    passwords = private_file(folder / "pgpass", f"*:*:*:{MONITOR}:s3cret\n", mode=0o644)
    answer = ask("-d", "nosuch", environment={**cluster.environment("site", MONITOR),
                                              "PGPASSFILE": str(passwords)})
    assert answer.state == "CRITICAL"
    assert "libpq: WARNING: password file" in answer.long_text
    assert "s3cret" not in answer.stdout


# -- wrong command lines -------------------------------------------------------------------------

WRONG = [
    (["-p", "s3cret"], "-p: a port is a number from 1 to 65535, for example 5432"),
    (["-ps3cret"], "not repeated"),
    (["-p", "0"], "a port is a number from 1 to 65535"),
    (["-p", "70000"], "a port is a number from 1 to 65535"),
    (["-p", ""], "a port is a number from 1 to 65535"),
    (["-p"], "-p needs a value"),
    (["-H"], "-H needs a value"),
    (["-d", ""], "-d: the value is empty"),
    (["-U", ""], "-U: the value is empty"),
    (["--service="], "--service: the value is empty"),
    (["-d", "host=x password=s3cret"], "a password on the command line can be read"),
    (["-d", "postgresql://me:s3cret@x/site"], "a password on the command line can be read"),
    (["-d", "host='s3cret"], "not a valid connection string or URI"),
    (["-d", "nonsense=s3cret"], "not a valid connection string or URI"),
    (["-T", ""], "a name is empty"),
    (["-T", "a.b.c"], "expected SCHEMA.TABLE, for example public.django_session"),
    (["-T", "x" * 64], "at most 63 bytes"),
    (["-T", '"a'], "the closing quote is missing"),
    (["-w", "1-10"], "start and end are separated by ':'"),
    (["-w", ":"], "a ':' needs a number before or after it"),
    (["-w", ""], 'cannot read ""'),
    (["--warning="], 'cannot read ""'),
    (["-c", "foo"], 'cannot read "foo" as a range of sizes'),
    (["-c", "10:5"], "the start, 10, is above the end, 5"),
    (["-w", "1:12%%"], 'cannot read "1:12%%"'),
    (["-w", "live=1GB"], "a number of rows has no unit"),
    (["-w", "overdue=1GB"], "ends in s, m, h, d or w"),
    (["-w", "size=1GB"], "the metrics are database, table, toast"),
    (["-w", "a|b=1"], "no such metric"),
    (["-c"], "-c needs a value"),
    (["-t", "0"], "must be more than 0"),
    (["-t", "-1"], "must be more than 0"),
    (["-t", "x"], 'cannot read "x" as a duration'),
    (["-t", "2d"], "at most a day"),
    (["--exact=yes"], "--exact takes no value"),
    (["--verbose=2"], "--verbose takes no value"),
    (["-x"], "unknown option -x"),
    (["--password=s3cret"], "unknown option --password"),
    (["--password", "s3cret"], "unknown option --password"),
    (["-v3"], "unknown option -3"),
    (["s3cret"], "unexpected argument"),
    (["-v", "s3cret"], "unexpected argument"),
    (["--", "s3cret"], "unexpected argument"),
    ([""], "unexpected argument"),
    (["-w", "\x1b[31m\n"], 'cannot read "?[31m?"'),
]


@pytest.mark.parametrize("options, message", WRONG, ids=lambda value: repr(value)[:40])
def test_a_wrong_command_line_is_unknown_and_says_what_would_be_right(ask, options, message):
    answer = ask(*options, environment={})
    assert answer.code == 3
    assert message in answer.stdout
    assert "s3cret" not in answer.stdout
    assert answer.perfdata == {}


def test_help_and_version_exit_3_on_stdout(run_check):
    for option in ("-h", "--help"):
        answer = run_check(option, environment={})
        assert (answer.code, answer.stderr) == (3, "")
        assert "Usage: check_django_session" in answer.stdout
    for option in ("-V", "--version"):
        answer = run_check(option, environment={})
        assert (answer.code, answer.stderr) == (3, "")
        assert re.fullmatch(r"check_django_session \d+\.\d+\.\d+\n", answer.stdout)


# -- where the answer goes -----------------------------------------------------------------------


@pytest.mark.parametrize("output", [">/dev/full", ">&-", "| true"])
def test_an_answer_that_nobody_can_read_is_unknown(cluster, site, check_program, output):
    script = f'set -o pipefail; "$0" {output}'
    done = subprocess.run(
        ordinary(["bash", "-c", script, check_program]), check=False, timeout=20,
        env={**PLAIN_ENVIRONMENT, **cluster.environment("site", MONITOR)}, stderr=subprocess.PIPE)
    assert done.returncode in ((3,) if output != "| true" else (0, 3))
    assert done.stderr == b""


def test_the_locale_changes_nothing(site, ask, cluster):
    site.fill(sessions=5000)
    german = {**cluster.environment("site", MONITOR), "LC_ALL": "de_DE.UTF-8", "LANGUAGE": "de"}
    assert "." in ask("-v", environment=german).line


def test_a_damaged_index_is_rebuilt_and_not_cleaned_by(own_site, check_program):
    site = own_site()
    site.apply_roles()
    site.fill(sessions=4000, expired_share=0.9)
    index, path = site.psql("SELECT indexrelid::regclass, pg_relation_filepath(indexrelid) FROM pg_index "
                            f"WHERE indrelid = '{TABLE}'::regclass AND indkey[0] = 3")[0]
    site.cluster.stop()
    with open(site.cluster.data / path, "r+b") as file:
        file.seek(3 * 8192)
        file.write(bytes((i * 37 + 11) & 255 for i in range(8192)) * 8)
    site.cluster.start()
    answer = check.run_check(check_program, environment=site.cluster.environment("site", MONITOR))
    assert answer.state == "UNKNOWN" and "invalid page" in answer.line, answer.stdout
    assert f"REINDEX INDEX CONCURRENTLY public.{index}" in answer.stdout and "--method" not in answer.stdout, answer.stdout
    site.psql(f"REINDEX INDEX CONCURRENTLY {index}")
    answer = check.run_check(check_program, environment=site.cluster.environment("site", MONITOR))
    assert answer.state == "WARNING" and answer.perfdata["overdue"][0] > 0, answer.stdout


def test_a_count_that_meets_a_damaged_page_is_no_count(own_site, check_program):
    """Where no index finds the oldest, nothing else shows it."""
    site = own_site()
    site.apply_roles()
    site.fill(sessions=4000, expired_share=0.9)
    index = site.value(f"SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = '{TABLE}'::regclass AND indkey[0] = 3")
    site.psql(f"DROP INDEX {index}")
    path = site.value(f"SELECT pg_relation_filepath('{TABLE}')")
    site.cluster.stop()
    with open(site.cluster.data / path, "r+b") as file:
        file.seek(20 * 8192)
        file.write(bytes((i * 37 + 11) & 255 for i in range(8192)))
    site.cluster.start()
    answer = check.run_check(check_program, "--exact", "-v", "-w", "1TB", environment=site.cluster.environment("site", MONITOR))
    assert re.search("^Not counted, though asked for: .*invalid page", answer.long_text, re.M), answer.stdout
    assert "(not counted)" in answer.line, answer.stdout


def test_an_interrupted_swap_is_reported(site, ask, cluster):
    site.fill(sessions=1000, expired_share=0)
    oid = site.value(f"SELECT '{TABLE}'::regclass::oid")
    site.psql(f"""CREATE TABLE djs_{oid}_log (k text); CREATE TABLE djs_{oid}_state (i int);
        COMMENT ON TABLE djs_{oid}_state IS 'django_session_cleanup, started 2026-01-02 03:04:05Z';
        ALTER TABLE djs_{oid}_log OWNER TO django; ALTER TABLE djs_{oid}_state OWNER TO django;
        CREATE FUNCTION djs_{oid}_note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER djs_{oid}_changed AFTER UPDATE ON {TABLE} FOR EACH ROW
          EXECUTE FUNCTION djs_{oid}_note()""")
    answer = ask()
    assert answer.state == "WARNING"
    assert answer.line.startswith("DJANGO_SESSION WARNING - an interrupted swap was left behind: ")
    assert advised(answer, f" -d site -T {TABLE} --method swap") and advised(answer, f" -d site -T {TABLE} --abort")
    site.psql(f"COMMENT ON TABLE djs_{oid}_state IS 'django_session_cleanup, keeping 604800 s, started 2026-01-02 03:04:05Z'")
    assert advised(ask(), f" -d site -T {TABLE} --method swap --keep 604800s")
    site.psql(f"COMMENT ON TABLE djs_{oid}_state IS 'django_session_cleanup, started '")
    assert ask().state == "WARNING"
    with cluster.asking("site") as keep:
        keep(f"SELECT pg_advisory_lock(1684697955, {oid})")  # what a cleanup holds while it runs
        assert ask().state == "OK"
    site.psql(f"ALTER TRIGGER djs_{oid}_changed ON {TABLE} RENAME TO djs_mine")
    assert ask().state == "OK"
