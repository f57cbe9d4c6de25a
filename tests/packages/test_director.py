"""The basket for Icinga Director: a real Director restores it and deploys it to Icinga. The tests build on each other."""

import json

import pytest

from packaged import forced, install, make_site

# As its manual sets it up.
DIRECTOR = """
cd /
runuser -u postgres -- psql -q -c "CREATE ROLE director LOGIN PASSWORD 'director'" \
  -c "CREATE DATABASE director OWNER director ENCODING 'UTF8' TEMPLATE template0"
runuser -u postgres -- psql -q -d director -c 'CREATE EXTENSION pgcrypto'
cat >/etc/icingaweb2/resources.ini <<'END'
[director]
type = "db"
db = "pgsql"
host = "127.0.0.1"
port = "5432"
dbname = "director"
username = "director"
password = "director"
charset = "utf8"
END
mkdir -p /etc/icingaweb2/modules/director
printf '[db]\\nresource = "director"\\n' >/etc/icingaweb2/modules/director/config.ini
icingacli director migration run
"""
KICKSTART = """
icinga2 api setup
icinga2 feature enable command statusdata
/usr/lib/icinga2/prepare-dirs /etc/default/icinga2
icinga2 daemon -d
password=$(sed -n 's/.*password = "\\(.*\\)"/\\1/p' /etc/icinga2/conf.d/api-users.conf)
cat >/etc/icingaweb2/modules/director/kickstart.ini <<END
[config]
endpoint = "debian.example"
host = "127.0.0.1"
username = "root"
password = "$password"
END
"""
RESTORE = "icingacli director basket restore </usr/share/django_session/icinga2/django_session_director.json"


@pytest.fixture(scope="module")
def director(debian):
    """With a neglected site on the same server."""
    install(debian)
    debian.type("pg_ctlcluster 15 main start")
    make_site(debian)
    debian.type(DIRECTOR)


def all_rows(debian):
    """But for the words that each dump has of its own."""
    return debian.type("cd / && runuser -u postgres -- pg_dump --data-only director 2>/dev/null | grep -v restrict")


def test_restored_twice_it_is_there_once(debian, director):
    empty = all_rows(debian)
    debian.type(RESTORE)
    restored = all_rows(debian)
    assert "check_django_session" in restored and "check_django_session" not in empty
    debian.type(RESTORE)
    assert all_rows(debian) == restored


def create_service(debian, name, **variables):
    values = {"object_type": "object", "host": "db1", "imports": ["django-session"],
              "vars": {"django_session_database": "site", **variables}}
    debian.type(f"icingacli director service create {name} --json '{json.dumps(values)}'")


def test_icinga_runs_its_check_beside_the_packages_own_command(debian, director):
    debian.type(KICKSTART)
    debian.wait_for("icingacli director kickstart run")
    assert '"object_type": "external_object"' in debian.type("icingacli director command show django_session --json")
    host = {"object_type": "object", "check_command": "dummy", "address6": "::1"}
    debian.type(f"icingacli director host create db1 --json '{json.dumps(host)}'")
    create_service(debian, "by-socket", django_session_host="/var/run/postgresql")
    create_service(debian, "by-address")
    debian.type("icingacli director config deploy")
    debian.wait_for("grep -q 'service_description=by-address' /var/cache/icinga2/status.dat")
    for service, output in (("by-socket", "WARNING - overdue 730 d"),
                            ("by-address", "CRITICAL - cannot connect: Connection refused (::1:5432")):
        debian.type(forced("/run/icinga2/cmd/icinga2.cmd", "db1", service))
        debian.wait_for(f"grep -qF 'plugin_output=DJANGO_SESSION {output}' /var/cache/icinga2/status.dat")
