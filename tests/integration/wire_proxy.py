"""A proxy on the wire between a program and PostgreSQL that knows the protocol's messages, and can do to any of them what
networks, machines and administrators do.

A step is one message of the program's with the answer that the server gives to it; steps are counted over all connections,
in the order in which they come. At one step of each run the proxy does one fault."""

import contextlib
import dataclasses
import enum
import select
import socket
import struct
import threading
import time

SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
DELAY = 0.3  # seconds; less than any time limit of the programs'


class Fault(enum.Enum):
    """What happens at the step."""
    NOTHING = "nothing"
    CUT_BEFORE = "both ends are closed, and the server never sees the message"
    CUT_AT_ONCE = "both ends are closed while the server does what the message says"
    CUT_AFTER = "the server has done it, and both ends are closed before the answer"
    CUT_WITHIN = "both ends are closed in the midst of the answer"
    RESET_BEFORE = "both ends are reset, as by a firewall; the server never sees the message"
    RESET_AFTER = "the server has done it, and both ends are reset before the answer"
    BYTE_BY_BYTE = "message and answer come byte by byte"
    DELAYED = "message and answer come late"
    SILENT_BEFORE = "the message never comes, and nobody is told"
    SILENT_AFTER = "the server has done it, and the answer never comes"
    GONE_BEFORE = "as CUT_BEFORE, and nobody can connect any more"
    GONE_AFTER = "as CUT_AFTER, and nobody can connect any more"
    KILLED_BEFORE = "the program is killed before the server sees the message"
    KILLED_AFTER = "the program is killed when the server has done it"
    CRASH_BEFORE = "the server crashes, and starts again"
    CRASH_AT_ONCE = "the server crashes while it does what the message says, and starts again"
    CRASH_AFTER = "the server has done it, crashes, and starts again"

    @property
    def cause(self):
        """What it is, whenever it comes."""
        return self.name.split("_")[0]


@dataclasses.dataclass
class Step:
    """A message: which connection sent it, its type (`startup`, `Q`...), and what it says."""
    connection: int
    kind: str
    text: str

    @property
    def words(self):
        """What it does, in a line: without the settings that every message begins with."""
        lines = [line.strip() for line in self.text.splitlines()]
        lines = [line for line in lines
                 if line and not line.startswith(("--", "BEGIN", "SET LOCAL", "RESET", "COMMIT", "SELECT set_config",
                                                  "SELECT WHERE", "THEN set_config"))]
        return f"{self.kind} {lines[0][:70]}" if lines else f"{self.kind} {self.text[:70]!r}"


class WireProxy:
    """`with WireProxy(cluster, Fault.CUT_AFTER, at=7) as proxy:` a run of a program goes by proxy.conninfo(). `steps`: what
    came; `happened`: whether there was a step `at` (its number, or what is true of it). on_step(step, number), if given, is called
    before each step is delivered: what it does there, nobody sees from outside. victim: for the KILLED faults, what is called to
    kill the program; crash: for the CRASH faults, what is called to crash the server and start it again."""

    def __init__(self, cluster, fault=Fault.NOTHING, at=None, on_step=None, victim=None, crash=None):
        self.port = cluster.port
        self._fault = fault
        self._at = at
        self._on_step = on_step
        self.victim = victim
        self.crash = crash
        self.steps = []
        self.happened = False
        self.gone = False
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ways = []
        self.sockets = []
        self._connections = 0
        self.mistakes = []

    def __enter__(self):
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._over.set()
        self._thread.join()
        self._listener.close()
        for end in self.sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for way in self._ways:
            way.join()
        if self.mistakes and not exception[0]:
            raise self.mistakes[0]

    def conninfo(self, database, user):
        host, port = self._listener.getsockname()
        return f"host={host} port={port} dbname={database} user={user}"

    # -- connections

    def _listen(self):
        while not self._over.is_set():
            if not select.select([self._listener], [], [], 0.02)[0]:
                continue
            client, _ = self._listener.accept()
            if self.gone:
                client.close()
                continue
            way = _Way(self, client, self._connections)
            self._connections += 1
            self._ways.append(way)
            way.start()

    def number(self, step):
        with self._lock:
            self.steps.append(step)
            number = len(self.steps) - 1
            happens = not self.happened and (self._at(step) if callable(self._at) else number == self._at)
            self.happened = self.happened or happens
        if self._on_step:
            self._on_step(step, number)
        return self._fault if happens else Fault.NOTHING


# Of a swap's messages, words that no other one has.
EXCHANGE, REMOVAL_OF_TRIGGERS, REMOVAL = "too many sessions changed", "item.tgrelid::regclass", "djs: locked=true"


class BeforeTheFirst:
    """on_step: does something before the first message that has these words, and counts them. What it locks there is not held
    for long yet: against an older lock a swap doesn't try its own."""

    def __init__(self, words, do):
        self._words, self._do = words, do
        self.count = 0

    def __call__(self, step, _):
        if self._words in step.text:
            self.count += 1
            if self.count == 1:
                self._do()


class _Closed(Exception):
    """One of the two has closed its end."""


class _Way(threading.Thread):
    """One connection: a message, its answer, the next message."""

    def __init__(self, proxy, client, number):
        super().__init__(daemon=True)
        self._proxy = proxy
        self._client = client
        self._connection = number

    def run(self):
        try:
            self._relay()
        except BaseException as mistake:  # pylint: disable=broad-except  # of ours: it must not look like a fault
            self._proxy.mistakes.append(mistake)

    def _relay(self):
        with self._client, contextlib.suppress(OSError, _Closed), \
                socket.create_connection(("127.0.0.1", self._proxy.port)) as self._server:
            self._proxy.sockets += [self._client, self._server]
            for end in (self._client, self._server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while self._log_in():
                pass
            while self._converse():
                pass

    def _log_in(self):
        """True if it was only a question whether the server speaks TLS or GSSAPI."""
        head = self._exactly(self._client, 8)
        length, code = struct.unpack("!ii", head)
        words, answer = {SSL_REQUEST: ("TLS?", self._read_byte), GSS_REQUEST: ("GSSAPI?", self._read_byte),
                         CANCEL_REQUEST: ("cancel", lambda: b"")}.get(code, ("login", self._read_answer))
        self._take(Step(self._connection, "startup", words), head + self._exactly(self._client, length - 8), answer)
        if code == CANCEL_REQUEST:
            raise _Closed
        return code in (SSL_REQUEST, GSS_REQUEST)

    def _converse(self):
        head, body = self._read_message(self._client)
        kind = chr(head[0])
        step = Step(self._connection, kind, body.rstrip(b"\0").decode(errors="replace"))
        self._take(step, head + body, (lambda: b"") if kind == "X" else self._read_answer)
        return kind != "X"

    def _take(self, step, message, read_answer):
        fault = self._proxy.number(step)
        if fault is Fault.DELAYED:
            time.sleep(DELAY)
        if fault.name.endswith("_BEFORE"):
            self._break(fault)
        self._deliver(self._server, message, fault)
        if fault.name.endswith("_AT_ONCE"):
            self._break(fault)
        answer = read_answer()
        if fault is Fault.DELAYED:
            time.sleep(DELAY)
        if fault.name.endswith("_AFTER"):
            self._break(fault)
        if fault is Fault.CUT_WITHIN:
            self._client.sendall(answer[:len(answer) // 2])
            raise _Closed
        self._deliver(self._client, answer, fault)

    def _break(self, fault):
        if fault.cause == "GONE":
            self._proxy.gone = True
        elif fault.cause == "RESET":
            self._reset()
        elif fault.cause == "KILLED":
            self._kill()
        elif fault.cause == "CRASH":
            self._proxy.crash()
        elif fault.cause == "SILENT":
            self._wait_for_the_end()
        raise _Closed

    def _kill(self):
        """It may come before whoever started it has said how."""
        while not self._proxy.victim:
            time.sleep(0.01)
        self._proxy.victim()

    # -- what goes over the wire

    @staticmethod
    def _deliver(end, data, fault):
        if fault is not Fault.BYTE_BY_BYTE:
            end.sendall(data)
            return
        for place in range(len(data)):
            end.sendall(data[place:place + 1])

    def _reset(self):
        for end in (self._client, self._server):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()
        raise _Closed

    def _wait_for_the_end(self):
        """Both ends stay open; the program's is read to see when it gives up, and the server is not told even then."""
        while not self._proxy._over.is_set():
            if select.select([self._client], [], [], 0.05)[0] and not self._client.recv(65536):
                break
        self._proxy._over.wait()
        raise _Closed

    def _exactly(self, end, count):
        """That the other one closes its end is noticed meanwhile, as the network would tell."""
        other = self._server if end is self._client else self._client
        data = b""
        while len(data) < count:
            ready = select.select([end, other], [], [])[0]
            if end in ready:
                part = end.recv(count - len(data))
                if not part:
                    raise _Closed
                data += part
            elif other.recv(1, socket.MSG_PEEK) in (b"", b"X"):  # the program doesn't wait for the answer
                raise _Closed
            else:
                assert other is self._server, "a message before the answer to the one before it"
                self._client.sendall(other.recv(65536))  # out of turn: why it ends the connection, say
        return data

    def _read_message(self, end):
        head = self._exactly(end, 5)
        return head, self._exactly(end, struct.unpack("!i", head[1:])[0] - 4)

    def _read_byte(self):
        return self._exactly(self._server, 1)

    def _read_answer(self):
        """Up to where it is the program's turn again, or to the last that the server says."""
        answer = b""
        try:
            while True:
                head, body = self._read_message(self._server)
                answer += head + body
                wants_password = head[:1] == b"R" and body[:4] not in (b"\0\0\0\0", b"\0\0\0\x0c")
                if head[:1] == b"Z" or wants_password:
                    return answer
        except _Closed:
            self._client.sendall(answer)
            raise
