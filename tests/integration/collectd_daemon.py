"""Runs a real collectd in the foreground with the plugin, and reads back the values it wrote."""

import contextlib
import os
import re
import signal
import tempfile
from pathlib import Path

import sanitizer
from processes import Process, hand_over, private_file, private_folder, program, readable_copy, run, wait_for

HOST = "testhost"

# csv writes counters as they are (StoreRates false) and closes its files after each value. One thread
# writes values in the order in which they were given: the last one of a reading comes last.
CONFIG = """
Hostname "{host}"
FQDNLookup false
BaseDir "{base}"
PIDFile "{folder}/collectd.pid"
TypesDB "/usr/share/collectd/types.db"
Interval {interval}
WriteThreads {write_threads}
PluginDir "{plugins}"

LoadPlugin logfile
<Plugin logfile>
  LogLevel "info"
  File "{folder}/collectd.log"
  Timestamp true
  PrintSeverity true
</Plugin>

LoadPlugin csv
<Plugin csv>
  DataDir "{folder}/csv"
  StoreRates false
</Plugin>

{config}
"""


def database_block(cluster, database, user="django_session_monitor", inner="", tcp=False,
                   **options):
    """A <Database> block for a database of a cluster; options by the names of the plugin."""
    parameters = cluster.parameters(database, user, tcp)
    lines = {"Host": parameters["host"], "Port": str(parameters["port"]), "User": user, **options}
    text = "\n".join(f"    {name} {_value(value)}" for name, value in lines.items())
    return f'  <Database "{database}">\n{text}\n{inner}  </Database>\n'


def _value(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else f'"{value}"'


def plugin_block(*database_blocks):
    return "LoadPlugin django_session\n<Plugin django_session>\n" + "".join(
        database_blocks) + "</Plugin>\n"


class CollectdDaemon:
    """One collectd. `config` is what follows the basics: LoadPlugin lines and blocks."""

    def __init__(self, folder, config, interval=1, plugin=None, name="collectd", as_root=False,
                 environment=None, write_threads=1):
        self.folder = private_folder(folder, name)
        # In memory: what the hook keeps there is fsynced, which can take as long as other tests write.
        # Named after tests/run's folder, so that it goes with that even where we are killed.
        run_folder = Path(os.environ.get("DJANGO_SESSION_TMP", "tests")).name
        self._memory = tempfile.TemporaryDirectory(prefix=f"{run_folder}.", dir="/dev/shm")
        self.base = hand_over(Path(self._memory.name))
        self._log = self.folder / "collectd.log"
        plugins = private_folder(self.folder, "plugins")
        text = CONFIG.format(host=HOST, folder=self.folder, base=self.base, interval=interval,
                             write_threads=write_threads, config=config, plugins=plugins)
        self._conf = private_file(self.folder / "collectd.conf", text)
        self._gather_plugins(plugins, text, plugin)
        self._process = None
        self._as_root = as_root
        self._environment = environment or {}

    @staticmethod
    def _gather_plugins(folder, config, ours):
        """Copies what the configuration loads into one folder: collectd looks into one PluginDir
        at a time, refuses symbolic links, and may not be let into the checkout."""
        debian = next(Path("/usr/lib").glob("**/collectd/csv.so")).parent
        for name in re.findall(r'LoadPlugin\s+"?(\w+)', config):
            if (debian / f"{name}.so").exists():
                readable_copy(debian / f"{name}.so", folder)
        if ours:
            readable_copy(ours, folder)

    def _command(self, *options):
        return [*sanitizer.command_prefix(), program("collectd"), "-C", self._conf, *options]

    def read_once(self):
        """collectd -T: reads the configuration, then every plugin once; the finished process.
        (collectd 5.12's -t proves nothing: it exits 0 without having opened its configuration.)"""
        return run(self._command("-T"), check=False,
                   environment=sanitizer.environment_of_collectd())

    def start(self):
        self._process = Process(self._command("-f"), self.folder / "collectd.out",
                                environment={**sanitizer.environment_of_collectd(), **self._environment},
                                as_root=self._as_root)
        wait_for(self._initialised, "collectd's start")
        return self

    def _initialised(self):
        assert self.running, "collectd didn't start:\n" + self.log_text()
        return "Initialization complete" in self.log_text()

    def stop(self, timeout=30):
        """Ends the daemon as systemd does; returns the seconds it took. A bad end is a failure."""
        seconds = self._process.end(signal.SIGTERM, timeout)
        assert self._process.returncode == 0, (
            f"collectd exited {self._process.returncode}\n{self.log_text()}\n"
            f"{self._process.log_text()}")
        assert not self.reports(), self.output()
        return seconds

    def output(self):
        """What it wrote beside its log; a sanitizer reports there."""
        return self._process.log_text()

    def reports(self):
        """Lines in which a sanitizer reports something."""
        return sanitizer.reports(self.output())

    @property
    def running(self):
        return self._process is not None and self._process.running

    @property
    def pid(self):
        return self._process.pid

    # -- its log ---------------------------------------------------------------------------------

    def log_text(self, since=0):
        text = self._log.read_bytes() if self._log.exists() else b""
        if not text and self._process:
            return self._process.log_text()
        return text[since:].decode(errors="replace")

    def log_mark(self):
        return self._log.stat().st_size if self._log.exists() else 0

    def wait_for_log(self, pattern, since=0, timeout=20):
        """Waits for a regular expression in the log, returns the match."""
        try:
            return wait_for(lambda: re.search(pattern, self.log_text(since)),
                            f"{pattern!r} in collectd's log", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}, which says:\n{self.log_text(since)}") from None

    # -- its values ------------------------------------------------------------------------------

    def history(self):
        """{identifier: [(time, value), ...]}; identifiers (plugin-instance/type-instance) without
        the host. A type with several data sources has a tuple for a value."""
        found = {}
        top = self.folder / "csv" / HOST
        for path in sorted(top.glob("*/*")):
            identifier = f"{path.parent.name}/{path.name[:-len('-2000-01-01')]}"
            found.setdefault(identifier, []).extend(_read_csv(path))
        return found

    def latest(self, identifier):
        """(time, value) of its last value, without a look at all before it; None if there is none."""
        plugin, _, type_instance = identifier.partition("/")
        files = sorted((self.folder / "csv" / HOST / plugin).glob(type_instance + "-[0-9]*"))
        if not files:
            return None
        with open(files[-1], "rb") as file:
            file.seek(max(0, files[-1].stat().st_size - 200))
            end = file.read().decode().rpartition("\n")[0].rpartition("\n")[2]
        return _read_row(end)

    def values(self, plugin_instance=None):
        """{identifier: latest value}; with an instance: {type-instance: latest value} of ours."""
        latest = {name: rows[-1][1] for name, rows in self.history().items() if rows}
        if plugin_instance is None:
            return latest
        start = f"django_session-{plugin_instance}/"
        return {name[len(start):]: value for name, value in latest.items()
                if name.startswith(start)}

    def wait_for_value(self, identifier, accept=lambda value: True, timeout=20):
        """Waits until the latest value of an identifier is acceptable; returns it."""
        def current():
            value = self.values().get(identifier)
            return [value] if value is not None and accept(value) else None
        return wait_for(current, f"a fitting value of {identifier}, got "
                                 f"{self.values().get(identifier)}", timeout)[0]

    def wait_for_reads(self, identifier, count, timeout=60):
        """Waits for `count` more values of an identifier."""
        before = len(self.history().get(identifier, []))
        wait_for(lambda: len(self.history().get(identifier, [])) >= before + count,
                 f"{count} values of {identifier}", timeout)


@contextlib.contextmanager
def running_collectd(config, interval, plugin, parent=None):
    """A collectd in a folder of its own, in `parent`, that ends with the block. It writes by as many
    threads as one that nobody has configured."""
    with tempfile.TemporaryDirectory(prefix="collectd.", dir=parent) as folder:
        os.chmod(folder, 0o755)
        daemon = CollectdDaemon(folder, config, interval, plugin, write_threads=5).start()
        try:
            yield daemon
        finally:
            daemon.stop()


def _read_csv(path):
    return [row for row in map(_read_row, path.read_text().splitlines()) if row]


def _read_row(line):
    """(time, value); None for the title, or a line that isn't whole."""
    when, *values = line.split(",")
    if when == "epoch" or not values:
        return None
    numbers = tuple(map(float, values))
    return float(when), numbers if len(numbers) > 1 else numbers[0]
