"""A site's traffic on its session table, checked: every client knows what it wrote, and looks.

Each client is a thread with a connection and sessions of its own, and does what Django does: load,
save, create, log out. A session that is gone, changed or back after its logout is counted, and so is
an UPDATE that hits no row (Django turns that into an error 400).
"""

import dataclasses
import random
import threading
import time

import psycopg
import psycopg2

LOAD = ("SELECT session_data FROM {table} "
        "WHERE expire_date > now() AND session_key = %s LIMIT 21")
SAVE = ("UPDATE {table} SET session_data = %s, expire_date = now() + interval '14 days' "
        "WHERE session_key = %s")
CREATE = ("INSERT INTO {table} (session_key, session_data, expire_date) "
          "VALUES (%s, %s, now() + interval '14 days')")
LOGOUT = "DELETE FROM {table} WHERE session_key = %s"


WAYS = ("simple", "prepared", "pooled")  # how a client's statements come to the server


def connector(way, cluster, pgbouncer, database, user):
    """A function that connects: "simple", by the simple protocol; "prepared", each statement prepared; or by PgBouncer. A
    transaction begins where it says BEGIN."""
    parameters = (pgbouncer if way == "pooled" else cluster).parameters(database, user)

    def connect():
        if way == "prepared":
            return psycopg.connect(**parameters, autocommit=True, prepare_threshold=0)
        connection = psycopg2.connect(**parameters)
        connection.autocommit = True
        return connection
    return connect


@dataclasses.dataclass
class Count:
    """What the clients saw. All but operations and seconds must be 0 after a good cleanup."""
    operations: int = 0
    lost: int = 0             # a session of ours is not there
    changed: int = 0          # it is not what we wrote last
    resurrected: int = 0      # it is there after its logout
    updates_of_no_row: int = 0
    errors: int = 0
    longest: float = 0.0      # seconds of the slowest transaction

    @property
    def anomalies(self):
        return {name: value for name, value in dataclasses.asdict(self).items()
                if value and name not in ("operations", "longest")}

    def add(self, other):
        for field in dataclasses.fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            setattr(self, field.name,
                    max(mine, theirs) if field.name == "longest" else mine + theirs)


class Client(threading.Thread):
    """One client. `sessions` is what it knows: data by key, None after a logout."""

    def __init__(self, number, connect, table, pause, tolerate, driver):
        super().__init__(name=f"client-{number}", daemon=True)
        self.count = Count()
        self.sessions = {}
        self.messages = set()
        self.latencies = []
        self.stopped = threading.Event()
        self._random = random.Random(number)
        self._number = number
        self._connect = connect
        self._sql = {name: text.format(table=table) for name, text in
                     {"load": LOAD, "save": SAVE, "create": CREATE, "logout": LOGOUT}.items()}
        self._pause = pause
        self._tolerate = tolerate
        self._driver = driver
        self._connection = None
        self._serial = 0

    # -- what a client does ----------------------------------------------------------------------

    def run(self):
        try:
            for _ in range(10):
                self._guarded(self._create)
            while not self.stopped.is_set():
                self._guarded(self._random.choices(
                    [self._load, self._save, self._create, self._logout], [50, 35, 8, 7])[0])
                time.sleep(self._pause)
        except Exception as error:  # a mistake of ours must not look like a quiet client
            self.count.errors += 1
            self.messages.add(repr(error))
            raise

    def check_all(self):
        """Looks at every session once more; again where the connection breaks."""
        for key in list(self.sessions):
            if not any(self._guarded(lambda key=key: self._check(key)) for _ in range(20)):
                self.count.errors += 1
                self.messages.add("a session could not be looked at")
        if self._connection:
            self._connection.close()

    def _load(self):
        key = self._some_key()
        if key:
            self._check(key)

    def _check(self, key):
        rows = self._transaction("load", (key,))
        expected = self.sessions[key]
        if expected is None:
            self.count.resurrected += bool(rows)
        elif not rows:
            self.count.lost += 1
            self.messages.add(f"lost a session of {self.name}")
            del self.sessions[key]
        elif rows[0][0] not in expected:
            self.count.changed += 1
            self.sessions[key] = (rows[0][0],)

    def _save(self):
        key = self._some_key(alive=True)
        if not key:
            return
        data = self._data()
        before = self.sessions[key]
        self.sessions[key] = (*before, data)   # until the server has said which one it is
        if self._transaction("save", (data, key)) == 0:
            self.count.updates_of_no_row += 1
        self.sessions[key] = (data,)

    def _create(self):
        key = f"{self._number:04x}{self._random.getrandbits(112):028x}"
        data = self._data()
        self._transaction("create", (key, data))
        self.sessions[key] = (data,)

    def _logout(self):
        key = self._some_key(alive=True)
        if not key or len(self.sessions) < 8:
            return
        before = self.sessions.pop(key)        # unknown until the server has said so
        try:
            hit = self._transaction("logout", (key,))
        except self._driver.errors.LockNotAvailable:
            self.sessions[key] = before
            raise
        self.count.updates_of_no_row += hit == 0
        self.sessions[key] = None

    # -- how -------------------------------------------------------------------------------------

    def _some_key(self, alive=False):
        keys = [key for key, data in self.sessions.items() if data is not None or not alive]
        return self._random.choice(keys) if keys else None

    def _data(self):
        self._serial += 1
        return f"{self._number}:{self._serial}:" + "x" * self._random.randint(100, 300)

    def _transaction(self, name, parameters):
        """The rows of a SELECT, else the number of rows hit."""
        if self._connection is None:
            self._connection = self._connect()
        start = time.monotonic()
        cursor = self._connection.cursor()
        cursor.execute(self._sql[name], parameters)
        result = cursor.fetchall() if cursor.description else cursor.rowcount
        self._connection.commit()
        took = time.monotonic() - start
        self.count.operations += 1
        self.count.longest = max(self.count.longest, took)
        self.latencies.append(took)
        return result

    def _guarded(self, action):
        """Whether it was done."""
        try:
            action()
            return True
        except self._driver.Error as error:
            if not self._is_tolerated(error):
                self.count.errors += 1
                self.messages.add(f"{type(error).__name__}: {error}".splitlines()[0])
            self._recover()
            return False

    def _is_tolerated(self, error):
        """The driver has no word of its own for a connection that is lost in the midst."""
        nameless = type(error) is self._driver.DatabaseError  # pylint: disable=unidiomatic-typecheck
        return isinstance(error, self._tolerate) or bool(self._tolerate) and nameless

    def _recover(self):
        try:
            self._connection.rollback()
        except (self._driver.Error, AttributeError):
            self._connection = None
            time.sleep(0.1)


class Traffic:
    """Clients that run until the end of a `with`; then `count`, after every session was checked.

    connect: makes a connection of `driver`: psycopg2, whose statements go by the simple protocol, or
    psycopg, by the extended one. tolerate: exceptions that aren't errors here (a server that is
    restarted), after which a client knows two possible states of a session and accepts both.
    """

    def __init__(self, connect, clients=8, table="public.django_session", pause=0.0, tolerate=(),
                 driver=psycopg2):
        self.clients = [Client(number, connect, table, pause, tuple(tolerate), driver)
                        for number in range(clients)]
        self.count = None

    def __enter__(self):
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *exception):
        for client in self.clients:
            client.stopped.set()
        for client in self.clients:
            client.join()
        assert exception[0] or all(client.sessions for client in self.clients), "a client did nothing"
        total = Count()
        for client in self.clients:
            client.check_all()
            total.add(client.count)
        self.count = total

    @property
    def messages(self):
        return set().union(*(client.messages for client in self.clients))

    @property
    def keys(self):
        """Every session key that a client ever used: none may show in a log."""
        return [key for client in self.clients for key in client.sessions]

    def latency(self, quantile):
        """Of all transactions, in seconds: latency(0.999)."""
        every = sorted(took for client in self.clients for took in client.latencies)
        return every[min(len(every) - 1, int(quantile * len(every)))]
