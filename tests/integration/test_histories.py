"""Clients that share sessions, while one swap follows the other: what each was told must be explained by some order in
which one thing was done after the other (linearizable, session by session), as on a table that nobody cleans."""

import contextlib
import itertools
import random
import threading
import time

import psycopg
import psycopg2
import pytest

from cleanup_command import DONE, SWAPPER
from django_site import OWNER
from traffic import WAYS, connector

pytestmark = pytest.mark.proof

KEYS, CLIENTS = 6, 4
ABSENT = None

LOAD = "SELECT session_data FROM django_session WHERE session_key = %s AND expire_date > now()"
SAVE = ("UPDATE django_session SET session_data = %s, expire_date = now() + interval '1 day' WHERE session_key = %s "
        "RETURNING 1")
INSERT = ("INSERT INTO django_session VALUES (%s, %s, now() + interval '1 day') ON CONFLICT (session_key) DO NOTHING "
          "RETURNING 1")
LOG_OUT = "DELETE FROM django_session WHERE session_key = %s RETURNING 1"


def explains(name, value, told, state):
    """Whether a session in this state tells that, and the state afterwards."""
    if name == "load":
        return told == state, state
    if name == "insert":
        return told == (state is ABSENT), value if state is ABSENT else state
    there = state is not ABSENT  # a save, or a logout
    return told == there, (value if name == "save" else ABSENT) if there else state


def is_linearizable(history):
    """history: of one session, in the order of their begin, tuples of begin, end, what was done, the value, what was told.
    Searches for an order in which nothing comes before what had ended when it began; each set of what is done is looked at
    once for each state."""
    todo = [(0, ABSENT, ())]  # all before this index are done, and these after it
    seen = set()
    while todo:
        first, state, also = todo.pop()
        while first in also:
            also = tuple(index for index in also if index != first)
            first += 1
        if first == len(history):
            return True
        if (first, state, also) in seen:
            continue
        seen.add((first, state, also))
        rest = [index for index in range(first, len(history)) if index not in also]
        earliest_end = min(history[index][1] for index in rest)
        for index in itertools.takewhile(lambda i: history[i][0] <= earliest_end, rest):
            _, _, name, value, told = history[index]
            possible, then = explains(name, value, told, state)
            if possible:
                todo.append((first, then, tuple(sorted((*also, index)))))
    return False


@pytest.mark.parametrize("history, verdict", [
    ([(0, 1, "insert", "a", True), (2, 3, "load", None, "a"), (4, 5, "log out", None, True), (6, 7, "load", None, None)], True),
    ([(0, 1, "insert", "a", True), (2, 3, "load", None, None)], False),                                     # lost
    ([(0, 1, "insert", "a", True), (2, 3, "log out", None, True), (4, 5, "load", None, "a")], False),       # back again
    ([(0, 1, "insert", "a", True), (2, 3, "save", "b", True), (4, 5, "load", None, "a")], False),           # an old value
    ([(0, 1, "insert", "a", True), (2, 9, "save", "b", True), (3, 4, "load", None, "b"), (5, 6, "load", None, "b")], True),
    ([(0, 1, "insert", "a", True), (2, 9, "save", "b", True), (3, 4, "load", None, "b"), (5, 6, "load", None, "a")], False),
    ([(0, 1, "insert", "a", True), (2, 9, "save", "b", True), (3, 8, "save", "c", True), (10, 11, "load", None, "b")], True),
    ([(0, 1, "insert", "a", True), (2, 3, "save", "b", False)], False)])
def test_the_judge_of_histories(history, verdict):
    assert is_linearizable(history) == verdict


class Client(threading.Thread):
    """Does at random what can be done to the shared sessions, and notes what it was told, and when."""

    def __init__(self, number, connect):
        super().__init__()
        self.histories = {key: [] for key in range(KEYS)}
        self.error = None
        self.over = threading.Event()
        self._number, self._connect = number, connect

    def run(self):
        chance, count = random.Random(self._number), itertools.count()
        try:
            with contextlib.closing(self._connect()) as connection:
                cursor = connection.cursor()
                while not self.over.wait(0.005):
                    self._do(cursor, chance.randrange(KEYS), chance.choices(
                        ("load", "save", "insert", "log out"), (40, 35, 15, 10))[0], f"{self._number}:{next(count)}")
        except (psycopg.Error, psycopg2.Error) as error:
            self.error = error

    def _do(self, cursor, key, name, value):
        text, parameters = {"load": (LOAD, [f"shared{key}"]), "save": (SAVE, [value, f"shared{key}"]),
                            "insert": (INSERT, [f"shared{key}", value]), "log out": (LOG_OUT, [f"shared{key}"])}[name]
        begin = time.monotonic()
        cursor.execute(text, parameters)
        rows = cursor.fetchall()
        end = time.monotonic()
        told = (rows[0][0] if rows else ABSENT) if name == "load" else bool(rows)
        self.histories[key].append((begin, end, name, value, told))


@pytest.mark.parametrize("way", WAYS)
def test_every_history_is_linearizable(cleaned_site, cluster, pgbouncer, run_cleanup, way, every_case, say):
    """READ COMMITTED, as Django's are: a snapshot that was taken before the exchange doesn't see what came with it."""
    cleaned_site.fill(sessions=2000)
    connect = connector(way, cluster, pgbouncer, "site", OWNER)
    clients = [Client(number, connect) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        results = [run_cleanup("--method", "swap", "--no-progress", "-t", "60", user=SWAPPER)
                   for _ in range(50 if every_case else 3)]
    finally:
        for client in clients:
            client.over.set()
            client.join()
    assert all(result.code == DONE for result in results), results
    assert not [client.error for client in clients if client.error]
    done = 0
    for key in range(KEYS):
        history = sorted((entry for client in clients for entry in client.histories[key]), key=lambda entry: entry[:2])
        done += len(history)
        assert is_linearizable(history), (key, history)
    say(f"{way}: {done} operations of {CLIENTS} clients on {KEYS} sessions, {len(results)} swaps")
    assert done > 50 * len(results)
