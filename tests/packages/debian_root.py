"""A Debian 12 in a folder, with processes and a network of its own; what is started in it ends with it."""

import subprocess
import time
from pathlib import Path

# What our packages are used by, and the libraries that they depend on.
PACKAGES = ["collectd", "librrd8", "nagios4-core", "icinga2", "nagios-nrpe-server", "nagios-nrpe-plugin",
            "monitoring-plugins-basic", "postgresql-15", "libfmt9", "iproute2"]
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8",
               "DEBIAN_FRONTEND": "noninteractive"}
NOT_FILES = ("dev", "proc", "run", "sys", "tmp")
WRITTEN_BY_DPKG = ("var/lib/dpkg/", "var/log/")


class DebianRoot:
    def __init__(self, folder, archive=None):
        """archive: made by mmdebstrap before, with PACKAGES."""
        self.folder = folder
        folder.mkdir()
        if archive:
            subprocess.run(["tar", "-xf", archive, "-C", folder, "--exclude=./dev/*"], check=True)
        else:
            subprocess.run(["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(PACKAGES)}",
                            "bookworm", folder], check=True)
        (folder / "etc" / "hosts").write_text("127.0.0.1 localhost\n127.0.1.1 debian.example debian\n")
        # The first process of its own process numbers: all others end with it, and it ends with us.
        self._first = subprocess.Popen(["unshare", "--mount", "--pid", "--net", "--uts", "--fork", "--kill-child", "sleep", "infinity"])
        for command in (["mount", "--rbind", "/dev", folder / "dev"], ["mount", "-t", "tmpfs", "tmpfs", folder / "dev" / "shm"],
                        ["mount", "-t", "proc", "proc", folder / "proc"], ["ip", "link", "set", "lo", "up"], ["hostname", "debian"]):
            subprocess.run([*self._inside(), *command], check=True)

    def _inside(self):
        children = Path(f"/proc/{self._first.pid}/task/{self._first.pid}/children")
        deadline = time.monotonic() + 60
        while not (child := children.read_text().strip()):
            assert time.monotonic() < deadline, "no process in the new root"
            time.sleep(0.05)
        return ["nsenter", "--target", child, "--mount", "--pid", "--net", "--uts"]

    def run(self, commands, check=True):
        """In a shell of root's: the finished process, with both outputs in stdout."""
        done = subprocess.run([*self._inside(), "chroot", self.folder, "bash", "-c", commands], env=ENVIRONMENT, text=True,
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

    def end(self):
        self._first.kill()
        self._first.wait()
