"""Scores of a classifier, each with its interval and the number of items behind it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn import metrics

from hone.models.manifest import Score

Labels = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float32]

_RESAMPLES = 1000
_ECE_BINS = 15


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One row of the per-class table; `recall_low` and `recall_high` are a Wilson interval."""

    label: str
    precision: float
    recall: float
    recall_low: float
    recall_high: float
    f1: float
    n: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All scores of one split. `confusion[i][j]` counts rows of label i answered as label j."""

    labels: list[str]
    scores: dict[str, Score]
    classes: list[ClassScore]
    confusion: list[list[int]]


def proportion(successes: int, n: int) -> Score:
    """Return a share with its 95 % Wilson interval; an n of 0 gives 0 with interval 0 to 1."""
    if n == 0:
        return Score(value=0.0, low=0.0, high=1.0, n=0)
    interval = stats.binomtest(successes, n).proportion_ci(method="wilson")
    return Score(value=successes / n, low=float(interval.low), high=float(interval.high), n=n)


def bootstrap(
    statistic: Callable[[npt.NDArray[np.int64]], float], n: int, *, seed: int = 0
) -> Score:
    """Return statistic(all rows) with a 95 % percentile-bootstrap interval over n rows.

    `statistic` gets row indices (int64, shape (n,)). Seeded, so a report can be repeated.
    """
    generator = np.random.default_rng(seed)
    drawn = [statistic(generator.integers(0, n, n)) for _ in range(_RESAMPLES)]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    value = statistic(np.arange(n))
    return Score(value=value, low=float(low), high=float(high), n=n, interval="bootstrap")


def f1_scores(truth: Labels, predicted: Labels, classes: int) -> npt.NDArray[np.float64]:
    """Return F1 of each class, float64 of shape (classes,); 0 where a class never occurs."""
    hits = np.bincount(truth[truth == predicted], minlength=classes)
    either = np.bincount(truth, minlength=classes) + np.bincount(predicted, minlength=classes)
    scores: npt.NDArray[np.float64] = 2 * hits / np.maximum(either, 1)
    return scores


def macro_f1(truth: Labels, predicted: Labels, classes: int) -> float:
    """Return the mean F1 over the classes that occur in truth or answers."""
    occurs = np.bincount(truth, minlength=classes) + np.bincount(predicted, minlength=classes) > 0
    return float(f1_scores(truth, predicted, classes)[occurs].mean())


def weighted_f1(truth: Labels, predicted: Labels, classes: int) -> float:
    """Return the mean F1 weighted by how often each class is the truth."""
    weights = np.bincount(truth, minlength=classes)
    return float(np.average(f1_scores(truth, predicted, classes), weights=weights))


def expected_calibration_error(truth: Labels, probabilities: Probabilities) -> float:
    """Return the ECE of the top label over 15 equal-width bins (Guo et al. 2017)."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == truth
    bins = np.minimum((confidence * _ECE_BINS).astype(int), _ECE_BINS - 1)
    weight = np.bincount(bins, minlength=_ECE_BINS)
    gap = np.abs(
        np.bincount(bins, weights=correct, minlength=_ECE_BINS)
        - np.bincount(bins, weights=confidence, minlength=_ECE_BINS)
    )
    return float(gap.sum() / max(weight.sum(), 1))


def evaluate(
    truth: Labels,
    probabilities: Probabilities,
    labels: Sequence[str],
    *,
    positive_label: str | None = None,
    betas: Sequence[float] = (0.5, 2.0),
) -> Evaluation:
    """Score calibrated probabilities, float32 (rows, labels), against int64 truth (rows,).

    With two classes the binary scores are added, for `positive_label` or else the rarer class.
    """
    predicted = probabilities.argmax(axis=1).astype(np.int64)
    classes, n = len(labels), len(truth)
    scores = {
        "accuracy": proportion(int((predicted == truth).sum()), n),
        "macro_f1": bootstrap(lambda rows: macro_f1(truth[rows], predicted[rows], classes), n),
        "weighted_f1": bootstrap(
            lambda rows: weighted_f1(truth[rows], predicted[rows], classes), n
        ),
        "expected_calibration_error": bootstrap(
            lambda rows: expected_calibration_error(truth[rows], probabilities[rows]), n
        ),
    }
    if classes == 2:
        positive = _positive_class(truth, labels, positive_label)
        scores |= _binary_scores(truth == positive, probabilities[:, positive], betas)
    confusion = metrics.confusion_matrix(truth, predicted, labels=range(classes))
    return Evaluation(
        list(labels),
        scores,
        _per_class(truth, predicted, labels),
        confusion.astype(int).tolist(),
    )


def _positive_class(truth: Labels, labels: Sequence[str], named: str | None) -> int:
    if named is not None:
        return list(labels).index(named)
    return int(np.bincount(truth, minlength=2).argmin())


def _binary_scores(
    truth: npt.NDArray[np.bool_], probability: npt.NDArray[np.float32], betas: Sequence[float]
) -> dict[str, Score]:
    predicted = probability > 0.5
    n = len(truth)

    def resampled(function: Callable[..., Any], answers: npt.NDArray[Any], **options: Any) -> Score:  # noqa: ANN401
        def statistic(rows: npt.NDArray[np.int64]) -> float:
            if truth[rows].all() or not truth[rows].any():
                return float("nan")  # a draw of one class has no such score; it is left out
            return float(function(truth[rows], answers[rows], **options))

        return bootstrap(statistic, n)

    hits = int((predicted & truth).sum())
    found = {
        "precision": proportion(hits, int(predicted.sum())),
        "recall": proportion(hits, int(truth.sum())),
    }
    if truth.all() or not truth.any():
        return found
    found["auroc"] = resampled(metrics.roc_auc_score, probability)
    found["auprc"] = resampled(metrics.average_precision_score, probability)
    for beta in betas:
        found[f"f{beta:g}"] = resampled(
            metrics.fbeta_score, predicted, beta=beta, zero_division=0.0
        )
    return found


def _per_class(truth: Labels, predicted: Labels, labels: Sequence[str]) -> list[ClassScore]:
    rows = []
    f1 = f1_scores(truth, predicted, len(labels))
    for index, label in enumerate(labels):
        hits = int(((truth == index) & (predicted == index)).sum())
        recall = proportion(hits, int((truth == index).sum()))
        answered = int((predicted == index).sum())
        rows.append(
            ClassScore(
                label=label,
                precision=hits / answered if answered else 0.0,
                recall=recall.value,
                recall_low=recall.low,
                recall_high=recall.high,
                f1=float(f1[index]),
                n=recall.n,
            )
        )
    return rows
