"""The headers that say who answered stay short, however many texts there are."""

import asyncio
from typing import get_args

import pytest

from hone.service.answers import answered_by_headers
from hone.service.tickets import FallbackOutcome, PromptAnswer, Ticket


def headers(texts: int, answers: dict[int, PromptAnswer]) -> dict[bytes, bytes]:
    async def made() -> Ticket:
        return Ticket(["card"] * texts, asyncio.get_running_loop().create_future())

    ticket = asyncio.run(made())
    for place, answer in answers.items():
        ticket.items[place].prompt_answer = answer
    return dict(answered_by_headers(ticket))


def test_texts_that_differ_have_a_word_each_while_they_are_few() -> None:
    said = headers(32, {31: PromptAnswer("answered", 0), 0: PromptAnswer("busy")})
    assert said[b"x-hone-answered-by"] == b"model, " * 31 + b"prompt"
    assert said[b"x-hone-fallback"] == b"busy, " + b"none, " * 30 + b"answered"


@pytest.mark.parametrize("texts", [33, 256, 5000])
def test_many_texts_that_differ_are_mixed(texts: int) -> None:
    said = headers(texts, {0: PromptAnswer("answered", 0)})
    assert set(said.values()) == {b"mixed"}


@pytest.mark.parametrize("outcome", get_args(FallbackOutcome))
def test_many_texts_that_agree_have_one_word(outcome: FallbackOutcome) -> None:
    said = headers(256, dict.fromkeys(range(256), PromptAnswer(outcome)))
    assert said == {b"x-hone-answered-by": b"model", b"x-hone-fallback": outcome.encode()}
