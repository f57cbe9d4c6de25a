"""Runs a real Nagios 4 from a private folder, and reads what it made of a service's check."""

import signal
from pathlib import Path

from processes import (GROUP, USER, Process, private_file, private_folder, program,
                       readable_copy, run, wait_for)

DEBIAN_OBJECTS = [f"/etc/nagios4/objects/{name}.cfg"
                  for name in ("commands", "contacts", "timeperiods", "templates")]

# A time unit of one second, so that a check_interval of 5 means 5 s.
CONFIG = """
log_file={folder}/nagios.log
{object_files}
object_cache_file={folder}/objects.cache
precached_object_file={folder}/objects.precache
resource_file={folder}/resource.cfg
status_file={folder}/status.dat
status_update_interval=1
nagios_user={user}
nagios_group={group}
check_external_commands=0
command_file={folder}/nagios.cmd
query_socket={folder}/nagios.qh
lock_file={folder}/nagios.pid
temp_file={folder}/nagios.tmp
temp_path={folder}
check_result_path={folder}/results
state_retention_file={folder}/retention.dat
retain_state_information=0
use_syslog=0
check_for_updates=0
enable_notifications=0
execute_host_checks=0
interval_length=1
service_inter_check_delay_method=n
max_service_check_spread=1
process_performance_data=1
date_format=iso8601
illegal_macro_output_chars=`~$&|'"<>
"""


class NagiosDaemon:
    """One Nagios. `objects` is text (hosts, services), object_files are loaded before it, and
    plugins are the programs to put into the folder that $USER1$ names; settings are more lines of nagios.cfg."""

    def __init__(self, folder, objects="", object_files=(), plugins=(), settings=""):
        self.folder = private_folder(folder, "nagios")
        self._process = None
        private_folder(self.folder, "results")
        user1 = private_folder(self.folder, "plugins")
        for plugin in plugins:
            readable_copy(plugin, user1)
        private_file(self.folder / "resource.cfg", f"$USER1$={user1}\n")
        files = [*DEBIAN_OBJECTS, *(readable_copy(path, self.folder) for path in object_files),
                 private_file(self.folder / "objects.cfg", objects)]
        self._conf = private_file(self.folder / "nagios.cfg", CONFIG.format(
            folder=self.folder, user=USER.pw_name, group=GROUP.gr_name,
            object_files="\n".join(f"cfg_file={path}" for path in files)) + settings)

    def verify(self):
        """nagios -v: the finished process with returncode and stdout."""
        return run([program("nagios4"), "-v", self._conf], check=False)

    def start(self, environment=None):
        """The environment (PGHOST...) is what the checks inherit."""
        self._process = Process([program("nagios4"), self._conf], self.folder / "nagios.out",
                                environment=environment, dies_with="TERM")
        wait_for(self._initialised, "Nagios' start")
        return self

    def stop(self):
        return self._process.end(signal.SIGTERM)

    def log_text(self):
        log = self.folder / "nagios.log"
        return self._process.log_text() + (log.read_text() if log.exists() else "")

    def service(self, description, host=None, timeout=30):
        """Waits for a service's first check; what Nagios knows of it, by the names in status.dat:
        current_state, plugin_output, long_plugin_output, performance_data..."""
        return wait_for(lambda: self._checked(description, host), f"Nagios to check {description}",
                        timeout)

    def _checked(self, description, host):
        for block in self._blocks("servicestatus"):
            if (block.get("service_description") == description
                    and host in (None, block["host_name"])
                    and block["has_been_checked"] == "1"):
                return block
        return None

    def _initialised(self):
        assert self._process.running, "Nagios didn't start:\n" + self.log_text()
        return (self.folder / "status.dat").exists()

    def _blocks(self, kind):
        blocks = []
        current = None
        for line in Path(self.folder / "status.dat").read_text().splitlines():
            if line == f"{kind} {{":
                current = {}
            elif line.strip() == "}" and current is not None:
                blocks.append(current)
                current = None
            elif current is not None:
                name, _, value = line.strip().partition("=")
                current[name] = value
        return blocks
