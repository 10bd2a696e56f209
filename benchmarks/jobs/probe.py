"""Does a service stand still? `/livez` asked every 5 ms; more than 50 ms to the answer is a stall.

As the machine itself may stand still, a second service, which does nothing, is asked at the same
moments: its stalls are the machine's.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

STALL_MS = 50.0
_EVERY_S = 0.005
_REQUEST = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"


@dataclass(slots=True)
class Probe:
    """Asks a service again and again, and keeps how long each answer took (milliseconds)."""

    port: int
    took_ms: list[float] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    failure: Exception | None = None

    def run(self) -> None:
        """Ask until it is over, or the service fails."""
        try:
            self._ask()
        except OSError as error:
            self.failure = error

    def _ask(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while not self.over.wait(_EVERY_S):
                started = time.perf_counter()
                connection.sendall(_REQUEST)
                if not connection.recv(65536).startswith(b"HTTP/1.1 200"):
                    raise ConnectionError("the service is not alive")
                self.took_ms.append(1000 * (time.perf_counter() - started))

    def summary(self) -> dict[str, Any]:
        """Return how many requests there were, how many stalled, and the slowest ones."""
        ordered = sorted(self.took_ms)
        return {
            "requests": len(ordered),
            "stalls": sum(took > STALL_MS for took in ordered),
            "slowest_ms": [round(took, 1) for took in ordered[-3:]],
            "p99_ms": round(ordered[int(0.99 * len(ordered))], 2),
        }


@contextlib.contextmanager
def watched(**ports: int) -> Iterator[dict[str, Any]]:
    """Ask services while the block runs; then their summaries stand in what it was given."""
    probes = {name: Probe(port) for name, port in ports.items()}
    threads = [threading.Thread(target=probe.run) for probe in probes.values()]
    seen: dict[str, Any] = {}
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        for probe in probes.values():
            probe.over.set()
        for thread in threads:
            thread.join()
    for probe in probes.values():
        if probe.failure is not None:
            raise probe.failure
    seen.update({name: probe.summary() for name, probe in probes.items()})
