"""The method "swap", run by those who may do more than the table's owner: code of his that it sets off, wherever he has
put it and whenever, can do no more than he can."""

import contextlib
import re

import pytest

from cluster import SUPERUSER
from django_site import OWNER
from test_swap import (FAILED, cleanup, cleanup_program, create_role, ended, held_in_the_copy, helpers, oid,  # noqa: F401
                       interrupt, live, start_cleanup)

SWAPPER, OTHER = "two_owners_member", "other_owner"

# Tries what it can to get more rights, and says in the server's log, which no rollback takes back, that it was there.
EVIL = """
CREATE TABLE public.later (i int);
CREATE FUNCTION public.attack() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1..4 LOOP
    BEGIN
      IF i = 1 THEN EXECUTE 'RESET ROLE';
      ELSIF i = 2 THEN EXECUTE 'SET SESSION AUTHORIZATION DEFAULT';
      ELSIF i = 3 THEN EXECUTE 'SET ROLE {other}';
      ELSE EXECUTE 'SET ROLE NONE'; END IF;
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
    BEGIN EXECUTE 'ALTER ROLE {owner} SUPERUSER'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'GRANT {other} TO {owner}'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN
      PERFORM secret FROM public.theirs;
      RAISE LOG 'evil: read theirs';
    EXCEPTION WHEN OTHERS THEN NULL; END;
  END LOOP;
END $$;
CREATE FUNCTION public.attack_later() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM public.attack(); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER attack AFTER INSERT ON public.later DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION public.attack_later();
CREATE FUNCTION public.attack_when_read() RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN PERFORM public.attack(); RETURN 1; END $$;
CREATE SEQUENCE public.calls;
CREATE FUNCTION public.attack_all() RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('application_name') LIKE 'django_session%' AND nextval('public.calls') < 100 THEN
    RAISE LOG 'evil: here as %', current_user;
    PERFORM public.attack();
    BEGIN INSERT INTO public.later VALUES (1); EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'DECLARE kept CURSOR WITH HOLD FOR SELECT public.attack_when_read()';
    EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'CREATE TEMP TABLE pg_class AS SELECT 1'; EXCEPTION WHEN OTHERS THEN NULL; END;
    PERFORM set_config('search_path', 'evil, pg_catalog', false), set_config('statement_timeout', '1', false),
      set_config('check_function_bodies', 'off', false), set_config('row_security', 'off', false);
  END IF;
  RETURN true;
END $$;
CREATE FUNCTION public.evil(text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS
  $$ BEGIN PERFORM public.attack_all(); RETURN true; END $$;
GRANT ALL ON public.later, public.calls TO PUBLIC;
CREATE SCHEMA evil;
CREATE FUNCTION evil.same(oid, oid) RETURNS bool LANGUAGE plpgsql AS
  $$ BEGIN PERFORM public.attack_all(); RETURN $1 OPERATOR(pg_catalog.=) $2; END $$;
CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.same);
"""
ODD_TYPE = """
CREATE TYPE public.odd AS ENUM ('a', 'b');
CREATE FUNCTION public.as_text(public.odd) RETURNS text LANGUAGE plpgsql AS
  $$ BEGIN PERFORM public.attack_all(); RETURN 'a'; END $$;
CREATE CAST (public.odd AS text) WITH FUNCTION public.as_text(public.odd);
ALTER TABLE django_session ADD odd public.odd DEFAULT 'a';
"""
PLACES = {
    "CHECK": "ALTER TABLE django_session ADD CHECK (public.evil(session_key))",
    "index expression": "CREATE INDEX odd_index ON django_session ((public.evil(session_key)))",
    "index predicate": "CREATE INDEX odd_index ON django_session (expire_date) WHERE public.evil(session_key)",
    "constant in an index": "CREATE INDEX odd_index ON django_session (expire_date) WHERE public.evil('constant')",
    "cast": ODD_TYPE,
}
ON_THE_SHADOW = {
    "trigger": "CREATE TRIGGER evil AFTER INSERT OR UPDATE OR DELETE ON djs_{oid}_new FOR EACH ROW "
               "EXECUTE FUNCTION public.evil_trigger()",
    "deferred trigger": "CREATE CONSTRAINT TRIGGER evil AFTER INSERT OR UPDATE OR DELETE ON djs_{oid}_new DEFERRABLE "
                        "INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.evil_trigger()",
    "trigger on the state": "CREATE TRIGGER evil BEFORE UPDATE ON djs_{oid}_state FOR EACH ROW "
                            "EXECUTE FUNCTION public.evil_trigger()",
    "policy on the state": "CREATE POLICY evil ON djs_{oid}_state USING (public.attack_all()); ALTER TABLE "
                           "djs_{oid}_state ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    "default of the log": "ALTER TABLE djs_{oid}_log ADD more bool; ALTER TABLE djs_{oid}_log ALTER more SET DEFAULT public.attack_all()",
}
NOT_CALLED = ["deferred trigger", "default of the log"]  # the server refuses it; the swap begins anew


@pytest.fixture
def evil_site(site, cluster):
    """The owner has functions that try to get the rights of whoever calls them."""
    create_role(cluster, OTHER)
    create_role(cluster, SWAPPER)
    cluster.psql(f"GRANT {OWNER}, {OTHER} TO {SWAPPER}")
    site.psql(f"GRANT CREATE ON DATABASE {site.database} TO {OWNER}; CREATE TABLE public.theirs (secret name); "
              f"ALTER TABLE public.theirs OWNER TO {OTHER}; INSERT INTO public.theirs VALUES ('theirs')")
    site.psql(EVIL.format(owner=OWNER, other=OTHER), OWNER)
    site.psql("CREATE FUNCTION public.evil_trigger() RETURNS trigger LANGUAGE plpgsql AS "
              "$$ BEGIN PERFORM public.attack_all(); RETURN NEW; END $$", OWNER)
    site.mark = cluster.log_mark()
    yield site
    cluster.psql(f"ALTER ROLE {OWNER} NOSUPERUSER; REVOKE {OTHER} FROM {OWNER}")


def nothing_gained(site, called=True):
    said = set(re.findall(r"LOG:  evil: (.*)", site.cluster.log_text(site.mark)))
    assert said == ({f"here as {OWNER}"} if called else set())
    assert site.psql(f"SELECT rolsuper FROM pg_roles WHERE rolname = '{OWNER}'") == [(False,)]
    assert site.psql(f"SELECT FROM pg_auth_members WHERE member = '{OWNER}'::regrole") == []


@pytest.mark.some_cases(2)
@pytest.mark.parametrize("user", [SUPERUSER, SWAPPER])
@pytest.mark.parametrize("place", PLACES)
def test_code_of_the_owner_in_his_table_gains_nothing(evil_site, cleanup, place, user):  # noqa: F811
    evil_site.fill(sessions=300, expired_share=0.5)
    evil_site.psql(PLACES[place], OWNER)
    evil_site.psql(f"GRANT SELECT ON django_session TO {SWAPPER}")
    cleanup(user=user, code=None)
    cleanup("--abort", user=user)
    nothing_gained(evil_site)
    assert helpers(evil_site) == []


@pytest.mark.some_cases(2)
@pytest.mark.parametrize("place", ON_THE_SHADOW)
def test_code_of_the_owner_on_what_a_swap_makes_gains_nothing(evil_site, cluster, cleanup, start_cleanup,  # noqa: F811
                                                              place):
    evil_site.fill(sessions=10_000, expired_share=0.2)
    with held_in_the_copy(evil_site, start_cleanup, user=SUPERUSER) as process:
        evil_site.psql(ON_THE_SHADOW[place].format(oid=oid(evil_site)), OWNER)
        with contextlib.suppress(Exception):
            for _ in range(20):
                evil_site.psql("UPDATE django_session SET session_data = 'x' WHERE session_key IN (SELECT session_key "
                               "FROM django_session WHERE expire_date > now() LIMIT 20)", OWNER)
    ended(process)
    cleanup("--abort", user=SUPERUSER)
    nothing_gained(evil_site, place not in NOT_CALLED)
    assert helpers(evil_site) == [] and process.returncode is not None


def test_what_the_sites_own_code_does_not_find_is_no_table_of_the_swap(site, cleanup):  # noqa: F811
    site.psql("""CREATE TABLE blocked (k text);
        CREATE FUNCTION key_ok(k text) RETURNS bool LANGUAGE plpgsql AS
          $$ BEGIN RETURN NOT EXISTS (SELECT FROM blocked b WHERE b.k = $1); END $$;
        ALTER TABLE django_session ADD CHECK (key_ok(session_key))""", OWNER)
    site.fill(sessions=100, expired_share=0.5, vacuum=False)
    text = cleanup(code=FAILED)
    assert "starting over" not in text and "key_ok" in text and "42P01" in text, text


def test_what_a_role_changes_that_may_only_write_is_noted(site, cluster, cleanup, start_cleanup):  # noqa: F811
    """It has no right on the log."""
    create_role(cluster, OTHER)
    site.psql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON django_session TO {OTHER}")
    site.fill(sessions=10_000, expired_share=0.4)
    interrupt(site, start_cleanup)
    before = site.value(f"SELECT count(*) FROM djs_{oid(site)}_log")
    for change in ("INSERT INTO django_session VALUES ('new', 'data', now() + interval '5 days')",
                   "UPDATE django_session SET session_data = 'saved' WHERE session_key = 'new'",
                   "DELETE FROM django_session WHERE session_key = (SELECT min(session_key) FROM django_session)"):
        site.psql(change, OTHER)
    assert site.value(f"SELECT count(*) FROM djs_{oid(site)}_log") > before + 1  # the last may have expired
    rows = live(site)
    cleanup()
    assert live(site) == rows and helpers(site) == []
