"""The circuit breaker, by a clock of its own."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hone.service.fallback.breaker import LONGEST_HOLD_S, Breaker, Pass


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def breaker(clock: Clock, *, failures: int = 3) -> Breaker:
    return Breaker(failures=failures, pause_s=10, clock=clock)


def entered(one: Breaker) -> Pass:
    call = one.enter()
    assert call is not None
    return call


def fail(one: Breaker, times: int) -> None:
    for _ in range(times):
        one.failed(entered(one))


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not() -> None:
    one = breaker(Clock())
    fail(one, 2)
    one.succeeded(entered(one))
    fail(one, 2)
    assert one.admits()
    fail(one, 1)
    assert not one.admits()
    assert not one.enter()


def test_after_the_pause_one_call_tries_and_decides() -> None:
    clock = Clock()
    one = breaker(clock)
    fail(one, 3)
    clock.now += 10
    trial = entered(one)
    assert not one.enter()  # one at a time
    one.failed(trial)
    assert not one.admits()
    clock.now += 10
    one.abandoned(entered(one))  # it said nothing: the next one tries
    one.succeeded(entered(one))
    assert one.enter()
    assert one.enter()


def test_a_wish_to_be_left_alone_is_obeyed_at_once_and_for_a_while_only() -> None:
    clock = Clock()
    one = breaker(clock)
    one.failed(entered(one), 60)
    clock.now += 59
    assert not one.admits()
    clock.now += 1
    one.failed(entered(one), 1e9)
    clock.now += LONGEST_HOLD_S
    assert one.admits()


@pytest.mark.parametrize("news", ["succeeded", "failed", "abandoned"])
def test_calls_that_began_before_it_opened_decide_nothing(news: str) -> None:
    clock = Clock()
    one = breaker(clock)
    early = [entered(one) for _ in range(2)]
    fail(one, 3)
    getattr(one, news)(early[0])
    assert not one.admits()
    clock.now += 10
    trial = entered(one)
    getattr(one, news)(early[1])
    assert not one.admits()  # the trial is still under way
    one.succeeded(trial)
    assert one.admits()


@given(st.lists(st.sampled_from(["ok", "fail", "gone", "wait"]), max_size=60))
def test_it_never_stays_shut_for_ever(events: Sequence[str]) -> None:
    clock = Clock()
    one = breaker(clock)
    for event in events:
        if event == "wait":
            clock.now += 3
        elif call := one.enter():
            {"ok": one.succeeded, "fail": one.failed, "gone": one.abandoned}[event](call)
    clock.now += LONGEST_HOLD_S
    assert one.enter()
