"""Scores against scikit-learn and naive loops, at the edges, and in time."""

import math
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn import metrics

from hone.models import scoring
from hone.models.errors import InvalidInput
from hone.models.predictor import softmax

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


def sample(rows: int, classes: int, *, seed: int, skill: float = 2.0) -> tuple[Ints, Floats]:
    """Return truth and probabilities of a classifier that is right more often than chance."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, rows)
    logits = generator.normal(size=(rows, classes))
    logits[np.arange(rows), truth] += skill
    return truth, softmax(logits)


labelled = st.integers(2, 5).flatmap(
    lambda classes: st.tuples(
        st.just(classes),
        st.lists(
            st.tuples(st.integers(0, classes - 1), st.integers(0, classes - 1)),
            min_size=1,
            max_size=30,
        ),
    )
)


@given(labelled)
def test_f1_is_what_scikit_learn_says(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    classes, pairs = drawn
    truth, predicted = (np.array(column) for column in zip(*pairs, strict=True))
    every = metrics.f1_score(
        truth, predicted, labels=range(classes), average=None, zero_division=0.0
    )
    assert scoring.f1_scores(truth, predicted, classes) == pytest.approx(every)
    for ours, average in ((scoring.macro_f1, "macro"), (scoring.weighted_f1, "weighted")):
        theirs = metrics.f1_score(truth, predicted, average=average, zero_division=0.0)
        assert ours(truth, predicted, classes) == pytest.approx(theirs), average


binary = st.lists(
    st.tuples(st.booleans(), st.integers(0, 6), st.booleans()), min_size=2, max_size=40
)


@given(binary, st.sampled_from([0.25, 0.5, 1.0, 2.0]))
def test_binary_scores_are_what_scikit_learn_says(
    rows: list[tuple[bool, int, bool]], beta: float
) -> None:
    truth, scores, predicted = (np.array(column) for column in zip(*rows, strict=True))
    assert scoring.f_beta(truth, predicted, beta) == pytest.approx(
        metrics.fbeta_score(truth, predicted, beta=beta, zero_division=0.0)
    )
    assume(truth.any())
    assert scoring.auprc(truth, scores) == pytest.approx(
        metrics.average_precision_score(truth, scores)
    )
    assume(not truth.all())
    assert scoring.auroc(truth, scores) == pytest.approx(metrics.roc_auc_score(truth, scores))


def naive_calibration_error(truth: Ints, probabilities: Floats) -> float:
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(15)]
    for right, row in zip(truth, probabilities, strict=True):
        confidence = float(max(row))
        bins[min(int(confidence * 15), 14)].append((confidence, bool(row[right] == max(row))))
    error = 0.0
    for held in filter(None, bins):
        confidence = sum(c for c, _ in held) / len(held)
        accuracy = sum(correct for _, correct in held) / len(held)
        error += len(held) / len(truth) * abs(confidence - accuracy)
    return error


@pytest.mark.parametrize("classes", [2, 5, 40])
@pytest.mark.parametrize("seed", range(5))
def test_the_calibration_error_is_that_of_a_naive_loop(classes: int, seed: int) -> None:
    truth, probabilities = sample(300, classes, seed=seed)
    ours = scoring.expected_calibration_error(truth, probabilities)
    assert ours == pytest.approx(naive_calibration_error(truth, probabilities), abs=1e-6)


def test_the_calibration_error_at_its_ends() -> None:
    sure = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    assert scoring.expected_calibration_error(np.array([0, 1]), sure) == 0.0
    assert scoring.expected_calibration_error(np.array([1, 0]), sure) == 1.0


def wilson(successes: int, n: int) -> tuple[float, float]:
    z, share = 1.959963984540054, successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return middle - half, middle + half


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_proportion_has_its_wilson_interval(drawn: tuple[int, int]) -> None:
    successes, n = drawn
    score = scoring.proportion(successes, n)
    assert (score.low, score.high) == pytest.approx(wilson(successes, n), abs=1e-9)
    assert 0 <= score.low <= score.value <= score.high <= 1
    assert score.n == n


def test_a_proportion_of_nothing_says_nothing() -> None:
    score = scoring.proportion(0, 0)
    assert (score.value, score.low, score.high, score.n) == (0.0, 0.0, 1.0, 0)


def names(classes: int) -> list[str]:
    return [f"label {index}" for index in range(classes)]


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_an_evaluation_agrees_with_scikit_learn(classes: int) -> None:
    truth, probabilities = sample(200, classes, seed=3)
    predicted = probabilities.argmax(axis=1)
    found = scoring.evaluate(truth, probabilities, names(classes))
    assert found.scores["accuracy"].value == metrics.accuracy_score(truth, predicted)
    assert found.confusion == metrics.confusion_matrix(truth, predicted).tolist()
    precision, recall, f1, support = metrics.precision_recall_fscore_support(truth, predicted)
    for index, row in enumerate(found.classes):
        assert row.label == f"label {index}"
        assert (row.precision, row.recall, row.f1, row.n) == pytest.approx(
            (precision[index], recall[index], f1[index], support[index])
        )
        assert row.recall_low <= row.recall <= row.recall_high
    assert ("auroc" in found.scores) == (classes == 2)


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("positive", [None, "b"])
def test_point_scores_are_those_of_an_evaluation_also_of_logits(
    classes: int, positive: str | None
) -> None:
    truth, probabilities = sample(60, classes, seed=classes, skill=1)
    names = "abcdefg"[:classes]
    whole = scoring.evaluate(truth, probabilities, names, positive_label=positive, betas=(0.5, 1))
    expected = {name: score.value for name, score in whole.scores.items()}
    del expected["expected_calibration_error"]
    for answers in (probabilities, np.log(probabilities)):
        found = scoring.point_scores(truth, answers, names, positive_label=positive, betas=(0.5, 1))
        assert found == pytest.approx(expected, abs=1e-6)


def test_point_scores_of_one_class_leave_out_what_is_not_defined() -> None:
    found = scoring.point_scores(np.zeros(3, dtype=np.int64), np.eye(2)[[0, 0, 1]], "ab")
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert (found["precision"], found["recall"]) == (0, 0)
    assert "auroc" not in found


def test_binary_scores_are_of_the_positive_class() -> None:
    generator = np.random.default_rng(5)
    truth = (generator.random(400) < 0.2).astype(np.int64)
    chance = np.clip(0.3 * truth + generator.random(400) * 0.7, 0, 1).astype(np.float32)
    probabilities = np.stack([1 - chance, chance], axis=1)
    predicted = probabilities.argmax(axis=1)
    for positive in (0, 1):
        scores = scoring.evaluate(
            truth, probabilities, ["no", "yes"], positive_label=["no", "yes"][positive]
        ).scores
        is_positive, says_positive = truth == positive, predicted == positive
        for beta in (0.5, 2.0):
            assert scores[f"f{beta:g}"].value == pytest.approx(
                metrics.fbeta_score(is_positive, says_positive, beta=beta)
            )
        assert scores["precision"].value == metrics.precision_score(is_positive, says_positive)
        assert scores["recall"].value == metrics.recall_score(is_positive, says_positive)
        assert scores["auroc"].value == pytest.approx(
            metrics.roc_auc_score(is_positive, probabilities[:, positive])
        )
        assert scores["auprc"].value == pytest.approx(
            metrics.average_precision_score(is_positive, probabilities[:, positive])
        )
    rarer = scoring.evaluate(truth, probabilities, ["no", "yes"]).scores
    assert rarer["recall"].n == int(truth.sum())


def test_a_tie_is_answered_alike_in_all_scores() -> None:
    """At one half each, the answer is the first label, whichever label is the positive one."""
    truth = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.5, 0.5], [0.5, 0.5], [0.1, 0.9], [0.5, 0.5]], dtype=np.float32)
    found = scoring.evaluate(truth, probabilities, ["no", "yes"], positive_label="no")
    assert found.scores["recall"].value == found.classes[0].recall == 1.0
    assert found.scores["precision"].value == found.classes[0].precision == pytest.approx(2 / 3)


ONE_ROW = np.array([[0.2, 0.8]], dtype=np.float32)


@pytest.mark.parametrize(
    ("truth", "probabilities"),
    [
        pytest.param([1], ONE_ROW, id="one row, right"),
        pytest.param([0], ONE_ROW, id="one row, wrong"),
        pytest.param([0, 0, 0], np.tile(ONE_ROW, (3, 1)), id="all wrong"),
        pytest.param([1, 1, 1], np.tile(ONE_ROW, (3, 1)), id="one class, all right"),
        pytest.param([0, 1], np.tile(ONE_ROW, (2, 1)), id="one row of each"),
        pytest.param([0] * 50 + [1], np.tile(ONE_ROW, (51, 1)), id="one positive"),
    ],
)
def test_edges_of_two_classes_give_finite_scores(truth: list[int], probabilities: Floats) -> None:
    found = scoring.evaluate(np.array(truth), probabilities, ["no", "yes"])
    for name, score in found.scores.items():
        assert 0 <= score.low <= score.high <= 1, name
        assert 0 <= score.value <= 1, name
        assert score.n <= len(truth), name
    right = sum(answer == 1 for answer in truth)
    assert found.scores["accuracy"].value == right / len(truth)
    assert sum(map(sum, found.confusion)) == len(truth)


def test_a_class_that_never_occurs_has_zeros_and_an_open_interval() -> None:
    truth, probabilities = sample(100, 3, seed=1)
    truth = np.where(truth == 2, 0, truth)
    probabilities[:, 2] = 0
    row = scoring.evaluate(truth, probabilities, names(3)).classes[2]
    assert (row.precision, row.recall, row.f1, row.n) == (0.0, 0.0, 0.0, 0)
    assert (row.recall_low, row.recall_high) == (0.0, 1.0)


def test_nothing_to_score_is_an_error_of_our_own() -> None:
    with pytest.raises(InvalidInput):
        scoring.evaluate(np.array([], dtype=np.int64), np.zeros((0, 2), np.float32), ["a", "b"])


def test_an_unknown_positive_label_is_an_error_of_our_own() -> None:
    truth, probabilities = sample(10, 2, seed=0)
    with pytest.raises(InvalidInput, match="'maybe'"):
        scoring.evaluate(truth, probabilities, ["no", "yes"], positive_label="maybe")


def test_an_evaluation_can_be_repeated() -> None:
    truth, probabilities = sample(120, 2, seed=9)
    first = scoring.evaluate(truth, probabilities, ["no", "yes"])
    assert first == scoring.evaluate(truth, probabilities, ["no", "yes"])


def test_a_bootstrap_is_seeded_and_covers_a_mean() -> None:
    values = np.random.default_rng(2).normal(3.0, 1.0, 400)

    def mean(rows: Ints) -> float:
        return float(values[rows].mean())

    score = scoring.bootstrap(mean, 400)
    assert score == scoring.bootstrap(mean, 400)
    assert score != scoring.bootstrap(mean, 400, seed=1)
    assert score.value == pytest.approx(values.mean())
    half = 1.96 * values.std() / math.sqrt(400)
    assert score.low == pytest.approx(score.value - half, abs=0.03)
    assert score.high == pytest.approx(score.value + half, abs=0.03)
    assert score.interval == "bootstrap"


def processor_seconds(act: Callable[[], object]) -> float:
    start = time.thread_time()
    act()
    return time.thread_time() - start


@pytest.mark.parametrize("classes", [2, 77])
def test_an_evaluation_of_three_thousand_rows_takes_seconds(classes: int) -> None:
    truth, probabilities = sample(3000, classes, seed=4)
    assert processor_seconds(lambda: scoring.evaluate(truth, probabilities, names(classes))) < 5


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_perfect_score_of_a_few_rows_is_not_certain(value: float) -> None:
    found = scoring.score(lambda rows: value, 6)
    assert found == scoring.proportion(int(6 * value), 6)
    assert found.high - found.low > 0.3
    unchanged = scoring.bootstrap(lambda rows: value, 6)
    assert (unchanged.low, unchanged.high) == (value, value)
