"""The way in that a careful administrator leaves: TLS whose certificate is verified, SCRAM, a service and a password file."""

import subprocess

import pytest

import check
from cleanup_command import DONE, SWAPPER, Cleanup
from collectd_daemon import database_block, plugin_block
from django_site import MONITOR, TABLE
from processes import private_file

PASSWORD = "s3cr3t:\\word"
EXPIRED = f"SELECT count(*) FROM {TABLE} WHERE expire_date < now()"


@pytest.fixture
def careful(own_site, folder):
    """A site that lets in by TLS and SCRAM alone, as localhost; its folder has root.crt, services and pgpass."""
    site = own_site()
    site.apply_roles(swapper=SWAPPER)
    site.fill(sessions=3000)
    server = site.cluster
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost", "-keyout", folder / "key", "-out", folder / "root.crt"],
                   check=True, capture_output=True)
    private_file(folder / "root.crt", (folder / "root.crt").read_text(), 0o644)
    private_file(folder / "key", (folder / "key").read_text())
    server.psql("SET password_encryption = 'scram-sha-256'; "
                + "; ".join(f"ALTER ROLE {role} PASSWORD E'{PASSWORD}'".replace("\\", "\\\\") for role in (MONITOR, SWAPPER)))
    server.configure(ssl="on", ssl_cert_file=f"'{folder}/root.crt'", ssl_key_file=f"'{folder}/key'")
    (server.data / "pg_hba.conf").write_text("local all postgres trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n")
    server.restart()
    private_file(folder / "services", f"[site]\nhost=localhost\nport={server.port}\ndbname=site\nsslmode=verify-full\n"
                 f"sslrootcert={folder}/root.crt\n")
    escaped = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
    private_file(folder / "pgpass", f"localhost:{server.port}:site:*:{escaped}\n")
    return site


def environment(folder, user):
    return {"PGSERVICEFILE": str(folder / "services"), "PGPASSFILE": str(folder / "pgpass"), "PGUSER": user,
            "HOME": str(folder)}  # where libpq looks for certificates of the client's own


def test_check_and_cleanup_come_in(careful, folder, check_program, cleanup_program):
    answer = check.run_check(check_program, "--service", "site", "-w", "overdue=9999d",
                             environment=environment(folder, MONITOR))
    assert answer.state == "OK", answer.stdout
    result = Cleanup(cleanup_program, "--service", "site", "--method", "swap",
                     environment=environment(folder, SWAPPER)).result()
    assert result.code == DONE and careful.value(EXPIRED) == 0, result
    assert PASSWORD not in careful.cluster.log_text() + result.stdout + result.stderr


def test_collectd_comes_in(careful, folder, collectd):
    daemon = collectd(plugin_block(database_block(careful.cluster, "site", Host="localhost", Service="site",
                                                  SSLMode="verify-full", PassFile=str(folder / "pgpass"))),
                      environment={"PGSERVICEFILE": str(folder / "services"), "HOME": str(folder)})
    daemon.wait_for_reads("django_session-site/bool-up", 1)
    assert daemon.values()["django_session-site/bool-up"] == 1, daemon.log_text()


def test_a_server_of_another_name_is_not_trusted(careful, folder, check_program):
    answer = check.run_check(check_program, "--service", "site", "-H", "127.0.0.1", environment={
        **environment(folder, MONITOR), "PGPASSWORD": PASSWORD})
    assert answer.state != "OK" and "127.0.0.1" in answer.stdout and "certificate" in answer.stdout, answer.stdout
