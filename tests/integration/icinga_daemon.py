"""Runs a real Icinga 2 from a private folder, and asks its API about a service's check."""

import base64
import json
import shutil
import signal
import ssl
import urllib.error
import urllib.parse
import urllib.request

from processes import (GROUP, USER, Process, free_port, private_file, private_folder, program,
                       readable_copy, run, wait_for)

NODE = "testhost"

CONFIG = """
const PluginDir = "{plugins}"
include <itl>
include <plugins>
object Endpoint NodeName {{ }}
object Zone NodeName {{ endpoints = [ NodeName ] }}
object CheckerComponent "checker" {{ }}
object ApiListener "api" {{
  bind_host = "127.0.0.1"
  bind_port = {port}
}}
object ApiUser "tests" {{
  password = "tests"
  permissions = [ "*" ]
}}
template Service "generic-service" {{
  max_check_attempts = 5
  check_interval = 5s
  retry_interval = 5s
}}
template Host "generic-host" {{
  check_command = "dummy"
}}
{includes}
{objects}
"""


class IcingaDaemon:
    """One Icinga 2. `objects` is configuration text, object_files are included before it, and
    plugins are the programs to put into PluginDir."""

    def __init__(self, folder, objects="", object_files=(), plugins=()):
        self.folder = private_folder(folder, "icinga2")
        self.port = free_port()
        self._process = None
        for name in ("data", "data/certs", "log", "cache", "spool", "run", "plugins"):
            private_folder(self.folder, name)
        for plugin in plugins:
            readable_copy(plugin, self.folder / "plugins")
        includes = [readable_copy(path, self.folder) for path in object_files]
        self.configuration = private_file(self.folder / "icinga2.conf", CONFIG.format(
            plugins=self.folder / "plugins", port=self.port, objects=objects,
            includes="\n".join(f'include "{path}"' for path in includes)))

    def _definitions(self):
        values = {
            "NodeName": NODE, "ZoneName": NODE, "RunAsUser": USER.pw_name,
            "RunAsGroup": GROUP.gr_name, "DataDir": self.folder / "data",
            "LogDir": self.folder / "log", "CacheDir": self.folder / "cache",
            "SpoolDir": self.folder / "spool", "InitRunDir": self.folder / "run",
            "PidPath": self.folder / "run" / "icinga2.pid"}
        return [word for name, value in values.items() for word in ("-D", f"{name}={value}")]

    def _icinga(self, *words):
        return [program("icinga2"), *words, *self._definitions()]

    def verify(self):
        """icinga2 daemon -C: the finished process with returncode and stdout."""
        return run(self.command("daemon", "-C", "-c", self.configuration), check=False)

    def command(self, *words):
        """icinga2 with these words, in this folder."""
        self._make_certificate()
        return self._icinga(*words)

    def start(self, environment=None):
        """The environment (PGHOST...) is what the checks inherit."""
        self._process = Process(self.command("daemon", "-c", self.configuration), self.folder / "icinga2.out",
                                environment=environment, dies_with="TERM")
        wait_for(self._answers, "Icinga 2's start")
        return self

    def stop(self):
        return self._process.end(signal.SIGTERM)

    def log_text(self):
        return self._process.log_text()

    def _make_certificate(self):
        certs = self.folder / "data" / "certs"
        if not (certs / "ca.crt").exists():
            run(self._icinga("pki", "new-cert", "--cn", NODE, "--key", certs / f"{NODE}.key",
                             "--cert", certs / f"{NODE}.crt"))
            shutil.copy(certs / f"{NODE}.crt", certs / "ca.crt")

    def request(self, path, method="GET"):
        """A call of the API; None where it isn't there (yet)."""
        request = urllib.request.Request(
            f"https://127.0.0.1:{self.port}{path}", method=method,
            headers={"Accept": "application/json",
                     "Authorization": "Basic " + base64.b64encode(b"tests:tests").decode()})
        try:
            context = ssl._create_unverified_context()
            with urllib.request.urlopen(request, timeout=5, context=context) as answer:
                return json.load(answer)["results"]
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None

    def service(self, name, host=None, timeout=30):
        """Waits for a service's first check; Icinga's check result: state, output (all lines),
        performance_data (list of texts), command, exit_status..."""
        # Icinga spreads first checks over a minute; don't wait for that.
        self.request("/v1/actions/reschedule-check?type=Service&filter=true&force=true", "POST")
        return wait_for(lambda: self._checked(name, host), f"Icinga 2 to check {name}", timeout)

    def _checked(self, name, host):
        for found in self.request("/v1/objects/services") or []:
            attributes = found["attrs"]
            if attributes["name"] == name and host in (None, attributes["host_name"]):
                return attributes["last_check_result"]
        return None

    def parse_perfdata(self, text):
        """How Icinga reads one value of perfdata: label, value, unit, warn, crit, min, max."""
        quoted = json.dumps(text, ensure_ascii=False)
        query = urllib.parse.urlencode({"command": f"parse_performance_data({quoted})"})
        return self.request(f"/v1/console/execute-script?{query}", "POST")[0]["result"]

    def _answers(self):
        assert self._process.running, "Icinga 2 didn't start:\n" + self.log_text()
        return self.request("/v1/status/ApiListener")
