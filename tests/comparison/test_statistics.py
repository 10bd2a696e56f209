"""Intervals, paired tests, families and sample sizes, against SciPy and published figures."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from hone.comparison import statistics
from hone.comparison.statistics import PairedCounts
from hone.models.errors import InvalidInput


def test_serving_may_use_the_statistics_without_scipy() -> None:
    code = "import sys, hone.comparison.statistics; print({'scipy', 'sklearn'} & set(sys.modules))"
    run = [sys.executable, "-c", code]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "set()\n"


def counts(n: int, gained: float, lost: float) -> PairedCounts:
    return PairedCounts(n, gained, lost)


@given(st.integers(200, 5000), st.floats(0.15, 0.85))
def test_a_share_of_many_items_has_wilsons_interval(n: int, share: float) -> None:
    k = round(n * share)
    found, expected = (
        statistics.proportion(k, n),
        stats.binomtest(k, n).proportion_ci(method="wilson"),
    )
    assert found.method == "Wilson"
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(st.integers(0, 150), st.integers(0, 49))
def test_a_share_of_few_items_has_the_exact_interval(k: int, more: int) -> None:
    n = k + more + 1
    found, expected = (
        statistics.proportion(k, n),
        stats.binomtest(k, n).proportion_ci(method="exact"),
    )
    assert found.method == ("Clopper-Pearson" if n < 200 else found.method)
    if n < 200:
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_rare_errors_have_the_exact_interval_however_many_items() -> None:
    found = statistics.proportion(2995, 3000)
    assert found.method == "Clopper-Pearson"


def test_no_items_have_no_share() -> None:
    found = statistics.proportion(0, 0)
    assert math.isnan(found.value)
    assert found.low is None


@pytest.mark.parametrize(
    ("n", "gained", "lost", "difference"),
    [(44, 0, 1, -0.1), (100, 12, 5, 0.0), (100, 12, 5, -0.05), (3000, 90, 130, 0.02)],
)
def test_the_score_statistic_is_that_of_a_likelihood_maximised_numerically(
    n: int, gained: int, lost: int, difference: float
) -> None:
    def loss(losing: float) -> float:
        gaining = losing + difference
        same = max(1 - gaining - losing, 1e-300)
        return -(
            gained * math.log(max(gaining, 1e-300))
            + lost * math.log(max(losing, 1e-300))
            + (n - gained - lost) * math.log(same)
        )

    bounds = (max(0.0, -difference), (1 - difference) / 2)
    losing = optimize.minimize_scalar(
        loss, bounds=bounds, method="bounded", options={"xatol": 1e-12}
    ).x
    variance = 2 * losing + difference - difference**2
    expected = (gained - lost - n * difference) / math.sqrt(n * variance)
    found = statistics.score_statistic(n, gained, lost, difference)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("n", "gained", "lost"), [(44, 0, 1), (100, 12, 5), (3000, 90, 130)])
def test_the_ends_of_tangos_interval_are_where_the_statistic_is_the_normals_quantile(
    n: int, gained: int, lost: int
) -> None:
    found = statistics.paired_difference(counts(n, gained, lost))
    for end, z in ((found.low, 1.959964), (found.high, -1.959964)):
        assert end is not None
        at_end = statistics.score_statistic(n, gained, lost, end)
        assert at_end == pytest.approx(z, abs=1e-5)


@given(st.integers(10, 500), st.integers(0, 100), st.integers(0, 100))
def test_the_interval_is_turned_round_with_the_systems(n: int, gained: int, lost: int) -> None:
    n += gained + lost
    one = statistics.paired_difference(counts(n, gained, lost))
    other = statistics.paired_difference(counts(n, lost, gained))
    assert one.low is not None
    assert one.high is not None
    assert other.high is not None
    assert one.low <= one.value <= one.high
    assert one.low == pytest.approx(-other.high, abs=1e-9)


@given(st.integers(20, 2000), st.integers(0, 60), st.integers(0, 60), st.floats(0.005, 0.2))
def test_the_test_passes_exactly_if_the_bound_is_above_the_margin(
    n: int, gained: int, lost: int, margin: float
) -> None:
    found = statistics.noninferiority(
        counts(n + gained + lost, gained, lost), margin=margin, alpha=0.05
    )
    assert found.shown == (found.lower > -margin) or found.lower == pytest.approx(-margin, abs=1e-9)
    assert not (found.shown and found.refuted)


def test_a_system_that_equals_the_baseline_is_shown_not_inferior_only_with_enough_items() -> None:
    small = statistics.noninferiority(counts(60, 0, 0), margin=0.02, alpha=0.05)
    large = statistics.noninferiority(counts(200, 0, 0), margin=0.02, alpha=0.05)
    assert not small.shown
    assert large.shown


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemars_test_is_the_exact_binomial_one(gained: int, lost: int) -> None:
    expected = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert statistics.mcnemar(counts(200, gained, lost)) == pytest.approx(expected, abs=1e-9)


def test_mcnemars_test_of_paired_answers_is_exact_too() -> None:
    generator = np.random.default_rng(3)
    ours, theirs = (generator.random((2, 700)) < [[0.9], [0.86]]).astype(np.float64)
    found = statistics.pair(ours, theirs)
    expected = stats.binomtest(round(found.gained), round(found.gained + found.lost)).pvalue
    assert statistics.mcnemar(found) == pytest.approx(expected, abs=1e-12)


def test_six_flips_one_way_are_the_fewest_that_tell() -> None:
    assert statistics.mcnemar(counts(100, 5, 0)) == pytest.approx(0.0625)
    assert statistics.mcnemar(counts(100, 6, 0)) == pytest.approx(0.03125)


def test_holms_adjustment_steps_down_and_never_falls() -> None:
    adjusted = statistics.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.5})
    assert adjusted == pytest.approx({"a": 0.04, "c": 0.09, "b": 0.09, "d": 0.5})


@given(st.dictionaries(st.text(), st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_no_more_than_unadjusted_and_no_less_than_bonferroni(
    p_values: dict[str, float],
) -> None:
    for name, adjusted in statistics.holm(p_values).items():
        assert p_values[name] <= adjusted <= min(1.0, len(p_values) * p_values[name]) + 1e-12


def test_single_answers_of_independent_items_count_whole() -> None:
    ours, theirs = np.array([1.0, 1, 0, 0, 1]), np.array([1.0, 0, 1, 0, 0])
    found = statistics.pair(ours, theirs)
    assert found == PairedCounts(5, 2, 1, 1.0, None)


def test_items_that_are_copies_of_each_other_count_as_one() -> None:
    generator = np.random.default_rng(0)
    ours, theirs = (generator.random((2, 400)) < 0.8).astype(np.float64)
    groups = np.repeat(np.arange(400), 5)
    copied = statistics.pair(np.repeat(ours, 5), np.repeat(theirs, 5), groups=groups)
    alone = statistics.paired_difference(statistics.pair(ours, theirs))
    together = statistics.paired_difference(copied)
    assert copied.design_effect == pytest.approx(5, rel=0.01)
    assert together.low == pytest.approx(alone.low, abs=2e-3)
    unaware = statistics.paired_difference(PairedCounts(copied.n, copied.gained, copied.lost))
    assert unaware.low is not None
    assert together.low is not None
    assert unaware.low > together.low + 0.01


def test_groups_without_any_flip_count_as_single_items() -> None:
    same = np.ones(100)
    found = statistics.pair(same, same, groups=np.repeat(np.arange(10), 10))
    assert found.effective(0.95)[0] < 10


def test_repeats_narrow_an_interval_but_never_below_their_number() -> None:
    generator = np.random.default_rng(1)
    chance = generator.random(500)
    five = generator.binomial(5, chance) / 5
    narrow = statistics.share(five, repeats=5)
    one = statistics.share((generator.random(500) < chance).astype(np.float64))
    assert narrow.low is not None
    assert narrow.high is not None
    assert one.low is not None
    assert one.high is not None
    assert (one.high - one.low) / math.sqrt(5) <= narrow.high - narrow.low < one.high - one.low


def test_a_comparison_of_no_items_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no items"):
        statistics.pair(np.empty(0), np.empty(0))


def test_the_planned_items_are_about_those_of_the_textbook() -> None:
    # (1.645 + 0.842)^2 * d / m^2 = 1,546; the score test asks for a little more.
    n = statistics.sample_size(discordance=0.1, difference=0, margin=0.02, alpha=0.05, power=0.8)
    assert n is not None
    assert 1546 <= n <= 1.05 * 1546


@given(st.floats(0.02, 0.5), st.floats(-0.9, 0.9), st.floats(0.005, 0.1), st.floats(0.6, 0.95))
def test_the_planned_items_reach_the_power_and_one_fewer_does_not(
    discordance: float, tilt: float, margin: float, power: float
) -> None:
    difference = tilt * discordance
    n = statistics.sample_size(
        discordance=discordance, difference=difference, margin=margin, alpha=0.05, power=power
    )

    def reached(items: int) -> float:
        return statistics.noninferiority_power(
            items, discordance=discordance, difference=difference, margin=margin, alpha=0.05
        )

    if n is None:
        assert reached(statistics.MOST_ITEMS) < power
    else:
        assert reached(n) >= power
        assert n == 1 or reached(n - 1) < power


def test_a_difference_at_the_margin_is_decided_by_no_number_of_items() -> None:
    found = statistics.sample_size(
        discordance=0.1, difference=-0.02, margin=0.02, alpha=0.05, power=0.8
    )
    assert found is None


@pytest.mark.parametrize(("share", "least"), [(0.5, 6), (0.95, 72), (0.99, 368)])
def test_a_quantile_has_an_interval_from_its_least_number_of_values_on(
    share: float, least: int
) -> None:
    values = np.arange(least, dtype=np.float64)
    assert statistics.quantile(values, share).low is not None
    assert statistics.quantile(values[1:], share).low is None


@given(st.integers(6, 400))
def test_the_medians_interval_holds_with_at_least_its_probability(n: int) -> None:
    found = statistics.quantile(np.arange(1, n + 1, dtype=np.float64), 0.5)
    assert found.low is not None
    assert found.high is not None
    below = stats.binom.cdf(found.low - 1, n, 0.5)
    above = stats.binom.cdf(n - found.high, n, 0.5)
    assert below + above <= 0.05


def test_repeats_that_never_differ_are_tested_as_single_answers() -> None:
    candidate, baseline = np.ones(100), np.ones(100)
    baseline[:6] = 0
    once, five = (
        statistics.pair(candidate, baseline),
        statistics.pair(candidate, baseline, repeats=5),
    )
    assert statistics.mcnemar(once) == pytest.approx(2 * 0.5**6)
    assert statistics.mcnemar(five) == statistics.mcnemar(once)
    flipping = baseline.copy()
    flipping[:12] = 0.5
    assert statistics.mcnemar(statistics.pair(candidate, flipping, repeats=5)) != pytest.approx(
        2 * 0.5**6
    )
