"""The cap on what fallbacks cost a day: by itself, and in a service that reached it."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hone.models.manifest import Manifest
from hone.service.fallback.allowance import Allowance
from tests.comparison.upstream import Behaviour, upstream
from tests.service.fallback.conftest import served

DAY_S = 86_400.0


class Clock:
    def __init__(self) -> None:
        self.now = 20_000 * DAY_S + 5

    def __call__(self) -> float:
        return self.now


def test_what_is_spent_is_spent_until_the_next_day() -> None:
    clock = Clock()
    allowance = Allowance(1.0, clock)
    allowance.spend(0.9)
    assert not allowance.is_spent()
    allowance.spend(0.1)
    assert allowance.is_spent()
    clock.now += DAY_S - 6
    assert allowance.is_spent()
    clock.now += 1  # midnight
    assert not allowance.is_spent()
    allowance.spend(1.0)
    assert allowance.is_spent()


def test_without_a_cap_nothing_is_ever_spent_and_a_cap_of_nothing_always_is() -> None:
    allowance = Allowance(None)
    allowance.spend(1e12)
    assert not allowance.is_spent()
    assert not allowance.is_limited
    assert Allowance(0.0).is_spent()
    assert Allowance(0.0).is_limited


@given(
    st.floats(0, 100),
    st.lists(st.tuples(st.floats(0, 40), st.floats(0, 2 * DAY_S)), max_size=60),
)
def test_a_day_passes_its_cap_by_its_last_call_at_most(
    most: float, calls: list[tuple[float, float]]
) -> None:
    clock = Clock()
    allowance = Allowance(most, clock)
    days: dict[int, list[float]] = {}
    for cost, wait_s in calls:
        clock.now += wait_s
        paid = days.setdefault(int(clock.now // DAY_S), [])
        assert allowance.is_spent() == (sum(paid) >= most)
        if not allowance.is_spent():
            allowance.spend(cost)
            paid.append(cost)
    for paid in days.values():
        assert not paid[:-1] or sum(paid[:-1]) < most


def unsure(texts: list[dict[str, Any]]) -> list[str]:
    return [row["text"] for row in texts if not row["sure"]]


def test_when_the_day_is_spent_the_model_answers_and_it_is_counted(
    made: tuple[Path, Manifest], texts: list[dict[str, Any]], tmp_path: Path
) -> None:
    asked = unsure(texts)[:6]
    with upstream(Behaviour()) as server:
        limits = {"fallback_max_dollars_per_day": 1e-6, "fallback_concurrency": 1}
        with served(made[0] / "store", server, tmp_path, **limits) as service:
            first = service.classify(asked[0])["data"][0]
            assert (first["answered_by"], first["fallback"]) == ("prompt", "answered")
            for text in asked[1:]:
                answer = service.post({"model": "support", "input": text})
                entry = answer.json()["data"][0]
                assert (entry["answered_by"], entry["fallback"]) == ("model", "spent")
                assert answer.headers["x-hone-fallback"] == "spent"
            assert len(server.served) == 1
            metrics = service.metrics()
            spent = {
                dict(labels)["outcome"]: value
                for (name, labels), value in metrics.items()
                if name == "hone_fallback_texts_total"
            }
            assert spent == {"answered": 1, "spent": len(asked) - 1}


def test_texts_that_wait_for_a_place_are_not_asked_once_the_rest_is_spent(
    made: tuple[Path, Manifest], texts: list[dict[str, Any]], tmp_path: Path
) -> None:
    asked = unsure(texts)[:6]
    with upstream(Behaviour(delay_s=0.05)) as server:
        limits = {"fallback_max_dollars_per_day": 1e-6, "fallback_concurrency": 1}
        with served(made[0] / "store", server, tmp_path, **limits) as service:
            found = [entry["fallback"] for entry in service.classify(asked)["data"]]
            assert sorted(found) == ["answered", *["spent"] * (len(asked) - 1)]
            assert len(server.served) == 1


@pytest.mark.parametrize(("dollars", "outcome"), [("5", "spent"), ("", "answered")])
def test_under_a_cap_no_call_is_made_at_an_unknown_price(
    made: tuple[Path, Manifest],
    texts: list[dict[str, Any]],
    tmp_path: Path,
    dollars: str,
    outcome: str,
) -> None:
    (tmp_path / "prices.json").write_text(
        '{"another": {"input_cost_per_token": 1e-5, "output_cost_per_token": 5e-5}}'
    )
    limits = {
        "fallback_max_dollars_per_day": dollars,
        "prices_file": tmp_path / "prices.json",
    }
    with (
        upstream(Behaviour()) as server,
        served(made[0] / "store", server, tmp_path, **limits) as service,
    ):
        entry = service.classify(unsure(texts)[0])["data"][0]
        assert entry["fallback"] == outcome
        assert len(server.served) == (outcome == "answered")
        warned = "no price for HONE_FALLBACK_MAX_DOLLARS_PER_DAY to hold" in service.logged()
        assert warned == (outcome == "spent")
