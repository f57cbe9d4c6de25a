"""What the catalogues can say of a table, one thing after the other: after a swap they say the same of its successor, or
the swap refused it by name and left the table alone."""

import contextlib

import pytest

from catalogue import CATALOGUE, catalogue
from cluster import SUPERUSER
from django_site import OWNER
from test_encodings import execute_bytes
from processes import wait_for
from test_swap import (REFUSED, cleanup, cleanup_program, create_role, ended, helpers, live, oid,  # noqa: F401
                       start_cleanup)
from wire_proxy import EXCHANGE, BeforeTheFirst, WireProxy

INDEX = "django_session_pkey"
LABEL = "INSERT INTO pg_seclabel VALUES ({object}, '{catalog}'::regclass, {column}, 'label_provider', 'secret')"
TYPE = "'django_session'::regtype"

# Statements, and what a refusal must name; None: it is reproduced.
FEATURES = {
    "comment on the table": ("COMMENT ON TABLE django_session IS 'c'", None),
    "comment on a column": ("COMMENT ON COLUMN django_session.session_data IS 'c'", None),
    "comment on the row type": ("COMMENT ON TYPE django_session IS 'it''s'", None),
    "comment on the array type": ("COMMENT ON TYPE _django_session IS 'c'", None),
    "comment on an index": (f"COMMENT ON INDEX {INDEX} IS 'c'", None),
    "comment on a key": (f"COMMENT ON CONSTRAINT {INDEX} ON django_session IS 'c'", None),
    "comment on a check": ("ALTER TABLE django_session ADD CONSTRAINT positive CHECK (session_data <> ''); "
                           "COMMENT ON CONSTRAINT positive ON django_session IS 'c'", None),
    "statistics": ("CREATE STATISTICS two ON session_key, session_data FROM django_session; "
                   "COMMENT ON STATISTICS two IS 'c'", "statistics object public.two"),
    "grant on the table": ("GRANT SELECT, INSERT ON django_session TO reader", None),
    "grant on a column": ("GRANT SELECT (expire_date) ON django_session TO reader WITH GRANT OPTION", None),
    "grant on the row type": ("GRANT USAGE ON TYPE django_session TO reader WITH GRANT OPTION", None),
    "nobody's row type": ("REVOKE ALL ON TYPE django_session FROM PUBLIC", None),
    "nobody's row type at all": (f"REVOKE ALL ON TYPE django_session FROM PUBLIC, {OWNER}", None),
    "grant on the row type by another": (
        "GRANT USAGE ON TYPE django_session TO reader WITH GRANT OPTION; SET ROLE reader; "
        "GRANT USAGE ON TYPE django_session TO other; RESET ROLE", "grant by reader"),
    "label of the table": (LABEL.format(object="'django_session'::regclass", catalog="pg_class", column=0),
                           "security label of table public.django_session"),
    "label of a column": (LABEL.format(object="'django_session'::regclass", catalog="pg_class", column=2),
                          "security label of column session_data of table public.django_session"),
    "label of the row type": (LABEL.format(object=TYPE, catalog="pg_type", column=0),
                              "security label of type public.django_session"),
    "index that depends on an extension": (f"ALTER INDEX {INDEX} DEPENDS ON EXTENSION plpgsql",
                                           f"extension plpgsql would be forgotten as what index public.{INDEX}"),
    "trigger that depends on an extension": (
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; "
        "CREATE TRIGGER mine BEFORE INSERT ON django_session FOR EACH ROW EXECUTE FUNCTION f(); "
        "ALTER TRIGGER mine ON django_session DEPENDS ON EXTENSION plpgsql", "trigger mine"),
    "table of an extension": ("ALTER EXTENSION plpgsql ADD TABLE django_session", "extension plpgsql owns the table"),
    "initial privileges": ("INSERT INTO pg_init_privs VALUES ('django_session'::regclass, 'pg_class'::regclass, 0, "
                           f"'i', '{{{OWNER}=r/{OWNER}}}')", "initial privileges of table public.django_session"),
    "function of the row type": ("CREATE FUNCTION g(django_session) RETURNS int LANGUAGE sql AS 'SELECT 1'",
                                 "function public.g(public.django_session) depends on the table"),
    "column of the array type": ("CREATE TABLE keeps (s django_session[])", "table public.keeps depends"),
    "storage": ("ALTER TABLE django_session ALTER session_data SET STORAGE EXTERNAL", None),
    "compression": ("ALTER TABLE django_session ALTER session_data SET COMPRESSION pglz", None),
    "target of statistics": ("ALTER TABLE django_session ALTER session_data SET STATISTICS 7", None),
    "options of a column": ("ALTER TABLE django_session ALTER session_data SET (n_distinct = -0.5)", None),
    "default": ("ALTER TABLE django_session ALTER session_data SET DEFAULT 'd'", None),
    "options of the table": ("ALTER TABLE django_session SET (fillfactor = 70, toast.vacuum_truncate = off)", None),
    "table for logical decoding": ("ALTER TABLE django_session SET (user_catalog_table = on)",
                                   "storage parameter user_catalog_table"),
    "clustered": (f"ALTER TABLE django_session CLUSTER ON {INDEX}", None),
    "options of an index": (f"ALTER INDEX {INDEX} SET (fillfactor = 66)", None),
    "target of an index": ("CREATE INDEX long ON django_session ((length(session_data))); "
                           "ALTER INDEX long ALTER COLUMN 1 SET STATISTICS 9", None),
    "replica identity": ("ALTER TABLE django_session REPLICA IDENTITY FULL", "replica identity"),
    "row security": ("ALTER TABLE django_session FORCE ROW LEVEL SECURITY", "row security"),
}

def features_of(site):
    """Those that its server knows."""
    return {name: feature for name, feature in FEATURES.items() if name != "compression" or site.cluster.version >= 14}


RENEW = """
CREATE TABLE fresh (LIKE {original} INCLUDING ALL);
DROP TABLE IF EXISTS django_session CASCADE; DROP TABLE IF EXISTS keeps; DROP FUNCTION IF EXISTS f();
ALTER TABLE fresh RENAME TO django_session; ALTER TABLE django_session OWNER TO {owner};
ALTER INDEX fresh_pkey RENAME TO django_session_pkey;
INSERT INTO django_session
SELECT 'key' || i, 'data', now() + (i - 50) * interval '1 day' FROM generate_series(1, 100) i;
ANALYZE django_session"""


def what_goes_wrong(site, cleanup, statement, named):  # noqa: F811
    """Empty where a swap of a fresh table with that feature does as it should."""
    site.psql(RENEW.format(original="original", owner=OWNER))
    site.psql(statement)
    before, table, rows = catalogue(site.cluster, site.database), oid(site), live(site)
    text = cleanup(code=None)
    done = "\nDJANGO_SESSION_CLEANUP DONE" in "\n" + text and oid(site) != table
    if named is None and not done:
        return text
    if named is not None and (done or "swap is not possible" not in text or named not in text):
        return text
    after = catalogue(site.cluster, site.database)
    if after != before or live(site) != rows or helpers(site):
        return f"{sorted(set(before) ^ set(after), key=str)} {helpers(site)}"
    return ""


def test_a_feature_is_reproduced_or_refused_by_name(site, cluster, cleanup):  # noqa: F811
    for role in ("reader", "other"):
        create_role(cluster, role)
    site.psql("CREATE TABLE original (LIKE django_session INCLUDING ALL)")
    wrong = {}
    for feature, (statement, named) in features_of(site).items():
        why = what_goes_wrong(site, cleanup, statement, named)
        if feature == "table of an extension":
            site.psql("ALTER EXTENSION plpgsql DROP TABLE django_session")
        if why:
            wrong[feature] = why
    assert not wrong, "\n".join(f"{feature}: {why}" for feature, why in wrong.items())


# What isn't a feature of the table as it was, but of a table that has such things already.
CHANGES = {
    "name of a check": "ALTER TABLE django_session RENAME CONSTRAINT data_is_there TO data_is_here",
    "trigger": "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; "
               "CREATE TRIGGER theirs BEFORE INSERT ON django_session FOR EACH ROW EXECUTE FUNCTION f()",
    "view": "CREATE VIEW seen AS SELECT expire_date FROM django_session",
    "policy": "CREATE POLICY part ON django_session USING (true)",
    "rule": "CREATE RULE told AS ON DELETE TO django_session DO ALSO NOTIFY gone",
}
WAITS = """SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'
AND relation = 'django_session'::regclass"""


def renew_with_what_can_change(site):
    site.psql(RENEW.format(original="original", owner=OWNER))
    site.psql("ALTER TABLE django_session ADD CONSTRAINT data_is_there CHECK (session_data <> '')")


def what_is_lost(site, cluster, start_cleanup, statement):  # noqa: F811
    """Empty where what is altered while the swap waits for the exclusive lock is as it was altered, afterwards."""
    with contextlib.closing(cluster.connect(site.database, SUPERUSER, autocommit=False)) as altering, \
            cluster.asking(site.database) as ask:
        cursor = altering.cursor()
        at = BeforeTheFirst(EXCHANGE, lambda: cursor.execute("LOCK TABLE django_session IN ACCESS SHARE MODE"))
        with WireProxy(cluster, on_step=at) as proxy:
            process = start_cleanup("--method", "swap", conninfo=proxy.conninfo(site.database, OWNER))
            wait_for(lambda: not process.running or ask(WAITS)[0][0], "the exclusive lock")
            if not process.running:
                return process.log_text()
            cursor.execute(statement)
            cursor.execute(CATALOGUE)
            altered = {row for row in cursor.fetchall() if "djs_" not in str(row) and "toast" not in str(row)}
            altering.commit()
            ended(process)
    after = {row for row in site.psql(CATALOGUE) if "djs_" not in str(row) and "toast" not in str(row)}
    return f"{sorted(altered ^ after, key=str)}" if altered != after else ""


@pytest.mark.some_cases(4)
@pytest.mark.parametrize("part", range(4))
def test_what_is_altered_in_the_last_moment_is_not_lost(site, cluster, start_cleanup, part):  # noqa: F811
    for role in ("reader", "other"):
        create_role(cluster, role)
    site.psql("CREATE TABLE original (LIKE django_session INCLUDING ALL)")
    changes = {feature: statement for feature, (statement, _) in features_of(site).items()
               if "mine" not in statement and feature != "table of an extension"} | CHANGES
    lost = {}
    for feature in list(changes)[part::4]:
        renew_with_what_can_change(site)
        why = what_is_lost(site, cluster, start_cleanup, changes[feature])
        if why:
            lost[feature] = why
    assert not lost, "\n".join(f"{feature}: {why}" for feature, why in lost.items())


def test_an_encoding_without_a_conversion_is_refused_by_name(cluster, cleanup):  # noqa: F811
    cluster.psql("CREATE DATABASE mule ENCODING 'MULE_INTERNAL' LOCALE 'C' TEMPLATE template0")
    try:
        execute_bytes(cluster, "mule", "CREATE TABLE django_session (session_key varchar(40) PRIMARY KEY, session_data "
                      "text NOT NULL, expire_date timestamptz NOT NULL); CREATE INDEX ON django_session (expire_date)")
        execute_bytes(cluster, "mule", "ANALYZE django_session")
        text = cleanup(database="mule", user=SUPERUSER, code=REFUSED)
        assert "encoding MULE_INTERNAL has no conversion to UTF8" in text, text
    finally:
        cluster.drop_database("mule")
