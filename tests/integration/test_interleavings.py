"""Every interleaving of a cleanup with its clients, to a depth of two: the cleanup is stopped before each of its messages, and
there clients do all they can do with a session, one thing or two after each other, at this message or the second at the
next, or in a transaction that is still open when the message runs, and ends before the next one or while that runs. Each is
done to a second table, too, which nobody cleans: whatever a client is told, and what is there in the end, must be the same in
both, but for what has expired. (When the server has answered and the cleanup has not yet read it, there is nothing else to see
than before its next message.)

A TRUNCATE and a clearsessions, which are of all sessions, have a run of their own for each message.

`tests/run` takes some of the sequences at each message; `tests/run proof` takes all."""

import concurrent.futures
import contextlib
import datetime
import itertools
import time

import psycopg
import psycopg2
import pytest

from cleanup_command import DONE, STOPPED, SWAPPER
from django_site import OWNER
from pgbouncer_server import PgBouncer
from traffic import WAYS, connector
from wire_proxy import WireProxy

pytestmark = pytest.mark.proof

SESSIONS, CONTROL = "django_session", "control"
NOW = datetime.datetime.now(datetime.timezone.utc)
SOON, LATER, PAST = (NOW + datetime.timedelta(days=days) for days in (1, 14, -1))

INSERT = "INSERT INTO {table} VALUES (%(key)s, %(data)s, %(later)s)"
UPDATE = "UPDATE {table} SET session_data = %(data)s, expire_date = %(later)s WHERE session_key = %(key)s"
DELETE = "DELETE FROM {table} WHERE session_key = %(key)s"
# What a client does with a session: statements of one transaction.
OPERATIONS = {
    "load": ["SELECT session_data FROM {table} WHERE session_key = %(key)s AND expire_date > now()"],
    "insert": [INSERT],
    "save": [UPDATE],
    "save or insert": [UPDATE, "INSERT INTO {table} SELECT %(key)s::text, %(data)s::text, %(later)s::timestamptz "
                               "WHERE NOT EXISTS (SELECT FROM {table} WHERE session_key = %(key)s)"],
    "save with a new key": ["UPDATE {table} SET session_key = %(new)s WHERE session_key = %(key)s"],
    "let expire": ["UPDATE {table} SET expire_date = %(past)s WHERE session_key = %(key)s"],
    "log out": [DELETE],
    "cycle the key": ["INSERT INTO {table} SELECT %(new)s::text, session_data, expire_date FROM {table} "
                      "WHERE session_key = %(key)s", DELETE],
    "delete expired": ["DELETE FROM {table} WHERE session_key = %(key)s AND expire_date < now()"],
    "lock": ["SELECT 1 FROM {table} WHERE session_key = %(key)s FOR UPDATE"],
    "lock and save": ["SELECT 1 FROM {table} WHERE session_key = %(key)s FOR UPDATE", UPDATE],
    "log out and in again": [DELETE, INSERT],
}
STARTS = {"live": SOON, "expired": PAST, "absent": None}
ENDS = ("COMMIT", "ROLLBACK")
# What is done in transactions that stay open, by how they end, and with which sessions: an error would end them.
OPEN = [(end, operation, start) for end in ENDS for operation in OPERATIONS for start in STARTS
        if (operation == "insert") == (start == "absent")]
SEQUENCES = [(one,) for one in OPERATIONS] + list(itertools.product(OPERATIONS, repeat=2))
MOST_STOPS = 250
# Until what is open ends, in seconds after its stop: before the message, or while the server works on it.
UNTIL_THE_END = (0, 0.0005, 0, 0.002, 0, 0.008)


def key_in(end, operation):
    return f"{end}/{list(OPERATIONS).index(operation)}"


class Clients:
    """What they do is done to both tables, and each outcome compared."""

    def __init__(self, connect, isolation):
        self._connections = {name: connect() for name in ("now", *ENDS)}
        self._begin = f"BEGIN ISOLATION LEVEL {isolation}"
        self._goes_on = isolation != "SERIALIZABLE"  # where the server may end what has an open transaction's row
        self._count = itertools.count()
        self.done = 0

    def close(self):
        for connection in self._connections.values():
            connection.close()

    def do(self, operation, key):
        values = self._values(key)
        self._let_expire(key)
        outcomes = [self._transaction(table, [operation], values) for table in (SESSIONS, CONTROL)]
        self.done += 1
        assert outcomes[0] == outcomes[1], f"{operation} of {key}: {outcomes}"

    def open(self, end, operation, key):
        """In the transaction that ends so, and is open meanwhile. Returned: what saves the session there before the end, and what
        does it all to the control afterwards."""
        values, later = self._values(key), self._values(key)
        self._let_expire(key)
        outcomes = [self._statements(self._connections[end], SESSIONS, operation, values)]
        assert isinstance(outcomes[0], list), (operation, key, outcomes)

        def go_on():
            if self._goes_on:
                outcomes.append(self._statements(self._connections[end], SESSIONS, "save", later))

        def do_as_well():
            as_well = self._transaction(CONTROL, [operation, "save"][:len(outcomes)], values, later)
            assert sum(outcomes, []) == as_well, f"{operation} of {key}: {outcomes}, {as_well}"
        self.done += 1
        return go_on, do_as_well

    def begin(self, end):
        self._run(self._connections[end], self._begin)

    def end(self, end):
        self._run(self._connections[end], end)

    def rows(self, table):
        return {row[0]: row[1:] for row in self._run(self._connections["now"], f"SELECT * FROM {table}")[1]}

    def _values(self, key):
        return {"key": key, "new": key + "'", "data": f"data {next(self._count)}", "later": LATER, "past": PAST}

    def _let_expire(self, key):
        """That an expired session is gone is what a cleanup is for: from here on nobody has it."""
        there = {table: self._run(self._connections["now"], f"SELECT expire_date FROM {table} WHERE session_key = %(key)s",
                                  {"key": key})[1] for table in (SESSIONS, CONTROL)}
        if there[CONTROL] and there[CONTROL][0][0] < NOW and not there[SESSIONS]:
            self._run(self._connections["now"], f"DELETE FROM {CONTROL} WHERE session_key = %(key)s", {"key": key})

    def _transaction(self, table, operations, *values):
        connection = self._connections["now"]
        self._run(connection, self._begin)
        outcomes = [self._statements(connection, table, *each) for each in zip(operations, values)]
        error = next((outcome for outcome in outcomes if not isinstance(outcome, list)), None)
        self._run(connection, "ROLLBACK" if error else "COMMIT")
        return error or sum(outcomes, [])

    def _statements(self, connection, table, operation, values):
        """Of each its rows and how many it hit, or the error of the one that failed."""
        try:
            return [self._run(connection, text.format(table=table), values) for text in OPERATIONS[operation]]
        except (psycopg.IntegrityError, psycopg2.IntegrityError) as error:
            return getattr(error, "sqlstate", None) or error.pgcode

    @staticmethod
    def _run(connection, text, values=None):
        cursor = connection.cursor()
        cursor.execute(text, values)
        return cursor.rowcount, sorted(cursor.fetchall()) if cursor.description else []


class Interleaving:
    """What is done at each stop, a message that the cleanup wants to send; every stop has sessions of its own."""

    def __init__(self, clients, chosen):
        self._clients = clients
        self._chosen = chosen
        self._works = False
        self._stops = itertools.count()
        self._is_open = False
        self._going_on = []
        self._committed = []
        self._waits = itertools.cycle(UNTIL_THE_END)
        self._beside = concurrent.futures.ThreadPoolExecutor(1)
        self._ending = None
        self._unfinished = []
        self.error = None

    def at(self, step, _):
        """Before this message; in the proxy's thread."""
        self._works = self._works or "pg_try_advisory" in step.text
        if not self._works or self.error or step.kind != "Q":
            return
        try:
            self._see_the_end()
            if self._is_open:
                self._begin_to_end(next(self._waits))
            for key, operation in self._unfinished:
                self._clients.do(operation, key)
            self._unfinished = []
            stop = next(self._stops)
            if stop < MOST_STOPS:
                self._do_all(stop)
        except BaseException as error:  # pylint: disable=broad-except
            self.error = AssertionError(f"before {step.words}: {error!r}")
            self._clients.close()  # so that the cleanup comes to its end

    def finish(self):
        if self.error:
            raise self.error
        self._see_the_end()
        if self._is_open:
            self._begin_to_end(0)
        self._beside.shutdown()

    @property
    def stops(self):
        return next(self._stops)

    def _do_all(self, stop):
        for start in STARTS:
            for number, sequence in self._chosen.sequences(stop):
                key = f"{stop}/{start}/{number}"
                self._clients.do(sequence[0], key)
                if len(sequence) == 2 and number % 2:
                    self._clients.do(sequence[1], key)
                elif len(sequence) == 2:
                    self._unfinished.append((key, sequence[1]))
        if self._ending or not self._chosen.opens(stop):
            return
        for end in ENDS:
            self._clients.begin(end)
        for end, operation, start in OPEN:
            go_on, as_well = self._clients.open(end, operation, f"{stop}/{start}/{key_in(end, operation)}")
            self._going_on.append(go_on)
            if end == "COMMIT":
                self._committed.append(as_well)
        self._is_open = True

    def _begin_to_end(self, wait):
        self._is_open = False
        self._ending = self._beside.submit(self._end_what_is_open, wait)
        if not wait:
            self._see_the_end()

    def _end_what_is_open(self, wait):
        time.sleep(wait)
        for go_on in self._going_on:
            go_on()
        for end in ENDS:
            self._clients.end(end)

    def _see_the_end(self):
        if not self._ending:
            return
        self._ending.result()
        self._ending = None
        for do_as_well in self._committed:
            do_as_well()
        self._going_on, self._committed = [], []


@pytest.fixture
def roomy_pgbouncer(cluster, folder):
    """For transactions that stay open side by side."""
    server = PgBouncer(folder, cluster, [OWNER], default_pool_size=4).start()
    yield server
    server.stop()


def fill(site, chosen):
    """Sessions for all that is done at all stops, in both tables."""
    opened = {start: [key_in(end, operation) for end, operation, its_start in OPEN if its_start == start] for start in STARTS}
    keys = [(f"{stop}/{start}/{number}", expires) for stop in range(MOST_STOPS) for start, expires in STARTS.items() if expires
            for number in [*(number for number, _ in chosen.sequences(stop)), *opened[start]]]
    site.psql(f"CREATE TABLE {CONTROL} (LIKE {SESSIONS} INCLUDING ALL); ALTER TABLE {CONTROL} OWNER TO {OWNER}")
    with contextlib.closing(site.cluster.connect(site.database)) as connection:
        connection.cursor().execute(
            f"INSERT INTO {SESSIONS} SELECT k, 'data', e FROM unnest(%s, %s) AS s(k, e)",
            ([key for key, _ in keys], [expires for _, expires in keys]))
    site.psql(f"INSERT INTO {SESSIONS} VALUES ('untouched', 'data', now() - interval '1 day'); "
              f"INSERT INTO {CONTROL} TABLE {SESSIONS}; ANALYZE {SESSIONS}")


class All:
    """What is done at a stop: everything."""

    @staticmethod
    def sequences(_):
        return list(enumerate(SEQUENCES))

    @staticmethod
    def opens(_):
        return True


class Some:
    """Others at each stop. While transactions are always open, the exchange waits, longer and longer."""

    @staticmethod
    def sequences(stop):
        return [(number, sequence) for number, sequence in enumerate(SEQUENCES) if number % 33 == stop % 33]

    @staticmethod
    def opens(stop):
        return stop % 4 == 0


@pytest.mark.some_cases(3)
@pytest.mark.parametrize("method", ["swap", "delete"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_every_interleaving(cleaned_site, cluster, roomy_pgbouncer, start_cleanup, method, isolation, way, every_case, say):
    chosen = All if every_case else Some
    fill(cleaned_site, chosen)
    with contextlib.closing(Clients(connector(way, cluster, roomy_pgbouncer, "site", OWNER), isolation)) as clients:
        meanwhile = Interleaving(clients, chosen)
        with WireProxy(cluster, on_step=meanwhile.at) as proxy:
            result = start_cleanup("--method", method, "-t", "600", "--no-progress", "--lock-timeout", "0.1",
                                   "-d", proxy.conninfo("site", SWAPPER), environment={}).result(timeout=3000)
        meanwhile.finish()
        stops = meanwhile.stops
        say(f"{method}, {isolation}, {way}: {stops} stops, {clients.done} operations")
        assert result.code == DONE, result
        assert stops <= MOST_STOPS, "at the last ones nothing was done"
        sessions, control = clients.rows(SESSIONS), clients.rows(CONTROL)
        for key in sessions.keys() | control.keys():
            if key not in control or control[key][1] > NOW:
                assert sessions.get(key) == control.get(key), key
        assert "untouched" not in sessions and "untouched" in control


# What is done with all sessions at once, and which of those before it are left.
OF_ALL = {"TRUNCATE": f"TRUNCATE {SESSIONS}", "clearsessions": f"DELETE FROM {SESSIONS} WHERE expire_date < now()"}
LEFT = {"TRUNCATE": set(), "clearsessions": {f"before {number}" for number in range(1, 201)}}


class Removal:
    """One of those and then a new session, in a transaction that ends before the same message, or before the next one."""

    def __init__(self, connection, what, at, end, stays_open):
        self._cursor, self._what, self._at, self._end, self._stays_open = connection.cursor(), what, at, end, stays_open
        self.error = None
        self.is_over = False

    def at_step(self, _, number):
        """In the proxy's thread."""
        try:
            if number == self._at:
                self._cursor.execute(f"BEGIN; SET LOCAL lock_timeout = '10s'; {OF_ALL[self._what]}; "
                                     f"INSERT INTO {SESSIONS} VALUES ('after', 'data', now() + interval '1 day')")
            if number == self._at + self._stays_open:
                self._cursor.execute(self._end)
                self.is_over = True
        except psycopg2.Error as error:
            self.error = error


REMOVALS = list(itertools.product(ENDS, (False, True)))


def some_removals(steps):
    """One that has ended before each message that changes something (as a function that lasts as long as its transaction), and
    by turns the others, anywhere."""
    changing = [(number, ("COMMIT", False)) for number, step in enumerate(steps) if "CREATE FUNCTION" in step.text]
    return changing + list(zip(range(0, len(steps), 9), itertools.cycle(REMOVALS[1:])))


BEFORE = f"""INSERT INTO {SESSIONS} SELECT 'before ' || i, 'data', now() + interval '1 day' FROM generate_series(1, 200) i;
INSERT INTO {SESSIONS} SELECT 'expired ' || i, 'data', now() - interval '1 day' FROM generate_series(1, 600) i"""


@pytest.mark.parametrize("what", OF_ALL)
@pytest.mark.parametrize("method", ["swap", "delete"])
def test_a_removal_of_all_before_every_message(cleaned_site, cluster, start_cleanup, method, what, every_case, say):
    def run(proxy):
        return start_cleanup("--method", method, "-t", "60", "--no-progress", "--lock-timeout", "0.1",
                             "-d", proxy.conninfo("site", SWAPPER), environment={}).result()

    def remove(at, end, stays_open):
        """Where the run was at its end before: at its last message but one, and false."""
        cleaned_site.psql(f"DELETE FROM {SESSIONS}; {BEFORE}")
        with contextlib.closing(cluster.connect("site", OWNER)) as connection:
            removal = Removal(connection, what, at, end, stays_open)
            with WireProxy(cluster, on_step=removal.at_step) as proxy:
                result = run(proxy)
                if stays_open and (result.code == STOPPED or "locked" in result.message):  # one that waited for it in vain
                    assert "locked" in result.message, result
                    result = run(proxy)
        assert not removal.error and result.code == DONE, f"{removal.error} {result}"
        if not removal.is_over:
            remove(len(proxy.steps) - 2, end, stays_open)
            return False
        where = f"{end} at {at}{' and the next' if stays_open else ''}: {proxy.steps[at].words}\n{result}"
        left = {key for (key,) in cleaned_site.psql(f"SELECT session_key FROM {SESSIONS}")}
        assert left == (LEFT[what] | {"after"} if end == "COMMIT" else {f"before {number}" for number in range(1, 201)}), where
        return True

    with WireProxy(cluster) as proxy:
        assert run(proxy).code == DONE
    every = itertools.product(range(len(proxy.steps) - 2), REMOVALS)
    cases = list(every) if every_case else some_removals(proxy.steps[:-2])
    done = sum(remove(at, *how) for at, how in cases)
    say(f"{method}, {what}: {len(proxy.steps)} messages, {done} of {len(cases)}")
    assert done >= 0.8 * len(cases) - 1
