"""What a replacement costs and saves: recounts, break-even, and the unknown."""

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hone.comparison.economics import cached_request_usd, cost_of, net_tokens, part, savings
from hone.comparison.monthly import (
    HOURS_A_MONTH,
    Part,
    a_request,
    break_even,
    month,
    payback,
    pays_until,
)
from hone.comparison.outcomes import Outcome
from hone.comparison.prices import Price
from hone.comparison.question import Arm, ArmCosts, Question, Serving
from hone.models.prompting.usage import Usage

PRICE = Price(1.5e-7, 6e-7, 7.5e-8, 1.9e-7)


def outcome(usage: Usage, *, item: str = "a", seconds: float | None = 0.5) -> Outcome:
    return Outcome(
        contender="arm",
        item=item,
        kind="answered",
        label="x",
        seconds=seconds,
        usage=usage,
        spent=usage,
    )


def measured(prompt: int, completion: int = 5, cached: int = 0, written: int = 0) -> Usage:
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=cached,
        cache_write_tokens=written,
        counting="measured",
    )


def question(baseline: ArmCosts, candidate: ArmCosts, **changed: object) -> Question:
    fields: dict[str, object] = {
        "baseline": "prompt",
        "candidate": "model",
        "arms": {"prompt": Arm(costs=baseline), "model": Arm(costs=candidate)},
        "margin": 0.02,
    }
    return Question.model_validate(fields | changed)


usages = st.builds(
    lambda cached, written, fresh, completion: measured(
        cached + written + fresh, completion, cached, written
    ),
    *[st.integers(0, 5000)] * 4,
)


@given(st.lists(usages, min_size=1, max_size=40))
def test_dollars_equal_a_recount_in_decimals(spent: list[Usage]) -> None:
    found = cost_of([outcome(usage) for usage in spent], ArmCosts(price=PRICE))
    exact = sum(
        (
            Decimal(u.prompt_tokens - u.cached_tokens - u.cache_write_tokens) * Decimal("1.5e-7")
            + Decimal(u.cached_tokens) * Decimal("7.5e-8")
            + Decimal(u.cache_write_tokens) * Decimal("1.9e-7")
            + Decimal(u.completion_tokens) * Decimal("6e-7")
            for u in spent
        ),
        Decimal(0),
    )
    assert found.run_usd == pytest.approx(float(exact), abs=1e-9)
    assert found.tokens.prompt == sum(usage.prompt_tokens for usage in spent)
    assert found.tokens.completion == sum(usage.completion_tokens for usage in spent)


def test_what_retries_spent_is_paid_for() -> None:
    found = cost_of(
        [
            Outcome(
                contender="arm",
                item="a",
                kind="answered",
                label="x",
                usage=measured(100),
                spent=measured(300, 15),
                calls=3,
            )
        ],
        ArmCosts(price=PRICE),
    )
    assert (found.tokens.prompt, found.tokens.completion) == (300, 15)


def test_recorded_answers_with_a_usage_alone_are_paid_by_it() -> None:
    recorded = Outcome(contender="arm", item="a", kind="answered", label="x", usage=measured(100))
    assert cost_of([recorded], ArmCosts(price=PRICE)).tokens.prompt == 100


def test_an_unknown_price_is_unknown_and_not_zero() -> None:
    found = cost_of([outcome(measured(100))], ArmCosts(price_name="gpt-9"))
    assert found.run_usd is None
    assert found.tokens_usd is None
    assert "gpt-9" in found.unknown
    assert cost_of([outcome(measured(100))], ArmCosts()).tokens_usd is None
    assert cost_of([outcome(Usage())], ArmCosts(free=True)).tokens_usd == 0


def test_calls_without_a_token_count_are_left_out_of_the_mean_and_counted() -> None:
    found = cost_of([outcome(measured(100, 0)), outcome(Usage())], ArmCosts(price=PRICE))
    assert found.tokens_usd == pytest.approx(100 * 1.5e-7)
    assert found.tokens.uncounted == 1
    nothing = cost_of([outcome(Usage())], ArmCosts(price=PRICE))
    assert nothing.tokens_usd is None
    assert "not counted" in nothing.unknown


def test_the_least_certain_counting_gives_the_label() -> None:
    exact = measured(10).model_copy(update={"counting": "exact"})
    guessed = measured(10).model_copy(update={"counting": "estimated"})
    costs = ArmCosts(price=PRICE)
    assert cost_of([outcome(measured(10))], costs).tokens.label == "measured"
    assert cost_of([outcome(measured(10)), outcome(exact)], costs).tokens.label == "exact"
    assert cost_of([outcome(exact), outcome(guessed)], costs).tokens.label == "estimated"
    assert cost_of([outcome(Usage())], costs).tokens.label == "none"


def test_a_machines_throughput_is_the_runs_where_none_is_stated() -> None:
    calls = [outcome(Usage(), seconds=0.25), outcome(Usage(), seconds=0.75)]
    found = cost_of(calls, ArmCosts(serving=Serving(usd_per_hour=1))).served
    assert found is not None
    assert found.from_run
    assert found.requests_per_second == 2
    silent = cost_of([outcome(Usage(), seconds=None)], ArmCosts(serving=Serving(usd_per_hour=1)))
    assert "throughput" in silent.unknown


def test_a_machine_that_is_paid_for_its_use_costs_by_the_request() -> None:
    serving = Serving(usd_per_hour=3.6, requests_per_second=10, most_in_use=0.5, billing="per_use")
    found = cost_of([outcome(Usage())], ArmCosts(serving=serving)).served
    assert found is not None
    assert found.usd_a_request == pytest.approx(3.6 / 3600 / 5)


parts = st.builds(
    Part,
    share=st.floats(0.05, 1),
    request_usd=st.floats(0, 0.01),
    machine_usd=st.floats(0, 200),
    machine_requests=st.floats(1e4, 1e7),
)


@given(
    st.lists(parts, min_size=1, max_size=2),
    st.lists(parts, min_size=1, max_size=2),
    st.floats(0, 500),
)
def test_break_even_is_the_first_volume_at_which_nothing_is_lost(
    old: list[Part], new: list[Part], fixed: float
) -> None:
    found = break_even(old, new, fixed=fixed)

    def saved(requests: float) -> float:
        return month(old, requests) - month(new, requests) - fixed

    if found != math.inf:
        just_above = found * (1 + 1e-9) + 1e-6
        assert saved(just_above) >= -1e-6 * (1 + month(new, just_above))
    reach = min(found, 50 * min(p.machine_requests for p in [*old, *new]))
    for step in range(1, 60):
        before = reach * step / 61
        assert saved(before) < 1e-6 * (1 + month(new, before) + fixed)


@given(
    st.lists(parts, min_size=1, max_size=2),
    st.lists(parts, min_size=1, max_size=2),
    st.floats(0, 500),
)
def test_where_it_ends_to_pay_is_the_last_volume_at_which_nothing_is_lost(
    old: list[Part], new: list[Part], fixed: float
) -> None:
    end = pays_until(old, new, fixed=fixed)

    def saved(requests: float) -> float:
        return month(old, requests) - month(new, requests) - fixed

    reach = 1000 * min(p.machine_requests / p.share for p in [*old, *new])
    if end is None:
        # It never pays, or every further request pays when machines are in use.
        assert break_even(old, new, fixed=fixed) == math.inf or (
            a_request(old, None) >= a_request(new, None)
        )
        return
    assert break_even(old, new, fixed=fixed) <= end * (1 + 1e-9)
    just_below = end * (1 - 1e-9)
    assert saved(just_below) >= -1e-6 * (1 + month(new, just_below) + fixed)
    for step in range(1, 60):
        beyond = end * (1 + 1e-9) + (reach - end) * step / 60
        if beyond > end:
            assert saved(beyond) < 1e-6 * (1 + month(new, beyond) + fixed)


def test_what_an_idle_machine_saves_ends_where_requests_cost_more() -> None:
    # $730 a month for a machine of one's own, against $0.001 a request: nothing beyond 730,000.
    old, new = [Part(1, 0, 730, 1e7)], [Part(1, 0.001)]
    assert break_even(old, new) == 0
    assert pays_until(old, new) == 730_000
    assert pays_until([Part(1, 0.002)], new) is None
    assert pays_until(new, [Part(1, 0.002)]) is None  # it never pays
    slow = [Part(1, 0, 365, 1e5)]  # half the price, and a hundredth of the requests
    assert pays_until(old, slow) == 200_000
    assert pays_until(old, slow, fixed=365) == 100_000


@given(st.lists(parts, min_size=1, max_size=3), st.floats(1, 1e9))
def test_a_request_times_their_number_is_the_month(ways: list[Part], requests: float) -> None:
    assert a_request(ways, requests) * requests == pytest.approx(month(ways, requests))
    assert a_request(ways, requests) >= a_request(ways, None) * (1 - 1e-9)


def test_an_idle_machine_makes_requests_dear_and_a_busy_one_cheap() -> None:
    # $30 a month, planned for 1,000 requests.
    ways = [Part(1, 0.001, 30, 1000)]
    assert a_request(ways, 10) == pytest.approx(3.001)
    assert a_request(ways, 1000) == pytest.approx(0.031)
    assert a_request(ways, 1001) == pytest.approx(0.001 + 60 / 1001)
    assert a_request(ways, None) == pytest.approx(0.031)


@pytest.mark.parametrize("volume", [2_000.0, 200_000.0, 90_000_000.0])
def test_what_1000_requests_save_is_what_the_month_saves(volume: float) -> None:
    asked = question(
        ArmCosts(price=PRICE), ArmCosts(serving=BOX), requests_per_month=volume, shadow_share=0.1
    )
    baseline = cost_of([outcome(measured(1500, 10))] * 4, asked.arms["prompt"].costs)
    candidate = cost_of([outcome(Usage())] * 4, asked.arms["model"].costs)
    for kept in (1.0, 0.6):
        for found in savings(baseline, candidate, asked, kept=kept):
            assert found.per_1000 is not None
            assert found.saved_month is not None
            assert found.replacement_1000 is not None
            assert found.replacement_month is not None
            assert found.break_even is not None
            assert found.per_1000 * volume / 1000 == pytest.approx(found.saved_month)
            assert found.replacement_1000 * volume / 1000 == pytest.approx(found.replacement_month)
            if volume < found.break_even:
                assert found.per_1000 < 0
    alone = part(candidate, 1.0)
    assert alone is not None
    assert 1000 * a_request([alone], volume) == pytest.approx(
        1000 * 30 * math.ceil(volume / alone.machine_requests) / volume
    )


def test_the_textbook_break_even() -> None:
    # A 1,500-token prompt at $0.155 a thousand against a $30 machine: 193,548 requests a month.
    old = [Part(1, 0.000155)]
    assert break_even(old, [Part(1, 0, 30, 1e9)]) == pytest.approx(193_548, abs=1)
    assert break_even(old, [Part(1, 0, 30, 1e5)]) == math.inf
    assert break_even(old, [Part(1, 0.0001)]) == 0
    assert break_even(old, [Part(1, 0.0002)]) == math.inf


BOX = Serving(usd_per_hour=30 / HOURS_A_MONTH, requests_per_second=50)


def both(**changed: object) -> tuple[list[float | None], list[float | None]]:
    asked = question(
        ArmCosts(price=PRICE, static_prompt_tokens=1400),
        ArmCosts(serving=BOX, training_usd=10, labelling_usd=90),
        **changed,
    )
    baseline = cost_of([outcome(measured(1500, 10))] * 4, asked.arms["prompt"].costs)
    candidate = cost_of([outcome(Usage())] * 4, asked.arms["model"].costs)
    found = savings(baseline, candidate, asked)
    return [one.saved_month for one in found], [one.break_even for one in found]


def test_savings_shrink_with_the_baselines_price_and_its_cache_and_go_below_zero() -> None:
    saved, even = both(requests_per_month=200_000)
    a_request = 1500 * 1.5e-7 + 10 * 6e-7
    cached = 100 * 1.5e-7 + 1400 * 7.5e-8 + 10 * 6e-7
    assert saved == pytest.approx(
        [200_000 * usd - 30 for usd in (a_request, a_request / 2, cached, cached / 2)]
    )
    assert even == pytest.approx(
        [30 / usd for usd in (a_request, a_request / 2, cached, cached / 2)]
    )
    assert min(one for one in saved if one is not None) < 0


def test_one_off_costs_are_paid_back_or_never() -> None:
    assert payback(100, 25) == 4
    assert payback(100, 0) == math.inf
    assert payback(100, -3) == math.inf


def test_without_a_volume_break_even_is_known_and_the_month_is_not() -> None:
    saved, even = both()
    assert saved == [None] * 4
    assert None not in even


def test_shadow_and_fallback_requests_are_paid_for() -> None:
    asked = question(
        ArmCosts(price=PRICE), ArmCosts(free=True), requests_per_month=1000, shadow_share=0.1
    )
    baseline = cost_of([outcome(measured(1000, 0))], asked.arms["prompt"].costs)
    candidate = cost_of([outcome(Usage())], asked.arms["model"].costs)
    found = savings(baseline, candidate, asked, kept=0.7)[0]
    assert found.replacement_month == pytest.approx(0.37 * 1000 * 1000 * 1.5e-7)
    # A request that falls back has gone to the baseline: nobody is asked twice to watch it.
    every = asked.model_copy(update={"shadow_share": 1.0})
    watched = savings(baseline, candidate, every, kept=0.7)[0].replacement_month
    assert watched == pytest.approx(1000 * 1000 * 1.5e-7)

    assert net_tokens(baseline, candidate, asked, kept=0.7) == pytest.approx((1000, 630))


def test_an_unknown_baseline_leaves_every_saving_unknown_with_its_reason() -> None:
    asked = question(ArmCosts(price_name="gpt-9"), ArmCosts(free=True), requests_per_month=10)
    baseline = cost_of([outcome(measured(10))], asked.arms["prompt"].costs)
    candidate = cost_of([outcome(Usage())], asked.arms["model"].costs)
    for found in savings(baseline, candidate, asked):
        assert found.saved_month is None
        assert found.per_1000 is None
        assert "gpt-9" in found.unknown


def test_without_a_stated_static_part_the_shortest_prompt_bounds_the_cache() -> None:
    costs = ArmCosts(price=PRICE)
    found = cost_of([outcome(measured(1000, 0)), outcome(measured(1400, 0))], costs)
    assert cached_request_usd(found, costs) == pytest.approx(1000 * 7.5e-8 + 200 * 1.5e-7)
    without = ArmCosts(price=Price(1e-6, 1e-6))
    assert cached_request_usd(cost_of([outcome(measured(9))], without), without) is None
