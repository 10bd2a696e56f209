"""A batch holds the oldest text, keeps its bounds, and is never dearer than running texts alone."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hone.models.batching import Entry, choose_batch

OVERHEAD = 8.0
lengths = st.lists(st.integers(1, 60), min_size=1, max_size=40).map(sorted)


def pool_of(sizes: list[int]) -> list[Entry]:
    return [(length, number, None) for number, length in enumerate(sizes)]


def cost_of_a_token(pool: list[Entry], low: int, high: int) -> float:
    batch = [length for length, _, _ in pool[low:high]]
    return (OVERHEAD + len(batch) * batch[-1]) / sum(batch)


def choose(pool: list[Entry], place: int, **bounds: Any) -> tuple[int, int]:
    options = {"most_texts": 99, "batch_tokens": 10**6, "overhead_tokens": OVERHEAD, **bounds}
    return choose_batch(pool, pool[place][:2], **options)


@given(
    sizes=lengths, place=st.floats(0, 0.999), most=st.integers(1, 40), budget=st.integers(1, 300)
)
def test_a_batch_keeps_its_bounds_and_holds_the_text_it_is_made_for(
    sizes: list[int], place: float, most: int, budget: int
) -> None:
    pool, at = pool_of(sizes), int(place * len(sizes))
    low, high = choose(pool, at, most_texts=most, batch_tokens=budget)
    assert low <= at < high
    assert high - low <= most
    assert high - low == 1 or (high - low) * pool[high - 1][0] <= budget


@given(sizes=lengths, place=st.floats(0, 0.999))
def test_no_neighbour_could_be_added_that_makes_it_cheaper(sizes: list[int], place: float) -> None:
    pool, at = pool_of(sizes), int(place * len(sizes))
    low, high = choose(pool, at)
    found = cost_of_a_token(pool, low, high)
    assert found <= cost_of_a_token(pool, at, at + 1) + 1e-9
    for wider in ((low - 1, high), (low, high + 1)):
        if wider[0] >= 0 and wider[1] <= len(pool):
            assert found <= cost_of_a_token(pool, *wider) + 1e-9


def test_texts_of_one_length_run_together_and_a_long_one_stays_out() -> None:
    pool = pool_of([10, 10, 10, 10, 60])
    assert choose(pool, 2) == (0, 4)
    assert choose(pool, 4) == (4, 5)


@pytest.mark.parametrize(("overhead", "texts"), [(1.0, 2), (4096.0, 6)])
def test_the_dearer_a_batch_is_by_itself_the_more_padding_is_worth_it(
    overhead: float, texts: int
) -> None:
    pool = pool_of([10, 10, 20, 30, 40, 50])
    low, high = choose(pool, 0, overhead_tokens=overhead)
    assert (low, high) == (0, texts)
