"""Runs a real PgBouncer in transaction mode before a cluster."""

import psycopg2

from processes import Process, free_port, private_file, private_folder, program, wait_for

CONFIG = """
[databases]
* = host={host} port={port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir = {folder}
auth_type = trust
auth_file = {folder}/users.txt
admin_users = pgbouncer
pool_mode = transaction
default_pool_size = 2
{settings}
"""


class PgBouncer:
    """One PgBouncer. Knows the users it is told; settings are further lines of its file."""

    def __init__(self, folder, cluster, users, **settings):
        self.folder = private_folder(folder, "pgbouncer")
        self.port = free_port()
        self._process = None
        private_file(self.folder / "users.txt",
                     "".join(f'"{user}" ""\n' for user in [*users, "pgbouncer"]))
        self._conf = private_file(self.folder / "pgbouncer.ini", CONFIG.format(
            host=cluster.socket, port=cluster.port, own_port=self.port, folder=self.folder,
            settings="\n".join(f"{name} = {value}" for name, value in settings.items())))

    def start(self):
        self._process = Process([program("pgbouncer"), self._conf], self.folder / "pgbouncer.log")
        wait_for(self._answers, "PgBouncer's start")
        return self

    def stop(self):
        return self._process.end()

    def parameters(self, database, user):
        return {"host": "127.0.0.1", "port": self.port, "dbname": database, "user": user}

    def conninfo(self, database, user):
        return " ".join(f"{k}={v}" for k, v in self.parameters(database, user).items())

    def log_text(self, since=0):
        return self._process.log_text(since)

    def _answers(self):
        assert self._process.running, "PgBouncer didn't start:\n" + self.log_text()
        try:
            psycopg2.connect(**self.parameters("pgbouncer", "pgbouncer")).close()
            return True
        except psycopg2.OperationalError:
            return False
