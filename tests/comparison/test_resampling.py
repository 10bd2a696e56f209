"""Macro F1 and its bootstrap, against scikit-learn and SciPy."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from hone.comparison.resampling import (
    LEAST_OF_CLASS,
    ClassCounts,
    bca,
    class_counts,
    macro_f1,
    macro_f1_difference,
)
from hone.comparison.statistics import Floats, Groups


def drawn(n: int, classes: int, *, seed: int = 0, skill: float = 0.8) -> tuple[Groups, Groups]:
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, n)
    answers = np.where(generator.random(n) < skill, truth, generator.integers(0, classes, n))
    return truth, answers


def counted(truth: Groups, answers: Groups, classes: int) -> ClassCounts:
    return class_counts(truth, np.eye(classes)[answers])


def test_the_value_is_scikit_learns() -> None:
    truth, answers = drawn(400, 7)
    found = macro_f1(counted(truth, answers, 7), seed=0)
    assert found.value == pytest.approx(metrics.f1_score(truth, answers, average="macro"))


def test_an_answer_that_is_no_gold_label_pulls_the_mean_down() -> None:
    truth, answers = drawn(400, 7)
    answers[:3] = 7
    found = macro_f1(counted(truth, answers, 8), seed=0)
    assert found.value == pytest.approx(metrics.f1_score(truth, answers, average="macro"))


def test_the_interval_is_scipys_bca() -> None:
    truth, answers = drawn(300, 4)

    def statistic(rows: Floats, axis: int = -1) -> Floats:
        picked = np.moveaxis(rows.astype(int), axis, -1).reshape(-1, rows.shape[axis])
        return np.array(
            [metrics.f1_score(truth[one], answers[one], average="macro") for one in picked]
        ).reshape(np.moveaxis(rows, axis, -1).shape[:-1])

    found = macro_f1(counted(truth, answers, 4), seed=0)
    expected = stats.bootstrap(
        (np.arange(300),),
        statistic,
        n_resamples=1500,
        method="BCa",
        vectorized=True,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.008)


def test_the_same_seed_gives_the_same_interval() -> None:
    truth, answers = drawn(300, 4)
    one, other = (macro_f1(counted(truth, answers, 4), seed=5) for _ in range(2))
    assert one == other


def test_systems_that_hardly_differ_have_no_interval_of_their_difference() -> None:
    truth, answers = drawn(300, 4)
    found = macro_f1_difference(*[counted(truth, answers, 4)] * 2, seed=0)
    assert (found.value, found.low, found.high) == (0, None, None)


def test_pairing_makes_a_difference_narrower_than_two_intervals() -> None:
    truth, answers = drawn(1500, 4)
    better = answers.copy()
    wrong = np.flatnonzero(better != truth)[:30]
    better[wrong] = truth[wrong]
    one, other = counted(truth, better, 4), counted(truth, answers, 4)
    change, alone = macro_f1_difference(one, other, seed=0), macro_f1(one, seed=0)
    assert change.low is not None
    assert change.high is not None
    assert alone.low is not None
    assert alone.high is not None
    assert change.low > 0
    assert change.high - change.low < (alone.high - alone.low) / 1.5


def test_a_class_with_too_few_items_has_no_interval() -> None:
    truth, answers = drawn(300, 4)
    keep = np.flatnonzero(truth == 0)[: LEAST_OF_CLASS - 1]
    rows = np.union1d(np.flatnonzero(truth != 0), keep)
    found = macro_f1(counted(truth[rows], answers[rows], 4), seed=0)
    assert found.low is None
    assert "fewer than" in found.method


def test_a_system_without_a_wrong_answer_has_no_interval() -> None:
    truth, _ = drawn(300, 4)
    found = macro_f1(counted(truth, truth, 4), seed=0)
    assert found.value == 1
    assert found.low is None


def test_groups_that_are_copies_widen_the_interval() -> None:
    truth, answers = drawn(300, 4)
    many = counted(np.repeat(truth, 6), np.repeat(answers, 6), 4)
    aware = macro_f1(many, seed=0, groups=np.repeat(np.arange(300), 6))
    unaware = macro_f1(many, seed=0)
    assert aware.low is not None
    assert aware.high is not None
    assert unaware.low is not None
    assert unaware.high is not None
    assert aware.high - aware.low > 2 * (unaware.high - unaware.low)


def test_few_groups_have_no_interval() -> None:
    truth, answers = drawn(300, 4)
    assert macro_f1(counted(truth, answers, 4), seed=0, groups=np.arange(300) % 10).low is None


def test_repeats_count_as_shares_of_an_item() -> None:
    truth = np.repeat([0, 1], 50)
    half = np.full((100, 2), 0.5)
    assert class_counts(truth, half).macro_f1() == pytest.approx(0.5)


def test_without_spread_the_interval_is_a_point() -> None:
    assert bca(0.5, np.full(100, 0.5), np.full(10, 0.5)) == (0.5, 0.5)
