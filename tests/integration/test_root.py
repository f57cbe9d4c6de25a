"""What django_session(7) says of the root of it all (STOPPING IT AT THE ROOT), tried with a real Django."""

import json
import re
import shlex

import pytest

from django_site import OWNER, TABLE
from processes import private_file, program, run, wait_for
from runbook import ROOT

URLS = """
from django.http import JsonResponse
from django.urls import path

def read(request):
    return JsonResponse(request.session.get("n"), safe=False)

def write(request):
    request.session["n"] = request.session.get("n", 0) + 1
    return JsonResponse(request.session["n"], safe=False)

def logout(request):
    request.session.flush()
    return JsonResponse(None, safe=False)

urlpatterns = [path("read", read), path("write", write), path("logout", logout)]
"""
BEGIN = """
import django, json
django.setup()
from django.core.management import call_command
from django.test import Client

def visitor(cookie=None):
    client = Client()
    if cookie:
        client.cookies["sessionid"] = cookie
    return client

def get(client, path):
    return client.get("/" + path).json()

def cookie_of(client):
    return client.cookies["sessionid"].value
"""
ENGINE = "django.contrib.sessions.backends."
MANAGE = "/path/to/venv/bin/python manage.py clearsessions"


class Application:
    """The site with views that read and write sessions, and settings of its own at each visit."""

    def __init__(self, site):
        self.site = site
        self.folder = site._folder
        self.file("root_urls.py", URLS)

    def file(self, name, text):
        private_file(self.folder / name, text)

    def visit(self, code, **settings):
        """Runs `code` in the site; what it assigns to `answer`."""
        chosen = {"ALLOWED_HOSTS": ["*"], "ROOT_URLCONF": "root_urls", "SESSION_FILE_PATH": str(self.folder),
                  "MIDDLEWARE": ["django.contrib.sessions.middleware.SessionMiddleware"],
                  "CACHES": {"default": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
                                         "LOCATION": str(self.folder / "cache")}}, **settings}
        lines = [f"{name} = {value!r}" for name, value in chosen.items()]
        self.file("root_settings.py", "\n".join(["from site_settings import *", *lines]))
        done = run(["/usr/bin/python3", "-c", f"{BEGIN}\n{code}\nprint(json.dumps(answer))"], folder=self.folder,
                   environment={"DJANGO_SETTINGS_MODULE": "root_settings", "PYTHONPATH": str(self.folder),
                                "PYTHONDONTWRITEBYTECODE": "1"})
        return json.loads(done.stdout.splitlines()[-1])

    def rows(self):
        return self.site.value(f"SELECT count(*) FROM {TABLE}")

    def seconds_left(self):
        return float(self.site.value(f"SELECT extract(epoch FROM max(expire_date) - now()) FROM {TABLE}"))


@pytest.fixture
def application(site):
    return Application(site)


# -- Made for nobody, and for how long -------------------------------------------------------------


def test_each_request_without_a_cookie_that_writes_makes_a_row(application):
    application.visit("for _ in range(300): get(visitor(), 'write')\nanswer = 0")
    assert application.rows() == 300
    application.visit("for _ in range(30): get(visitor(), 'read')\nanswer = 0")
    assert application.rows() == 300
    assert application.visit("v = visitor()\nanswer = [get(v, 'write') for _ in range(30)]")[-1] == 30
    assert application.rows() == 301


def test_middleware_that_writes_only_where_there_is_a_cookie_makes_none(application):
    application.file("remembering.py", ROOT["middleware"])
    chosen = {"MIDDLEWARE": ["django.contrib.sessions.middleware.SessionMiddleware", "remembering.remember"]}
    application.visit("for _ in range(30): get(visitor(), 'read')\nanswer = 0", **chosen)
    assert application.rows() == 0
    assert application.visit("""v = visitor(); get(v, 'write'); get(v, 'read')
from django.contrib.sessions.backends.db import SessionStore
answer = SessionStore(cookie_of(v)).load()""", **chosen) == {"n": 1, "seen": True}


def test_a_shorter_age_counts_for_sessions_saved_from_then_on(application):
    cookie = application.visit("v = visitor(); get(v, 'write'); answer = cookie_of(v)")
    two_weeks = 1209600
    assert two_weeks - 600 < application.seconds_left() <= two_weeks
    application.visit(f"answer = get(visitor('{cookie}'), 'read')", SESSION_COOKIE_AGE=3600)
    assert two_weeks - 600 < application.seconds_left()
    application.visit(f"answer = get(visitor('{cookie}'), 'write')", SESSION_COOKIE_AGE=3600)
    assert application.seconds_left() <= 3600


def test_saving_at_every_request_writes_where_nothing_has_changed(application):
    version = f"SELECT xmin::text || ctid::text || expire_date::text FROM {TABLE}"
    cookie = application.visit("v = visitor(); get(v, 'write'); answer = cookie_of(v)")
    before = application.site.value(version)
    application.visit(f"answer = get(visitor('{cookie}'), 'read')")
    assert application.site.value(version) == before
    application.visit(f"answer = get(visitor('{cookie}'), 'read')", SESSION_SAVE_EVERY_REQUEST=True)
    assert application.site.value(version) != before


# -- Kept elsewhere --------------------------------------------------------------------------------


@pytest.mark.parametrize("engine, kept, in_the_table", [
    ("cached_db", 1, True), ("cache", None, False), ("file", None, False), ("signed_cookies", None, False)])
def test_what_a_change_of_the_engine_does_to_those_who_are_logged_in(application, engine, kept, in_the_table):
    cookie = application.visit("v = visitor(); get(v, 'write'); answer = cookie_of(v)")
    assert application.visit(f"answer = get(visitor('{cookie}'), 'read')", SESSION_ENGINE=ENGINE + engine) == kept
    new = application.visit("v = visitor(); get(v, 'write'); answer = cookie_of(v)", SESSION_ENGINE=ENGINE + engine)
    assert application.rows() == 1 + in_the_table
    back = application.visit(f"answer = get(visitor('{new}'), 'read')")
    assert back == (1 if in_the_table else None)


def test_clearsessions_deletes_expired_files(application):
    code = "get(visitor(), 'write'); call_command('clearsessions'); import pathlib; answer = len(list(pathlib.Path('.').glob('sessionid*')))"
    chosen = {"SESSION_ENGINE": ENGINE + "file"}
    assert application.visit(code, **chosen) == 1
    assert application.visit(code, SESSION_COOKIE_AGE=-1, **chosen) == 0


def test_a_copied_signed_cookie_outlives_the_logout(application):
    assert application.visit("""v = visitor(); get(v, 'write'); copy = cookie_of(v); get(v, 'logout')
answer = [get(v, 'read'), get(visitor(copy), 'read')]""", SESSION_ENGINE=ENGINE + "signed_cookies") == [None, 1]


def test_from_the_table_to_the_cache_nobody_is_logged_out_and_a_logout_stays(application):
    application.file("sessions_moving.py", ROOT["moving"])
    stays, leaves = application.visit("""a, b = visitor(), visitor(); get(a, 'write'); get(b, 'write')
answer = [cookie_of(a), cookie_of(b)]""")
    moving = {"SESSION_ENGINE": "sessions_moving"}
    assert application.visit(f"""a, b = visitor('{stays}'), visitor('{leaves}')
answer = [get(a, 'read'), get(a, 'write'), get(b, 'read'), get(b, 'logout'), get(visitor('{leaves}'), 'read')]""",
                             **moving) == [1, 2, 1, None, None]
    assert application.rows() == 1  # of who stays, as it was
    application.visit("get(visitor(), 'write'); answer = 0", **moving)
    assert application.rows() == 1
    assert application.visit(f"answer = get(visitor('{stays}'), 'read')", SESSION_ENGINE=ENGINE + "cache") == 2
    assert application.visit(f"answer = get(visitor('{leaves}'), 'read')", SESSION_ENGINE=ENGINE + "cache") is None


# -- On a schedule ---------------------------------------------------------------------------------


def typed_in(application, command):
    """With the names of this site; its virtual environment is the machine's Python."""
    for word, meant in {"/path/to/site": str(application.folder), "/path/to/venv/bin/python": "/usr/bin/python3",
                        "/path/to/venv/bin/django-admin": program("django-admin"), "SETTINGS": "site_settings"}.items():
        command = command.replace(word, meant)
    run(["bash", "-c", command], folder=application.folder, environment={"PYTHONDONTWRITEBYTECODE": "1"})


def of_the_container():
    python, *words = json.loads(ROOT["container"])
    return shlex.join([f"/path/to/venv/bin/{python}", *words])


SCHEDULED = [line.split(None, 5)[5] for line in ROOT["crontab"].splitlines()] + [
    re.search(r"^ExecStart=(.*)$", ROOT["service"], re.M)[1], of_the_container()]


@pytest.mark.parametrize("command", SCHEDULED)
def test_each_way_to_schedule_it_deletes_what_has_expired(application, command):
    application.site.fill(sessions=100, expired_share=0.9, vacuum=False)
    typed_in(application, command)
    assert application.rows() == 10


def test_the_task_for_celery_deletes_what_has_expired(application):
    application.site.fill(sessions=100, expired_share=0.9, vacuum=False)
    application.file("celery.py", "def shared_task(function):\n    return function\n")
    application.file("tasks.py", ROOT["celery"])
    application.visit("import tasks; tasks.clear_sessions(); answer = 0")
    assert application.rows() == 10


# -- Dumps, and the index --------------------------------------------------------------------------


def test_a_dump_without_sessions_has_the_table_and_no_row(application, cluster):
    application.site.fill(sessions=100, vacuum=False)
    words = shlex.split(ROOT["dump"])
    text = run([program(words[0]), *words[1:]], environment=cluster.environment("site")).stdout
    assert f"CREATE TABLE {TABLE}" in text and f"COPY {TABLE}" not in text
    assert "COPY public.django_migrations" in text


def like_indexes(site):
    return [name for name, in site.psql(f"""SELECT indexrelid::regclass::text FROM pg_index
        WHERE indrelid = '{TABLE}'::regclass AND indexrelid::regclass::text LIKE '%\\_like'""")]


VISITS = "v = visitor(); get(v, 'write'); answer = [get(v, 'read') for _ in range(20)]"


def scans(site):
    """By name; the server counts at leisure."""
    return dict(site.psql(f"SELECT indexrelname, idx_scan FROM pg_stat_user_indexes WHERE relid = '{TABLE}'::regclass"))


def test_of_two_indexes_on_the_key_one_is_idle_and_the_primary_key_does_for_both(application):
    site = application.site
    name, = like_indexes(site)
    site.fill(sessions=3000)
    before = scans(site)
    application.visit(VISITS)
    wait_for(lambda: sum(scans(site).values()) >= sum(before.values()) + 20, "the count")
    assert 0 in [scans(site)[index] - before[index] for index in ("django_session_pkey", name)]
    drop, = re.findall(r""" -c ['"](DROP .*)['"]$""", ROOT["index dropped"])
    site.psql(drop.replace("NAME", name), OWNER)
    before = scans(site)["django_session_pkey"]
    assert application.visit(VISITS) == [1] * 20
    wait_for(lambda: scans(site)["django_session_pkey"] >= before + 20, "the count")


def test_the_index_for_like_is_made_again_in_a_new_database_and_by_its_statement(application):
    site = application.site
    name, = like_indexes(site)  # the database is new
    site.psql(f"DROP INDEX {name}", OWNER)
    site.migrate()
    assert like_indexes(site) == []
    statement, = re.findall(r"^CREATE INDEX .*_like.*;$", site.manage(*ROOT["index made again"].split()[2:]), re.M)
    site.psql(statement, OWNER)
    assert like_indexes(site) == [name]
