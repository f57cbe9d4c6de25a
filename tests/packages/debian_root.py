"""A Debian 12 in a folder, with processes and a network of its own; what is started in it ends with it. DebianRoot has no
systemd running, BootedDebian is booted by it."""

import os
import subprocess
import time
from pathlib import Path

# What our packages are used by, and the libraries that they depend on.
PACKAGES = ["collectd", "librrd8", "nagios4-core", "icinga2", "nagios-nrpe-server", "nagios-nrpe-plugin",
            "monitoring-plugins-basic", "postgresql-15", "libfmt9", "iproute2", "systemd-sysv", "dbus",
            # Icinga Director; php8.2-cgi, or else Debian takes the whole of Apache.
            "icingacli", "icingaweb2-module-director", "php8.2-cgi", "php8.2-pgsql"]
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8",
               "DEBIAN_FRONTEND": "noninteractive"}
NOT_FILES = ("dev", "proc", "run", "sys", "tmp")
WRITTEN_BY_DPKG = ("var/lib/dpkg/", "var/log/")


def make_archive(archive):
    subprocess.run(["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(PACKAGES)}",
                    "bookworm", archive], check=True)


def children(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


class Debian:
    """What all have: files, and commands."""

    def __init__(self, folder, archive):
        self.folder = folder
        folder.mkdir()
        subprocess.run(["tar", "-xf", archive, "-C", folder, "--exclude=./dev/*"], check=True)
        (folder / "etc" / "hostname").write_text("debian\n")
        (folder / "etc" / "hosts").write_text("127.0.0.1 localhost\n127.0.1.1 debian.example debian\n")

    def _inside(self):
        """The command line that runs another one in it."""
        raise NotImplementedError

    def run(self, commands, check=True):
        """In a shell of root's: the finished process, with both outputs in stdout."""
        done = subprocess.run([*self._inside(), "bash", "-c", commands], env=ENVIRONMENT, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, check=False)
        assert not check or done.returncode == 0, f"{commands}\n{done.stdout}"
        return done

    def type(self, commands):
        """The same, and what is printed."""
        return self.run(commands).stdout

    def files(self):
        """All names in it, but those that any change of any package touches."""
        names = (path.relative_to(self.folder).as_posix() for top in self.folder.iterdir() if top.name not in NOT_FILES
                 for path in [top, *top.rglob("*")])
        return {name for name in names if not name.startswith(WRITTEN_BY_DPKG)}

    def wait_for(self, commands, seconds=120):
        """Until they succeed; what they print."""
        deadline = time.monotonic() + seconds
        while (done := self.run(commands, check=False)).returncode != 0:
            assert time.monotonic() < deadline, f"not within {seconds} s: {commands}\n{done.stdout}"
            time.sleep(0.5)
        return done.stdout


class DebianRoot(Debian):
    def __init__(self, folder, archive):
        super().__init__(folder, archive)
        # The first process of its own process numbers: all others end with it, and it ends with us.
        self._first = subprocess.Popen(["unshare", "--mount", "--pid", "--net", "--uts", "--fork", "--kill-child", "sleep", "infinity"])
        for command in (["mount", "--rbind", "/dev", folder / "dev"], ["mount", "-t", "tmpfs", "tmpfs", folder / "dev" / "shm"],
                        ["mount", "-t", "proc", "proc", folder / "proc"], ["ip", "link", "set", "lo", "up"], ["hostname", "debian"]):
            subprocess.run([*self._namespaces(), *command], check=True)

    def _namespaces(self):
        deadline = time.monotonic() + 60
        while not (found := children(self._first.pid)):
            assert time.monotonic() < deadline, "no process in the new root"
            time.sleep(0.05)
        return ["nsenter", "--target", found[0], "--mount", "--pid", "--net", "--uts"]

    def _inside(self):
        return [*self._namespaces(), "chroot", self.folder]

    def end(self):
        self._first.kill()
        self._first.wait()


# Control groups as Debian 12 has them, whatever this machine has; a group of its own, which is gone afterwards.
BOOT = """
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
group=/sys/fs/cgroup/$1
mkdir $group
echo $$ >$group/cgroup.procs
systemd-nspawn --quiet --directory "$2" --boot --register=no --keep-unit --private-network --hostname=debian --link-journal=no \
  --resolv-conf=off --timezone=off --console=pipe
echo $$ >/sys/fs/cgroup/cgroup.procs
find $group -depth -type d -exec rmdir {} ';'
"""


class BootedDebian(Debian):
    """In a container: with this machine's kernel, and systemd as the first process."""

    def __init__(self, folder, archive, without=()):
        """without: services that are not to start."""
        super().__init__(folder, archive)
        subprocess.run(["systemctl", "--quiet", f"--root={folder}", "mask", *without], check=True)
        self._log = open(f"{folder}.log", "w+", encoding="utf-8")
        self._first = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child", "bash", "-c", BOOT, "boot",
             f"django_session_tests.{os.getpid()}", folder], stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
        self.wait_for("systemctl is-system-running --wait")

    def _container(self):
        """Its first process, and systemd-nspawn's, which waits for it."""
        deadline = time.monotonic() + 60
        while True:
            for shell in children(self._first.pid):
                for nspawn in children(shell):
                    for first in children(nspawn):
                        if Path(f"/proc/{first}/comm").read_text() == "systemd\n":
                            return first, nspawn
            self._log.seek(0)
            assert time.monotonic() < deadline and self._first.poll() is None, self._log.read()
            time.sleep(0.1)

    def _inside(self):
        return ["nsenter", "--all", "--target", self._container()[0]]

    def end(self):
        subprocess.run(["kill", self._container()[1]], check=True)  # an orderly shutdown
        try:
            self._first.wait(timeout=150)
        finally:
            self._first.kill()
            self._log.close()
