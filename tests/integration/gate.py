"""A gate on a program's way to the server, that shuts before a statement: what the program has reached by then, it stays
at for as long as the test needs, with a handful of sessions and however busy the machine is."""

import contextlib
import re
import select
import socket
import struct
import threading

BEFORE_A_COPY, BEFORE_A_DRAIN = b"copied AS (", b"doubtful AS ("  # see copy.sql and drain.sql


@contextlib.contextmanager
def after_two_batches(cluster, start_cleanup, *options, user, words=b".django_session_delete_expired("):
    """A deletion, by roles.sql's function if these are its words, in its midst; it goes on at the end of the `with`."""
    with Gate(cluster, words) as gate:
        cleanup = start_cleanup("--method", "delete", "--no-progress", *options, "-d", gate.conninfo("site", user))
        gate.wait()
        yield cleanup


class Gate:
    """Before a Cluster or a PgBouncer. Lets `passing` statements with these words through, and shuts before the next; the
    end of its `with` opens it for good. `first_pid`: the process id that the first to come is told is its backend's, as
    another server would that happens to use the same."""

    def __init__(self, server, words=BEFORE_A_COPY, passing=2, first_pid=None):
        self._server = server
        self._words = words
        self._passing = passing
        self._first_pid = first_pid
        self._reached, self._opened = threading.Event(), threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ways = []

    def __enter__(self):
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *exception):
        self._opened.set()

    def conninfo(self, database, user):
        host, port = self._listener.getsockname()
        parameters = {**self._server.parameters(database, user), "host": host, "port": port}
        return " ".join(f"{key}={value}" for key, value in parameters.items())

    def wait(self, timeout=20):
        """Until the program stands before it."""
        assert self._reached.wait(timeout), f"waited {timeout} s for {self._words}"

    def _listen(self):
        """Also for whoever comes once it is open, until all have gone."""
        with self._listener:
            while not self._opened.is_set() or any(way.is_alive() for way in self._ways):
                if select.select([self._listener], [], [], 0.5)[0]:
                    client, _ = self._listener.accept()
                    self._ways.append(threading.Thread(target=self._relay, args=(client,), daemon=True))
                    self._ways[-1].start()

    def _relay(self, client):
        with client, socket.create_connection(("127.0.0.1", self._server.port)) as server:
            threading.Thread(target=self._answer, args=(server, client), daemon=True).start()
            with contextlib.suppress(OSError):
                self._forward(client, server)
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)  # else the other thread's recv() would go on

    def _forward(self, client, server):
        seen = b""
        while data := client.recv(65536):
            seen += data  # a statement may come in several parts, and isn't run before the last
            if self._words in seen and not self._pass(client):
                return
            seen = seen[1 - len(self._words):]
            server.sendall(data)

    def _pass(self, client):
        """Waits for the gate; false where the program was killed meanwhile."""
        if self._passing > 0:
            self._passing -= 1
            return True
        self._reached.set()
        self._opened.wait()
        return not select.select([client], [], [], 0)[0] or client.recv(1, socket.MSG_PEEK) != b""

    def _answer(self, server, client):
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                client.sendall(self._with_first_pid(data))
            client.shutdown(socket.SHUT_RDWR)

    def _with_first_pid(self, data):
        """In BackendKeyData: its type and its length, the process id, a key."""
        if self._first_pid is None:
            return data
        mistaken = struct.pack("!i", self._first_pid)
        data, count = re.subn(rb"(K\0\0\0\x0c).{4}", lambda found: found[1] + mistaken, data, count=1, flags=re.DOTALL)
        if count:
            self._first_pid = None
        return data
