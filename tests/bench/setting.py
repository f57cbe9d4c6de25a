"""What all parts share: a server with sites, large tables made quickly, a cleanup's run, and tables of figures."""

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

import paths
from cluster import Cluster, binaries
from django_site import OWNER, TABLE, DjangoSite
from processes import PLAIN_ENVIRONMENT

MB = 1024 * 1024
GB = 1024 * MB
DROP_INDEXES = f"""ALTER TABLE {TABLE} DROP CONSTRAINT django_session_pkey;
    DROP INDEX django_session_session_key_c0390e0f_like, django_session_expire_date_a5c62663"""
MAKE_INDEXES = f"""ALTER TABLE {TABLE} ADD CONSTRAINT django_session_pkey PRIMARY KEY (session_key);
    CREATE INDEX django_session_session_key_c0390e0f_like ON {TABLE} (session_key varchar_pattern_ops);
    CREATE INDEX django_session_expire_date_a5c62663 ON {TABLE} (expire_date)"""
# A site's own, where a cleanup is measured: the tests' servers are without full pages in WAL.
FOR_CLEANUPS = {"shared_buffers": "1GB", "max_wal_size": "8GB", "full_page_writes": "on", "maintenance_work_mem": "256MB"}


def tell(text):
    print(text, flush=True)


@dataclasses.dataclass
class Table:
    """As Markdown; `says` is what stands above it, `notes` below."""
    says: str
    head: list
    rows: list
    notes: list = dataclasses.field(default_factory=list)

    def column(self, name):
        """Its values; none if there is no such column."""
        return [row[self.head.index(name)] for row in self.rows] if name in self.head else []

    def markdown(self):
        return "\n".join([f"{self.says}:", "", *self.lines(), *(f"\n{note}" for note in self.notes)])

    def lines(self):
        return [line_of(self.head), "|" + "---|" * len(self.head), *map(line_of, self.rows)]


def line_of(cells):
    return "|" + "".join(f" {cell} |" if cell != "" else " |" for cell in cells)


@contextlib.contextmanager
def temporary_folder():
    """One that the servers' user may enter."""
    with tempfile.TemporaryDirectory(prefix="bench.") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@contextlib.contextmanager
def server(**settings):
    """A server with the owner's role; its folder goes with it."""
    with temporary_folder() as folder:
        cluster = Cluster(folder, log_statement="none", **settings).start()
        try:
            cluster.create_role(OWNER)
            yield cluster
        finally:
            cluster.stop("immediate")


def new_site(cluster, name, sessions, **fill):
    """A site with so many sessions. The indexes come after the rows: with them, tens of millions would take hours."""
    cluster.create_database(name, OWNER)
    folder = tempfile.mkdtemp(dir=cluster.folder.parent)
    os.chmod(folder, 0o755)
    site = DjangoSite(folder, cluster, name)
    site.migrate()
    site.apply_roles()
    site.psql(DROP_INDEXES)
    site.fill(sessions=sessions, vacuum=False, **fill)
    site.psql(MAKE_INDEXES)
    site.vacuum()
    return site


@contextlib.contextmanager
def copy_of(site, name):
    """Its own database, from which nothing is left to be written when it is measured."""
    cluster = site.cluster
    cluster.create_database(name, OWNER, site.database)
    try:
        with temporary_folder() as folder:
            copied = DjangoSite(folder, cluster, name)
            copied.psql("CHECKPOINT")
            os.sync()
            yield copied
    finally:
        cluster.drop_database(name)


def cleanup(site, *options):
    """What the command says of itself; it must end well."""
    done = subprocess.run([paths.CLEANUP, "--json", *options], text=True, capture_output=True, check=False,
                          env={**PLAIN_ENVIRONMENT, **site.cluster.environment(site.database, OWNER)})
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@dataclasses.dataclass
class Cost:
    """What a way of cleaning has taken and given."""
    seconds: float
    wal: float
    before: int
    after: int

    @property
    def back(self):
        return self.before - self.after


def cost_of(site, way):
    """Runs way(site)."""
    before, wal = site.sizes()["total"], site.value("SELECT pg_current_wal_lsn()")
    start = time.monotonic()
    way(site)
    seconds = time.monotonic() - start
    return Cost(seconds, float(site.value(f"SELECT pg_current_wal_lsn() - '{wal}'")), before, site.sizes()["total"])


def median_cost(costs):
    return Cost(*(statistics.median(getattr(cost, field.name) for cost in costs) for field in dataclasses.fields(Cost)))


def size(number):
    """As people read it."""
    return f"{number / GB:.1f} GB" if number >= GB / 10 else f"{number / MB:.0f} MB" if number >= 10 * MB else f"{number / MB:.1f} MB"


def duration(seconds):
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def megabytes(number):
    return f"{number / MB:,.0f} MB" if abs(number) >= 10 * MB else f"{number / MB:.1f} MB"
