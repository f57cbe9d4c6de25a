"""The method `delete` and code of the table's owner: it runs with his rights, whoever cleans up."""

import contextlib
import re

import pytest

from cleanup_command import CLEANER, DONE, FAILED, REFUSED, STOPPED, SWAPPER, Cleanup
from django_site import OWNER, TABLE
from gate import Gate, after_two_batches
from paths import ROLES_SQL
from processes import wait_for

DELETE = ("--method", "delete", "--no-progress")
EXPIRED = f"SELECT count(*) FROM {TABLE} WHERE expire_date < now()"
SUPERUSERS = f"SELECT rolname FROM pg_roles WHERE rolsuper AND rolname IN ('{OWNER}', '{CLEANER}', '{SWAPPER}')"

# Tries to become a superuser; a trigger notes as whom it ran.
EVIL = f"""
CREATE TABLE spy (who name);
CREATE FUNCTION attack() RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
  BEGIN EXECUTE 'RESET ROLE'; EXECUTE 'RESET SESSION AUTHORIZATION'; EXCEPTION WHEN OTHERS THEN NULL; END;
  BEGIN EXECUTE 'ALTER ROLE {OWNER} SUPERUSER'; EXCEPTION WHEN OTHERS THEN NULL; END;
  RETURN true;
END $$;
CREATE FUNCTION evil(text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN public.attack(); END$$;
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


@pytest.mark.some_cases(5)
@pytest.mark.parametrize("user", ["postgres", SWAPPER, CLEANER])
@pytest.mark.parametrize("code", PLACES.values(), ids=PLACES)
def test_the_owners_code_runs_as_the_owner(attacked, run_cleanup, user, code):
    place(attacked, code)
    result = run_cleanup(*DELETE, user=user)
    assert attacked.psql(SUPERUSERS) == []
    assert (result.code, result.deleted) == (DONE, 485), result
    assert attacked.value(EXPIRED) == 0
    assert attacked.psql("SELECT DISTINCT who FROM spy") == ([(OWNER,)] if "TRIGGER" in code else [])


@pytest.mark.parametrize("user", ["postgres", SWAPPER, CLEANER])
def test_what_waits_for_the_commit_is_refused_by_name(attacked, run_cleanup, user):
    place(attacked, DEFERRED)
    result = run_cleanup(*DELETE, user=user)
    if user == CLEANER and attacked.cluster.version >= 18:  # it runs as the owner, who has set it off
        assert result.deleted == 485 and attacked.psql("SELECT DISTINCT who FROM spy") == [(OWNER,)]
        return
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
        attacked.psql(EVIL.replace(f"ALTER ROLE {OWNER} SUPERUSER", "GRANT SELECT ON public.secret TO PUBLIC") +
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
    assert result.code == REFUSED and "has rights that django, whose code deletes, lacks" in result.stderr, result
    assert attacked.value(EXPIRED) == 485


@pytest.mark.parametrize("change", [
    "ALTER FUNCTION public.django_session_delete_expired SECURITY INVOKER",
    "DROP FUNCTION public.django_session_delete_expired"])
def test_a_function_that_is_not_what_roles_sql_made_is_not_called(attacked, run_cleanup, change):
    attacked.psql(change, OWNER)
    result = run_cleanup(*DELETE)
    assert result.code == REFUSED and f"conf.d/roles.sql makes (psql -v cleaner={CLEANER})" in result.stderr, result


# What the function returns, and its arguments.
RETURNED = """(is_ours bool, is_locked bool, swap_lives bool, seen float8, free float8, deleted float8, moment text,
    left_over text, left_last text, lockers text, wal_bytes float8)"""
FUNCTION = "public.django_session_delete_expired"
ARGUMENTS = "regclass, timestamptz, timestamptz, int4, tid[], tid[], bool"
GAINS = f"""SELECT rolname FROM pg_roles WHERE rolname = '{OWNER}' AND (rolsuper OR rolcreaterole)
    UNION ALL SELECT 'member' FROM pg_auth_members WHERE member = '{OWNER}'::regrole"""


def replace_function(site, body, user=OWNER, returned=RETURNED, how="SECURITY DEFINER"):
    """Whoever has a function of that name: one by `user`, for the cleaner to call."""
    site.psql(f"""DROP FUNCTION IF EXISTS {FUNCTION}({ARGUMENTS});
        CREATE FUNCTION {FUNCTION}({ARGUMENTS}) RETURNS TABLE {returned} LANGUAGE plpgsql {how} AS $f$
        #variable_conflict use_column
        BEGIN {body} END $f$; GRANT EXECUTE ON FUNCTION {FUNCTION} TO {CLEANER}""", user)


LYING = {
    "absurd": "true, false, false, 'NaN', '-Infinity', -7, 'today'', now()) --', '{\"(0,1)''x\"}', '{(a)}', '{x''}', 'NaN'",
    "null": "NULL::bool, NULL::bool, NULL::bool, NULL::float8, NULL::float8, NULL::float8, NULL::text, NULL::text, NULL::text, "
            "NULL::text, NULL::float8",
    "huge": "true, false, false, 1e308, 1e308, 0, repeat('9', 100000), repeat('{(1,1)', 100000), '{}', repeat('1', 100000), 1e308",
    "no numbers": "true, false, false, NULL::float8, NULL, NULL, '', '', '', '', NULL",
}


@pytest.mark.parametrize("lie", LYING)
def test_lies_of_the_owners_function_break_nothing(attacked, run_cleanup, lie):
    replace_function(attacked, f"RETURN QUERY SELECT {LYING[lie]};")
    mark = attacked.cluster.log_mark()
    result = run_cleanup(*DELETE, timeout=60)
    assert result.code in (DONE, STOPPED, FAILED) and len(result.stdout + result.stderr) < 5000, result
    assert "syntax error" not in attacked.cluster.log_text(mark)
    assert attacked.value(EXPIRED) == 485


@pytest.mark.parametrize("returned", ["(is_ours bool)", RETURNED.replace("seen float8", "seen text")])
def test_a_function_with_another_answer_is_an_error(attacked, run_cleanup, returned):
    replace_function(attacked, "RETURN;", returned=returned)
    result = run_cleanup(*DELETE)
    assert result.code == FAILED and result.message, result


def test_a_function_that_turns_to_the_callers_rights_gains_nothing(attacked, run_cleanup):
    """In the first batch as the owner, in the second as us."""
    replace_function(attacked, f"""
        IF current_user = '{OWNER}' THEN ALTER FUNCTION {FUNCTION}({ARGUMENTS}) SECURITY INVOKER; END IF;
        RAISE LOG 'ran as %', current_user;
        PERFORM public.evil('');
        RETURN QUERY SELECT true, false, false, 1::float8, 1::float8, 1::float8, now()::text, '{{}}', '{{}}', '{{}}', 0::float8;
        """)
    attacked.psql(EVIL, OWNER)
    mark = attacked.cluster.log_mark()
    result = run_cleanup(*DELETE, timeout=60)
    log = attacked.cluster.log_text(mark)
    assert f"ran as {OWNER}" in log, (result, log)
    # The second batch finds that it is another function now.
    assert f"ran as {CLEANER}" not in log and result.code == STOPPED and "function was replaced" in result.message, result
    assert attacked.psql(GAINS) == []


@pytest.mark.parametrize("change", [
    f"DROP FUNCTION {FUNCTION}({ARGUMENTS})", f"ALTER FUNCTION {FUNCTION}({ARGUMENTS}) RENAME TO mine",
    f"ALTER FUNCTION {FUNCTION}({ARGUMENTS}) OWNER TO stranger", "REASSIGN OWNED BY django TO stranger"])
def test_a_function_that_takes_the_owners_place_in_a_run_is_not_called(attacked, start_cleanup, change):
    """Its owner may be less than we are: then it is nothing that our look has compared us with."""
    attacked.cluster.create_role("stranger")
    attacked.psql("GRANT CREATE, USAGE ON SCHEMA public TO stranger")
    attacked.fill(sessions=30_000)
    try:
        with after_two_batches(attacked.cluster, start_cleanup, user=CLEANER) as run:
            attacked.psql(change)
            if "OWNER TO" not in change and "REASSIGN" not in change:
                replace_function(attacked, "RAISE LOG 'ran as %', current_user; RETURN;", "stranger", how="")
            mark = attacked.cluster.log_mark()
        result = run.result()
        assert result.code == STOPPED and "function was replaced" in result.message, result
        assert "ran as" not in attacked.cluster.log_text(mark)
    finally:
        attacked.psql(f"REASSIGN OWNED BY stranger TO {OWNER}; DROP OWNED BY stranger; DROP ROLE stranger")


def test_a_function_that_is_dropped_while_it_runs_ends_the_run(attacked, start_cleanup):
    """The server notices at the end of the call, as an internal error of its own."""
    with contextlib.ExitStack() as held:
        with Gate(attacked.cluster, b".django_session_delete_expired(", passing=0) as gate:
            run = start_cleanup(*DELETE, "--lock-timeout", "30", "-d", gate.conninfo("site", CLEANER))
            gate.wait()
            held.enter_context(attacked.cluster.locked("site"))
        wait_for(lambda: attacked.value(f"""SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
            WHERE NOT l.granted AND a.usename = '{CLEANER}'"""), "the batch at the table", 30)
        attacked.psql(f"DROP FUNCTION {FUNCTION}({ARGUMENTS})")
    result = run.result()
    assert result.code == STOPPED and "function was replaced" in result.message, result
    assert attacked.value(EXPIRED) == 485


def test_execute_that_is_revoked_in_a_run_ends_it(attacked, start_cleanup):
    attacked.fill(sessions=30_000)
    with after_two_batches(attacked.cluster, start_cleanup, user=CLEANER) as run:
        assert 0 < attacked.value(EXPIRED) < 29_100
        attacked.psql(f"REVOKE EXECUTE ON FUNCTION {FUNCTION} FROM {CLEANER}")
    result = run.result()
    assert result.code == FAILED and "permission denied for function" in result.message, result


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


@pytest.mark.parametrize("method", ["delete", "swap", "full"])
def test_a_superusers_table_is_not_found_by_a_name_that_somebody_else_can_move(attacked, run_cleanup, method):
    attacked.psql(f"ALTER TABLE {TABLE} OWNER TO postgres; ALTER DATABASE site OWNER TO {OWNER}; "
                  f"ALTER SCHEMA public OWNER TO {OWNER}")
    result = run_cleanup("--method", method, "--no-progress", user="postgres")
    assert result.code == REFUSED, result
    assert f"schema public can be renamed by {OWNER}" in result.stderr
    assert f"ALTER TABLE {TABLE} OWNER TO {OWNER}" in result.stderr
    attacked.psql("ALTER SCHEMA public OWNER TO postgres")
    result = run_cleanup("--method", method, "--no-progress", user="postgres")
    assert (result.code, result.deleted) == (DONE, 485), result


@pytest.mark.parametrize("user", [OWNER, SWAPPER, "postgres"])
def test_a_default_tablespace_that_the_owner_may_not_use_is_no_obstacle(attacked, run_cleanup, user):
    with contextlib.closing(attacked.cluster.connect("site")) as connection:
        cursor = connection.cursor()
        cursor.execute("SET allow_in_place_tablespaces = on")
        cursor.execute("CREATE TABLESPACE private LOCATION ''")
    attacked.psql("ALTER DATABASE site SET default_tablespace = private")
    try:
        assert "485 expired" in run_cleanup("--dry-run", *DELETE[:2], user=user).stdout
        result = run_cleanup(*DELETE, user=user)
        assert (result.code, result.deleted) == (DONE, 485), result
    finally:
        attacked.psql("DROP TABLESPACE private")


def test_a_batch_leaves_nothing_in_the_catalogue(attacked, run_cleanup):
    made = "SELECT relname FROM pg_class WHERE relname LIKE 'djs%' UNION SELECT proname FROM pg_proc WHERE proname LIKE 'djs%'"
    assert run_cleanup(*DELETE, user="postgres").code == DONE
    assert attacked.psql(made) == []


# -- what a role can have that the owner hasn't ----------------------------------------------------

# The program's own question, from the server's log.
QUESTION = re.compile(r"SELECT \(\s*WITH his AS MATERIALIZED[^;]* AS names[^;]*;")
# Of each letter of acldefault(): what GRANT calls it, its name there and in messages.
GRANTED = {
    "r": ("TABLE", "closed.secret", "table closed.secret"),
    "c": ("TABLE", "closed.secret", "column a of table closed.secret"),
    "s": ("SEQUENCE", "closed.numbers", "sequence closed.numbers"),
    "d": ("DATABASE", "elsewhere", "database elsewhere"),
    "f": ("FUNCTION", "closed.work()", "function closed.work()"),
    "l": ("LANGUAGE", "foreign_words", "language foreign_words"),
    "L": ("LARGE OBJECT", "4711", "large object 4711"),
    "n": ("SCHEMA", "closed", "schema closed"),
    "t": ("TABLESPACE", "room", "tablespace room"),
    "F": ("FOREIGN DATA WRAPPER", "wrapper", "foreign-data wrapper wrapper"),
    "S": ("FOREIGN SERVER", "far", "server far"),
    "T": ("TYPE", "closed.colour", "type closed.colour"),
    "p": ("PARAMETER", "work_mem", "parameter work_mem"),
}
COLUMN_RIGHTS = ["SELECT (a)", "INSERT (a)", "UPDATE (a)", "REFERENCES (a)"]
ACL_COLUMNS = {"pg_class", "pg_attribute", "pg_proc", "pg_type", "pg_namespace", "pg_language", "pg_database",
               "pg_tablespace", "pg_foreign_data_wrapper", "pg_foreign_server", "pg_largeobject_metadata"}
# Of each catalogue with an owner: what ALTER calls it, its name there and in messages, and how it is made.
OWNED = {
    "pg_class": ("VIEW", "closed.mine", "view closed.mine", "AS SELECT 1"),
    "pg_type": ("DOMAIN", "closed.mine", "type closed.mine", "AS int"),
    "pg_proc": ("FUNCTION", "closed.mine()", "function closed.mine()", "RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    "pg_operator": ("OPERATOR", "closed.<<<< (int, int)", "operator closed.<<<<(integer,integer)",
                    "CREATE OPERATOR closed.<<<< (LEFTARG = int, RIGHTARG = int, PROCEDURE = int4lt)"),
    "pg_opfamily": ("OPERATOR FAMILY", "closed.mine USING btree", "operator family closed.mine for access method btree", ""),
    "pg_opclass": ("OPERATOR CLASS", "closed.mine USING btree", "operator class closed.mine for access method btree",
                   "CREATE OPERATOR FAMILY closed.theirs USING btree; CREATE OPERATOR CLASS closed.mine FOR TYPE int "
                   "USING btree FAMILY closed.theirs AS OPERATOR 1 <"),
    "pg_namespace": ("SCHEMA", "mine", "schema mine", ""),
    "pg_language": ("LANGUAGE", "mine", "language mine", "HANDLER plpgsql_call_handler"),
    "pg_largeobject_metadata": ("LARGE OBJECT", "815", "large object 815", "SELECT lo_create(815)"),
    "pg_statistic_ext": ("STATISTICS", "closed.mine", "statistics object closed.mine", "ON a, b FROM closed.secret"),
    "pg_conversion": ("CONVERSION", "closed.mine", "conversion closed.mine", "FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8"),
    "pg_database": ("DATABASE", "elsewhere", "database elsewhere", None),
    "pg_tablespace": ("TABLESPACE", "room", "tablespace room", None),
    "pg_ts_dict": ("TEXT SEARCH DICTIONARY", "closed.mine", "text search dictionary closed.mine", "(TEMPLATE = simple)"),
    "pg_ts_config": ("TEXT SEARCH CONFIGURATION", "closed.mine", "text search configuration closed.mine", "(COPY = simple)"),
    "pg_foreign_server": ("SERVER", "mine", "server mine", "FOREIGN DATA WRAPPER wrapper"),
    "pg_collation": ("COLLATION", "closed.mine", "collation closed.mine", 'FROM "C"'),
    "pg_publication": ("PUBLICATION", "mine", "publication mine", ""),
}
# Rights of theirs are found elsewhere, belong to superusers alone, or are none.
NOT_OWNED = {"pg_auth_members", "pg_policy", "pg_default_acl", "pg_user_mapping", "pg_event_trigger", "pg_shdepend",
             "pg_foreign_data_wrapper", "pg_subscription", "pg_extension", "pg_db_role_setting"}


def rows(connection, sql):
    cursor = connection.cursor()
    cursor.execute(sql)
    return cursor.fetchall() if cursor.description else []


class Rivals:
    """A server where nothing is granted to anybody but what roles.sql grants."""

    def __init__(self, server, program):
        self._server, self._program = server, program
        for role in (OWNER, "shop", "club", "team"):
            server.create_role(role)
        server.create_database("rivals")
        server.create_database("elsewhere")
        with contextlib.closing(server.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute("SET allow_in_place_tablespaces = on")
            cursor.execute("CREATE TABLESPACE room LOCATION ''")
        self._admin = server.connect("rivals")
        self.psql(f"""
            CREATE TABLE django_session (session_key varchar(40) PRIMARY KEY, session_data text NOT NULL,
              expire_date timestamptz NOT NULL);
            CREATE INDEX ON django_session (expire_date); ALTER TABLE django_session OWNER TO {OWNER};
            CREATE SCHEMA closed; CREATE TABLE closed.secret (a int, b int); CREATE SEQUENCE closed.numbers;
            CREATE FUNCTION closed.work() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TYPE closed.colour AS ENUM ();
            CREATE TRUSTED LANGUAGE foreign_words HANDLER plpgsql_call_handler; SELECT lo_create(4711);
            CREATE FOREIGN DATA WRAPPER wrapper; CREATE SERVER far FOREIGN DATA WRAPPER wrapper;
            REVOKE ALL ON DATABASE elsewhere FROM PUBLIC; REVOKE ALL ON FUNCTION closed.work() FROM PUBLIC;
            REVOKE ALL ON TYPE closed.colour FROM PUBLIC; REVOKE ALL ON LANGUAGE foreign_words FROM PUBLIC""")
        server.run_file(ROLES_SQL, "rivals", cleaner=CLEANER)
        self.version = int(self.value("SHOW server_version_num")) // 10000
        self._question = self.learn_question()
        self._cleaner = server.connect("rivals", CLEANER)
        rows(self._cleaner, "SET search_path = pg_catalog, pg_temp")

    def psql(self, sql):
        return rows(self._admin, sql)

    def value(self, sql):
        return self.psql(sql)[0][0]

    def column(self, sql):
        return {row[0] for row in self.psql(sql)}

    def run(self):
        """A run of the cleaner."""
        return Cleanup(self._program, *DELETE, environment=self._server.environment("rivals", CLEANER)).result()

    def learn_question(self):
        mark = self._server.log_mark()
        assert self.run().code == DONE
        question, = set(QUESTION.findall(self._server.log_text(mark).replace("\n\t", "\n")))
        return question

    def more(self, *statements):
        """What the cleaner has more than the owner, after each statement."""
        for statement in statements:
            self.psql(statement.format(me=CLEANER, owner=OWNER))
        return rows(self._cleaner, self._question)[0][0] or ""

    def drop(self):
        self._admin.close()
        self._cleaner.close()
        for database in ("rivals", "elsewhere"):
            self._server.drop_database(database)
        self._server.psql("DROP TABLESPACE room")
        self._server.psql(f"ALTER ROLE {CLEANER} NOCREATEDB; DROP ROLE shop, club, team")


@pytest.fixture(scope="module", params=["13", "15", "18"])
def rivals(request, cluster_of_version, cleanup_program):
    made = Rivals(cluster_of_version(request.param), cleanup_program)
    yield made
    made.drop()


def test_the_kinds_below_are_all_that_there_are(rivals):
    known = ACL_COLUMNS | {"pg_default_acl", "pg_init_privs", "pg_parameter_acl"}
    assert rivals.column("""SELECT attrelid::regclass::text FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
        WHERE atttypid = 'aclitem[]'::regtype AND relkind = 'r' AND relnamespace = 'pg_catalog'::regnamespace""") <= known
    if rivals.version >= 14:
        assert rivals.column("""SELECT fktable::text FROM pg_get_catalog_foreign_keys()
            WHERE pktable = 'pg_authid'::regclass""") <= {*OWNED, *NOT_OWNED}


@pytest.mark.parametrize("kind", GRANTED)
def test_a_right_that_the_owner_lacks_is_found(rivals, kind):
    words, name, described = GRANTED[kind]
    if kind == "p" and rivals.version < 15:  # there are no rights on parameters
        assert not rivals.column("SELECT relname FROM pg_class WHERE relname = 'pg_parameter_acl'")
        return
    rights = COLUMN_RIGHTS if kind == "c" else rivals.column(
        f"SELECT privilege_type FROM aclexplode(acldefault('{kind}', 'shop'::regrole))")
    assert rights
    for right in sorted(rights):
        grant = f"GRANT {right} ON {words} {name} TO "
        useless = right == "CONNECT"
        assert rivals.more(grant + "{me}") == ("" if useless else described), right
        # Of parameters it isn't known; see more_rights.cpp.
        assert rivals.more(grant + "{owner}") == (described if kind == "p" else ""), right
        assert rivals.more(grant + "{me} WITH GRANT OPTION") == described, right
        assert rivals.more(f"REVOKE ALL ON {words} {name} FROM {{me}}, {{owner}}",
                           f"REVOKE ALL (a) ON {name} FROM {{me}}, {{owner}}" if kind == "c" else "SELECT 1") == ""
    if kind not in ("c", "p"):
        # By way of a role that both are in, and of everybody.
        assert rivals.more(f"GRANT {right} ON {words} {name} TO team, {{me}}", "GRANT team TO {owner}") == ""
        assert rivals.more(f"REVOKE ALL ON {words} {name} FROM team", "REVOKE team FROM {owner}") == described
        assert rivals.more(f"GRANT {right} ON {words} {name} TO PUBLIC") == ""
        assert rivals.more(f"REVOKE ALL ON {words} {name} FROM {{me}}, PUBLIC") == ""


@pytest.mark.parametrize("catalogue", OWNED)
def test_what_the_role_owns_is_found(rivals, catalogue):
    words, name, described, made = OWNED[catalogue]
    if made is not None:
        rivals.psql(made if made.startswith(("CREATE", "SELECT")) else f"CREATE {words} {name} {made}")
    to = f"ALTER {words} {name} OWNER TO "
    assert rivals.more(to + "{me}") == described
    assert rivals.more(to + "{owner}") == ""
    rivals.psql(to + "postgres" if made is None else "SELECT lo_unlink(815)" if "lo_" in made else f"DROP {words} {name}")


OTHERS = [
    (13, "CREATE USER MAPPING FOR {me} SERVER far", f"user mapping for {CLEANER} on server far"),
    (13, "DROP USER MAPPING FOR {me} SERVER far", ""),
    # What others will make.
    (13, "ALTER DEFAULT PRIVILEGES FOR ROLE shop GRANT SELECT ON TABLES TO {me}",
     "default privileges on new relations belonging to role shop"),
    (13, "ALTER DEFAULT PRIVILEGES FOR ROLE shop GRANT SELECT ON TABLES TO {owner}", ""),
    (13, "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT SELECT ON TABLES TO {me}", ""),
    (13, "ALTER DEFAULT PRIVILEGES FOR ROLE {me} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC", ""),
    (13, "ALTER TABLE closed.secret ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON closed.secret TO {me} USING (true)",
     "policy p on table closed.secret"),
    (13, "ALTER POLICY p ON closed.secret TO {me}, {owner}", ""),
    (13, "CREATE POLICY q ON closed.secret AS RESTRICTIVE TO {owner}", "policy q on table closed.secret"),
    (13, "DROP POLICY p ON closed.secret; DROP POLICY q ON closed.secret", ""),
    (13, "GRANT SELECT (expire_date) ON django_session TO {me} WITH GRANT OPTION", ""),
    (13, "GRANT SELECT (a) ON closed.secret TO {me}", "column a of table closed.secret"),
    (13, "GRANT SELECT ON closed.secret TO {owner}", ""),
    (13, "GRANT SELECT (b) ON closed.secret TO {me}", ""),
    (13, "REVOKE ALL ON closed.secret FROM {me}, {owner}", ""),
    (13, "GRANT SELECT ON pg_authid TO {me}", "table pg_authid"),
    (13, "REVOKE ALL ON pg_authid FROM {me}", ""),
    *((13, f"ALTER ROLE {{{role}}} {attribute}", attribute if role == "me" else "")
      for attribute in ("CREATEDB", "CREATEROLE", "REPLICATION", "BYPASSRLS", "SUPERUSER") for role in ("me", "owner")),
    (13, "ALTER ROLE {owner} NOSUPERUSER", "SUPERUSER"),
    (13, "GRANT {me} TO {owner}", ""),  # he can do all that by SET ROLE
    (16, "GRANT {me} TO {owner} WITH SET FALSE", "SUPERUSER"),
    (13, "ALTER ROLE {me} NOSUPERUSER", ""),
    (13, "REVOKE {me} FROM {owner}; ALTER ROLE {owner} NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS",
     "CREATEDB, CREATEROLE, REPLICATION"),  # three will do
    (13, "ALTER ROLE {me} NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS", ""),
]


def compare(rivals, steps):
    steps = [(step, expected) for least, step, expected in steps if rivals.version >= least]
    found = [(step, rivals.more(*step.split("; ")).replace("pg_catalog.", "")) for step, _ in steps]
    assert found == steps


def test_other_ways_to_have_more_are_found(rivals):
    compare(rivals, OTHERS)


def test_who_has_more_is_told_what(rivals):
    rivals.more("GRANT SELECT ON closed.secret TO {me}")
    result = rivals.run()
    assert result.code == REFUSED, result
    assert "has rights that django, whose code deletes, lacks (table closed.secret); let conf" in result.stderr
    rivals.more("REVOKE ALL ON closed.secret FROM {me}")
    assert rivals.run().code == DONE


MEMBERSHIPS = [
    (13, "GRANT team TO {me}", "membership in team"),
    (13, "GRANT team TO {owner}", ""),
    (13, "GRANT team TO {me} WITH ADMIN OPTION", "ADMIN OPTION for team"),
    (13, "GRANT team TO {owner} WITH ADMIN OPTION", ""),
    (13, "GRANT club TO team", ""),
    (13, "REVOKE team FROM {owner}", "ADMIN OPTION for team, membership in club, membership in team"),
    (13, "REVOKE team FROM {me}; GRANT team TO {owner}", ""),
    (13, "GRANT club TO {me}", ""),
    (13, "REVOKE club FROM team", "membership in club"),
    (13, "GRANT club TO {owner}; GRANT shop TO club WITH ADMIN OPTION", ""),
    (13, "REVOKE club FROM {owner}; GRANT shop TO {owner}", "ADMIN OPTION for shop, membership in club"),
    (13, "REVOKE shop FROM club; REVOKE club FROM {me}; REVOKE shop, team FROM {owner}", ""),
    # From 16 on a member may have no use of it.
    (16, "GRANT team TO {me}, {owner}", ""),
    (16, "GRANT team TO {owner} WITH INHERIT FALSE", ""),
    (16, "GRANT team TO {owner} WITH SET FALSE", "membership in team"),
    (16, "GRANT team TO {owner} WITH INHERIT TRUE", "membership in team"),
    (16, "GRANT team TO {me} WITH SET FALSE", ""),
    (16, "GRANT team TO {me} WITH ADMIN TRUE", "ADMIN OPTION for team"),
    (16, "REVOKE team FROM {me}, {owner}", ""),
]


def test_memberships_are_compared(rivals):
    compare(rivals, MEMBERSHIPS)
    for role in rivals.column(r"SELECT rolname FROM pg_roles WHERE rolname LIKE 'pg\_%' AND rolname <> 'pg_database_owner'"):
        assert "membership in " + role in rivals.more(f"GRANT {role} TO {{me}}"), role
        assert rivals.more(f"GRANT {role} TO {{owner}}") == "", role
        rivals.psql(f"REVOKE {role} FROM {CLEANER}, {OWNER}")
    assert rivals.more() == ""


@pytest.mark.parametrize("user", [OWNER, SWAPPER, CLEANER])
def test_what_a_trigger_says_is_not_taken_for_the_batchs_report(attacked, run_cleanup, user):
    attacked.fill(sessions=1000, expired_share=0.7)
    attacked.psql(f"""
        CREATE FUNCTION public.says() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS
          $$BEGIN RAISE INFO 'session deleted'; RETURN old; END$$;
        CREATE TRIGGER says BEFORE DELETE ON {TABLE} FOR EACH ROW EXECUTE FUNCTION public.says()""", OWNER)
    expired = attacked.value(f"SELECT count(*) FROM {TABLE} WHERE expire_date < now()")
    result = run_cleanup("--method", "delete", user=user)
    assert result.code == DONE and result.deleted == expired, result
    assert "connecting again" not in result.stderr, result


HANGS = f"""
CREATE FUNCTION public.hang(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN $1; END$$;
CREATE INDEX hangs ON {TABLE} ((public.hang(1) + length(session_key)));
CREATE OR REPLACE FUNCTION public.hang(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN
  LOOP BEGIN PERFORM pg_sleep(1); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END$$;
"""


@pytest.mark.parametrize("options", [("--dry-run",), DELETE])
def test_code_that_catches_every_cancel_keeps_no_backend_of_ours(attacked, run_cleanup, options):
    attacked.psql(HANGS, OWNER)
    try:
        result = run_cleanup("-t", "2", *options, user="postgres")
        assert result.code == FAILED and "was terminated" in result.stdout + result.stderr, result
        wait_for(lambda: attacked.value("SELECT count(*) FROM pg_stat_activity WHERE datname = 'site' AND "
                                        "pid <> pg_backend_pid()") == 0, "its end", 5)
    finally:
        attacked.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'site' AND "
                      "pid <> pg_backend_pid()")


@pytest.mark.parametrize("user", ["postgres", OWNER, CLEANER])
def test_a_division_by_zero_of_the_sites_is_no_replaced_table(attacked, run_cleanup, user):
    attacked.fill(sessions=10)
    attacked.psql(f"""CREATE FUNCTION public.ratio() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM 1 / 0; RETURN old; END $$;
        CREATE TRIGGER ratio BEFORE DELETE ON {TABLE} FOR EACH ROW EXECUTE FUNCTION public.ratio()""", OWNER)
    result = run_cleanup("--method", "delete", user=user)
    text = result.stdout + result.stderr
    assert result.code == REFUSED and "22012" in text and "replaced" not in text, result
