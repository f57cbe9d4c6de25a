"""Where the checkout and the build under test are."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("DJANGO_SESSION_BUILD", "build/release"))
BUILD = BUILD if BUILD.is_absolute() else ROOT / BUILD

# PostgreSQL's versions beside Debian's, each in a folder of its major number.
POSTGRESQL = ROOT / "build" / "postgresql"

CHECK = BUILD / "nagios" / "check_django_session"
CLEANUP = BUILD / "nagios" / "django_session_cleanup"
PLUGIN = BUILD / "plugin" / "django_session.so"

CONF = ROOT / "conf.d"
ROLES_SQL = CONF / "roles.sql"
COLLECTD_SAMPLE = CONF / "collectd" / "django_session.conf"
NAGIOS_SAMPLE = CONF / "nagios" / "django_session.cfg"
ICINGA_SAMPLE = CONF / "icinga2" / "django_session.conf"
NAGIOS_MAIL_SAMPLE = CONF / "nagios" / "django_session_mail.cfg"
NAGIOS_CLEANUP_SAMPLE = CONF / "nagios" / "django_session_cleanup.cfg"
ICINGA_CLEANUP_SAMPLE = CONF / "icinga2" / "django_session_cleanup.conf"
SYSTEMD_SAMPLES = CONF / "systemd"
CRON_SAMPLE = CONF / "cron.d" / "django_session"
