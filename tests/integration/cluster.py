"""A private PostgreSQL server, made for the tests: set up, started, stopped and asked."""

import contextlib
import functools
import os
import re
import signal
from pathlib import Path

import psycopg2

from processes import (Process, children, free_port, made_once, private_folder, program,
                       readable_copy, run, wait_for)

SUPERUSER = "postgres"

# Durability off because nothing here has to survive a power cut; all else is what a site runs with.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "log_statement": "all",
    "log_line_prefix": "'%m [%p] %a '",
    "autovacuum": "off",
    "timezone": "UTC",
}


def binaries():
    """Where initdb and postgres are: DJANGO_SESSION_PG_BIN, or Debian's newest server."""
    chosen = os.environ.get("DJANGO_SESSION_PG_BIN")
    return Path(chosen) if chosen else debians_binaries()


def debians_binaries():
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"),
                   key=lambda path: float(path.parts[4]))
    assert found, "PostgreSQL's server is not installed"
    return found[-1].parent


@functools.cache
def initialised(bin_folder):
    """A data folder as initdb leaves it, to be copied: to make one takes a second of a processor."""
    def make(folder):
        run([bin_folder / "initdb", "-D", folder / "data", "-U", SUPERUSER, "-A", "trust",
             "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"])
    return made_once(f"initdb-{version_of(bin_folder)}", make) / "data"


@functools.cache
def version_of(bin_folder):
    return run([bin_folder / "postgres", "--version"]).stdout.split()[2]


class Cluster:
    """One server. Trusts whoever comes by the socket in its folder or its port of 127.0.0.1."""

    def __init__(self, folder, prefix=(), bin_folder=None, **settings):
        """prefix: words before the server's command, such as `env NAME=VALUE`; bin_folder: where
        initdb and postgres of another version are."""
        self._prefix = prefix
        self.folder = private_folder(folder, "postgresql")
        self.data = self.folder / "data"
        self.socket = self.folder
        self.port = free_port()
        self.log = self.folder / "postgresql.log"
        self.programs = bin_folder or binaries()
        self._process = None
        run(["cp", "-r", initialised(self.programs), self.data])
        self.configure(**{**SETTINGS, **settings})

    @property
    def version(self):
        """The major number."""
        return int(version_of(self.programs).partition(".")[0])

    # -- running ---------------------------------------------------------------------------------

    def configure(self, **settings):
        """Appends settings to postgresql.conf; they count after reload() or the next start."""
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as conf:
            for name, value in settings.items():
                conf.write(f"{name} = {value}\n")

    def start(self, until=None):
        """until: what to wait for instead of an answer."""
        self._process = Process(
            [*self._prefix, self.programs / "postgres", "-D", self.data, "-k", self.socket, "-p", str(self.port),
             "-c", "listen_addresses=127.0.0.1"],
            self.log, dies_with="QUIT")
        wait_for(until or self._answers, "PostgreSQL's start", timeout=30)
        return self

    def stop(self, mode="fast"):
        """mode: smart, fast or immediate, as pg_ctl's."""
        number = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
        self.resume()
        self._process.end(number[mode], timeout=60)

    def restart(self, mode="fast"):
        self.stop(mode)
        self.start()

    def reload(self):
        self._process.send(signal.SIGHUP)

    def pause(self):
        """Stops every process of the server as a hung machine would; connections stay open."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):  # a backend that has just ended
                os.kill(pid, signal.SIGSTOP)

    def resume(self):
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    @property
    def running(self):
        return self._process is not None and self._process.running

    @property
    def pid(self):
        return self._process.pid

    def pids(self):
        """The postmaster and its children."""
        if not self.running:
            return []
        return [self.pid, *children(self.pid)]

    def _answers(self):
        assert self.running, "PostgreSQL didn't start:\n" + self.log.read_text()[-3000:]
        try:
            self.connect().close()
            return True
        except psycopg2.OperationalError:
            return False

    # -- asking ----------------------------------------------------------------------------------

    def parameters(self, database="postgres", user=SUPERUSER, tcp=False):
        """Connection parameters by libpq's names."""
        host = "127.0.0.1" if tcp else str(self.socket)
        return {"host": host, "port": self.port, "dbname": database, "user": user}

    def conninfo(self, database="postgres", user=SUPERUSER, tcp=False):
        return " ".join(f"{k}={v}" for k, v in self.parameters(database, user, tcp).items())

    def environment(self, database="postgres", user=SUPERUSER):
        return {"PGHOST": str(self.socket), "PGPORT": str(self.port), "PGDATABASE": database,
                "PGUSER": user}

    def connect(self, database="postgres", user=SUPERUSER, autocommit=True):
        """A psycopg2 connection; for a transaction to hold locks with, autocommit=False."""
        connection = psycopg2.connect(**self.parameters(database, user), connect_timeout=5)
        connection.autocommit = autocommit
        return connection

    @contextlib.contextmanager
    def asking(self, database="postgres", user=SUPERUSER):
        """A function that runs SQL, all on one connection; the rows of the last statement, as tuples."""
        with contextlib.closing(self.connect(database, user)) as connection:
            def ask(sql):
                cursor = connection.cursor()
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []
            yield ask

    def psql(self, sql, database="postgres", user=SUPERUSER):
        """The same on a connection of its own."""
        with self.asking(database, user) as ask:
            return ask(sql)

    def run_file(self, path, database, user=SUPERUSER, **variables):
        """Runs a script with psql, as a person does."""
        words = [f"-v{name}={value}" for name, value in variables.items()]
        return run([program("psql", self.programs), "-X", "-q", "-v", "ON_ERROR_STOP=1", *words,
                    "-f", readable_copy(path, self.folder)],
                   environment=self.environment(database, user))

    def create_role(self, name, attributes="LOGIN"):
        if not self.psql(f"SELECT 1 FROM pg_roles WHERE rolname = '{name}'"):
            self.psql(f'CREATE ROLE "{name}" {attributes}')

    def create_database(self, name, owner=SUPERUSER, template="template1"):
        self.psql(f'CREATE DATABASE "{name}" OWNER "{owner}" TEMPLATE "{template}"')

    def drop_database(self, name):
        self.psql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    @contextlib.contextmanager
    def locked(self, database, table="public.django_session", mode="ACCESS EXCLUSIVE"):
        """Holds a lock on a table, as a running VACUUM FULL or ALTER TABLE does."""
        with contextlib.closing(self.connect(database, autocommit=False)) as connection:
            connection.cursor().execute(f"LOCK TABLE {table} IN {mode} MODE")
            yield connection
            connection.rollback()

    # -- the server's log ------------------------------------------------------------------------

    def log_mark(self):
        """Where the server's log ends now."""
        return self.log.stat().st_size

    def log_text(self, since=0):
        with open(self.log, "rb") as log:
            log.seek(since)
            return log.read().decode(errors="replace")

    def statements(self, since=0, application=None):
        """What clients sent since a mark (first lines); application: of that application_name."""
        entry = re.compile(r"^\S+ \S+ \S+ \[\d+\] (.*?) ?LOG:  (?:statement|execute [^:]*): (.*)$",
                           re.M)
        return [text for name, text in entry.findall(self.log_text(since))
                if application in (None, name)]
