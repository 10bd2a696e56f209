"""One call over HTTP: bounded in time and in size, and what it means when it fails.

aiohttp, because its time limit is for the whole call (an answer that trickles in for ever ends,
too) and a body can be read in pieces. Redirects are not followed: they would carry the key away.
"""

import asyncio
import io
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp
import orjson

MOST_BODY_BYTES = 8 * 2**20
_MOST_AT_ONCE = 2**16
"""Bytes of a body that are sent at once. Above 1 MiB aiohttp warns that the loop is blocked."""

_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
_GIVEN_UP_ON = frozenset({408, 504, 524})
"""A gateway that stopped waiting; the model behind it may have gone on."""
_WORD = re.compile(r"[a-z][a-z0-9_]{0,59}")


class CallFailed(Exception):
    """A call without an answer.

    `reason` is one line without address, key or body. `again` says whether another try makes
    sense, `after_s` when at the earliest, `may_be_billed` whether the answerer may have done the
    work, `filtered` that its content filter refused, and `status` what it said.
    """

    def __init__(
        self,
        reason: str,
        *,
        again: bool = False,
        after_s: float | None = None,
        may_be_billed: bool = False,
        filtered: bool = False,
        status: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.again = again
        self.after_s = after_s
        self.may_be_billed = may_be_billed
        self.filtered = filtered
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of an answer with status 200, and how long it took from the first byte sent."""

    body: bytes
    seconds: float


class Line:
    """A connection to one answerer; made by `connect`."""

    def __init__(self, session: aiohttp.ClientSession, address: str, key: str | None) -> None:
        self._session = session
        self._address = address
        self._key = key.encode() if key else None

    async def post(self, path: str, body: bytes) -> Answer:
        """Send a body of JSON; CallFailed without an answer of status 200.

        One with pictures has many megabytes: whoever calls makes it off the loop.
        """
        started = time.perf_counter()
        try:
            async with self._session.post(
                self._address + path, data=_sent(body), allow_redirects=False
            ) as response:
                answered = await _read_bounded(response)
                seconds = time.perf_counter() - started
                if response.status != 200:
                    raise failure(response.status, response.headers, answered)
                return Answer(self._without_key(answered), seconds)
        except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError):
            raise CallFailed("cannot connect", again=True, status=0) from None
        except TimeoutError:
            raise CallFailed("no answer in time", again=True, may_be_billed=True) from None
        except (aiohttp.ClientError, OSError):
            reason = "the connection broke before the answer was whole"
            raise CallFailed(reason, again=True, may_be_billed=True) from None

    def _without_key(self, body: bytes) -> bytes:
        """Return what may be kept of a body: an answerer that echoes the key gives it away."""
        return body if self._key is None else body.replace(self._key, b"[key]")


@asynccontextmanager
async def connect(
    address: str,
    *,
    key: str | None,
    key_header: str,
    timeout_s: float,
    connections: int,
    agent: str,
) -> AsyncIterator[Line]:
    """Give a line to an answerer, whose connections are kept open between calls."""
    headers = {"Content-Type": "application/json", "User-Agent": agent}
    if key is not None:
        bearer = key_header.casefold() == "authorization"
        headers[key_header] = f"Bearer {key}" if bearer else key
    limits = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(timeout_s, 15))
    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(
        connector=connector,
        headers=headers,
        timeout=limits,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    ) as session:
        yield Line(session, address, key)
    await asyncio.sleep(0)  # lets the transports close before the loop may end


def _sent(body: bytes) -> bytes | io.BytesIO:
    """Return a body as aiohttp takes it: a large one, which shares its bytes, goes in pieces."""
    return io.BytesIO(body) if len(body) > _MOST_AT_ONCE else body


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > MOST_BODY_BYTES:
            raise CallFailed(
                f"the answer is longer than {MOST_BODY_BYTES >> 20} MiB", may_be_billed=True
            )
    return bytes(body)


def failure(status: int, headers: Mapping[str, str], body: bytes) -> CallFailed:
    """Return what an answer with another status than 200 means."""
    code, parameter = _error_words(body, "code", "type"), _error_words(body, "param")
    told = ": ".join(word for word in (code, parameter) if word)
    reason = f"status {status}" + (f" ({told})" if told else "")
    wished = headers.get("x-should-retry", "").casefold()
    again = wished == "true" or (status in _RETRIED and wished != "false")
    if status == 429 and code == "insufficient_quota":
        again = False
    return CallFailed(
        reason,
        again=again,
        after_s=retry_after_s(headers),
        may_be_billed=status in _GIVEN_UP_ON,
        filtered=status == 400 and code in {"content_filter", "content_policy_violation"},
        status=status,
    )


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return how long an answerer asks to be left alone: `retry-after-ms`, or `Retry-After` in
    seconds or as a date; None if it does not, or not in words that can be read.
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            waiting = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if 0 <= waiting < float("inf"):
            return waiting
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
    except (ValueError, TypeError):
        return None
    aware = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (aware - (now or datetime.now(UTC))).total_seconds())


def _error_words(body: bytes, *keys: str) -> str:
    """Return the first of an error body's fields that is one plain word.

    Nothing else of it is shown: its message may repeat a text, or a part of the key.
    """
    try:
        error = orjson.loads(body)["error"]
        found = [error.get(key) for key in keys]
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return ""
    return next((w for w in found if isinstance(w, str) and _WORD.fullmatch(w)), "")
