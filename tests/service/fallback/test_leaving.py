"""Who leaves while the prompt is asked pays for what was asked by then."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from hone.service.endpoint import CLIENT_WATCH, ClientGone, _fallen_back
from hone.service.limits import ALLOWANCE, Allowance, Bucket
from hone.service.tickets import PromptAnswer, Ticket, WorkItem


class HalfAnswered:
    """A fallback whose first text is answered for 30 tokens, and whose others never are."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    def below(self, ticket: Ticket) -> list[WorkItem]:
        return ticket.items

    async def ask(self, items: Sequence[WorkItem]) -> None:
        items[0].prompt_answer = PromptAnswer("answered", 0, prompt_tokens=30)
        self.asked.set()
        await asyncio.Event().wait()


class Watched:
    gone: Callable[[], None] | None = None

    def watch(self, on_gone: Callable[[], None] | None) -> None:
        self.gone = on_gone


@pytest.mark.parametrize("whose", ["client", "server"])
def test_a_fallback_that_is_left_is_charged(whose: str) -> None:
    async def leave() -> float:
        fallback, client = HalfAnswered(), Watched()
        ticket = Ticket(["card", "refund"], asyncio.get_running_loop().create_future())
        tokens = Bucket(100, 100.0, 0.0)
        allowance = Allowance(None, tokens, clock=lambda: 0.0)
        scope: Any = {"extensions": {CLIENT_WATCH: client}, ALLOWANCE: allowance}
        answering = asyncio.create_task(_fallen_back(fallback, ticket, scope))  # type: ignore[arg-type]
        await fallback.asked.wait()
        if whose == "client":
            assert client.gone is not None
            client.gone()
            with pytest.raises(ClientGone):
                await answering
        else:
            answering.cancel()
            with pytest.raises(asyncio.CancelledError):
                await answering
        assert client.gone is None
        return tokens.level

    assert asyncio.run(leave()) == 70
