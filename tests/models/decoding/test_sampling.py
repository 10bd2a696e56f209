"""Which token is chosen: by the distribution, the bounds on it, and the seed."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hone.models.decoding.sampling import (
    Sampler,
    SamplingParameters,
    draw,
    logprob_of,
    prompt_logprobs,
)

LOGITS = np.log(np.array([0.5, 0.3, 0.15, 0.05], dtype=np.float32))
logits_of = arrays.arrays(
    np.float32, st.integers(2, 600), elements=st.floats(-30, 30, width=32)
)  # fmt: skip


def shares(count: int = 2000) -> np.ndarray:
    return (np.arange(count) + 0.5) / count


def distribution(temperature: float = 1, top_k: int = 0, top_p: float = 1) -> dict[int, float]:
    drawn = Counter(
        draw(LOGITS, share, temperature=temperature, top_k=top_k, top_p=top_p) for share in shares()
    )
    return {token: count / 2000 for token, count in drawn.items()}


def test_shares_of_the_unit_interval_are_the_probabilities() -> None:
    assert distribution() == pytest.approx({0: 0.5, 1: 0.3, 2: 0.15, 3: 0.05}, abs=1e-3)


def test_temperature_sharpens() -> None:
    squares = np.array([0.25, 0.09, 0.0225, 0.0025])
    assert distribution(temperature=0.5) == pytest.approx(
        dict(enumerate(squares / squares.sum())), abs=1e-3
    )


def test_top_k_keeps_the_best() -> None:
    assert distribution(top_k=2) == pytest.approx({0: 0.625, 1: 0.375}, abs=1e-3)


def test_top_p_keeps_the_fewest_that_reach_it() -> None:
    assert distribution(top_p=0.5) == {0: 1.0}
    assert distribution(top_p=0.51) == pytest.approx({0: 0.625, 1: 0.375}, abs=1e-3)
    assert distribution(top_p=0) == {0: 1.0}


def test_top_p_counts_within_top_k() -> None:
    assert distribution(top_k=3, top_p=0.8) == pytest.approx({0: 0.625, 1: 0.375}, abs=1e-3)


@given(logits_of, st.floats(0, 1, exclude_max=True), st.floats(0.01, 2), st.floats(0.001, 1))
def test_a_drawn_token_belongs_to_the_nucleus(
    logits: np.ndarray, share: float, temperature: float, top_p: float
) -> None:
    token = draw(logits, share, temperature=temperature, top_k=0, top_p=top_p)
    scaled = logits.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max())
    better = weights[weights > weights[token]].sum() / weights.sum()
    assert better < top_p + 1e-9


@given(logits_of)
def test_a_flat_distribution_beyond_the_first_candidates_is_sorted_whole(
    logits: np.ndarray,
) -> None:
    flat = np.zeros_like(logits)
    last = draw(flat, np.nextafter(1, 0), temperature=1, top_k=0, top_p=0.999999)
    assert last == len(flat) - 1


def test_greedy_takes_the_best_and_draws_nothing() -> None:
    for parameters in (SamplingParameters(temperature=0), SamplingParameters(top_k=1)):
        sampler = Sampler(parameters)
        assert {sampler.choose(LOGITS) for _ in range(20)} == {0}


def test_a_seed_repeats_and_choices_differ() -> None:
    def said(seed: int | None, choice: int = 0) -> list[int]:
        sampler = Sampler(SamplingParameters(seed=seed), choice=choice)
        return [sampler.choose(LOGITS) for _ in range(64)]

    assert said(3) == said(3)
    assert said(-3) == said(-3)
    assert len({tuple(said(3)), tuple(said(-3)), tuple(said(4)), tuple(said(3, 1))}) == 4
    assert said(None) != said(None)


def test_a_frequency_penalty_grows_with_each_time_and_a_presence_penalty_does_not() -> None:
    flat = np.zeros(3, dtype=np.float32)
    once = SamplingParameters(temperature=0, presence_penalty=1)
    more = SamplingParameters(temperature=0, frequency_penalty=1)
    assert [Sampler(more).choose(flat) for _ in range(1)] == [0]
    sampler = Sampler(more)
    assert [sampler.choose(flat) for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    logits = np.array([2.0, 0.5, 0.0], dtype=np.float32)
    sampler = Sampler(once)
    assert [sampler.choose(logits) for _ in range(4)] == [0, 0, 0, 0]
    sampler = Sampler(more)
    assert [sampler.choose(logits) for _ in range(4)] == [0, 0, 1, 0]


def test_a_bias_can_force_and_forbid() -> None:
    forced = Sampler(SamplingParameters(logit_bias={3: 100.0}))
    assert {forced.choose(LOGITS) for _ in range(50)} == {3}
    forbidden = Sampler(SamplingParameters(logit_bias={0: -100.0}))
    assert 0 not in {forbidden.choose(LOGITS) for _ in range(200)}


def test_only_what_is_allowed_is_chosen() -> None:
    allowed = np.array([False, False, True, True])
    sampler = Sampler(SamplingParameters())
    assert {sampler.choose(LOGITS, allowed=allowed) for _ in range(200)} == {2, 3}
    with pytest.raises(ValueError, match="no token"):
        sampler.choose(LOGITS, allowed=np.zeros(4, dtype=bool))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_refused(bad: float) -> None:
    logits = LOGITS.copy()
    logits[2] = bad
    with pytest.raises(ValueError, match="no token"):
        Sampler(SamplingParameters()).choose(logits)


def test_the_logits_are_left_as_they_are() -> None:
    logits = LOGITS.copy()
    sampler = Sampler(SamplingParameters(logit_bias={1: 5}, presence_penalty=2))
    for _ in range(3):
        sampler.choose(logits, allowed=np.array([True, True, False, True]))
    assert (logits == LOGITS).all()


def test_logprobs_are_those_of_the_model() -> None:
    found = logprob_of(LOGITS, 2, 2)
    assert found.logprob == pytest.approx(math.log(0.15), abs=1e-6)
    assert [token for token, _ in found.top] == [0, 1]
    assert found.top[0][1] == pytest.approx(math.log(0.5), abs=1e-6)
    assert logprob_of(LOGITS, 2, 0).top == ()
    two = prompt_logprobs(np.stack([LOGITS, LOGITS]), [0, 3], 1)
    assert [one.logprob for one in two] == pytest.approx([math.log(0.5), math.log(0.05)], abs=1e-6)


@pytest.mark.parametrize("temperature", [1e-320, 5e-324, 1e-300, 1e-9])
def test_a_temperature_of_hardly_more_than_nothing_is_greedy(temperature: float) -> None:
    sampler = Sampler(SamplingParameters(temperature=temperature, seed=1))
    assert {sampler.choose(LOGITS) for _ in range(20)} == {0}  # and no warning, which would raise


@given(temperature=st.floats(1e-6, 2), logits=logits_of)
def test_the_coldest_temperature_that_draws_has_no_overflow(
    temperature: float, logits: np.ndarray
) -> None:
    sampler = Sampler(SamplingParameters(temperature=temperature, seed=1))
    assert 0 <= sampler.choose(logits) < len(logits)
