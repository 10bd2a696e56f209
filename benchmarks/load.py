"""Load: closed loops over kept-alive connections, with as little work of their own as possible.

`wrk`, where it is installed, makes the load of many connections: it is C and leaves the cores to
the server. Else a loop over plain sockets does. One connection is always a blocking socket here,
so that every answer's time is known exactly.
"""

import json
import selectors
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

_SCRIPT = Path(__file__).with_name("wrk.lua")
_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Requests:
    """Where to send what: a port of the loopback interface, a path, and JSON bodies in order."""

    port: int
    path: str
    bodies: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Load:
    """What the clients saw. Failures are answers other than 200, and none at all."""

    texts_per_s: float
    p50_ms: float
    p99_ms: float
    answers: int
    failures: int


def generator_name() -> str:
    """Return what makes the load of many connections here."""
    return "wrk" if shutil.which("wrk") else "sockets"


def run_load(
    requests: Requests, *, connections: int, seconds: float, offset: int, generator: str
) -> Load:
    """Keep every connection busy for `seconds`, beginning with the body at `offset`."""
    if connections == 1:
        return _one_connection(requests, seconds, offset)
    if generator == "wrk":
        return _wrk(requests, connections, seconds, offset)
    return _many_connections(requests, connections, seconds, offset)


def ask(requests: Requests, body: bytes) -> tuple[int, bytes]:
    """Send one body over a connection of its own; return status and body of the answer."""
    with closing(_connect(requests.port)) as connection:
        connection.sendall(_message(requests.path, body))
        return _read_answer(connection)


def get(port: int, path: str) -> tuple[int, bytes]:
    """Return status and body of a GET over a connection of its own."""
    with closing(_connect(port)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        return _read_answer(connection)


def _one_connection(requests: Requests, seconds: float, offset: int) -> Load:
    messages = _messages(requests, offset)
    times: list[float] = []
    failures = 0
    with closing(_connect(requests.port)) as connection:
        began = now = time.perf_counter()
        while now - began < seconds:
            connection.sendall(next(messages))
            status, _ = _read_answer(connection)
            answered = time.perf_counter()
            times.append(answered - now)
            failures += status != 200
            now = time.perf_counter()
    return _summary(times, failures, now - began)


def _many_connections(requests: Requests, count: int, seconds: float, offset: int) -> Load:
    messages = _messages(requests, offset)
    times: list[float] = []
    failures = 0
    with selectors.DefaultSelector() as selector:
        began = time.perf_counter()
        for _ in range(count):
            client = _Client(_connect(requests.port))
            selector.register(client.connection, selectors.EVENT_READ, client)
            client.send(next(messages))
        while (now := time.perf_counter()) - began < seconds:
            for key, _ in selector.select(_PATIENCE_S):
                status = key.data.receive()
                if status is not None:
                    times.append(time.perf_counter() - key.data.sent_at)
                    failures += status != 200
                    key.data.send(next(messages))
        for key in list(selector.get_map().values()):
            key.data.connection.close()
    return _summary(times, failures, now - began)


def _wrk(requests: Requests, connections: int, seconds: float, offset: int) -> Load:
    with tempfile.NamedTemporaryFile("wb", suffix=".jsonl") as bodies:
        bodies.write(b"\n".join(requests.bodies) + b"\n")
        bodies.flush()
        command = ["wrk", "--threads", "1", "--connections", str(connections)]
        command += ["--duration", f"{max(1, round(seconds))}s", "--timeout", f"{_PATIENCE_S:.0f}s"]
        command += ["--script", str(_SCRIPT), f"http://127.0.0.1:{requests.port}{requests.path}"]
        ran = subprocess.run(
            [*command, "--", bodies.name, str(offset)], capture_output=True, text=True, check=True
        )
    found = json.loads(ran.stdout.strip().splitlines()[-1])
    return Load(
        texts_per_s=(found["requests"] - found["failures"]) / (found["microseconds"] / 1e6),
        p50_ms=found["p50_us"] / 1e3,
        p99_ms=found["p99_us"] / 1e3,
        answers=found["requests"],
        failures=found["failures"],
    )


def _summary(times: list[float], failures: int, elapsed_s: float) -> Load:
    ordered = sorted(times)
    return Load(
        texts_per_s=(len(times) - failures) / elapsed_s,
        p50_ms=1000 * statistics.median(ordered),
        p99_ms=1000 * ordered[int(0.99 * (len(ordered) - 1))],
        answers=len(times),
        failures=failures,
    )


class _Client:
    """One connection of many, whose answers arrive in pieces."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.sent_at = 0.0
        self._received = b""

    def send(self, message: bytes) -> None:
        self.sent_at = time.perf_counter()
        self.connection.sendall(message)

    def receive(self) -> int | None:
        """Take what there is; return the status once the answer is whole."""
        self._received += _receive(self.connection)
        answer = _parse(self._received)
        if answer is None:
            return None
        self._received = b""
        return answer[0]


def _messages(requests: Requests, offset: int) -> Iterator[bytes]:
    whole = [_message(requests.path, body) for body in requests.bodies]
    return islice(cycle(whole), offset % len(whole), None)


def _message(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _read_answer(connection: socket.socket) -> tuple[int, bytes]:
    received = b""
    while (answer := _parse(received)) is None:
        received += _receive(connection)
    return answer


def _receive(connection: socket.socket) -> bytes:
    piece = connection.recv(65536)
    if not piece:
        raise ConnectionError("the server closed the connection before its answer")
    return piece


def _parse(received: bytes) -> tuple[int, bytes] | None:
    """Return status and body when the answer is whole. It must state its length."""
    head, separator, body = received.partition(b"\r\n\r\n")
    if not separator:
        return None
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    if not found:
        raise ConnectionError("the server does not state the length of its answer")
    if len(body) < int(rest.split(b"\r\n", 1)[0]):
        return None
    return int(head.split(b" ", 2)[1]), body
