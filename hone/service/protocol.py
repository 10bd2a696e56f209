"""HTTP on the wire: uvicorn's fast parser, with the limits that it lacks.

uvicorn's httptools protocol takes a header of any size (at quadratic cost: 60 MB froze a process
for seconds), waits for a half-sent request for ever, and lets such connections crowd out the
others. An ASGI middleware cannot help, it runs once the request is there. So here:

- a head of more than `max_header_bytes` is refused before the parser has seen more than that;
- what is neither head nor body (chunk sizes, trailers) may not outweigh the body;
- a head must be there in `header_timeout_s`, a whole request in `request_timeout_s` (or in what
  its endpoint allows, such as for a file), and what is written of an answer must be read in that
  time, however steadily it trickles; one sweep a second ends what is late;
- a connection above `max_connections` gets a 503 with Retry-After and is closed;
- a client that is answered before its whole body is there, and sends on, can read that answer:
  what still comes is dropped for a while, since closing at once would reset the connection;
- head and body of an answer leave in one write, not in two;
- protocol errors are answered in the one error body;
- an endpoint can ask to be told when its client leaves, without a task that waits for it.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from hone.service.endpoint import CLIENT_WATCH
from hone.service.errors import ErrorAnswer, answer_for_status
from hone.service.jobs.ids import new_id
from hone.service.metrics import Metrics
from hone.service.settings import Settings

logger = logging.getLogger(__name__)

_FRAMING_BYTES = 64 * 2**10
_LINGER_S = 0.25
"""A refused client may still be writing; closing at once would destroy the answer unread."""

_MOST_DROPPED_BYTES = 64 * 2**20
_MOST_SILENT_S = 2.0
"""What is read and dropped of a body after its answer, and how long a pause in it may be. The whole
of the request has no more time than any."""


@dataclass
class Connections:
    """All connections of a server, and the rules that they are held to."""

    settings: Settings
    metrics: Metrics
    draining: bool = False
    open: "set[HoneProtocol]" = field(default_factory=set)

    def sweep(self, now: float) -> None:
        """End every connection that is late; `now` is the loop's time. Call it once a second."""
        for connection in list(self.open):
            connection.check_time(now)


class HoneConfig(uvicorn.Config):
    """uvicorn's configuration, and our rules for connections."""

    def __init__(self, app: Any, connections: Connections, **options: Any) -> None:  # noqa: ANN401
        super().__init__(app, http=HoneProtocol, **options)
        self.connections = connections


class _JoinedWrites:
    """A transport that writes in one system call what was given to it in one turn of the loop.

    It writes when an answer is complete, else at the end of the turn; so an answer wakes its
    client once.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        stays_open: Callable[[], bool],
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._stays_open = stays_open
        self._parts: list[bytes] = []
        self.written_bytes = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the transport has
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write soon."""
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(data)

    def close(self) -> None:
        """Write what there is, then close, or only end the writing where a body still comes."""
        self.flush()
        if not self._stays_open():
            self._transport.close()
        elif self._transport.can_write_eof():
            self._transport.write_eof()

    def is_closing(self) -> bool:
        """Tell whether nothing can be written any more."""
        return self._transport.is_closing()

    def flush(self) -> None:
        """Write now."""
        parts, self._parts = self._parts, []
        if parts and not self._transport.is_closing():
            joined = b"".join(parts)
            self.written_bytes += len(joined)
            self._transport.write(joined)


@dataclass
class _Unread:
    """How long a client has owed the reading of what was written to it.

    All that is unsent at one sweep is owed from then on, and the debt is over when all of that has
    gone. So a trickle does not put it off, while a client that keeps up is never late, even if
    its next answer always comes before the last one has gone.
    """

    since: float = 0.0
    until_bytes: int = 0
    """The position in all that was ever written at which what is owed ends."""

    def seconds(self, now: float, written: int, unsent: int) -> float:
        """Return the age of the debt; `written` counts all bytes, `unsent` those not yet gone."""
        if written - unsent >= self.until_bytes:
            self.since, self.until_bytes = now, written
        return now - self.since


class HoneProtocol(HttpToolsProtocol):
    """One connection."""

    config: HoneConfig

    def __init__(
        self,
        config: HoneConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._all = config.connections
        self._rules = config.connections.settings
        self._extensions = {CLIENT_WATCH: self}
        self._on_gone: Callable[[], None] | None = None
        self._gone = False
        self._refused = False
        self._in_head = True
        self._head_bytes = 0
        self._framing_bytes = 0
        self._waiting_since: float | None = None
        self._unread = _Unread()
        self._request_limit_s = self._rules.request_timeout_s
        self._dropping = False
        self._dropped_bytes = 0
        self._heard_at = 0.0

    # Connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it if there are too many."""
        joined = _JoinedWrites(transport, self.loop, self._drops_the_rest)
        super().connection_made(joined)  # type: ignore[arg-type]
        self._waiting_since = self.loop.time()
        if len(self._all.open) < self._rules.max_connections:
            self._all.open.add(self)
        else:
            self._refuse(503, (b"retry-after", b"1"), reason="connections")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, and tell who watches it."""
        self._all.open.discard(self)
        self._gone = True
        watcher, self._on_gone = self._on_gone, None
        super().connection_lost(exc)
        if watcher is not None:
            watcher()

    def watch(self, on_gone: Callable[[], None] | None) -> None:
        """Call `on_gone` when the client leaves (at once if it has); None ends the watch."""
        self._on_gone = on_gone
        if on_gone is None:
            return
        self.flow.resume_reading()  # a connection that is not read from does not tell of its end
        if self._gone:
            self._on_gone = None
            on_gone()

    def allow_time(self, seconds: float) -> None:
        """Let the request that is being received take so long, if that is more than usual."""
        self._request_limit_s = max(seconds, self._rules.request_timeout_s)

    def shutdown(self) -> None:
        """Close when idle; finish the request that is being received or answered first."""
        if not (self._in_head and self._head_bytes):
            super().shutdown()

    # Receiving

    def data_received(self, data: bytes) -> None:
        """Feed the parser, never more of a head than is allowed."""
        if self._refused:
            return
        if self._dropping:
            self._drop(data)
            return
        if self._waiting_since is None:
            self._waiting_since = self.loop.time()
        while self._in_head and not self._refused:
            room = self._rules.max_header_bytes - self._head_bytes
            piece, data = data[:room], data[room:]
            self._head_bytes += len(piece)
            self._feed(piece)
            if not data:
                return
            if self._in_head and self._head_bytes >= self._rules.max_header_bytes:
                self._refuse(431, reason="header_too_large")
        if not self._refused:
            self._framing_bytes += len(data)
            self._feed(data)
            if self._framing_bytes > _FRAMING_BYTES and not self._in_head:
                self._refuse(400, reason="bad_framing")

    def _feed(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._refuse(400, reason="bad_request")
        except httptools.HttpParserUpgrade:
            pass  # there is nothing to upgrade to; the request itself is answered

    def on_message_begin(self) -> None:
        """Begin a request; the parser calls this and the following."""
        super().on_message_begin()
        self._request_limit_s = self._rules.request_timeout_s
        self.scope["extensions"] = self._extensions  # type: ignore[typeddict-item]

    def on_headers_complete(self) -> None:
        """Start the application."""
        self._in_head = False
        self._head_bytes = 0
        self._framing_bytes = 0
        super().on_headers_complete()
        if self._all.draining:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Pass on a part of the body."""
        self._framing_bytes -= 2 * len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request is whole."""
        self._in_head = True
        self._waiting_since = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Let the answer go before anything else is done."""
        self.transport.flush()  # type: ignore[attr-defined]
        super().on_response_complete()
        if self._dropping:
            self._unset_keepalive_if_required()

    # Dropping what comes behind an answer

    def _drops_the_rest(self) -> bool:
        """Tell whether the connection must stay, as it has an answer whose request still comes."""
        answered = self.cycle is not None and self.cycle.response_complete and not self._in_head
        if self._dropping or self._refused or self._gone or not answered:
            return False
        self._dropping, self._heard_at = True, self.loop.time()
        return True

    def _drop(self, data: bytes) -> None:
        self._heard_at = self.loop.time()
        self._dropped_bytes += len(data)
        if self._dropped_bytes > _MOST_DROPPED_BYTES:
            self.transport.close()

    def _drop_no_longer(self, now: float) -> None:
        late = self._waiting_since is None or now - self._waiting_since > self._request_limit_s
        if late or now - self._heard_at > _MOST_SILENT_S:
            self.transport.close()

    # Refusing

    def check_time(self, now: float) -> None:
        """End the connection if its request or the reading of its answer takes too long."""
        since = self._waiting_since
        if self._dropping:
            self._drop_no_longer(now)
        elif since is not None and not self.flow.read_paused and not self._refused:
            late = now - since
            limit = self._rules.header_timeout_s if self._in_head else self._request_limit_s
            if late > limit:
                self._late()
        self._check_unsent(now)

    def _late(self) -> None:
        if self._in_head and not self._head_bytes:
            self.transport.close()  # it never said a word
        else:
            self._refuse(408, reason="request_timeout")

    def _check_unsent(self, now: float) -> None:
        written = self.transport.written_bytes  # type: ignore[attr-defined]
        unsent = self.transport.get_write_buffer_size()
        if self._unread.seconds(now, written, unsent) > self._rules.request_timeout_s:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; uvicorn calls this."""
        del msg
        self._refuse(400, reason="bad_request")

    def _refuse(self, status: int, *headers: tuple[bytes, bytes], reason: str) -> None:
        """Answer with an error if it is this request's turn, read no more, and close shortly."""
        self._refused = True
        self._all.metrics.refuse(reason, None)
        if self.transport.is_closing():
            return
        if self._may_answer():
            self.transport.write(_raw_answer(answer_for_status(status, headers)))
        self.loop.call_later(_LINGER_S, self.transport.close)

    def _may_answer(self) -> bool:
        """Tell whether nothing was, or will be, written for the request that is being received."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None:
            return True
        if self._in_head:
            return cycle.response_complete
        return not cycle.response_started and not self.pipeline


def _raw_answer(answer: ErrorAnswer) -> bytes:
    body = answer.body()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
        (b"x-request-id", new_id("req_").encode()),
        *answer.headers,
    ]
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return STATUS_LINE[answer.status] + lines + b"\r\n" + body
