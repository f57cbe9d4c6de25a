"""The packages on a clean Debian 12: installed, upgraded, purged; and used by Debian's collectd, Nagios, Icinga and NRPE, as the
recipe of the installed README has it. The tests build on each other. See run_packages in tests/run."""

import re
import subprocess
from pathlib import Path

import pytest

from packaged import MADE, forced, give, install, make_site, packages

NAMES = {"collectd-plugin-django-session", "django-session-cleanup", "monitoring-plugins-django-session"}
CONFFILES = ["/etc/collectd/collectd.conf.d/django_session.conf", "/etc/nagios-plugins/config/django_session.cfg"]

# No systemd runs in the root: what it would start.
SYSTEMCTL = """#!/bin/sh
case "$*" in
  "restart collectd") collectd -t && collectd ;;
  "restart nagios4") mkdir -p /run/nagios4 && chown nagios: /run/nagios4 && nagios4 -d /etc/nagios4/nagios.cfg ;;
  "restart icinga2") /usr/lib/icinga2/prepare-dirs /etc/default/icinga2; icinga2 daemon -d ;;
esac
"""


def fields(package):
    return dict(re.findall(r"^([\w-]+): (.*)$", subprocess.check_output(["dpkg-deb", "-f", package], text=True), re.M))


def remove(debian):
    debian.type(f"dpkg -P {' '.join(sorted(NAMES))}; rm -f /srv/*")


def test_three_packages_each_with_its_debug_symbols():
    assert {fields(package)["Package"] for package in packages()} == NAMES
    assert {fields(package)["Package"] for package in packages("ddeb")} == {f"{name}-dbgsym" for name in NAMES}


def test_built_again_they_are_the_same_bytes():
    for ending in ("deb", "ddeb"):
        for package in packages(ending):
            assert package.read_bytes() == (MADE / "second" / package.name).read_bytes(), package.name


def test_lintian_finds_nothing():
    done = subprocess.run(["lintian", "--allow-root", "--fail-on", "error,warning", *packages(), *packages("ddeb")], check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_no_file_is_in_two_packages_and_none_has_a_script():
    seen = {}
    for package in packages():
        listing = subprocess.check_output(["dpkg-deb", "-c", package], text=True)
        for name in re.findall(r"^[^d].* \./(\S+)(?: -> .*)?$", listing, re.M):
            assert seen.setdefault(name, package) == package, name
        control = subprocess.check_output(["dpkg-deb", "--ctrl-tarfile", package])
        names = subprocess.run(["tar", "-t"], input=control, stdout=subprocess.PIPE, check=True).stdout.decode().split()
        assert {name.removeprefix("./") for name in names} <= {"", "control", "md5sums", "conffiles"}
    assert len(seen) > 30


def test_the_programs_are_stripped_and_hardened():
    for package, program in (("django-session-cleanup", "usr/bin/django_session_cleanup"),
                             ("monitoring-plugins-django-session", "usr/lib/nagios/plugins/check_django_session"),
                             ("collectd-plugin-django-session", "usr/lib/collectd/django_session.so")):
        file, = [path for path in packages() if path.name.startswith(f"{package}_")]
        content = subprocess.run(f"dpkg-deb --fsys-tarfile {file} | tar -xO ./{program}", shell=True, check=True,
                                 stdout=subprocess.PIPE).stdout
        binary = MADE / Path(program).name
        binary.write_bytes(content)
        shown = subprocess.check_output(["readelf", "-hldSW", binary], text=True)
        assert " DYN " in shown and "GNU_RELRO" in shown and re.search(r"FLAGS.*NOW", shown), shown
        assert ".symtab" not in shown and ".debug_info" not in shown


def changed(package, folder):
    """The same in a later version, whose configuration has one line more."""
    subprocess.run(["dpkg-deb", "-R", package, folder], check=True)
    control = folder / "DEBIAN" / "control"
    control.write_text(control.read_text().replace("Version: 1.0.0-1", "Version: 1.0.0-2"))
    for name in CONFFILES:
        if (file := folder / name[1:]).exists():
            file.write_text(file.read_text() + "# new\n")
    subprocess.run(["dpkg-deb", "-b", folder, f"{folder}.deb"], check=True, stdout=subprocess.DEVNULL)
    return Path(f"{folder}.deb")


def test_an_upgrade_keeps_what_was_edited_and_a_purge_leaves_nothing(debian, tmp_path):
    before = debian.files()
    install(debian)
    assert "conffiles" not in debian.type("dpkg --verify")
    added = debian.files() - before
    assert {name[1:] for name in CONFFILES} <= added and "usr/bin/django_session_cleanup" in added
    for name in CONFFILES:
        debian.type(f"echo '# edited' >>{name}")
    later = [changed(package, tmp_path / package.stem) for package in packages()]
    debian.type(f"dpkg -i --force-confdef --force-confold {give(debian, later)}")
    for name in CONFFILES:
        assert debian.type(f"tail -n 1 {name}") == "# edited\n"
        assert debian.type(f"tail -n 1 {name}.dpkg-dist") == "# new\n"
    remove(debian)
    assert debian.files() == before


def test_installed_alone_they_change_nothing(debian):
    """No daemon sees anything new, nothing is enabled, no user is made."""
    users = debian.type("getent passwd")
    install(debian)
    assert debian.type("getent passwd") == users
    assert debian.type("collectd -t") == ""
    assert "Things look okay" in debian.type("nagios4 -v /etc/nagios4/nagios.cfg")
    assert "Finished validating" in debian.type("/usr/lib/icinga2/prepare-dirs /etc/default/icinga2; icinga2 daemon -C")
    assert not debian.type("find /etc/systemd -name 'django_session*'")


@pytest.fixture(scope="module")
def site(debian):
    """A database with a neglected table, and the roles; needs the packages."""
    for program, text in (("systemctl", SYSTEMCTL), ("journalctl", "#!/bin/sh\n")):
        (debian.folder / "usr/local/bin" / program).write_text(text)
        (debian.folder / "usr/local/bin" / program).chmod(0o755)
    debian.type("pg_ctlcluster 15 main start")
    return make_site(debian)


def test_collectd_has_values_by_the_installed_plugin(debian, site):
    shown = debian.type(site[4])
    assert "site: first reading: django_session" in shown, shown
    debian.wait_for("ls /var/lib/collectd/*/*/django_session-site/bytes-total*")


def test_the_check_and_the_command_run_from_where_they_are_installed(debian, site):
    check = debian.run(site[6], check=False)
    assert check.returncode == 1 and check.stdout.startswith("DJANGO_SESSION WARNING - overdue 730 d"), check.stdout
    roles = set(re.findall(r"\S+/roles\.sql", check.stdout))
    assert roles <= {"/usr/share/django_session/roles.sql"}
    plan = debian.type(site[9])
    assert plan.count("Plan for") == 2, plan
    for page in ("1/check_django_session.1", "1/django_session_cleanup.1", "5/collectd-django_session.5", "7/django_session.7"):
        debian.type(f"gzip -t /usr/share/man/man{page}.gz")


def test_nagios_runs_the_check_by_the_installed_command(debian, site):
    shown = debian.type(site[7])
    assert "Things look okay" in shown, shown
    debian.wait_for("test -p /var/lib/nagios4/rw/nagios.cmd")
    debian.type(forced("/var/lib/nagios4/rw/nagios.cmd", "localhost", "Django sessions"))
    debian.wait_for("grep -q 'plugin_output=DJANGO_SESSION WARNING - overdue 730 d' /var/lib/nagios4/status.dat")


def test_icinga_runs_the_check_by_the_installed_command(debian, site):
    debian.type("icinga2 feature enable command statusdata")
    shown = debian.type(site[8])
    assert "'db1!django-session-site' of type 'Service'" in shown, shown
    debian.wait_for("test -p /run/icinga2/cmd/icinga2.cmd")
    debian.type(forced("/run/icinga2/cmd/icinga2.cmd", "db1", "django-session-site"))
    debian.wait_for("grep -q 'plugin_output=DJANGO_SESSION WARNING - overdue 730 d' /var/cache/icinga2/status.dat")


def test_nrpe_answers_with_the_example(debian, site):
    debian.type("cp /usr/share/django_session/nrpe/django_session.cfg /etc/nagios/nrpe.d/ && "
                "mkdir -p /run/nagios && nrpe -c /etc/nagios/nrpe.cfg -d")
    shown = debian.wait_for("/usr/lib/nagios/plugins/check_nrpe -H 127.0.0.1 -c check_django_session; test $? -eq 1")
    assert shown.startswith("DJANGO_SESSION WARNING - overdue 730 d"), shown
    assert "Runbook: " in shown and "Next: " in shown
