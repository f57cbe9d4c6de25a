"""Measuring with more rights than the table's owner has: his code is not run with them.

Merely planning a statement evaluates what is constant in the predicates of indexes and in extended statistics, with the
rights of whoever asks; a function that is called IMMUTABLE may do anything there. A trap is such a function: it writes
into the server's log with whose rights it was run.
"""

import pytest

from cluster import SUPERUSER
from django_site import MONITOR, OWNER

TRAP = """
CREATE FUNCTION public.jaw() RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
  BEGIN EXECUTE 'RESET ROLE'; EXCEPTION WHEN OTHERS THEN NULL; END;  -- refused in the owner's jail
  RAISE LOG 'run for %', current_user;
  RETURN true;
END $$;
CREATE FUNCTION public.trap(i int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS
  $$ BEGIN RETURN public.jaw(); END $$;
"""

PLANTS = {
    "predicate": "CREATE INDEX planted ON django_session (expire_date) WHERE trap(1)",
    "expression": "CREATE INDEX planted ON django_session ((CASE WHEN trap(1) THEN expire_date END))",
    "statistics": "CREATE STATISTICS planted ON (CASE WHEN trap(1) THEN 1 END), expire_date FROM django_session",
    "operator": """CREATE FUNCTION public.trap(int, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT public.trap($1)';
        CREATE OPERATOR public.<<<<< (LEFTARG = int, RIGHTARG = int, FUNCTION = public.trap);
        CREATE INDEX planted ON django_session (expire_date) WHERE 1 <<<<< 1""",
    "domain": """CREATE DOMAIN public.trapped AS int CHECK (public.trap(VALUE));
        CREATE INDEX planted ON django_session ((1::trapped), expire_date)""",
}
# A member of two owners.
ADMIN = "site_admin"


@pytest.fixture
def filled(site):
    site.psql(f"GRANT CREATE ON SCHEMA public TO {OWNER}")
    site.fill(sessions=1000)
    site.psql(TRAP, OWNER)
    return site


@pytest.fixture
def admin(filled):
    """A role that is a member of two owners."""
    filled.psql(f"""DROP ROLE IF EXISTS {ADMIN}, other_owner;
        CREATE ROLE other_owner; CREATE ROLE {ADMIN} LOGIN; GRANT {OWNER}, other_owner TO {ADMIN}""")
    yield ADMIN
    filled.psql(f"DROP ROLE {ADMIN}, other_owner")


@pytest.fixture
def ask_as(run_check, run_cleanup, cluster):
    """The check, counting or not, and the plan of a cleanup, as some role."""
    def ask(user, *options):
        environment = cluster.environment("site", user)
        return [run_check("-v", *options, environment=environment),
                run_check("--exact", *options, environment=environment),
                run_cleanup("--dry-run", user=user)]
    return ask


def run_for(site, since):
    """With whose rights the trap was run."""
    return {line.rpartition("run for ")[2] for line in site.cluster.log_text(since).splitlines()
            if "LOG:  run for " in line}


@pytest.mark.parametrize("plant", PLANTS)
def test_the_owners_code_is_not_run_for_a_superuser(filled, ask_as, plant):
    filled.psql(PLANTS[plant], OWNER)
    mark = filled.cluster.log_mark()
    estimate, exact, plan = ask_as(SUPERUSER)
    assert run_for(filled, mark) <= {OWNER}
    for answer in (estimate, exact):
        assert answer.state == "UNKNOWN" and "overdue" not in answer.perfdata
        assert answer.perfdata["total"][0] > 0 and answer.perfdata["live"][0] > 0
        assert f"of role {OWNER}; run it as {OWNER}, or as the monitor of roles.sql" in answer.line + answer.long_text
    assert plan.code in (0, 3), plan


@pytest.mark.parametrize("plant", ["predicate", "statistics"])
def test_the_owners_code_is_not_run_for_a_member_of_two_owners(filled, admin, ask_as, plant):
    filled.psql(PLANTS[plant], OWNER)
    mark = filled.cluster.log_mark()
    ask_as(admin)
    assert run_for(filled, mark) <= {OWNER}


def test_the_owner_and_the_monitor_measure_all_the_same(filled, ask_as):
    """Neither can do anything that the owner can't."""
    filled.psql(PLANTS["predicate"], OWNER)
    mark = filled.cluster.log_mark()
    for role in (OWNER, MONITOR):
        estimate, exact, _ = ask_as(role, "-w", "overdue=9999d")
        assert estimate.state == exact.state == "OK" and "overdue" in estimate.perfdata
    assert run_for(filled, mark) <= {OWNER, MONITOR}
    assert "SHARE UPDATE EXCLUSIVE" not in filled.cluster.log_text(mark)


def test_a_superuser_measures_an_ordinary_table(site, ask_as):
    site.fill(sessions=1000)
    for answer in ask_as(SUPERUSER, "-w", "overdue=9999d")[:2]:
        assert answer.state == "OK" and answer.perfdata["live"][0] == 30
        assert answer.perfdata["overdue"][0] > 700 * 86400
