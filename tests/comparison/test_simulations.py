"""Short forms of the simulations: what the statistics promise, to the error of a few trials.

The long forms are in `benchmarks/comparison/simulations.py`; the wanted share less three standard
errors of the trials made here is what a right method falls below once in a thousand seeds.
"""

import math

import pytest

from benchmarks.comparison import simulations
from benchmarks.comparison.simulations import Population
from hone.comparison.statistics import sample_size

WANTED = 0.94


def least(trials: int) -> float:
    return WANTED - 3 * math.sqrt(WANTED * (1 - WANTED) / trials)


@pytest.mark.parametrize("n", [30, 200, 300])
def test_a_shares_interval_holds_at_every_true_share(n: int) -> None:
    lowest, mean = simulations.share_coverage(n)
    assert lowest >= WANTED
    assert mean <= 0.98


@pytest.mark.parametrize(("n", "change"), [(200, 0.0), (1000, -0.02)])
def test_a_differences_interval_holds(n: int, change: float) -> None:
    held = simulations.difference_coverage(n, discordance=0.1, difference=change, trials=1500)
    assert least(1500) <= held <= 0.985


def test_intervals_hold_with_groups() -> None:
    for held in simulations.grouped_coverage(60, 6, likeness=0.3, trials=300):
        assert held >= least(300)


def test_intervals_hold_with_repeats() -> None:
    for held in simulations.repeated_coverage(300, 3, trials=300):
        assert held >= least(300)


def test_macro_f1s_intervals_hold_with_many_small_classes() -> None:
    people = Population(30, 0.88, 0.2)
    single, both, given = simulations.macro_f1_coverage(600, people, trials=120)
    assert given > 0.5
    assert single >= least(round(120 * given))
    assert both >= least(round(120 * given))


@pytest.mark.parametrize(("n", "share"), [(60, 0.5), (150, 0.95)])
def test_a_quantiles_interval_holds(n: int, share: float) -> None:
    assert simulations.quantile_coverage(n, share, trials=300) >= least(300)


@pytest.mark.parametrize(("n", "discordance", "margin"), [(300, 0.1, 0.05), (1500, 0.1, 0.02)])
def test_the_tests_size_is_within_a_point_of_its_level(
    n: int, discordance: float, margin: float
) -> None:
    _, exact = simulations.rejections(
        n, discordance=discordance, difference=-margin, margin=margin, trials=1
    )
    assert exact == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize(("discordance", "margin"), [(0.1, 0.02), (0.2, 0.03)])
def test_the_planned_number_of_items_has_the_power_that_was_asked_for(
    discordance: float, margin: float
) -> None:
    n = sample_size(discordance=discordance, difference=0, margin=margin, alpha=0.05, power=0.8)
    assert n is not None
    _, exact = simulations.rejections(
        n, discordance=discordance, difference=0, margin=margin, trials=1
    )
    assert exact == pytest.approx(0.8, abs=0.01)
