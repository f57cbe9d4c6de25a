"""The packages on a Debian 12 that systemd has booted: the unit and the timer of the cleanup, and collectd by Debian's own unit,
as it is and restricted. The tests build on each other."""

import functools
import re

import pytest

from debian_root import BootedDebian
from packaged import install, make_site

# Debian starts them after their installation; not needed here.
OTHERS = ["nagios4.service", "icinga2.service", "nagios-nrpe-server.service", "icingaweb2-module-director.service"]
DEBIAN = functools.partial(BootedDebian, without=OTHERS)
SERVICE, TIMER = "django_session_cleanup@site.service", "django_session_cleanup@site.timer"
START = "systemctl start collectd || { journalctl -o cat -u collectd -n 30; false; }"
PLUGIN = "/etc/collectd/collectd.conf.d/django_session.conf"

HOOK = """
LoadPlugin django_session
<Plugin django_session>
  <Database "site">
    Host "localhost"
    User "django_session_monitor"
    PassFile "/etc/collectd/pgpass"
    Interval 1
    <Cleanup>
      Trigger "overdue=2d"
      {cleanup}
    </Cleanup>
  </Database>
</Plugin>
"""
BUILT_IN = 'User "django_session_cleaner"'
COMMAND = 'Command "/srv/command"\n      CommandUser "nobody"\n      MaxDuration 1'
# It ends by itself only when it is asked to.
PROGRAM = """#!/bin/bash
trap 'echo asked to end; exit' TERM
echo "runs as $(id -un)"
while true; do read -t 1 <> <(:); done
"""

# All of these, but for what collectd-django_session(5) says that the plugin needs.
STRICT = """
ProtectSystem=strict
ReadWritePaths=/var/lib/collectd
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
NoNewPrivileges=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_KILL
TimeoutStopSec=30
"""


@pytest.fixture(scope="module")
def site(debian):
    install(debian)
    debian.wait_for("runuser -u postgres -- psql -c 'SELECT 1'")
    return make_site(debian)


def drop_in(debian, unit, text):
    """Replaces the one from here before."""
    folder = debian.folder / "etc/systemd/system" / f"{unit}.d"
    folder.mkdir(exist_ok=True)
    (folder / "test.conf").write_text(text)
    debian.type("systemctl daemon-reload")


def sql(debian, statement):
    return debian.type(f'cd / && runuser -u postgres -- psql -qAt -d site -c "{statement}"').strip()


def expire(debian):
    sql(debian, "INSERT INTO django_session SELECT md5(random()::text), 'x', now() - interval '3 days' FROM generate_series(1, 100)")


def expired(debian):
    return int(sql(debian, "SELECT count(*) FROM django_session WHERE expire_date < now()"))


def journal(unit, *words):
    """A command that prints the lines of the unit's last start that have one of the words, if any has."""
    words = " ".join(f"-e '{word}'" for word in words)
    return (f"journalctl -o cat _SYSTEMD_INVOCATION_ID=$(systemctl show -P InvocationID {unit}) + "
            f"INVOCATION_ID=$(systemctl show -P InvocationID {unit}) | grep {words}")


def documented(debian, name, command):
    """What the installed file says is to be typed."""
    text = (debian.folder / "usr/lib/systemd/system" / name).read_text()
    return re.search(rf"^#.*?({command} .*?)$", text, re.M)[1]


# -- the cleanup's unit and timer ------------------------------------------------------------------


def test_installed_the_timer_is_known_and_not_enabled(debian, site):
    assert "django_session_cleanup@.timer disabled" in re.sub(" +", " ", debian.type("systemctl list-unit-files 'django_session*'"))
    assert "django_session" not in debian.type("systemctl list-timers --all")


def test_enabled_as_the_timer_says_it_waits_for_the_night(debian, site):
    debian.type(documented(debian, "django_session_cleanup@.timer", "systemctl enable --now"))
    assert debian.type(f"systemctl is-enabled {TIMER}; systemctl is-active {TIMER}") == "enabled\nactive\n"
    assert re.search(rf"^\w+ \S+ 03:[0-2]\d.* {TIMER} +{SERVICE}$", debian.type("systemctl list-timers"), re.M)


def test_a_run_without_its_user_is_seen_to_fail(debian, site):
    assert debian.run(f"systemctl start {SERVICE}", check=False).returncode != 0
    assert debian.run(f"systemctl is-failed {SERVICE}").stdout == "failed\n"
    assert "Failed to determine user credentials" in debian.type(f"journalctl -u {SERVICE}")


def test_a_run_that_was_missed_is_made_up_for_and_cleans(debian, site):
    """With the user that the unit names, by the recipe's peer map, under the unit's restrictions."""
    debian.type(documented(debian, "django_session_cleanup@.service", "useradd"))
    drop_in(debian, TIMER, "[Timer]\nRandomizedDelaySec=0\n")
    debian.type(f"systemctl stop {TIMER} && touch -d '2 weeks ago' /var/lib/systemd/timers/stamp-{TIMER} && systemctl start {TIMER}")
    shown = debian.wait_for(f"systemctl show -P ActiveState {SERVICE} | grep -qx inactive && {journal(SERVICE, 'CLEANUP DONE')}")
    assert "delete: 970 expired sessions deleted" in shown
    assert (expired(debian), sql(debian, "SELECT count(*) FROM django_session")) == (0, "30")
    assert debian.run(f"systemctl is-failed {SERVICE}", check=False).stdout == "inactive\n"


def test_a_cleanup_that_fails_is_seen_with_its_reason(debian, site):
    other = SERVICE.replace("site", "nosuch")
    assert debian.run(f"systemctl start {other}", check=False).returncode != 0
    assert debian.run(f"systemctl is-failed {other}").stdout == "failed\n"
    assert other in debian.type("systemctl --failed")
    assert 'database "nosuch" does not exist' in debian.type(journal(other, "CLEANUP FAILED"))


def test_it_reads_the_password_file_in_its_home(debian, site):
    sql(debian, "ALTER ROLE django_session_cleaner PASSWORD 'first'; ALTER ROLE django_session_monitor PASSWORD 'second'")
    debian.type("install -m 600 -o django_session /dev/null /var/lib/django_session/.pgpass && "
                "echo 'localhost:5432:*:django_session_cleaner:first' >/var/lib/django_session/.pgpass")
    drop_in(debian, SERVICE, "[Service]\nEnvironment=PGHOST=localhost\n")
    expire(debian)
    debian.type(f"systemctl start {SERVICE}")
    assert expired(debian) == 0


# -- collectd's unit -------------------------------------------------------------------------------


def stop(debian):
    """An end by systemd's SIGKILL would be another result."""
    debian.type("systemctl stop collectd")
    assert debian.type("systemctl show -P Result -P ExecMainStatus collectd").split() == ["success", "0"]


def test_collectd_starts_has_values_and_stops_as_the_recipe_says(debian, site):
    shown = debian.type(site[4])
    assert "site: first reading: django_session" in shown, shown
    debian.wait_for(f"{{ {site[5]} }} | grep -q bytes-total")
    assert "first reading: django_session" in debian.type(site[5])
    drop_in(debian, "collectd.service", "[Service]\nTimeoutStopSec=30\n")
    stop(debian)


def start_collectd(debian, cleanup, restrictions):
    """With expired sessions, and no cleanup before."""
    debian.type("install -m 600 /dev/null /etc/collectd/pgpass && printf '%s\\n' localhost:5432:*:django_session_cleaner:first "
                "localhost:5432:*:django_session_monitor:second >/etc/collectd/pgpass; rm -f /var/lib/collectd/django_session*")
    (debian.folder / "srv/command").write_text(PROGRAM)
    (debian.folder / "srv/command").chmod(0o755)
    (debian.folder / PLUGIN[1:]).write_text(HOOK.format(cleanup=cleanup))
    drop_in(debian, "collectd.service", f"[Service]\n{restrictions}")
    expire(debian)
    debian.type(START)


def outcome(debian, *words):
    shown = debian.wait_for(journal("collectd", *words))
    stop(debian)
    return shown


def test_restricted_as_far_as_the_page_lets_it_reads_and_cleans(debian, site):
    start_collectd(debian, BUILT_IN, STRICT)
    assert "100 expired sessions deleted" in outcome(debian, "cleanup ended", "cleanup failed")
    assert expired(debian) == 0
    assert debian.type("ls /var/lib/collectd/django_session*") == "/var/lib/collectd/django_session-site.cleanups\n"
    assert "save" not in debian.run(journal("collectd", "save"), check=False).stdout


def test_restricted_so_it_runs_a_command_as_its_user_and_asks_it_to_end(debian, site):
    start_collectd(debian, COMMAND, STRICT)
    outcome(debian, "ended at its time limit", "cleanup failed")
    assert {"runs as nobody", "asked to end"} <= set(re.findall(r"cleanup: (.*)", debian.type(journal("collectd", "cleanup: "))))


@pytest.mark.parametrize("cleanup, restriction, seen", [
    (BUILT_IN, "ReadWritePaths=", "save when the last cleanup ran.*Read-only file system"),
    (BUILT_IN, "RestrictAddressFamilies=\nRestrictAddressFamilies=AF_UNIX", "Address family not supported"),
    (BUILT_IN, "InaccessiblePaths=/etc/collectd/pgpass", "no password supplied"),
    (COMMAND, "CapabilityBoundingSet=\nCapabilityBoundingSet=CAP_KILL", "could not be started: Operation not permitted"),
    (COMMAND, "PrivateUsers=yes", "could not be started: Operation not permitted"),
    (COMMAND, "SystemCallFilter=~@privileged", "Bad system call"),
], ids=["BaseDir", "network", "password file", "other user", "own users", "system calls"])
def test_more_than_that_shows_in_the_journal(debian, site, cleanup, restriction, seen):
    start_collectd(debian, cleanup, f"{STRICT}{restriction}\n")
    assert re.search(seen, outcome(debian, seen))


def test_without_cap_kill_a_command_is_killed_unasked(debian, site):
    start_collectd(debian, COMMAND, STRICT.replace(" CAP_KILL", ""))
    outcome(debian, "ended at its time limit")
    assert "asked to end" not in debian.type(journal("collectd", "cleanup: "))


def test_it_stops_though_the_server_hangs(debian, site):
    debian.type("pkill -STOP -u postgres postgres")
    try:
        debian.type(START)
        outcome(debian, "timed out while")
    finally:
        debian.type("pkill -CONT -u postgres postgres")


# -- without the plugin ----------------------------------------------------------------------------


def test_with_the_package_removed_collectd_starts_once_the_line_that_loads_the_plugin_is_gone(debian, site):
    """As the page says; any plugin that isn't there ends collectd, and `collectd -t` doesn't see it."""
    start_collectd(debian, BUILT_IN, "")
    stop(debian)
    debian.type("dpkg -r collectd-plugin-django-session")
    assert "LoadPlugin django_session" in (debian.folder / PLUGIN[1:]).read_text()
    assert debian.type("collectd -t") == ""
    assert debian.run("systemctl start collectd", check=False).returncode != 0
    debian.type(f"systemctl stop collectd && sed -i 's/^LoadPlugin/#LoadPlugin/' {PLUGIN} && systemctl start collectd")
    debian.wait_for(journal("collectd", "plugin isn.t loaded"))
    stop(debian)
