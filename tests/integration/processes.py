"""Starts programs as an ordinary user (the servers refuse root), and ends them for certain."""

import contextlib
import fcntl
import functools
import grp
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

AM_ROOT = os.geteuid() == 0
USER = pwd.getpwnam("nobody") if AM_ROOT else pwd.getpwuid(os.getuid())
GROUP = grp.getgrgid(USER.pw_gid)

# What a developer's shell may say to libpq would reach every program under test.
PLAIN_ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))
}
PLAIN_ENVIRONMENT.update(LANG="C.UTF-8", LC_ALL="C.UTF-8", TZ="UTC")


def ordinary(command, dies_with="KILL", as_root=False):
    """`command` as an ordinary user, or as root where the tests are; the kernel sends it a signal
    should the tests be killed."""
    prefix = ["setpriv", f"--pdeathsig={dies_with}"]
    if AM_ROOT and not as_root:
        prefix += [f"--reuid={USER.pw_uid}", f"--regid={USER.pw_gid}", "--clear-groups"]
    return prefix + [str(word) for word in command]


def hand_over(path):
    """Gives a file or folder, and all that is in it, to the ordinary user."""
    if AM_ROOT:
        for name in [path, *Path(path).rglob("*")]:
            os.chown(name, USER.pw_uid, USER.pw_gid)
    return path


def private_folder(parent, name):
    folder = Path(parent) / name
    folder.mkdir()
    return hand_over(folder)


def private_file(path, text, mode=0o600):
    path = Path(path)
    path.write_text(text)
    path.chmod(mode)
    return hand_over(path)


def readable_copy(source, folder):
    """A copy for the ordinary user, who may not be allowed into the folder of the checkout."""
    target = Path(folder) / Path(source).name
    shutil.copy(source, target)
    target.chmod(0o755)
    return target


@functools.cache
def _folder_of_the_run():
    """tests/run's temporary folder, or one that goes with this process."""
    made = None
    if "DJANGO_SESSION_TMP" not in os.environ:
        made = tempfile.TemporaryDirectory(prefix="tests.")
        os.chmod(made.name, 0o755)
    return Path(made.name if made else os.environ["DJANGO_SESSION_TMP"]), made


def made_once(name, make):
    """A folder that serves all tests of a run, whichever process they run in: where it isn't there
    yet, make(folder) fills it. It must not be changed afterwards."""
    place, _ = _folder_of_the_run()
    folder = place / name
    with open(place / f"{name}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = private_folder(place, f"{name}.unfinished")
            make(unfinished)
            unfinished.rename(folder)
    return folder


def run(command, check=True, environment=None, folder="/", timeout=60, **options):
    """Runs a program to its end as the ordinary user; if it fails, the exception has its output."""
    done = subprocess.run(
        ordinary(command),
        env={**PLAIN_ENVIRONMENT, **(environment or {})},
        cwd=folder, text=True, timeout=timeout, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    if check and done.returncode != 0:
        raise AssertionError(
            f"{command} exited {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def free_port():
    """Below the ports that the kernel gives to clients, and of this worker alone where tests run
    side by side: what is free now must still be free when a server starts."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        port = random.randrange(10_000 + 2_000 * worker, 12_000 + 2_000 * worker)
        with contextlib.closing(socket.socket()) as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def wait_for(condition, what, timeout=20, pause=0.05):
    """Waits until `condition()` gives something true, and returns that."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout} s for {what}")
        time.sleep(pause)


def program(name, *folders):
    """The full path of a program, found even where sbin isn't on PATH."""
    path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    found = shutil.which(name, path=path)
    assert found, f"{name} is not installed"
    return found


def children(parent):
    """The process ids of a process' children."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            after_name = stat.read_text().rpartition(")")[2].split()
            if int(after_name[1]) == parent:
                found.append(int(stat.parent.name))
    return found


def status(pid, key):
    """A number of /proc/PID/status: of kB (VmRSS), or a count (Threads)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(key + ":")))


def descriptors(pid):
    """How many a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_seconds(pid):
    """CPU time of a process' threads so far, by the scheduler's nanoseconds."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


class Process:
    """A program that runs in the foreground and writes its output into a log file."""

    def __init__(self, command, log, environment=None, dies_with="KILL", as_root=False):
        self.log = Path(log)
        self.name = Path(str(command[0])).name
        with open(self.log, "ab") as output:
            self._popen = subprocess.Popen(
                ordinary(command, dies_with, as_root), cwd="/", stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT,
                env={**PLAIN_ENVIRONMENT, **(environment or {})})

    @property
    def pid(self):
        return self._popen.pid

    @property
    def running(self):
        return self._popen.poll() is None

    @property
    def returncode(self):
        return self._popen.poll()

    def send(self, number):
        self._popen.send_signal(number)

    def log_text(self, since=0):
        with open(self.log, "rb") as log:
            log.seek(since)
            return log.read().decode(errors="replace")

    def log_mark(self):
        """Where the log ends now; give it to log_text() for what comes later."""
        return self.log.stat().st_size

    def end(self, number=signal.SIGTERM, timeout=20):
        """Sends a signal; returns the seconds the program needed to end. Kills it if too slow."""
        if not self.running:
            return 0.0
        start = time.monotonic()
        self.send(number)
        try:
            self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
            raise AssertionError(f"{self.name} had not ended after {timeout} s") from None
        return time.monotonic() - start
