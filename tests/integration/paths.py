"""Where the checkout and the build under test are."""

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("DJANGO_SESSION_BUILD", "build/release"))
BUILD = BUILD if BUILD.is_absolute() else ROOT / BUILD

# PostgreSQL's versions beside Debian's, each in a folder of its major number.
POSTGRESQL = ROOT / "build" / "postgresql"

CHECK = BUILD / "nagios" / "check_django_session"
CLEANUP = BUILD / "nagios" / "django_session_cleanup"
PLUGIN = BUILD / "plugin" / "django_session.so"


def installation(variable):
    """Of the build's configuration: CMAKE_INSTALL_PREFIX."""
    return re.search(rf"^{variable}:\w+=(.*)$", (BUILD / "CMakeCache.txt").read_text(), re.M)[1]


ROLES_FILE = f"{installation('CMAKE_INSTALL_PREFIX')}/share/django_session/roles.sql"  # as the page names it

CONF = ROOT / "conf.d"
ROLES_SQL = CONF / "roles.sql"
COLLECTD_SAMPLE = CONF / "collectd" / "django_session.conf"
NAGIOS_COMMANDS = CONF / "nagios" / "django_session.cfg"
NAGIOS_SAMPLES = [NAGIOS_COMMANDS, CONF / "nagios" / "django_session_service.cfg"]
ICINGA_COMMAND = CONF / "icinga2" / "django_session.conf"
ICINGA_SAMPLES = [ICINGA_COMMAND, CONF / "icinga2" / "django_session_service.conf"]
DIRECTOR_BASKET = CONF / "icinga2" / "django_session_director.json"
NAGIOS_MAIL_SAMPLE = CONF / "nagios" / "django_session_mail.cfg"
NAGIOS_CLEANUP_SAMPLE = CONF / "nagios" / "django_session_cleanup.cfg"
ICINGA_CLEANUP_SAMPLE = CONF / "icinga2" / "django_session_cleanup.conf"
SYSTEMD_SAMPLES = CONF / "systemd"
CRON_SAMPLE = CONF / "cron.d" / "django_session"
