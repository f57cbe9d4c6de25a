"""Fixtures: one cluster for the whole run, a database with a Django-made table for each test."""

import collections
import contextlib
import functools
import math
import os
import shutil
import tempfile
import zlib
from pathlib import Path

import pytest

import check
import cleanup_command
import paths
from cluster import Cluster, binaries, debians_binaries
from collectd_daemon import CollectdDaemon
from django_site import MONITOR, OWNER, DjangoSite
from icinga_daemon import IcingaDaemon
from nagios_daemon import NagiosDaemon
from pgbouncer_server import PgBouncer
from processes import made_once, readable_copy, run

TEMPLATE = "django_template"
# All that are supported: Debian's, and those that `tests/install_packages versions` has installed.
VERSIONS = ("13", "14", "15", "16", "17", "18")
DEBIANS = "15"
LEFT_OUT = pytest.StashKey()  # how many tests this version can't do, by the reason
# Fixtures of the daemons that run our programs: what these do with their output is no matter of the server's version.
MONITORING = {"nagios", "icinga"}


def pytest_addoption(parser):
    parser.addoption("--rounds", type=int, default=1, metavar="N",
                     help="repeat what happens at random moments N times as often")
    parser.addoption("--every-case", action="store_true", help="all cases of the proofs, where else some stand for them")
    parser.addoption("--some-cases", action="store_true",
                     help="of a test that is marked some_cases(n) one case of n: `tests/run`, which would take too long")
    parser.addoption("--seconds", type=float, default=0, metavar="N",
                     help="how long the mishaps of test_long_runs.py go on; each happens once at least")
    parser.addoption("--readings", type=int, default=2_000, metavar="N", help="how many test_long_runs.py makes")
    parser.addoption("--reconnects", type=int, default=100, metavar="N", help="how many of them find their connection gone")
    parser.addoption("--postgresql", choices=VERSIONS, metavar="VERSION",
                     help="the servers' version; Debian's if not given")
    parser.addoption("--in-turn", choices=("test", "case"),
                     help="of the tests whose server's version matters, those alone whose turn it is on this one: one case "
                          "of each test, or each case")


def pytest_configure(config):
    version = config.getoption("--postgresql")
    if version and version != DEBIANS:
        os.environ["DJANGO_SESSION_PG_BIN"] = str(programs_of_version(version))


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(config, items):
    """Marks what depends on the servers' version (sql), and leaves out what a version can't do."""
    version = config.getoption("--postgresql") or DEBIANS
    for item in items:
        if "server_programs" in item.fixturenames and not MONITORING.intersection(item.fixturenames):
            item.add_marker("sql")
    chosen = [item for item in items if not why_not(item, version)]
    config.stash[LEFT_OUT] = collections.Counter(filter(None, (why_not(item, version) for item in items)))
    if config.getoption("--some-cases"):
        left_out = spared(items)
        chosen = [item for item in chosen if item not in left_out]
    if config.getoption("--in-turn"):
        turns = turns_of([item for item in items if item.get_closest_marker("sql")],
                         each_case=config.getoption("--in-turn") == "case")
        chosen = [item for item in chosen if turns.get(item) == version]
    config.hook.pytest_deselected(items=list(set(items).difference(chosen)))
    items[:] = chosen


def pytest_report_collectionfinish(config, items):
    """For `tests/run versions`."""
    if not config.option.collectonly:
        return ""
    left_out = [f"{count} ({reason})" for reason, count in config.stash[LEFT_OUT].items()]
    return f"of {len(items)} tests that depend on the server" + (f", without {', '.join(left_out)}" if left_out else "")


def why_not(item, version):
    """The reason why a version can't do what the test is about, or None."""
    too_old = [reason for least, reason in (mark.args for mark in item.iter_markers("since")) if int(version) < least]
    debians = [mark.args[0] for mark in item.iter_markers("debians") if version != DEBIANS]
    return next(iter(too_old + debians), None)


def turns_of(items, each_case):
    """On which version, beside Debian's, each case runs if it runs on one: by its test's name, and the cases of a test on one
    after the other, so that the choice of no test depends on others."""
    turns = {}
    for test, its_cases in cases_by_test(items).items():
        start = zlib.crc32(test.encode())
        for number, item in enumerate(its_cases):
            versions = [version for version in VERSIONS if version != DEBIANS and not why_not(item, version)]
            if versions and (each_case or number == start % len(its_cases)):
                turns[item] = versions[(start + number) % len(versions)]
    return turns


def spared(items):
    """The cases that --some-cases leaves out: by their names, as if by chance, since every nth of a product of two
    lists may have the same of one of them."""
    left_out = set()
    for its_cases in cases_by_test(items).values():
        for mark in its_cases[0].iter_markers("some_cases"):
            by_chance = sorted(its_cases, key=lambda item: zlib.crc32(item.nodeid.encode()))
            left_out.update(by_chance[math.ceil(len(its_cases) / mark.args[0]):])
    return left_out


def cases_by_test(items):
    """By the test's name without the case."""
    tests = collections.defaultdict(list)
    for item in items:
        tests[item.nodeid.partition("[")[0]].append(item)
    return tests


def cases(names, **marks):
    """Names of cases, some of which have marks: cases(["a", "b"], b=pytest.mark.since(...))."""
    return [pytest.param(name, marks=marks.get(name, ())) for name in names]


@pytest.fixture(scope="session")
def rounds(pytestconfig):
    """How many times as often the tests of chance repeat what they do."""
    return pytestconfig.getoption("--rounds")


@pytest.fixture(scope="session")
def every_case(pytestconfig):
    """Whether the tests that prove take all their cases, which needs hours, or some that stand for the others."""
    return pytestconfig.getoption("--every-case")


@pytest.fixture(scope="session")
def seconds(pytestconfig):
    """How long a long run goes on."""
    return pytestconfig.getoption("--seconds")


@pytest.fixture
def say(record_property):
    """Shows a figure at the end of the run though the test passes."""
    return lambda text: record_property("figure", text)


def pytest_terminal_summary(terminalreporter):
    figures = [f"{report.nodeid.partition('::')[2]}: {value}" for reports in terminalreporter.stats.values() for report in reports
               if getattr(report, "when", "") == "call" for name, value in report.user_properties if name == "figure"]
    if figures:
        terminalreporter.section("figures")
    for line in figures:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def session_folder():
    """Short (a socket's path has 107 characters) and open to the ordinary user."""
    parent = os.environ.get("DJANGO_SESSION_TMP")
    with tempfile.TemporaryDirectory(prefix="tests.", dir=parent or "/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def folder(session_folder):
    """A folder of this test alone, for daemons and files."""
    with tempfile.TemporaryDirectory(prefix="test.", dir=session_folder) as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def server_programs():
    """Where initdb and postgres are, of the version that this run is for (--postgresql). Whatever makes a server asks
    for it: by that a test is known as one that depends on the version."""
    return binaries()


@pytest.fixture(scope="session")
def cluster(session_folder, server_programs):
    """The shared server. A test that stops or pauses it puts it back; see also own_cluster."""
    server = Cluster(session_folder, bin_folder=server_programs).start()
    server.create_role(OWNER)
    yield server
    server.stop("immediate")


@pytest.fixture
def running_cluster(cluster):
    """The shared server, for tests that stop, pause or restart it: it runs again afterwards."""
    yield cluster
    cluster.resume()
    if not cluster.running:
        cluster.start()


@pytest.fixture
def own_cluster(folder, server_programs):
    """Makes servers for one test: own_cluster(autovacuum="on")."""
    with contextlib.ExitStack() as stack:
        def make(**settings):
            server = Cluster(folder, bin_folder=server_programs, **settings).start()
            stack.callback(server.stop, "immediate")
            server.create_role(OWNER)
            return server
        yield make


@pytest.fixture
def own_site(own_cluster, folder):
    """A site on a server for one test: own_site(autovacuum="on")."""
    def make(**settings):
        server = own_cluster(**settings)
        server.create_database("site", OWNER)
        site = DjangoSite(folder, server, "site")
        site.migrate()
        return site
    return make


@pytest.fixture(scope="session")
def cluster_of_version(session_folder):
    """A server of each version, started when it is first asked for: cluster_of_version("13")."""
    with contextlib.ExitStack() as stack:
        @functools.cache
        def of(version):
            place = session_folder / f"version-{version}"
            place.mkdir()
            place.chmod(0o755)
            programs = debians_binaries() if version == DEBIANS else programs_of_version(version)
            server = Cluster(place, bin_folder=programs).start()
            stack.callback(server.stop, "immediate")
            assert server.psql("SHOW server_version")[0][0].startswith(version + ".")
            return server
        yield of


def programs_of_version(version):
    """Where they are; a copy, if the ordinary user may not be let into the checkout's folder."""
    native = paths.POSTGRESQL / version / "native"
    assert native.exists(), "run `tests/install_packages versions`"
    if run([native / "bin" / "postgres", "--version"], check=False).returncode != 0:
        made = made_once(f"postgresql-{version}", lambda folder: shutil.copytree(
            native, folder / "native", symlinks=True))
        native = made / "native"
    return native / "bin"


@pytest.fixture(scope="session")
def template(cluster, session_folder):
    """A database migrated by Django itself, with the roles of conf.d; each test gets a copy."""
    cluster.create_database(TEMPLATE, OWNER)
    site = DjangoSite(session_folder, cluster, TEMPLATE)
    site.migrate()
    site.apply_roles()
    return TEMPLATE


@pytest.fixture
def new_site(cluster, template, folder):
    """Makes further sites: new_site("shop")."""
    made = []

    def make(name):
        cluster.create_database(name, OWNER, template)
        made.append(name)
        # Rights on a database aren't copied with it.
        cluster.psql(f'GRANT CONNECT ON DATABASE "{name}" TO {MONITOR}')
        return DjangoSite(folder, cluster, name)
    yield make
    cluster.resume()
    if not cluster.running:
        cluster.start()
    for name in made:
        cluster.drop_database(name)
    limited = [role for (role,) in cluster.psql("SELECT rolname FROM pg_roles WHERE rolconnlimit >= 0")]
    for role in limited:
        cluster.psql(f'ALTER ROLE "{role}" CONNECTION LIMIT -1')
    assert not limited, "roles belong to all tests on this server"


@pytest.fixture
def site(new_site):
    """A Django site on the database `site`: an empty session table, migrated, roles applied."""
    return new_site("site")


@pytest.fixture
def pgbouncer(cluster, folder):
    """A PgBouncer in transaction mode before the shared server."""
    server = PgBouncer(folder, cluster, [OWNER, MONITOR, "postgres"]).start()
    yield server
    server.stop()


@pytest.fixture
def collectd(folder):
    """Makes running collectds: collectd(config, interval=1); `plugin` is loaded from the build."""
    with contextlib.ExitStack() as stack:
        def make(config, interval=1, start=True, **options):
            plugin = options.pop("plugin", paths.PLUGIN)
            daemon = CollectdDaemon(folder, config, interval, plugin, **options)
            if start:
                daemon.start()
                stack.callback(lambda: daemon.running and daemon.stop())
            return daemon
        yield make


@pytest.fixture
def nagios(folder):
    """Makes running Nagios: nagios(objects, object_files=..., plugins=..., environment=...)."""
    with contextlib.ExitStack() as stack:
        def make(*arguments, environment=None, **options):
            daemon = NagiosDaemon(folder, *arguments, **options).start(environment)
            stack.callback(daemon.stop)
            return daemon
        yield make


@pytest.fixture
def icinga(folder):
    """Makes running Icinga 2: icinga(objects, object_files=..., plugins=..., environment=...)."""
    with contextlib.ExitStack() as stack:
        def make(*arguments, environment=None, **options):
            daemon = IcingaDaemon(folder, *arguments, **options).start(environment)
            stack.callback(daemon.stop)
            return daemon
        yield make


@pytest.fixture(scope="session")
def check_program(session_folder):
    """A copy of check_django_session which the ordinary user can run."""
    return readable_copy(paths.CHECK, session_folder)


@pytest.fixture
def run_check(check_program, cluster):
    """Runs the check as the measuring role on the shared server's database `site`:
    run_check("-w", "total=1GB"); environment=... replaces the PG variables."""
    def run(*options, environment=None, **more):
        chosen = cluster.environment("site", MONITOR) if environment is None else environment
        return check.run_check(check_program, *options, environment=chosen, **more)
    return run


@pytest.fixture(scope="session")
def cleanup_program(session_folder):
    """A copy of django_session_cleanup which the ordinary user can run."""
    return readable_copy(paths.CLEANUP, session_folder)


@pytest.fixture(autouse=True)
def no_cleanup_is_left_running():
    """It would connect again and clean the next test's table, which has the same name."""
    yield
    left = cleanup_command.Cleanup.end_all()
    assert not left, f"cleanups were left running: {left}"


@pytest.fixture
def start_cleanup(cleanup_program, cluster):
    """Starts the cleanup in the background, as the deleting role on the shared server's database
    `site`; user=... and environment=... replace that."""
    def start(*options, user=cleanup_command.CLEANER, environment=None):
        chosen = cluster.environment("site", user) if environment is None else environment
        return cleanup_command.Cleanup(cleanup_program, *options, environment=chosen)
    return start


@pytest.fixture
def run_cleanup(start_cleanup):
    """The same, to its end: run_cleanup("--method", "delete", user=SWAPPER)."""
    return lambda *options, timeout=120, **more: start_cleanup(*options, **more).result(timeout)


@pytest.fixture
def cleaned_site(site):
    """A site with the roles that clean up."""
    site.apply_roles(cleaner=cleanup_command.CLEANER, swapper=cleanup_command.SWAPPER)
    return site


@pytest.fixture
def neglected(cleaned_site):
    """The same, with 29,100 expired sessions and 900 live ones."""
    cleaned_site.fill(sessions=30_000)
    return cleaned_site
