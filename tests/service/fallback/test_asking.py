"""Asking without a service: what counts against an upstream, and how many places a request has."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from hone.models.manifest import Manifest
from hone.models.prompting.calls import failure
from hone.service.fallback.asking import ModelFallback
from hone.service.fallback.line import FallbackLine
from hone.service.fallback.metrics import FallbackFamilies
from hone.service.settings import Settings
from hone.service.tickets import Ticket

Post = Callable[[], Coroutine[Any, Any, Any]]


class Posting:
    """A line whose every call is `post`; `busiest` is how many ran at once."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self.running = self.busiest = 0

    async def post(self, *_: object) -> Any:
        self.running += 1
        self.busiest = max(self.busiest, self.running)
        try:
            return await self._post()
        finally:
            self.running -= 1


def asked(
    made: tuple[Path, Manifest], post: Post, texts: int, answerer: Any = None, **settings: Any
) -> Any:
    """Ask about so many texts; return the outcomes, the line and the calls."""
    record = made[1].fallback
    assert record is not None
    plain = SimpleNamespace(path="/x", prompt=lambda text: text, request=lambda _: b"{}")
    answerer = answerer or plain
    posting: Any = Posting(post)

    async def ask() -> Any:
        chosen = Settings(store=made[0] / "store", fallback_url="http://x", **settings)
        line = FallbackLine(posting, chosen)
        fallback = ModelFallback(
            record, made[1].labels, answerer=answerer, line=line, price=None,
            families=FallbackFamilies(CollectorRegistry()), names=("support", "1"),
        )  # fmt: skip
        words = [f"card {number}" for number in range(texts)]
        ticket = Ticket(words, asyncio.get_running_loop().create_future())
        for item in ticket.items:
            item.row, item.order = np.zeros(3, np.float32), np.arange(3)
        await fallback.ask(ticket.items)
        outcomes = [item.prompt_answer.outcome for item in ticket.items if item.prompt_answer]
        return outcomes, line.breaker(record.arm.model), posting

    return asyncio.run(ask())


def test_a_request_is_made_off_the_event_loop(made: tuple[Path, Manifest]) -> None:
    threads: dict[str, threading.Thread] = {}

    def noted(what: str, given: Any) -> Any:
        threads[what] = threading.current_thread()
        return given

    async def fails() -> Any:
        threads["sent"] = threading.current_thread()
        raise failure(400, {}, b"")

    answerer = SimpleNamespace(
        path="/x",
        prompt=lambda text: noted("prompt", text),
        request=lambda _: noted("request", b"{}"),
    )
    asked(made, fails, 1, answerer)
    assert threads["sent"] is threading.current_thread()
    assert threads["prompt"] is not threads["sent"] is not threads["request"]


@pytest.mark.parametrize(
    ("status", "headers", "body", "open_"),
    [
        (429, {}, b'{"error": {"code": "insufficient_quota"}}', True),
        (402, {}, b"", True),
        (302, {}, b"", True),
        (405, {}, b"", True),
        (401, {}, b"", True),
        (503, {"x-should-retry": "false"}, b"", True),
        (400, {}, b"", False),
        (413, {}, b"", False),
        (422, {}, b"", False),
    ],
)
def test_what_would_befall_any_text_counts_against_the_upstream(
    made: tuple[Path, Manifest], status: int, headers: dict[str, str], body: bytes, open_: bool
) -> None:
    async def fail() -> None:
        raise failure(status, headers, body)

    outcomes, breaker, _ = asked(made, fail, 2, fallback_failures=2)
    assert outcomes == ["failed", "failed"]
    assert breaker.admits() is not open_


def test_one_request_has_a_quarter_of_the_places_and_begins_nothing_too_late(
    made: tuple[Path, Manifest],
) -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    outcomes, _, posting = asked(made, hang, 9, fallback_concurrency=8, fallback_timeout_s=0.5)
    assert posting.busiest == 2
    assert outcomes == ["timed_out"] * 2 + ["busy"] * 7
