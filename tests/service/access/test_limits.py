"""Rate limits: buckets that refill, and the headers that clients read."""

import pytest

from hone.service.errors import RateLimited
from hone.service.jobs.keys import Key
from hone.service.limits import ALLOWANCE, Allowance, RateLimits, duration, spend_tokens


def key(requests: int | None = None, tokens: int | None = None, id_: str = "a") -> Key:
    limits = (requests, tokens, None)
    return Key(id_, "acme", None, ["infer"], None, *limits, 0, None, None, None)


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def allowance(clock: Time, requests: int | None = None, tokens: int | None = None) -> Allowance:
    found = RateLimits(clock=clock).of(key(requests, tokens))
    assert found is not None
    return found


def test_a_key_without_limits_has_no_allowance() -> None:
    assert RateLimits().of(key()) is None
    assert RateLimits().of(None) is None


def test_requests_come_back_one_by_one_within_a_minute() -> None:
    clock = Time()
    mine = allowance(clock, requests=3)
    for _ in range(3):
        mine.take()
    with pytest.raises(RateLimited, match="3 requests") as refused:
        mine.take()
    assert refused.value.retry_after_s == pytest.approx(20)
    clock.now += 20.001
    mine.take()
    with pytest.raises(RateLimited):
        mine.take()


def test_tokens_may_be_overdrawn_once_and_must_then_come_back() -> None:
    clock = Time()
    mine = allowance(clock, tokens=60)
    mine.take()
    spend_tokens({ALLOWANCE: mine}, 90)
    with pytest.raises(RateLimited, match="60 tokens") as refused:
        mine.take()
    assert refused.value.retry_after_s == pytest.approx(31)
    clock.now += 31.001
    mine.take()
    spend_tokens({}, 5)


def test_a_limit_of_nothing_lets_nothing_through() -> None:
    with pytest.raises(RateLimited):
        allowance(Time(), requests=0).take()


def test_a_clock_that_goes_back_gives_nothing() -> None:
    clock = Time()
    mine = allowance(clock, requests=1)
    mine.take()
    clock.now -= 1000
    with pytest.raises(RateLimited):
        mine.take()


def test_each_key_has_its_own() -> None:
    limits = RateLimits(clock=Time())
    one, other = limits.of(key(1, id_="a")), limits.of(key(1, id_="b"))
    assert one is not None
    assert other is not None
    one.take()
    other.take()
    assert limits.of(key(1, id_="a")) is one


def test_the_headers_say_what_is_left() -> None:
    mine = allowance(Time(), requests=120, tokens=6000)
    mine.take()
    mine.spend_tokens(600)
    assert {name.decode(): value.decode() for name, value in mine.headers()} == {
        "x-ratelimit-limit-requests": "120",
        "x-ratelimit-remaining-requests": "119",
        "x-ratelimit-reset-requests": "500ms",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "5400",
        "x-ratelimit-reset-tokens": "6s",
    }


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0, "0ms"), (0.0124, "12ms"), (1, "1s"), (7.66, "7.66s"), (60, "1m0s"), (360.2, "6m0s")],
)
def test_durations_are_written_as_the_hosted_api_does(seconds: float, written: str) -> None:
    assert duration(seconds) == written
