"""A real Django project on a database of a cluster, and the means to fill its session table."""

import datetime

from cluster import SUPERUSER
from paths import ROLES_SQL
from processes import private_file, private_folder, run, wait_for

OWNER = "django"
MONITOR = "django_session_monitor"
TABLE = "public.django_session"

SETTINGS = """
SECRET_KEY = "only for tests"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.sessions"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
DATABASES = {{"default": {{
    "ENGINE": "django.db.backends.postgresql",
    "HOST": "{host}", "PORT": "{port}", "NAME": "{dbname}", "USER": "{user}"}}}}
"""

MANAGE = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings"
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""

# Rows in the order of their expire_date, as a site writes them. Keys are random and of the length of
# Django's. session_data looks like base64 and doesn't compress, so that big ones go to TOAST; a few
# hundred rows share one, since to make them is what takes the time.
FILL = """
DO $fill$
DECLARE
  data text[] := ARRAY(
    SELECT left(translate(encode(string_agg(sha512(convert_to('%(seed)s/' || i || '/' || j, 'UTF8')), ''), 'base64'),
                          E'+/=\\n', 'xy'), %(most)s)
    FROM generate_series(1, least(256, %(sessions)s)) i, generate_series(0, %(most)s / 84) j GROUP BY i);
BEGIN
  PERFORM setseed(%(fraction)s);
  INSERT INTO %(table)s (session_key, session_data, expire_date)
  SELECT translate(md5('%(seed)s-' || i), '0123456789abcdef', '0369cfilorux1hkz'),
         left(data[1 + i %% array_length(data, 1)],
              %(least)s + floor(random() * (%(most)s - %(least)s + 1))::int),
         CASE WHEN i <= %(expired)s
              THEN now() - interval '%(expired_over)s seconds'
                   * ((%(expired)s - i + 1) / greatest(%(expired)s, 1)::float8)
              ELSE now() + interval '%(live_for)s seconds'
                   * ((i - %(expired)s) / greatest(%(sessions)s - %(expired)s, 1)::float8) END
  FROM generate_series(1, %(sessions)s) i;
END
$fill$
"""


class DjangoSite:
    """A project whose session table Django's own migration makes, owned by the role `django`."""

    def __init__(self, folder, cluster, database):
        self.cluster = cluster
        self.database = database
        self._folder = private_folder(folder, f"django-{database}")
        self._fills = 0
        private_file(self._folder / "site_settings.py",
                     SETTINGS.format(**cluster.parameters(database, OWNER)))
        private_file(self._folder / "manage.py", MANAGE)

    def manage(self, *words, timeout=300):
        """Runs manage.py, for example manage("clearsessions"); returns what it printed."""
        return run(["/usr/bin/python3", self._folder / "manage.py", *words], folder=self._folder,
                   environment={"PYTHONDONTWRITEBYTECODE": "1"}, timeout=timeout).stdout

    def migrate(self):
        self.manage("migrate", "--verbosity", "0")

    def apply_roles(self, user=SUPERUSER, **variables):
        """Runs conf.d/roles.sql; variables are those of the script (table, monitor)."""
        return self.cluster.run_file(ROLES_SQL, self.database, user, **variables)

    def psql(self, sql, user=SUPERUSER):
        return self.cluster.psql(sql, self.database, user)

    def value(self, sql, user=SUPERUSER):
        """The one value of a query."""
        return self.psql(sql, user)[0][0]

    def let_only_delete(self, role):
        """As before PostgreSQL 17: roles.sql grants MAINTAIN where there is such a right."""
        if self.cluster.version >= 17:
            self.psql(f"REVOKE MAINTAIN ON {TABLE} FROM {role}")

    def is_claimed(self):
        """Whether a cleanup has a table of this database for itself."""
        return self.value("""
            SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))""")

    def flush(self):
        """A statement at whose end the server's counters learn what this session has changed."""
        return "SELECT pg_stat_force_next_flush()" if self.cluster.version >= 15 else "SELECT pg_sleep(0.6)"

    def fill(self, sessions=10_000, expired_share=0.97, data_bytes=200,
             expired_over=datetime.timedelta(days=730), live_for=datetime.timedelta(days=14),
             table=TABLE, vacuum=True):
        """Adds sessions. The oldest expired `expired_over` ago, the rest follow evenly up to
        `live_for` from now. data_bytes is the length of session_data, or (least, most).
        vacuum: VACUUM (ANALYZE) after it, as autovacuum would; else there are no statistics.
        """
        least, most = data_bytes if isinstance(data_bytes, tuple) else (data_bytes, data_bytes)
        self._fills += 1
        # The server counts the rows at leisure; after VACUUM it would count them twice.
        self.psql((FILL + "; " + self.flush()) % {
            "table": table, "sessions": sessions, "expired": round(sessions * expired_share),
            "least": least, "most": most, "seed": self._fills, "fraction": self._fills / 1000,
            "expired_over": expired_over.total_seconds(), "live_for": live_for.total_seconds()})
        if vacuum:
            self.vacuum(table)

    def vacuum(self, table=TABLE):
        """VACUUM (ANALYZE), to its end in the server's counters, which come half a second late before PostgreSQL 15."""
        start = self.value("SELECT clock_timestamp()::text")
        self.psql(f"VACUUM (ANALYZE) {table}")
        if self.cluster.version < 15:
            wait_for(lambda: self.value(f"SELECT pg_stat_get_last_analyze_time($name${table}$name$::regclass) >= '{start}'"),
                     "the counters of VACUUM")

    def interfere(self, plpgsql):
        """Runs a statement within what the measuring role asks of the catalogue, from its next
        connection on, until calm(): in this database, the view of the roles runs it. (Nothing
        less than the system's own objects gets into that question.)"""
        self._roles = self.value("SELECT pg_get_viewdef('pg_roles')").rstrip(";")
        self.psql(f"""
            CREATE FUNCTION public.interfering() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
              IF session_user = '{MONITOR}' THEN {plpgsql}; END IF; RETURN true; END $$;
            SET allow_system_table_mods = on;
            CREATE OR REPLACE VIEW pg_catalog.pg_roles AS {self._roles}
              WHERE (SELECT public.interfering());
            ALTER TABLE {TABLE} SET (fillfactor = 100)""")

    def calm(self):
        self.psql(f"""
            SET allow_system_table_mods = on;
            CREATE OR REPLACE VIEW pg_catalog.pg_roles AS {self._roles};
            DROP FUNCTION public.interfering()""")

    def sizes(self, table=TABLE):
        """SQL's truth in bytes: database, table (heap and its maps), toast, indexes, total."""
        names = ("database", "table", "toast", "indexes", "total")
        row = self.psql(f"""
            SELECT pg_database_size(current_database()), pg_table_size(oid) - toast, toast,
                   pg_indexes_size(oid), pg_total_relation_size(oid)
            FROM (SELECT oid,
                         coalesce(pg_total_relation_size(nullif(reltoastrelid, 0)), 0) AS toast
                  FROM pg_class WHERE oid = '{table}'::regclass) AS sessions""")[0]
        return dict(zip(names, map(int, row)))
