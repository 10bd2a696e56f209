"""Scores of a classifier, each with its interval and the number of items behind it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn import metrics

from hone.models.errors import InvalidInput
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


def score(statistic: Callable[[npt.NDArray[np.int64]], float], n: int) -> Score:
    """Return a statistic between 0 and 1, such as F1, with its bootstrap interval.

    Where all rows are right, or none is, every resample says the same and knows nothing of what
    was not seen: exactly 1 or 0 then has Wilson's interval for n of n, or none of n.
    """
    found = bootstrap(statistic, n)
    if found.low == found.high == found.value and found.value in {0.0, 1.0}:
        return proportion(round(found.value * n), n)
    return found


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
    return _calibration_error(*_confidence(truth, probabilities))


def _confidence(
    truth: Labels, probabilities: Probabilities
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == truth


def _calibration_error(
    confidence: npt.NDArray[np.float32], correct: npt.NDArray[np.bool_]
) -> float:
    bins = np.minimum((confidence * _ECE_BINS).astype(int), _ECE_BINS - 1)
    weight = np.bincount(bins, minlength=_ECE_BINS)
    gap = np.abs(
        np.bincount(bins, weights=correct, minlength=_ECE_BINS)
        - np.bincount(bins, weights=confidence, minlength=_ECE_BINS)
    )
    return float(gap.sum() / max(weight.sum(), 1))


def auroc(truth: npt.NDArray[np.bool_], scores: npt.NDArray[np.floating]) -> float:
    """Return the area under the ROC curve: the Mann-Whitney U over its largest value.

    Both classes must occur in truth. Equal to scikit-learn's, without the checks in every call
    that made a bootstrap of it nine times as slow.
    """
    positives = int(truth.sum())
    above = stats.rankdata(scores)[truth].sum() - positives * (positives + 1) / 2
    return float(above / (positives * (len(truth) - positives)))


def auprc(truth: npt.NDArray[np.bool_], scores: npt.NDArray[np.floating]) -> float:
    """Return the average precision: precision at each threshold, weighted by the recall gained.

    A positive must occur in truth. Equal to scikit-learn's.
    """
    order = np.argsort(scores)[::-1]
    last = np.append(np.diff(scores[order]) != 0, True)  # of the rows with one and the same score
    hits = np.cumsum(truth[order])[last]
    precision = hits / (np.flatnonzero(last) + 1)
    return float((np.diff(hits, prepend=0) * precision).sum() / hits[-1])


def f_beta(truth: npt.NDArray[np.bool_], predicted: npt.NDArray[np.bool_], beta: float) -> float:
    """Return F-beta of the positive class; 0 where it occurs neither in truth nor in answers."""
    hits, weight = int((truth & predicted).sum()), beta * beta
    total = weight * int(truth.sum()) + int(predicted.sum())
    return (1 + weight) * hits / total if total else 0.0


def point_scores(
    truth: Labels,
    probabilities: npt.NDArray[np.floating],
    labels: Sequence[str],
    *,
    positive_label: str | None = None,
    betas: Sequence[float] = (0.5, 2.0),
) -> dict[str, float]:
    """Return what `evaluate` measures of a classification, without intervals and in no time.

    Takes probabilities or logits, (rows, labels). A score that is not defined is left out.
    """
    predicted, classes = probabilities.argmax(axis=1).astype(np.int64), len(labels)
    found = {
        "accuracy": float((predicted == truth).mean()),
        "macro_f1": macro_f1(truth, predicted, classes),
        "weighted_f1": weighted_f1(truth, predicted, classes),
    }
    if classes != 2:
        return found
    positive = _positive_class(truth, labels, positive_label)
    is_positive, answered = truth == positive, predicted == positive
    hits = int((is_positive & answered).sum())
    for name, n in (("precision", int(answered.sum())), ("recall", int(is_positive.sum()))):
        found[name] = hits / n if n else 0.0
    if is_positive.all() or not is_positive.any():
        return found
    margin = probabilities[:, positive] - probabilities[:, 1 - positive]
    found |= {"auroc": auroc(is_positive, margin), "auprc": auprc(is_positive, margin)}
    return found | {f"f{beta:g}": f_beta(is_positive, answered, beta) for beta in betas}


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
    InvalidInput when there are no rows, or no label is called `positive_label`.
    """
    if not len(truth):
        raise InvalidInput("there are no rows to score")
    predicted = probabilities.argmax(axis=1).astype(np.int64)
    confidence, correct = _confidence(truth, probabilities)
    classes, n = len(labels), len(truth)
    scores = {
        "accuracy": proportion(int((predicted == truth).sum()), n),
        "macro_f1": score(lambda rows: macro_f1(truth[rows], predicted[rows], classes), n),
        "weighted_f1": score(lambda rows: weighted_f1(truth[rows], predicted[rows], classes), n),
        "expected_calibration_error": score(
            lambda rows: _calibration_error(confidence[rows], correct[rows]), n
        ),
    }
    if classes == 2:
        positive = _positive_class(truth, labels, positive_label)
        scores |= _binary_scores(
            truth == positive, predicted == positive, probabilities[:, positive], betas
        )
    confusion = metrics.confusion_matrix(truth, predicted, labels=range(classes))
    return Evaluation(
        list(labels),
        scores,
        _per_class(truth, predicted, labels),
        confusion.astype(int).tolist(),
    )


def _positive_class(truth: Labels, labels: Sequence[str], named: str | None) -> int:
    if named is not None and named not in labels:
        raise InvalidInput(f"there is no label {named!r} to be the positive one")
    if named is not None:
        return list(labels).index(named)
    return int(np.bincount(truth, minlength=2).argmin())


def _binary_scores(
    truth: npt.NDArray[np.bool_],
    predicted: npt.NDArray[np.bool_],
    probability: npt.NDArray[np.float32],
    betas: Sequence[float],
) -> dict[str, Score]:
    def resampled(function: Callable[..., float], answers: npt.NDArray[Any]) -> Score:
        def statistic(rows: npt.NDArray[np.int64]) -> float:
            drawn = truth[rows]
            if drawn.all() or not drawn.any():
                return float("nan")  # a draw of one class has no such score; it is left out
            return function(drawn, answers[rows])

        return score(statistic, len(truth))

    hits = int((predicted & truth).sum())
    found = {
        "precision": proportion(hits, int(predicted.sum())),
        "recall": proportion(hits, int(truth.sum())),
    }
    if truth.all() or not truth.any():
        return found
    found["auroc"] = resampled(auroc, probability)
    found["auprc"] = resampled(auprc, probability)
    for beta in betas:
        found[f"f{beta:g}"] = resampled(partial(f_beta, beta=beta), predicted)
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
