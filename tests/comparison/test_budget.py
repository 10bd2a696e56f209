"""A budget is never passed, whatever runs side by side."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hone.comparison.budget import Budget, BudgetSpent, dollars, most_dollars
from hone.comparison.prices import Price
from hone.models.prompting.usage import Usage

CALLS = st.lists(st.tuples(st.floats(0, 2), st.floats(0, 1), st.integers(0, 3)), max_size=30)
"""What each call reserves, which share of that it costs, and how many turns it takes."""


@given(CALLS, st.floats(0, 20), st.integers(1, 8))
def test_what_is_spent_and_set_aside_is_never_more_than_the_limit(
    calls: list[tuple[float, float, int]], limit: float, workers: int
) -> None:
    async def spend() -> Budget:
        budget = Budget(limit)
        waiting = iter(calls)

        async def work() -> None:
            for most, share, turns in waiting:
                try:
                    await budget.reserve(most)
                except BudgetSpent:
                    assert budget.spent + most > limit
                    return
                assert budget.spent + budget.reserved <= limit + 1e-9
                for _ in range(turns):
                    await asyncio.sleep(0)
                await budget.settle(most, most * share)

        await asyncio.wait_for(asyncio.gather(*(work() for _ in range(workers))), 30)
        return budget

    budget = asyncio.run(spend())
    assert budget.spent <= limit + 1e-9
    assert budget.reserved == 0


def test_a_call_that_finds_no_room_waits_for_those_under_way() -> None:
    async def spend() -> float:
        budget = Budget(1.0)
        await budget.reserve(0.9)
        second = asyncio.create_task(budget.reserve(0.5))
        await asyncio.sleep(0.01)
        assert not second.done()
        await budget.settle(0.9, 0.1)
        await second
        with pytest.raises(BudgetSpent):
            await asyncio.gather(budget.settle(0.5, 0.5), budget.reserve(0.5))
        return budget.spent

    assert asyncio.run(spend()) == pytest.approx(0.6)


PRICE = Price(2e-6, 8e-6, 1e-7, 3e-6)


@given(st.text(max_size=200), st.integers(0, 50), st.integers(0, 100), st.floats(0, 1))
def test_the_bound_of_a_call_is_one(text: str, answer: int, allowed: int, cached: float) -> None:
    size = len(text.encode("utf-8", "replace"))
    body = json.dumps({"messages": [{"role": "user", "content": text}]}, ensure_ascii=False)
    most = most_dollars(PRICE, len(body.encode("utf-8", "replace")), allowed)
    usage = Usage(
        prompt_tokens=size,  # no tokenizer of bytes gives more
        completion_tokens=min(answer, allowed),
        cached_tokens=int(cached * size),
        counting="measured",
    )
    cost = dollars(PRICE, usage)
    assert cost is not None
    assert cost <= most + 1e-15


def test_without_a_price_nothing_is_known_and_nothing_reserved() -> None:
    assert dollars(None, Usage(prompt_tokens=5)) is None
    assert most_dollars(None, 1000, 100) == 0
