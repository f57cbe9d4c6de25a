"""conf.d/README.md's recipe, typed as it stands by root, postgres and nagios, before a server with the pg_hba.conf of Debian's
package. The time of each step is printed (pytest -s)."""

import re
import shlex
import shutil
import subprocess
import time

import pytest

import paths
from icinga_daemon import IcingaDaemon
from nagios_daemon import NagiosDaemon
from processes import AM_ROOT, PLAIN_ENVIRONMENT, USER, made_once, readable_copy, run

SECRET = "hunter2secret"

# What the output of each step has to show.
SHOWN = {
    "1": ["django_session_monitor", "django_session_cleaner", "django_session_swapper"],
    "2": ["pg_reload_conf", r"\(0 rows\)"],
    "3": [],
    "4": [r"site: first reading: django_session [\d.]+ kB, 97% of 1k sessions expired \(reads as django_session_monitor\)"],
    "5": ["django_session plugin: site: first reading", "bytes-total", "percent-expired"],
    "6": ["^DJANGO_SESSION WARNING - overdue 730 d"],
    "7": ["Checked 1 services", "Things look okay"],
    "8": ["Instantiated 1 Service", "Finished validating the configuration", "'db1!django-session-site' of type 'Service'"],
    "9": ["method +delete: as requested", r"Plan for(.*\n)+Plan for"],
}
WRONG = re.compile("FATAL|ERROR|denied|not found|cannot|error:|No such|refused|WARNING: password file")

NAGIOS_OBJECTS = """
define host {
    use linux-server
    host_name localhost
    address 127.0.0.1
}
define command {
    command_name check-host-alive
    command_line /bin/true
}
"""

# Debian's own configuration of collectd has more; -T needs no more than this.
COLLECTD_ONCE = """
BaseDir "{daemon}"
PluginDir "{daemon}/plugins"
Include "{etc}/collectd/collectd.conf.d/django_session.conf"
"""


def steps():
    """(number and title, [(way, commands)...]) of each step; way: A, B, or "" for both."""
    text = (paths.CONF / "README.md").read_text()
    recipe = re.search(r"^## From nothing to values\n(.*?)^## ", text, re.M | re.S)[1]
    for step in re.split(r"^### ", recipe, flags=re.M)[1:]:
        yield step.partition("\n")[0], re.findall(r"^(?:\*\*([AB])\.\*\*[^`]*?)?```\n(.*?)^```", step, re.M | re.S)


def packaged(name):
    """A file as Debian makes it for a new server, but for the name of the user who made this one."""
    def make(folder):
        run(["pg_createcluster", "-u", USER.pw_name, "-d", folder / "data", "-s", folder / "socket", "-l", folder / "log",
             "15", "packaged", "--", "--no-sync"], environment={"PG_CLUSTER_CONF_ROOT": str(folder / "etc")})
    text = (made_once("packaged", make) / "etc" / "15" / "packaged" / name).read_text()
    return re.sub(rf"^(local +all +){USER.pw_name} ", r"\1postgres ", text, flags=re.M)


class Machine:
    """Stands for Debian 12 with our parts installed: the same files in other places, and no systemd."""

    def __init__(self, folder, cluster, collectd):
        self._etc, self._bin, self._asked = folder / "etc", folder / "bin", folder / "systemctl"
        for path in (self._bin, folder / "home", self._asked, *(
                self._etc / name for name in ("collectd/collectd.conf.d", "nagios4/conf.d", "icinga2/conf.d"))):
            path.mkdir(parents=True)
        shutil.chown(folder / "home", "nagios", "nagios")
        shutil.copytree(paths.CONF, folder / "share")
        for program in (paths.CHECK, paths.CLEANUP):
            readable_copy(program, self._bin)
        for name in ("pg_hba.conf", "pg_ident.conf"):
            (cluster.data / name).write_text(packaged(name))
        cluster.reload()
        self._cluster = cluster
        self._environment = {"PGHOST": str(cluster.socket), "PGPORT": str(cluster.port)}
        self.collectd = collectd(f'Include "{self._etc}/collectd/collectd.conf.d/*.conf"', start=False, as_root=True,
                                 environment=self._environment)
        self._places = self._table(folder, cluster)
        sample = folder / "share" / "collectd" / "django_session.conf"
        sample.write_text(self._here(sample.read_text()))  # it names the password file
        self._stand_in("systemctl", f'touch "{self._asked}/$1 $2"')
        self._stand_in("journalctl", f"cat {self.collectd.folder}/collectd.log")

    def _stand_in(self, name, command):
        path = self._bin / name
        path.write_text(f"#!/bin/sh\n{command}\n")
        path.chmod(0o755)

    def _table(self, folder, cluster):
        """What the recipe says, and what it is here."""
        once = folder / "once.conf"
        once.write_text(COLLECTD_ONCE.format(daemon=self.collectd.folder, etc=self._etc))
        nagios = NagiosDaemon(folder, NAGIOS_OBJECTS).folder / "nagios.cfg"
        nagios.write_text(f"{nagios.read_text()}cfg_file={paths.NAGIOS_COMMANDS}\ncfg_dir={self._etc}/nagios4/conf.d\n")
        icinga = IcingaDaemon(folder, f'include "{paths.ICINGA_COMMAND}"\ninclude "{self._etc}/icinga2/conf.d/*.conf"')
        return {
            "/usr/share/django_session": folder / "share",
            "/usr/lib/nagios/plugins": self._bin,
            "/var/run/postgresql": cluster.socket,
            "/var/lib/nagios": folder / "home",
            "/var/lib/collectd/rrd": self.collectd.folder / "csv",
            "/etc/collectd": self._etc / "collectd",
            "/etc/nagios4": self._etc / "nagios4",
            "/etc/icinga2": self._etc / "icinga2",
            "collectd -T -C /etc/collectd/collectd.conf.d/django_session.conf": f"collectd -T -C {once}",
            "/etc/nagios4/nagios.cfg": nagios,
            "icinga2 daemon": shlex.join(map(str, icinga.command("daemon", "-c", icinga.configuration))),
            "icinga2 object list": shlex.join(map(str, icinga.command("object", "list"))),
            "192.0.2.1": "127.0.0.1", "192.0.2.10": "127.0.0.1", ":5432:": f":{cluster.port}:",
            "PASSWORD": SECRET}

    def server_log(self):
        return self._cluster.log_text()

    def _here(self, text):
        longest_first = sorted(self._places, key=len, reverse=True)
        return re.sub("|".join(map(re.escape, longest_first)), lambda found: str(self._places[found[0]]), text)

    def type(self, commands):
        """In a shell of root's; returns what is printed."""
        done = subprocess.run(
            ["bash", "-c", self._here(commands)], cwd="/", text=True, input=f"{SECRET}\n" * 6, start_new_session=True, timeout=120,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
            env={**PLAIN_ENVIRONMENT, **self._environment, "PATH": f"{self._bin}:{PLAIN_ENVIRONMENT['PATH']}:/usr/sbin:/sbin"})
        if (self._asked / "restart collectd").exists() and not self.collectd.running:
            self.collectd.start()
            self.collectd.wait_for_log("first reading", timeout=60)
            for value in ("bytes-total", "percent-expired"):
                self.collectd.wait_for_value(f"django_session-site/{value}", timeout=60)
        return done.stdout


@pytest.fixture
def machine(folder, own_site, collectd):
    assert AM_ROOT, "only root may become postgres and nagios"
    site = own_site()
    site.fill(sessions=1000)
    machine = Machine(folder, site.cluster, collectd)
    yield machine
    if machine.collectd.running:
        machine.collectd.stop()


@pytest.mark.parametrize("way", ["A", "B"])
def test_the_recipe_leads_to_values(machine, way, record_property):
    for title, blocks in steps():
        start = time.monotonic()
        for _ in range(2 if title.startswith("4") else 1):  # who mends his file types that step again
            output = "".join(machine.type(commands) for of, commands in blocks if of in ("", way))
        seconds = time.monotonic() - start
        record_property(title, f"{seconds:.1f} s")
        print(f"{way}  {title}: {seconds:.1f} s")
        missing = [words for words in SHOWN[title.partition(".")[0]] if not re.search(words, output, re.M)]
        assert not missing and not WRONG.search(output), f"{title}\n{output}"
    assert SECRET not in machine.server_log()
