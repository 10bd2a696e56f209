"""What still comes of a request after its answer: dropped for a while, by a clock of the test's."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from uvicorn.server import ServerState

from hone.service.metrics import Metrics
from hone.service.protocol import Connections, HoneConfig, HoneProtocol
from hone.service.settings import Settings

HEAD = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
REQUEST_S = 60.0
SILENT_S = 2.0
"""As the protocol has it: how long nothing may come."""

DROPPED_BYTES = 64 * 2**20


async def refuse(_scope: Any, _receive: Any, send: Any) -> None:
    """Answer without reading the body."""
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time stands still until the test moves it."""

    now = 1000.0

    def time(self) -> float:
        return self.now


class Wire(asyncio.Transport):
    """A connection to nobody: it keeps what is written, and all of it has gone at once."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = asyncio.Event()
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.ended.is_set()
        self.written += bytes(data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended.set()

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0


class Answered:
    """A connection that was answered while most of its request's body is still to come."""

    def __init__(self, loop: Clock, folder: Path) -> None:
        self.loop, self.wire = loop, Wire()
        settings = Settings(store=folder, request_timeout_s=REQUEST_S)
        self.connections = Connections(settings, Metrics())
        config = HoneConfig(refuse, self.connections, ws="none", lifespan="off", log_config=None)
        self._protocol = HoneProtocol(config, ServerState(), {}, loop)
        self._protocol.connection_made(self.wire)

    async def ask(self, length: int) -> None:
        """Send the head of a request of that length, and get its answer."""
        self.receive(HEAD % length)
        await self.wire.ended.wait()
        assert self.wire.written.startswith(b"HTTP/1.1 413 ")

    def receive(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def after(self, seconds: float) -> bool:
        """Move the clock, sweep, and return whether the connection was closed."""
        self.loop.now += seconds
        self.connections.sweep(self.loop.now)
        return self.wire.closed


def held(folder: Path, told: Callable[[Answered], Awaitable[None]]) -> None:
    """Run a test with a connection whose request has 10**12 bytes and is answered."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Clock)
        connection = Answered(loop, folder)
        await connection.ask(10**12)
        await told(connection)

    with asyncio.Runner(loop_factory=Clock) as runner:
        runner.run(run())


def test_a_client_that_falls_silent_is_closed_after_two_seconds(tmp_path: Path) -> None:
    async def silent(connection: Answered) -> None:
        assert not connection.after(SILENT_S)
        assert connection.after(0.01)

    held(tmp_path, silent)


def test_each_byte_puts_the_silence_off_but_not_the_end_of_the_request(tmp_path: Path) -> None:
    async def drips(connection: Answered) -> None:
        for _ in range(int(REQUEST_S / 1.5)):
            assert not connection.after(1.5)
            connection.receive(b"x")
        assert connection.after(0.01)

    held(tmp_path, drips)


def test_a_flood_is_closed_by_its_bytes_whatever_the_time(tmp_path: Path) -> None:
    async def floods(connection: Answered) -> None:
        for _ in range(DROPPED_BYTES // 2**20):
            connection.receive(b"x" * 2**20)
            assert not connection.wire.closed
        connection.receive(b"x")
        assert connection.wire.closed

    held(tmp_path, floods)


@pytest.mark.parametrize("behind", [b"x", HEAD % 0])
def test_nothing_that_is_dropped_is_answered(tmp_path: Path, behind: bytes) -> None:
    async def sends_on(connection: Answered) -> None:
        answer = connection.wire.written
        connection.receive(behind)
        for _ in range(10):
            await asyncio.sleep(0)
        assert connection.wire.written == answer
        assert not connection.after(1)

    held(tmp_path, sends_on)
