"""The packages, and a neglected site for them."""

import os
import re
from pathlib import Path

MADE = Path(os.environ["DJANGO_SESSION_MADE"])  # the packages, one folder for each time they were built

SITE = """
CREATE ROLE django;
GRANT CREATE ON SCHEMA public TO django;
SET ROLE django;
CREATE TABLE django_session (session_key varchar(40) PRIMARY KEY, session_data text NOT NULL, expire_date timestamptz NOT NULL);
CREATE INDEX ON django_session (session_key varchar_pattern_ops);
CREATE INDEX ON django_session (expire_date);
INSERT INTO django_session SELECT md5(i::text), repeat('x', 200), now() + CASE WHEN i <= 970 THEN '-730 days' ELSE '7 days' END::interval
  FROM generate_series(1, 1000) i;
"""


def packages(ending="deb", time="first"):
    return sorted((MADE / time).glob(f"*.{ending}"))


def give(debian, files):
    """Copies them into the root: their names there."""
    for file in files:
        (debian.folder / "srv" / file.name).write_bytes(file.read_bytes())
    return " ".join(f"/srv/{file.name}" for file in files)


def install(debian):
    debian.type(f"dpkg -i {give(debian, packages())}")


def recipe(debian):
    """{number: commands} of the way without a network, as the installed README has it."""
    text = (debian.folder / "usr/share/django_session/README.md").read_text()
    text = re.search(r"^## From nothing to values\n(.*?)^## ", text, re.M | re.S)[1]
    found = {}
    for step in re.split(r"^### ", text, flags=re.M)[1:]:
        blocks = re.findall(r"^(?:\*\*([AB])\.\*\*[^`]*?)?```\n(.*?)^```", step, re.M | re.S)
        found[int(step.partition(".")[0])] = "".join(commands for way, commands in blocks if way in ("", "A"))
    return found


def make_site(debian):
    """On a running server: the database, and the recipe's roles and logins. The recipe's steps."""
    (debian.folder / "srv/site.sql").write_text(SITE)
    debian.type("cd / && runuser -u postgres -- createdb site && "
                "runuser -u postgres -- psql -q -d site -f /srv/site.sql && runuser -u postgres -- vacuumdb -q -z site")
    steps = recipe(debian)
    shown = debian.type(steps[1] + steps[2])
    assert "django_session_swapper" in shown and "(0 rows)" in shown, shown
    return steps


def forced(pipe, host, service):
    """What has Nagios or Icinga run a check at once."""
    return f"printf '[%s] SCHEDULE_FORCED_SVC_CHECK;{host};{service};%s\\n' $(date +%s) $(date +%s) >{pipe}"
