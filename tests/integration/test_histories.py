"""Clients that share sessions, while one cleanup follows the other: what each was told must be explained by some order in
which one thing was done after the other (linearizable, session by session), as on a table that nobody cleans, but that an
expired session may be gone at any time."""

import contextlib
import itertools
import random
import threading
import time

import pytest

from cleanup_command import DONE, SWAPPER
from django_site import OWNER
from traffic import WAYS, connector

pytestmark = pytest.mark.proof

KEYS, CLIENTS = 6, 4
ABSENT, EXPIRED = None, "expired"  # which is there, and nobody's; another session is its data

STATEMENTS = {
    "load": "SELECT session_data FROM django_session WHERE session_key = %(key)s AND expire_date > now()",
    "insert": "INSERT INTO django_session VALUES (%(key)s, %(value)s, now() + interval '1 day') "
              "ON CONFLICT (session_key) DO NOTHING RETURNING 1",
    "save": "UPDATE django_session SET session_data = %(value)s, expire_date = now() + interval '1 day' "
            "WHERE session_key = %(key)s RETURNING 1",
    "let expire": "UPDATE django_session SET expire_date = now() - interval '1 day' WHERE session_key = %(key)s RETURNING 1",
    "log out": "DELETE FROM django_session WHERE session_key = %(key)s RETURNING 1",
}
CHANCES = {"load": 350, "save": 250, "insert": 150, "let expire": 100, "log out": 80, "cycle the key": 80, "truncate": 0.5}
# What makes work for a cleanup.
OTHERS = """INSERT INTO django_session SELECT 'other' || i, 'data', now() + (i - 1500) * interval '1 hour'
FROM generate_series(1, 2000) i ON CONFLICT DO NOTHING"""


def outcomes(name, value, state):
    """What may be told of a session in this state, each with the state afterwards."""
    there = state is not ABSENT
    usual = {
        "load": (ABSENT if state == EXPIRED else state, state),
        "insert": (not there, state if there else value),
        "save": (there, value if there else ABSENT),
        "let expire": (there, EXPIRED if there else ABSENT),
        "log out": (there, ABSENT),
        "truncate": (None, ABSENT),
    }[name]
    return {usual} | (outcomes(name, value, ABSENT) if state == EXPIRED else set())


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
            todo += [(first, then, tuple(sorted((*also, index))))
                     for tells, then in outcomes(name, value, state) if tells == told]
    return False


@pytest.mark.parametrize("history, verdict", [
    ([(0, 1, "insert", "a", True), (2, 3, "load", None, "a"), (4, 5, "log out", None, True), (6, 7, "load", None, None)], True),
    ([(0, 1, "insert", "a", True), (2, 3, "load", None, None)], False),                                     # lost
    ([(0, 1, "insert", "a", True), (2, 3, "log out", None, True), (4, 5, "load", None, "a")], False),       # back again
    ([(0, 1, "insert", "a", True), (2, 3, "save", "b", True), (4, 5, "load", None, "a")], False),           # an old value
    ([(0, 1, "insert", "a", True), (2, 9, "save", "b", True), (3, 4, "load", None, "b"), (5, 6, "load", None, "b")], True),
    ([(0, 1, "insert", "a", True), (2, 9, "save", "b", True), (3, 4, "load", None, "b"), (5, 6, "load", None, "a")], False),
    ([(0, 1, "insert", "a", True), (2, 9, "save", "b", True), (3, 8, "save", "c", True), (10, 11, "load", None, "b")], True),
    ([(0, 1, "insert", "a", True), (2, 3, "save", "b", False)], False),
    ([(0, 1, "insert", "a", True), (2, 3, "let expire", None, True), (4, 5, "insert", "b", True), (6, 7, "load", None, "b")], True),
    ([(0, 1, "insert", "a", True), (2, 3, "let expire", None, True), (4, 5, "save", "b", True), (6, 7, "load", None, "b")], True),
    ([(0, 1, "insert", "a", True), (2, 3, "let expire", None, True), (4, 5, "load", None, "a")], False),    # back again
    ([(0, 1, "insert", "a", True), (2, 3, "let expire", None, True), (4, 5, "save", "b", True),
      (6, 7, "load", None, None)], False),                                                                 # renewed and lost
    ([(0, 1, "insert", "a", True), (2, 3, "let expire", None, True), (4, 5, "save", "b", False),
      (6, 7, "save", "c", True)], False),                                                                  # gone and back
    ([(0, 1, "insert", "a", True), (2, 5, "truncate", None, None), (3, 4, "load", None, "a"), (6, 7, "load", None, None)], True),
    ([(0, 1, "insert", "a", True), (2, 3, "truncate", None, None), (4, 5, "load", None, "a")], False)])
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
                    self._do(cursor, chance.choices(list(CHANCES), CHANCES.values())[0], chance.sample(range(KEYS), 2),
                             f"{self._number}:{next(count)}")
        except Exception as error:  # pylint: disable=broad-except  # one that ends early must not look like a quiet one
            self.error = error

    def _do(self, cursor, name, keys, value):
        begin = time.monotonic()
        if name == "truncate":
            cursor.execute("TRUNCATE django_session")
            told = [(key, name, None) for key in range(KEYS)]
        elif name == "cycle the key":
            told = self._cycle(cursor, *sorted(keys), value)
        else:
            told = [(keys[0], name, self._ask(cursor, name, keys[0], value))]
        end = time.monotonic()
        for key, what, answer in told:
            self.histories[key].append((begin, end, what, value, answer))

    def _cycle(self, cursor, key, later_key, value):
        """Never to an earlier one, else two of these could wait for each other."""
        cursor.execute("BEGIN")
        told = [(key, "log out", self._ask(cursor, "log out", key, value))]
        if told[0][2]:
            told.append((later_key, "insert", self._ask(cursor, "insert", later_key, value)))
        cursor.execute("COMMIT")
        return told

    @staticmethod
    def _ask(cursor, name, key, value):
        cursor.execute(STATEMENTS[name], {"key": f"shared{key}", "value": value})
        rows = cursor.fetchall()
        if name == "load":
            return rows[0][0] if rows else ABSENT
        return bool(rows)


@pytest.mark.some_cases(2)
@pytest.mark.parametrize("method", ["swap", "delete"])
@pytest.mark.parametrize("way", WAYS)
def test_every_history_is_linearizable(cleaned_site, cluster, pgbouncer, run_cleanup, way, method, every_case, say):
    """READ COMMITTED, as Django's are: a snapshot that was taken before the exchange doesn't see what came with it."""
    connect = connector(way, cluster, pgbouncer, "site", OWNER)
    clients = [Client(number, connect) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    results = []
    try:
        for _ in range(50 if every_case else 3):
            cleaned_site.psql(OTHERS)
            results.append(run_cleanup("--method", method, "--no-progress", "-t", "60", user=SWAPPER))
    finally:
        for client in clients:
            client.over.set()
            client.join()
    assert not [client.error for client in clients if client.error]
    assert all(result.code == DONE or "was truncated" in result.message for result in results), results
    assert any(result.code == DONE for result in results), results
    done = 0
    for key in range(KEYS):
        history = sorted((entry for client in clients for entry in client.histories[key]), key=lambda entry: entry[:2])
        done += len(history)
        assert is_linearizable(history), (key, history)
    say(f"{method}, {way}: {done} operations of {CLIENTS} clients on {KEYS} sessions, {len(results)} cleanups")
    assert done > 50 * len(results)
