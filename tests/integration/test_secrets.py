"""Passwords that got into the wrong place are shown nowhere; and nothing of a session is."""

import itertools
import re
import subprocess
import time

import pytest

from cleanup_command import CLEANER, SWAPPER
from collectd_daemon import plugin_block
from django_site import OWNER, TABLE
from processes import PLAIN_ENVIRONMENT, ordinary

SECRET = "geh3im"

# How people write a password where it doesn't belong; some of it is malformed, which libpq quotes.
FORMS = [
    "postgresql://u:{}@localhost/site", "postgres://u:{}@[::1/site", "postgresql://u:{}@a b/site",
    "postgresql://u:{}%zz@localhost/site", "postgresql://localhost/site?password={}",
    "postgresql://localhost/site?pasword={}", "postgresql://localhost/site?user=u:{}",
    "host=localhost password={}", "host=localhost pasword={}", "host=localhost password='{}",
    "password = {}", "user=u:{} dbname=site", "host=u:{}@localhost", "service=x:{}",
    "u:{}", "u:{}@localhost", "u:{}@localhost/site", "postgresql://u:{}/site", "postgres://u:{}:5432/site",
    "postgresql://u:{}/x@localhost/site",
]

# What libpq reads as a number or as one of some words, and where it looks for that.
WORDS = ["port", "sslmode", "connect_timeout", "keepalives_idle", "target_session_attrs", "channel_binding", "hostaddr"]
ENVIRONMENT = {**dict.fromkeys(["PGPORT", "PGSSLMODE", "PGCONNECT_TIMEOUT", "PGTARGETSESSIONATTRS", "PGCHANNELBINDING",
                                "PGHOSTADDR"], "{}"),
               "PGHOST": "u:{}@localhost", "PGUSER": "u:{}", "PGDATABASE": "u:{}", "PGSERVICE": "u:{}"}


def options_of(program):
    """Each option that takes a value, from --help, without what ends the program."""
    text = subprocess.run([program, "--help"], check=False, capture_output=True, text=True,
                          timeout=10).stdout
    found = re.findall(r"^ +(?:-\w,)?(--[\w-]+) +(?:[A-Z]{2}|\[)", text, re.M)
    assert {"--host", "--port", "--dbname", "--username", "--service", "--table"} <= set(found)
    return found


def command_lines(program):
    """Option and form, glued and apart; then what isn't an option at all."""
    for option, form in itertools.product(options_of(program), FORMS):
        yield [option, form.format(SECRET)]
        yield [f"{option}={form.format(SECRET)}"]
    for words in (["-p", SECRET], [f"-p{SECRET}"], ["--port", SECRET], [f"--password={SECRET}"],
                  ["--password", SECRET], ["-W", SECRET], [f"-W{SECRET}"], [f"-P{SECRET}"],
                  [f"--passwd={SECRET}"], [SECRET], ["--", SECRET], ["-H", "localhost", SECRET],
                  [f"--exact={SECRET}"], [f"-v{SECRET}"], *([form.format(SECRET)] for form in FORMS)):
        yield words


@pytest.mark.parametrize("name", ["check", "cleanup"])
def test_no_option_shows_a_password(cluster, check_program, cleanup_program, name):
    program = {"check": check_program, "cleanup": cleanup_program}[name]
    environment = {**PLAIN_ENVIRONMENT, **cluster.environment("postgres"), "PGPASSWORD": SECRET}
    lines = list(command_lines(program))
    assert len(lines) > 200
    for start in range(0, len(lines), 16):
        running = [(words, subprocess.Popen(ordinary([program, *words]), env=environment,
                                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                            stderr=subprocess.STDOUT))
                   for words in lines[start:start + 16]]
        for words, process in running:
            text = process.communicate(timeout=60)[0].decode()
            assert SECRET not in text, f"{words}: {text}"
            assert process.returncode in (2, 3), f"{words}: {text}"  # not taken for something else


@pytest.mark.parametrize("name", ["check", "cleanup"])
def test_what_libpq_can_not_read_is_not_repeated(cluster, check_program, cleanup_program, name):
    program = {"check": check_program, "cleanup": cleanup_program}[name]
    cases = [({}, ["-d", f"{word}={SECRET}"]) for word in WORDS]
    cases += [({variable: value.format(SECRET)}, []) for variable, value in ENVIRONMENT.items()]
    for variables, words in cases:
        result = subprocess.run(ordinary([program, *words]), stdin=subprocess.DEVNULL, text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, timeout=60, check=False,
                                env={**PLAIN_ENVIRONMENT, **cluster.environment("postgres"), **variables})
        assert SECRET not in result.stdout, f"{words} {variables}: {result.stdout}"
        assert result.returncode in (2, 3), f"{words} {variables}: {result.stdout}"


@pytest.mark.parametrize("option", ["Host", "Port", "User", "Service", "SSLMode", "Instance",
                                    "Interval", "Table", "Timeout", "Exact", "PassFile", "Database"])
def test_no_option_of_collectd_shows_a_password(cluster, collectd, option):
    blocks = []
    for number, form in enumerate(FORMS):
        value = form.format(SECRET).replace('"', "")
        name = value if option == "Database" else f"site{number}"
        line = "" if option == "Database" else f'    {option} "{value}"\n'
        host = "" if option == "Host" else f'    Host "{cluster.socket}"\n    Port {cluster.port}\n'
        host = f'    Host "{cluster.socket}"\n' if option == "Port" else host
        instance = "" if option == "Instance" else f'    Instance "i{number}"\n'
        blocks.append(f'  <Database "{name}">\n{host}{instance}    Password "{SECRET}"\n{line}  </Database>\n')
    daemon = collectd(plugin_block(*blocks))
    time.sleep(1.5)
    daemon.stop()
    log = daemon.log_text()
    assert "i0" in log or "site0" in log or option in log or option == "Instance" and SECRET in log, log  # blocks were read
    if option == "Instance":  # is shown as it is
        log = re.sub("|".join(re.escape(form.format(SECRET).replace('"', "")) for form in FORMS), "", log)
    assert SECRET not in log, log


def test_no_session_is_in_the_servers_log(neglected, cluster, run_check, run_cleanup):
    for setting in ("log_min_duration_statement = 0", "log_error_verbosity = verbose",
                    "log_min_error_statement = debug5", "log_min_messages = notice",
                    "debug_print_plan = on", "auto_explain.log_min_duration = 0"):
        neglected.psql(f"ALTER DATABASE site SET {setting}")
    secrets = [text for row in neglected.psql(
        f"SELECT session_key, left(session_data, 40) FROM {TABLE} ORDER BY expire_date DESC "
        "LIMIT 300") for text in row]
    mark = cluster.log_mark()
    outputs = [run_check("-vvv", "--exact").stdout]
    for method, user in (("delete", CLEANER), ("delete", SWAPPER), ("swap", SWAPPER),
                         ("full", SWAPPER)):
        result = run_cleanup("--method", method, "-v", user=user)
        outputs.append(result.stdout + result.stderr)
    log = cluster.log_text(mark)
    assert "VACUUM (FULL" in log and "duration: " in log
    shown = [secret for secret in secrets if secret in log or any(secret in o for o in outputs)]
    assert not shown


# -- what the site's own code says -------------------------------------------------------------------------

TRIGGER = """CREATE FUNCTION public.audit() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS
  $$ BEGIN {}; RETURN old; END $$;
  CREATE TRIGGER audit BEFORE DELETE ON {} FOR EACH ROW EXECUTE FUNCTION public.audit()"""
# Is made while it is harmless, and says what it has to say from then on.
SAYS = "CREATE OR REPLACE FUNCTION public.says(key text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN {}; RETURN true; END $$"
OF_US = "current_setting('application_name') LIKE 'django_session%'"
RAISE = "RAISE EXCEPTION 'bad key %', key"

SITES_CODE = {
    "a trigger": (TRIGGER.format("RAISE EXCEPTION 'session % is under investigation', old.session_key", TABLE), "P0001 audit"),
    **{f"a trigger with SQLSTATE {code}": (
        TRIGGER.format(f"RAISE EXCEPTION 'no % today', old.session_key USING ERRCODE = '{code}'", TABLE), f"{code} audit")
       for code in ("57014", "23514", "DJS01")},
    "a trigger's cast": (TRIGGER.format("PERFORM ('x' || old.session_key)::int", TABLE), ""),
    "a trigger's statement": (TRIGGER.format("EXECUTE 'SELECT FROM x' || old.session_key", TABLE), "42P01 audit"),
    "a trigger's warning": (TRIGGER.format("RAISE WARNING 'gone %', old.session_key; RAISE INFO 'djs %', old.session_key", TABLE), ""),
    "a check's function": (SAYS.format("NULL") + f"; ALTER TABLE {TABLE} ADD CHECK (public.says(session_key)); "
                           + SAYS.format(RAISE), "P0001 says"),
    "a check": (f"ALTER TABLE {TABLE} ADD CHECK (NOT {OF_US} OR ('x' || session_key)::int > 0)", "22P02"),
    "a check's name of a table": (f"ALTER TABLE {TABLE} ADD CHECK (NOT {OF_US} OR ('x' || session_key)::regclass > 0)", "42P01"),
    **{f"a function called {name}": (
        (TRIGGER.format("RAISE EXCEPTION 'no % today', old.session_key", TABLE) + extra).replace("public.audit()", name + "()"),
        "P0001 " + name.split(".")[1])
       for name, extra in (("public.djs_audit", ""), ("public.djs_0123456789abcdef0123456789abcdef_1", ""))},
    "an index' function": (SAYS.format("NULL") + f"; CREATE INDEX ON {TABLE} (public.says(session_key)); " + SAYS.format(RAISE),
                           "P0001 says"),
    "an index' warning": (SAYS.format("NULL") + f"; CREATE INDEX ON {TABLE} (public.says(session_key)); "
                          + SAYS.format("RAISE WARNING 'good key %', key"), ""),
}


@pytest.mark.some_cases(5)
@pytest.mark.parametrize("code", SITES_CODE)
def test_no_session_is_in_what_the_sites_code_says(cleaned_site, run_cleanup, run_check, code):
    cleaned_site.fill(sessions=40, expired_share=0.5)
    statements, told = SITES_CODE[code]
    keys = {row[0] for row in cleaned_site.psql(f"SELECT session_key FROM {TABLE}")}
    cleaned_site.psql(statements, OWNER)
    outputs = [run_check("-vvv", "--exact").stdout]
    for options in (("delete", SWAPPER, "--dry-run"), ("swap", OWNER), ("full", OWNER), ("delete", SWAPPER), ("delete", CLEANER)):
        method, user, *more = options
        result = run_cleanup("--method", method, "-v", *more, user=user)
        outputs.append(result.stdout + result.stderr)
    text = "\n".join(outputs)
    assert not [key for key in keys if key[:20] in text], text
    assert all(word in text for word in told.split()), text


# In SQL, and inlined where that is possible, so that no context tells of it: what the server says of what its own functions
# were given.
GIVEN = {
    "3D000": "has_database_privilege(key, 'CONNECT')", "42P01": "key::regclass IS NULL", "42704": "pg_has_role(key, 'USAGE')",
    "42703": "has_column_privilege('pg_class', key, 'SELECT')", "3F000": "has_schema_privilege(key, 'USAGE')",
    "42883": "(key || '()')::regprocedure IS NULL", "34000": "cursor_to_xml(key::refcursor, 1, true, false, '') IS NULL",
    "0A000": "(key || '.a.b')::regclass IS NULL", "22P02": "key::int > 0",
    "query": "query_to_xml('SELECT \"' || key || '\"', true, false, '') IS NULL",
    "table": "query_to_xml('SELECT FROM \"' || key || '\"', true, false, '') IS NULL",
    "P0001": "set_config(key, '', true) IS NULL",
}
PLACES = {
    "a check": f"ALTER TABLE {TABLE} ADD CHECK (given(session_key))",
    "a trigger": TRIGGER.format("PERFORM public.given(old.session_key)", TABLE),
}


@pytest.mark.some_cases(6)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("given", GIVEN)
def test_no_session_is_said_by_the_servers_own_functions(cleaned_site, cluster, run_cleanup, given, place):
    cleaned_site.fill(sessions=20, expired_share=0.5)
    keys = {row[0] for row in cleaned_site.psql(f"SELECT session_key FROM {TABLE}")}
    made = "CREATE OR REPLACE FUNCTION public.given(key text) RETURNS bool LANGUAGE sql STABLE AS $$ SELECT {} $$"
    cleaned_site.psql("; ".join((made.format("true"), PLACES[place], made.format(GIVEN[given]))), OWNER)
    before = len(cluster.log.read_bytes())
    text = ""
    for options in (("swap",), ("delete",), ("delete", SWAPPER), ("delete", CLEANER)):
        method, user = (*options, OWNER)[:2]
        result = run_cleanup("--method", method, "-v", user=user)
        text += result.stdout + result.stderr
    assert "SQLSTATE" in text and not [key for key in keys if key[:20] in text], text
    log = cluster.log.read_bytes()[before:].decode(errors="replace")
    said = [line for line in log.splitlines() if any(key[:20] in line for key in keys)]
    assert not said, said[:3]


def test_what_would_keep_rows_of_other_tables_is_in_the_plan(cleaned_site, run_cleanup):
    cleaned_site.psql(f"""CREATE TABLE extra (session_key varchar(40) PRIMARY KEY REFERENCES {TABLE} ON DELETE CASCADE);
        CREATE TABLE cart (session_key varchar(40) REFERENCES extra)""", OWNER)
    result = run_cleanup("--method", "delete", "--dry-run", user=OWNER)
    assert "cart" in result.stdout + result.stderr and "extra" in result.stdout + result.stderr, result
    assert result.code == 3
