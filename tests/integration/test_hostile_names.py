"""Names that would end a string of ours, or begin one, in a database whose owner lets a backslash escape: nobody's code
runs with more rights than he has, and each command does its work or says that it can't."""

import contextlib
import re
import sys
import unicodedata

import psycopg2
import pytest

import paths
from cluster import SUPERUSER
from django_site import OWNER
from processes import run
from test_swap import cleanup_program, create_role  # noqa: F401

# What follows a quote that is thought to be escaped is read as SQL.
HOSTILE = [r"\'::pg_catalog.char::int or true;reset role;--", r"\' or true;reset role;--", "'", "\\", r"'';reset role;--"]
METHODS = [("--method", "delete"), ("--method", "swap"), ("--method", "full"), ("--dry-run",), ("--abort",)]

CODE = """
CREATE FUNCTION public.tr() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO public.seen VALUES (current_user); RETURN NULL; END $$;
CREATE TRIGGER tr AFTER DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION public.tr()"""


# Control and format characters, line and paragraph separators.
NOT_SHOWN = [character for character in map(chr, range(1, sys.maxunicode + 1))
             if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp")]
SHOWN = "\u00e4\u2030\u6f22\U0001f600"


def test_what_changes_how_a_line_reads_is_never_printed(check_program):
    assert len(NOT_SHOWN) > 200 and "\u202e" in NOT_SHOWN
    for begin in range(0, len(NOT_SHOWN), 8):
        some = "".join(NOT_SHOWN[begin:begin + 8])
        said = run([check_program, "-w", f"{SHOWN}{some}=1"], check=False).stdout
        assert f"{SHOWN}{'?' * len(some)}" in said, (some, said)


def identifier(name):
    return '"' + name.replace('"', '""') + '"'


@pytest.mark.some_cases(5)
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("options", METHODS, ids="".join)
def test_a_name_is_never_read_as_sql(site, cluster, cleanup_program, name, options):  # noqa: F811
    schema, owner = identifier(name), identifier(name)
    create_role(cluster, owner)
    try:
        site.psql(f"""CREATE SCHEMA {schema} AUTHORIZATION {owner}; CREATE TABLE public.seen (by name);
            GRANT INSERT ON public.seen TO PUBLIC; GRANT CREATE ON SCHEMA public TO {owner};
            ALTER TABLE django_session OWNER TO {owner}""")
        site.fill(sessions=200)
        site.psql(f"ALTER TABLE django_session SET SCHEMA {schema}; {CODE.format(table=schema + '.django_session')}")
        site.psql("ALTER DATABASE site SET standard_conforming_strings = off; "
                  f"ALTER DATABASE site SET search_path = {schema}")
        ended = run([cleanup_program, "-d", cluster.conninfo(site.database, SUPERUSER), *options], None)
        assert ended.returncode in (0, 3), ended.stdout + ended.stderr
        site.psql("ALTER DATABASE site RESET ALL")
        seen = {who for (who,) in site.psql("SELECT DISTINCT by FROM public.seen")}
        assert seen <= {name}, ended.stdout + ended.stderr
        if options == ("--method", "delete"):
            assert site.value(f"SELECT count(*) FROM {schema}.django_session") == 6, ended.stdout + ended.stderr
    finally:
        site.psql("ALTER DATABASE site RESET ALL")
        with contextlib.suppress(psycopg2.Error):
            site.psql(f"DROP OWNED BY {owner} CASCADE; DROP ROLE {owner}")


def test_each_reserved_word_is_quoted(cluster):
    """Of this server's version: in what the pages print to be typed."""
    code = (paths.ROOT / "lib" / "core" / "sql_name.cpp").read_text()
    listed = set(re.findall(r"\w+", "".join(re.findall(r'"([^"]*)"', code.partition("kReserved =")[2].partition(";")[0]))))
    reserved = {word for word, in cluster.psql("SELECT word FROM pg_get_keywords() WHERE catcode IN ('R', 'T')")}
    assert len(reserved) > 90 and not reserved - listed, reserved - listed
