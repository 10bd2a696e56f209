"""What a key may use in a minute: requests and tokens, as buckets that refill steadily.

The counts live in this process: behind several services of one address each has its own. Tokens
are known when an answer is, so a key may overdraw its tokens once and then waits until that is
refilled.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hone.service.errors import RateLimited
from hone.service.jobs.ids import Clock
from hone.service.jobs.keys import Key

ALLOWANCE = "hone.allowance"
"""Where a request's ASGI scope holds its key's allowance."""

MINUTE_S = 60.0

Headers = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Bucket:
    """`limit` units that come back within a minute; `level` is what there is at the time `at`."""

    limit: int
    level: float
    at: float

    def refill(self, now: float) -> None:
        """Add what came back since the last call."""
        gained = max(0.0, now - self.at) * self.limit / MINUTE_S
        self.level, self.at = min(float(self.limit), self.level + gained), now

    def wait_s(self, wanted: float = 1.0) -> float:
        """Return in how many seconds `wanted` units will be there; a minute if never."""
        if self.limit < wanted:
            return MINUTE_S
        return max(0.0, wanted - self.level) * MINUTE_S / self.limit

    def reset_s(self) -> float:
        """Return in how many seconds the bucket will be full."""
        return (self.limit - self.level) * MINUTE_S / self.limit if self.limit else MINUTE_S


@dataclass(slots=True)
class Allowance:
    """What is left to one key; a kind without a bucket has no limit."""

    requests: Bucket | None
    tokens: Bucket | None
    clock: Clock = field(default=time.monotonic, repr=False)

    def take(self) -> None:
        """Take one request; RateLimited if requests or tokens are used up."""
        now = self.clock()
        for kind, bucket in self._buckets():
            bucket.refill(now)
            if bucket.level < 1:
                message = f"This key may use {bucket.limit} {kind} in a minute, and has used them."
                raise RateLimited(message, retry_after_s=bucket.wait_s())
        if self.requests is not None:
            self.requests.level -= 1

    def spend_tokens(self, count: int) -> None:
        """Take the tokens of an answer, even if that is more than there are."""
        if self.tokens is not None:
            self.tokens.refill(self.clock())
            self.tokens.level -= count

    def headers(self) -> Headers:
        """Return the headers by which clients see what is left, as the hosted API has them."""
        return [pair for kind, bucket in self._buckets() for pair in _headers(kind, bucket)]

    def _buckets(self) -> Iterator[tuple[str, Bucket]]:
        if self.requests is not None:
            yield "requests", self.requests
        if self.tokens is not None:
            yield "tokens", self.tokens


class RateLimits:
    """The allowances of all keys that have limits. For the event loop's thread."""

    def __init__(self, *, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._allowances: dict[str, Allowance] = {}

    def of(self, key: Key | None) -> Allowance | None:
        """Return a key's allowance, None where nothing is limited."""
        if key is None or (key.requests_per_minute is None and key.tokens_per_minute is None):
            return None
        known = self._allowances.get(key.id)
        if known is None:
            buckets = (self._full(key.requests_per_minute), self._full(key.tokens_per_minute))
            known = self._allowances[key.id] = Allowance(*buckets, clock=self._clock)
        return known

    def _full(self, limit: int | None) -> Bucket | None:
        return None if limit is None else Bucket(limit, float(limit), self._clock())


def spend_tokens(scope: Any, count: int) -> None:  # noqa: ANN401 - an ASGI scope
    """Charge the tokens of an answer to the request's key, if that has a limit."""
    allowance: Allowance | None = scope.get(ALLOWANCE)
    if allowance is not None:
        allowance.spend_tokens(count)


def duration(seconds: float) -> str:
    """Write a time as the hosted API does: `12ms`, `7.5s`, `6m0s`."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    if seconds < MINUTE_S:
        return f"{round(seconds, 3):g}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest}s"


def _headers(kind: str, bucket: Bucket) -> Headers:
    values = {
        "limit": str(bucket.limit),
        "remaining": str(max(0, int(bucket.level))),
        "reset": duration(max(0.0, bucket.reset_s())),
    }
    return [(f"x-ratelimit-{name}-{kind}".encode(), v.encode()) for name, v in values.items()]
