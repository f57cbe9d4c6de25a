"""The manual page django_session(7): every command in it is typed in the state that it is for, and the alert ends; every alert
has its section; the check's page names it, and has the same commands in the same order."""

import contextlib
import datetime
import re
import shlex
from dataclasses import dataclass, field

import pytest

import check
import paths
from cleanup_command import Cleanup
from django_site import MONITOR, OWNER, TABLE, DjangoSite
from gate import BEFORE_A_DRAIN, Gate
from manual_pages import lint
from pgbouncer_server import PgBouncer
from processes import PLAIN_ENVIRONMENT, USER, private_file, private_folder, readable_copy, run, wait_for
from runbook import BLOCKS, PAGE, PARTS, ROOT, SECTIONS, plain
from test_check import MANY_TRANSACTIONS, queue_behind_a_reader
from test_figures import counted_after_vacuum
from test_swap_dependents import kill, left_while_copying
from test_throttle import primary, standby  # noqa: F401

pytestmark = pytest.mark.since(15, "older servers' counters come half a second late")

NO_HOST = "n" * 64  # longer than a name may be, so that no name server is asked
CHECK = "/usr/lib/nagios/plugins/check_django_session"
ROLES = "/usr/share/django_session/roles.sql"
# Their exit code is an answer. The last four look at this machine, whose services are not the tests' servers.
ANSWERS_BY_EXIT_CODE = re.compile(r"pg_isready|getent|.*check_django_session|.*cleanup .*--dry-run|sudo (grep|journalctl|collectd)"
                                  r"|pg_lsclusters|(sudo )?systemctl")


@dataclass
class State:
    """Something is wrong: how the check is asked about it, and what the page's words stand for."""

    server: object
    site: DjangoSite = None
    options: tuple = ()
    user: str = MONITOR
    tcp: bool = False
    words: dict = field(default_factory=dict)  # placeholders and other words of the page: PID, localhost
    stays: bool = False  # until a person has decided
    says: str = ""  # of an alert that isn't the check's: what it says
    start: object = None  # what `systemctl start postgresql` does
    pgpass: str = ""  # lines of ~/.pgpass, which stay


# -- The states ------------------------------------------------------------------------------------


class World:
    """Servers and sites for one test, made when they are asked for."""

    def __init__(self, request):
        self.fixture = request.getfixturevalue
        self.folder = self.fixture("folder")

    @property
    def cluster(self):
        return self.fixture("cluster")

    def site(self, **rows):
        site = self.fixture("site")
        if rows:
            site.fill(**rows)
        return site

    def own_site(self, roles=True, **settings):
        site = self.fixture("own_site")(**settings)
        if roles:
            site.apply_roles()
        return site

    def state(self, *options, rows=None, sql="", **more):
        site = self.site(**(rows or {}))
        if sql:
            site.psql(sql)
        return State(self.cluster, site, options, **more)


def simple(*options, sql="", stays=False, says="", **rows):
    """A state that rows and a statement make."""
    @contextlib.contextmanager
    def make(world):
        yield world.state(*options, rows=rows, sql=sql, stays=stays, says=says)
    return make


FEW = {"sessions": 3000, "expired_share": 0}
OID = f"'{TABLE}'::regclass"


@contextlib.contextmanager
def free(world):
    site = world.site(sessions=50_000)
    site.psql(f"DELETE FROM {TABLE} WHERE expire_date < now(); {site.flush()}")
    site.psql(f"VACUUM (ANALYZE) {TABLE}")
    yield State(world.cluster, site, ("-w", "reclaimable=1MB"))


def delete_half(site):
    site.psql(f"DELETE FROM {TABLE} WHERE hashtext(session_key) % 2 = 0; {site.flush()}")


@contextlib.contextmanager
def dead(world):
    site = world.site(sessions=20_000, expired_share=0)
    delete_half(site)
    yield State(world.cluster, site, ("-w", "dead=100"))


@contextlib.contextmanager
def dead_and_kept(world):
    with contextlib.closing(world.cluster.connect(world.site().database, autocommit=False)) as old:
        old.set_session(isolation_level="REPEATABLE READ")
        old.cursor().execute("SELECT 1")
        with dead(world) as state:
            state.site.psql(MANY_TRANSACTIONS)  # else it may be a short one
            state.site.psql(f"VACUUM (ANALYZE) {TABLE}")
            state.words["PID"] = str(old.info.backend_pid)
            yield state


@contextlib.contextmanager
def bloat(world):
    site = world.site(sessions=40_000, expired_share=0, data_bytes=20)
    name = site.value(f"SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = {OID} AND indisprimary")
    site.psql(f"ALTER INDEX {name} SET (fillfactor = 10); REINDEX INDEX {name}; ALTER INDEX {name} RESET (fillfactor)")
    yield State(world.cluster, site, ("-w", "reclaimable=1MB"))


@contextlib.contextmanager
def locked(world):
    site = world.site(**FEW)
    with queue_behind_a_reader(world.cluster) as reader:
        yield State(world.cluster, site, words={"PID": str(reader.info.backend_pid)})
    site.psql("ALTER DATABASE site RESET ALL")


@contextlib.contextmanager
def locked_by_prepared(world):
    site = world.own_site(max_prepared_transactions="2")
    site.psql(f"BEGIN; LOCK TABLE {TABLE}; PREPARE TRANSACTION 'left'")
    yield State(site.cluster, site, user=OWNER, words={"GID": "left"})


@contextlib.contextmanager
def interrupted_swap(world):
    site = world.site(**FEW)
    left_while_copying(site, world.fixture("start_cleanup"))
    wait_for(lambda: not site.psql("SELECT FROM pg_stat_activity WHERE application_name = 'django_session'"), "its end")
    comment, = [name for name, in site.psql("SELECT relname FROM pg_class WHERE relname LIKE 'djs%state' AND relkind = 'r'")]
    begun = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=2)
    site.psql(f"COMMENT ON TABLE {comment} IS 'django_session_cleanup, started {begun:%Y-%m-%d %H:%M:%S}Z'")
    yield State(world.cluster, site)


def invalid_index(world):
    return simple("-v", sql=f"""CREATE INDEX extra_ccnew ON {TABLE} (session_key);
        UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'extra_ccnew'::regclass""")(world)


@contextlib.contextmanager
def with_words(state, **words):
    with state as made:
        made.words.update(words)
        yield made


@contextlib.contextmanager
def no_index(world):
    site = world.site()
    name = site.value(f"SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = {OID} AND indkey::text = '3'")
    site.psql(f"DROP INDEX {name}")
    yield State(world.cluster, site)


@contextlib.contextmanager
def no_target(world):
    site = world.site()
    site.psql(f"ALTER TABLE {TABLE} ALTER expire_date SET STATISTICS 0")
    site.fill(**FEW)
    yield State(world.cluster, site, ("-v",))


@contextlib.contextmanager
def counters(world):
    site = world.site(sessions=3000)
    counted_after_vacuum(site, f"DELETE FROM {TABLE} WHERE expire_date < now()")
    yield State(world.cluster, site, ("-w", "dead=1"))


@contextlib.contextmanager
def on_a_standby(world, expired_share, *options, **more):
    server = world.fixture("primary")
    server.create_database("site", OWNER)
    site = DjangoSite(world.folder, server, "site")
    site.migrate()
    site.apply_roles()
    site.fill(sessions=3000, expired_share=expired_share)
    replica = world.fixture("standby")
    wait_for(lambda: replica.psql("SELECT 1 FROM pg_database WHERE datname = 'site'"), "the database on the standby")
    yield State(replica, options=options, **more)


@contextlib.contextmanager
def logins(world, *lines, **more):
    """pg_hba.conf has these lines alone, below one for the administrator."""
    site = world.own_site()
    (site.cluster.data / "pg_hba.conf").write_text("\n".join(["local all postgres trust", *lines, ""]))
    mark = site.cluster.log_mark()
    site.cluster.reload()
    wait_for(lambda: "reloading configuration files" in site.cluster.log_text(mark), "the reload")
    yield State(site.cluster, site, **more)


@contextlib.contextmanager
def password(world):
    with logins(world, "host all all 127.0.0.1/32 scram-sha-256", tcp=True) as state:
        state.site.psql(f"ALTER ROLE {MONITOR} PASSWORD 'PASSWORD'")
        state.pgpass = f"127.0.0.1:*:*:{MONITOR}:of last year\ndb2:5432:*:{MONITOR}:of another server\n"
        yield state


@contextlib.contextmanager
def no_role(world):
    site = world.own_site(roles=False)
    yield State(site.cluster, site)


@contextlib.contextmanager
def no_connect(world):
    yield world.state(sql=f"REVOKE CONNECT ON DATABASE site FROM PUBLIC, {MONITOR}")


@contextlib.contextmanager
def no_connection_left(world):
    site = world.own_site()
    site.psql(f"ALTER ROLE {MONITOR} CONNECTION LIMIT 1")
    with contextlib.closing(site.cluster.connect("site", MONITOR)) as other:
        yield State(site.cluster, site, words={"PID": str(other.info.backend_pid)})


@contextlib.contextmanager
def starting(world):
    """As long as the test needs: a standby that lets nobody in."""
    server = world.own_site().cluster
    server.stop()
    (server.data / "standby.signal").touch()
    server.configure(hot_standby="off")
    server.start(until=lambda: run(["pg_isready", "-h", server.socket, "-p", str(server.port)], check=False).returncode == 1)
    yield State(server)


@contextlib.contextmanager
def no_answer(world):
    server = world.own_site().cluster
    server.stop()
    yield State(server, tcp=True, start=server.start)


@contextlib.contextmanager
def tls(world):
    """Its certificate is there, and the server hasn't read it yet."""
    site = world.own_site()
    run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2",
         "-keyout", site.cluster.data / "server.key", "-out", site.cluster.data / "server.crt"])
    (site.cluster.data / "server.key").chmod(0o600)
    site.cluster.configure(ssl="on")
    yield State(site.cluster, site, ("-d", "dbname=site sslmode=require"), tcp=True)


@contextlib.contextmanager
def another_reason(world):
    yield world.state(sql="UPDATE pg_database SET datallowconn = false WHERE datname = 'site'")
    world.cluster.psql("ALTER DATABASE site ALLOW_CONNECTIONS true")


@contextlib.contextmanager
def pooler(world):
    """It doesn't know the role."""
    server = PgBouncer(world.folder, world.cluster, [OWNER]).start()
    yield State(world.cluster, world.site(), ("-d", f"host=127.0.0.1 port={server.port} dbname=site"),
                words={"/var/log/postgresql/pgbouncer.log": str(server.folder / "pgbouncer.log")})
    server.stop()


@contextlib.contextmanager
def row_security(world):
    site = world.own_site()
    site.fill(**FEW)
    site.psql(f"ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY")
    yield State(site.cluster, site)


def interfered(world, code, **more):
    @contextlib.contextmanager
    def make():
        site = world.site()
        site.interfere(f"RAISE EXCEPTION 'a test' USING ERRCODE = '{code}'")
        yield State(world.cluster, site, **more)
    return make()


@contextlib.contextmanager
def stopped(world):
    with contextlib.closing(world.cluster.connect(world.site(sessions=3000).database, autocommit=False)) as holder:
        holder.cursor().execute(f"LOCK TABLE {TABLE} IN SHARE UPDATE EXCLUSIVE MODE")
        yield State(world.cluster, world.site(), words={"PID": str(holder.info.backend_pid)}, says="STOPPED")


@contextlib.contextmanager
def put_off(world):
    site = world.site(sessions=3000)
    with Gate(world.cluster, BEFORE_A_DRAIN, passing=0) as gate:
        other = Cleanup(world.fixture("cleanup_program"), "-d", gate.conninfo("site", OWNER), "--method", "swap", "--no-progress")
        gate.wait()
        pid = site.value("SELECT pid FROM pg_stat_activity WHERE application_name = 'django_session' LIMIT 1")
        yield State(world.cluster, site, words={"PID": str(pid)}, says="put off")
        kill(other)


def cleanup_state(says, sql=""):
    @contextlib.contextmanager
    def make(world):
        yield world.state(rows={"sessions": 3000}, sql=sql, says=says)
    return make


STATES = {
    "expired": simple("-w", "reclaimable=1MB", sessions=30_000),
    "crontab for expired": simple("-w", "reclaimable=1MB", sessions=30_000),
    "free": free,
    "dead": dead,
    "dead rows that an old transaction keeps": dead_and_kept,
    "bloat": bloat,
    "overdue": simple(sessions=300),
    "crontab for overdue": simple(sessions=300),
    "large": simple("-w", "total=100kB", stays=True, **FEW),
    "locked": locked,
    "locked by a prepared transaction": locked_by_prepared,
    "idle transactions": simple(says="an idle transaction"),
    "full disk": simple(says="No space left on device", sessions=3000),
    "interrupted swap": interrupted_swap,
    "invalid index": lambda world: with_words(invalid_index(world), NAME="extra_ccnew"),
    "no index": no_index,
    "no right": simple(sql=f"REVOKE SELECT (expire_date) ON {TABLE} FROM {MONITOR}", **FEW),
    "no right on the schema": simple("-T", TABLE, sql=f"REVOKE USAGE ON SCHEMA public FROM PUBLIC, {MONITOR}", **FEW),
    "row security": row_security,
    "no statistics": simple("-w", "expired=1", sessions=200_000, expired_share=0.5, data_bytes=20, vacuum=False),
    "no statistics by target": no_target,
    "counters": counters,
    "counting is off": simple("-v", sql="ALTER DATABASE site SET track_counts = off", **FEW),
    "hidden space": simple("-v", sql="DROP FUNCTION django_session_statistics(regclass)", **FEW),
    "standby": lambda world: on_a_standby(world, 0.9, says="this server is a standby"),
    "unknown value": lambda world: on_a_standby(world, 0, "-w", "dead=1"),
    "password": password,
    "peer": lambda world: logins(world, "local all all peer"),
    "no entry": lambda world: logins(world, tcp=True),
    "no role": no_role,
    "no CONNECT": no_connect,
    "no database": simple("-d", "nosuch"),
    "no connection left": no_connection_left,
    "starting": starting,
    "no answer": no_answer,
    "TLS": tls,
    "kind of server": simple("-d", "dbname=site target_session_attrs=standby"),
    "no service": simple("--service", "site"),
    "no host": simple("-H", NO_HOST),
    "another reason": another_reason,
    "pooler": pooler,
    "timed out": lambda world: interfered(world, "query_canceled", stays=True),
    "no table": simple("-T", "nosuch"),
    "options": simple("-x"),
    "another error": lambda world: interfered(world, "internal_error"),
    "stopped": stopped,
    "failed": cleanup_state("FAILED"),
    "refused": cleanup_state("REFUSED", f"CREATE VIEW theirs AS SELECT * FROM {TABLE}"),
    "put off": put_off,
    "collectd": cleanup_state("bool-up"),
}


# -- Typing ----------------------------------------------------------------------------------------


class Terminal:
    """Where a person types the page's commands. `sudo` is what it comes to here: the tests' servers let everybody in as
    the role that he names."""

    def __init__(self, world, state):
        self.state = state
        self.folder = "/"
        self.home = private_folder(world.folder, "home")
        self.pgpass = self.home / ".pgpass"
        if state.pgpass:
            private_file(self.pgpass, state.pgpass)
        self.programs = private_folder(world.folder, "programs")
        self._program("sudo", 'while :; do case $1 in -u) [ "$2" != postgres ] || export PGUSER=postgres; shift 2;;'
                      ' -H) shift;; *) break;; esac; done; exec "$@"')
        self._program("python", 'exec /usr/bin/python3 "$@"')
        self._program("systemctl", 'echo "$@"')
        for path in (paths.CHECK, paths.CLEANUP):
            readable_copy(path, self.programs)
        server = state.server
        self.environment = {"PGHOST": str(server.socket), "PGPORT": str(server.port), "HOME": str(self.home),
                            "PATH": f"{self.programs}:{PLAIN_ENVIRONMENT['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
        self.words = {CHECK: "check_django_session", ROLES: str(readable_copy(paths.ROLES_SQL, world.folder)),
                      paths.ROLES_FILE: str(readable_copy(paths.ROLES_SQL, world.folder)),
                      "localhost:5432": f"127.0.0.1:{server.port}", "-h localhost -p 5432": f"-h 127.0.0.1 -p {server.port}",
                      "host=localhost\\nport=5432": f"host={server.socket}\\nport={server.port}", "-u nagios": f"-u {USER.pw_name}",
                      "django_session  nagios": f"django_session  {USER.pw_name}", "LOGFILE": str(server.log), "ADDRESS": "127.0.0.1",
                      "HOST": NO_HOST, **state.words}
        if state.site:
            self.words["/path/to/site"] = str(state.site._folder)

    def _program(self, name, script):
        (self.programs / name).write_text(f"#!/bin/bash\n{script}\n")
        (self.programs / name).chmod(0o755)

    def spelled(self, command):
        """With this state's words. /path/to/site stays, as in what the check prints."""
        for word, meant in self.words.items():
            if not word.startswith("/path/to/"):
                command = re.sub(rf"(?<![\w/]){re.escape(word)}(?![A-Z_])", lambda _, meant=meant: meant, command)
        return command

    def type(self, command):
        if self.state.start and command == "sudo systemctl start postgresql":
            self.state.start()
        command = self.spelled(command).replace("/path/to/site", self.words.get("/path/to/site", "/"))
        command = command.replace("/path/to/venv/bin/python", "python")
        if command.startswith("cd ") and "&&" not in command:
            self.folder = command.removeprefix("cd ")
            return ""
        done = run(["bash", "-c", command], check=False, environment=self.environment, folder=self.folder)
        print(f"$ {command}\n{done.stdout}{done.stderr}")
        assert done.returncode == 0 or ANSWERS_BY_EXIT_CODE.match(command), done
        assert "command not found" not in done.stderr
        if "pg_terminate_backend" in command:
            self._wait_for_the_end_of(self.words["PID"])
        return done.stdout

    def _wait_for_the_end_of(self, pid):
        """A person needs longer for the next command."""
        wait_for(lambda: not self.state.server.psql(f"SELECT FROM pg_stat_activity WHERE pid = {pid}"), "its end")

    def ask(self):
        """The check's answer, as its user."""
        environment = {**self.environment, "PGDATABASE": "site", "PGUSER": self.state.user}
        if self.state.tcp:
            environment["PGHOST"] = "127.0.0.1"
        return check.run_check(self.programs / "check_django_session", *self.state.options, environment=environment)


def named_by(answer):
    """The section that the check's page names."""
    found = re.findall(r'^Runbook: man 7 django_session, section "(.*)"$', answer.stdout, re.M)
    assert len(found) <= 1, answer.stdout
    return found[0] if found else None


def words_of(command):
    """Without what leads to the server."""
    words = shlex.split(command)
    for option in ("-h", "-H", "-p"):
        if option in words and words[0] != "pg_isready":
            at = words.index(option)
            del words[at:at + 2]
    return [paths.ROLES_SQL.name if word.endswith("roles.sql") else word for word in words]


def is_typed_in(line, commands):
    return any(words_of(line) == words_of(command) for command in commands) or any(line in command for command in commands)


# -- The tests -------------------------------------------------------------------------------------


@pytest.fixture
def world(request, server_programs):  # asks for a server only later
    return World(request)


def the_page_agrees_with_the_check(answer, section, terminal):
    """What the check says to type is what its section says, in the same order; but for looking, and for what another section
    is about."""
    def commands(blocks):
        return [terminal.spelled(command) for block in blocks for command in block.commands]
    elsewhere = commands(block for block in BLOCKS if block.section != section or block.part == "Diagnosis")
    here = iter(commands(block for block in BLOCKS if block.section == section and block.part == "Mitigation"))
    for line in re.findall(r"^  (.*)$", answer.long_text, re.M):
        if not is_typed_in(terminal.spelled(line), elsewhere):
            assert any(is_typed_in(terminal.spelled(line), [command]) for command in here), f"{line}\nnot in this place"
    assert answer.stdout.index("Runbook: ") < 1024


def blocks_of(state, part):
    return [block for block in BLOCKS if block.state == state and block.part == part]


def cases():
    """Each block of a mitigation in a state made for it; the diagnosis comes before the first."""
    for state in dict.fromkeys(block.state for block in BLOCKS):
        ways = blocks_of(state, "Mitigation") or [None]
        for number, way in enumerate(ways):
            marks = pytest.mark.debians("its psql -l asks no newer server") if state == "no database" else ()
            yield pytest.param(state, way, number == 0, id=f"{state} {number + 1}", marks=marks)


def type_the_mitigation(terminal, block):
    output = ""
    for command in block.commands:
        output = terminal.type(command.split(None, 5)[5] if block.state.startswith("crontab") else command)
    wait_for(lambda: has_ended(terminal, block, output), "the end of the alert", timeout=60)


def has_ended(terminal, block, output):
    if "check_django_session" in block.commands[-1]:
        return terminal.state.stays or block.section not in output
    if "django_session_cleanup" in block.commands[-1] and terminal.state.says:
        return "DJANGO_SESSION_CLEANUP DONE" in output
    return terminal.state.says or terminal.state.stays or named_by(terminal.ask()) != block.section


@pytest.mark.some_cases(5)
@pytest.mark.parametrize("state, way, first", cases())
def test_the_alert_leads_to_its_section_and_what_that_says_ends_it(world, state, way, first):
    with STATES[state](world) as made:
        terminal = Terminal(world, made)
        section, = {block.section for block in BLOCKS if block.state == state}
        if not made.says:
            answer = terminal.ask()
            assert named_by(answer) == section, answer.stdout
            the_page_agrees_with_the_check(answer, section, terminal)
        for block in blocks_of(state, "Diagnosis") if first else []:
            for command in block.commands:
                terminal.type(command)
        if way:
            type_the_mitigation(terminal, way)
        assert not made.pgpass or made.pgpass in terminal.pgpass.read_text()


def test_who_holds_a_lock_or_cleans_is_asked_of_this_database_alone(world):
    """A table of a database that was made out of this one has the same OID, and the page says to end who is shown."""
    site = world.site(**FEW)
    looks = [command for block in BLOCKS for command in block.commands if "FROM pg_locks" in command]
    site.cluster.psql(f"CREATE DATABASE twin TEMPLATE {site.database}")
    try:
        with contextlib.closing(site.cluster.connect("twin", autocommit=False)) as other:
            other.cursor().execute(f"LOCK TABLE {TABLE}; SELECT pg_advisory_lock(1684697955, {OID}::oid::int)")
            terminal = Terminal(world, State(site.cluster, site))
            shown = [terminal.type(command) for command in looks]
            assert len(shown) >= 3 and all("(0 rows)" in text for text in shown), shown
    finally:
        site.cluster.psql("DROP DATABASE twin WITH (FORCE)")


# -- The page --------------------------------------------------------------------------------------


def titles_in_code():
    source = (paths.ROOT / "lib" / "core" / "runbook.cpp").read_text()
    return re.findall(r'return "([^"]+)";', source)


def test_each_alert_of_the_check_has_its_section():
    titles = titles_in_code()
    enumerated = (paths.ROOT / "lib" / "core" / "runbook.hpp").read_text().partition("enum class RunbookSection {")[2]
    assert len(titles) == len(set(titles)) == enumerated.partition("};")[0].count(",")
    assert not [title for title in titles if title not in SECTIONS]


def test_each_threshold_is_mentioned():
    page = PAGE.read_text()
    metrics = re.findall(r'\{Metric::\w+, "(\w+)"', (paths.ROOT / "lib" / "core" / "metric.cpp").read_text())
    named = " ".join(re.findall(r"^Thresholds?: (.*)$", page, re.M))
    assert len(metrics) == 12
    assert set(re.findall(r"\w+", named)) == set(metrics)


def test_each_end_of_a_cleanup_has_its_section():
    """Both of the command and of collectd's write hook, whose notifications they are."""
    page = re.sub(r"\s+", " ", PAGE.read_text())
    outcomes = (paths.ROOT / "lib" / "core" / "cleanup.cpp").read_text().partition("(Outcome outcome)")[2].partition("\n}")[0]
    words = [word.upper() for word in re.findall(r'return "(\w+)";', outcomes)]
    hook = (paths.ROOT / "plugin" / "cleanup_texts.cpp").read_text()
    endings = re.findall(r'Severity::(?:warning|failure), LogLevel::\w+, "([^"]+)"', hook) + re.findall(r'kWord = "([^"]+)"', hook)
    assert set(words) == {"DONE", "STOPPED", "FAILED", "REFUSED"} and len(endings) == 4
    for word in set(words) - {"DONE", "REFUSED"}:
        assert f"The last line says {word}" in page
    assert "Its exit code is 3" in page  # a cleanup that is refused has no last line, only the reason
    for ending in endings:
        assert f'notification says "{ending}"' in page, ending


def test_nobody_who_can_do_more_than_the_owner_is_told_to_read_the_table():
    """It may be a view by then, whose functions run with the reader's rights."""
    reads = [command for block in BLOCKS for command in block.commands if re.search(rf"\bFROM (ONLY )?{TABLE}\b", command)]
    assert reads and not [command for command in reads if f"-U {MONITOR}" not in command]


def test_each_section_has_its_four_parts():
    assert len(SECTIONS) > 30
    assert not {section: parts for section, parts in SECTIONS.items() if parts != PARTS}


def test_what_it_refers_to_is_there():
    text = re.sub(r"\s+", " ", PAGE.read_text())
    referred = re.findall(r'see "([^"]+)"', text)
    assert len(referred) > 5
    assert not set(referred) - set(SECTIONS)


def test_each_block_has_a_state_and_each_state_a_block():
    assert {block.state for block in BLOCKS} == set(STATES)
    assert all(block.commands for block in BLOCKS)


@pytest.mark.parametrize("place", ["nagios/django_session.7", "conf.d/prometheus/django_session.rules.yml"])
def test_no_query_finds_what_others_have_put_into_its_way(place):
    """An administrator types it. The database's owner decides where names are looked up there, unless it is said: for this
    statement alone, since behind a pooler the next to have the connection is the site."""
    as_typed = plain if place.endswith(".7") else str
    lines = [as_typed(line) for line in (paths.ROOT / place).read_text().splitlines() if "psql" in line]
    statements = [statement for line in lines for _, statement in re.findall(r"""-c (['"])((?:SET|SELECT|SHOW) .*?)\1(?= -c|$)""", line)]
    assert len(statements) > 1
    assert not [statement for statement in statements if not statement.startswith("SET LOCAL search_path = pg_catalog; SELECT ")
                and not re.match(r"SHOW \w+$|SELECT pg_catalog\.\w+\((PID)?\)$", statement)]


def test_it_is_clean_and_shows_each_command_as_it_is_typed(folder):
    page = readable_copy(PAGE, folder)
    assert not lint(page)
    shown = run(["groff", "-mdoc", "-Tutf8", "-rLL=1000n", *("-P-c", "-P-b", "-P-u", "-P-o"), page]).stdout
    for block in BLOCKS:
        assert f"\n   {block.section}\n" in shown
        for command in block.commands:
            assert f"{command}\n" in shown, command
    for text in ROOT.values():
        for line in text.splitlines():
            assert f"{line}\n" in shown, line
