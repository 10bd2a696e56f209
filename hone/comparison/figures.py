"""The figures of each contender, and of each pair of a contender with the baseline."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hone.comparison import statistics
from hone.comparison.economics import ArmCost, part
from hone.comparison.monthly import a_request
from hone.comparison.outcomes import Kind
from hone.comparison.question import Arm, Question
from hone.comparison.resampling import macro_f1, macro_f1_difference
from hone.comparison.sheets import Exam, Flags, Sheet
from hone.comparison.statistics import (
    Estimate,
    Floats,
    Groups,
    NonInferiority,
    PairedCounts,
    holm,
    mcnemar,
    noninferiority,
    pair,
    paired_difference,
    quantile,
    share,
)
from hone.comparison.unanswered import Unanswered, unanswered
from hone.models.imaging.pictures import PictureFile
from hone.models.prompting.inputs import shown_as

_BINS = 10
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of similar confidence: its mean, and the share of them that were right."""

    confidence: float
    right: Estimate


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far confidence can be trusted: bins, the expected calibration error, Brier's score.

    Both scores are of the answered label against right or wrong, and have no interval: resampling
    an absolute value overstates it. `risk` has points of (share kept, error among kept) over all
    items that were asked, most confident first; `area` is the area under it, over the answers.
    """

    bins: list[Bin]
    ece: float
    brier: float
    n: int
    risk: list[tuple[float, float]]
    area: float


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One label: how many of its items were found, and how many of its answers were right."""

    label: str
    recall: Estimate
    precision: Estimate


@dataclass(frozen=True, slots=True)
class ArmFigures:
    """What one contender did.

    `accuracy`, `macro_f1` and `classes` are of its answers; `right_of_all` is of everything that
    it was asked, an unanswered call counting as not right; `answered` is the share of calls with
    an answer. `latency` is in seconds, of the calls that came back. `request_usd` is what a
    request costs at the question's volume, its share of the machines included; None where unknown.
    `unanswered` has the most frequent of what came in the place of answers.
    """

    name: str
    arm: Arm
    asked: int
    kinds: Mapping[Kind, int]
    unanswered: list[Unanswered]
    accuracy: Estimate
    right_of_all: Estimate
    answered: Estimate
    macro_f1: Estimate
    classes: list[ClassFigures]
    latency: Mapping[str, Estimate]
    repeats: int
    flip_rate: float | None
    calibration: Calibration | None
    confusion: list[list[float]]
    cost: ArmCost
    request_usd: float | None


@dataclass(frozen=True, slots=True)
class Reading:
    """A paired comparison with the baseline under one rule for calls without an answer."""

    counts: PairedCounts
    difference: Estimate
    noninferior: NonInferiority
    mcnemar: float


@dataclass(frozen=True, slots=True)
class Versus:
    """A contender beside the baseline.

    `answered` is of the items that both answered, None if there are none; `strict` of all that
    both were asked, an unanswered call counting as not right. The adjusted p-values are of the
    first reading, by Holm over all contenders.
    """

    name: str
    answered: Reading | None
    strict: Reading
    macro_f1: Estimate | None
    adjusted_noninferiority: float | None = None
    adjusted_mcnemar: float | None = None


def arm_figures(sheet: Sheet, exam: Exam, question: Question, cost: ArmCost) -> ArmFigures:
    """Compute one contender's figures; its cost is of the whole run, items set aside included."""
    answered, asked = sheet.answered, sheet.asked
    arm, alone = question.arms[sheet.name], part(cost, 1.0)

    def mean(values: Floats, rows: Flags) -> Estimate:
        return share(values[rows], groups=some(exam.groups, rows), repeats=sheet.repeats)

    return ArmFigures(
        name=sheet.name,
        arm=arm,
        asked=int(asked.sum()),
        kinds=sheet.kinds,
        unanswered=unanswered(sheet.outcomes),
        accuracy=mean(sheet.right, answered),
        right_of_all=mean(sheet.right_of_all, asked),
        answered=mean(sheet.answered_of_all, asked),
        macro_f1=_macro_f1(sheet, exam, question),
        classes=_classes(sheet, exam),
        latency={name: quantile(sheet.every_second, q) for name, q in _QUANTILES.items()},
        repeats=sheet.repeats,
        flip_rate=sheet.flip_rate,
        calibration=_calibration(sheet),
        confusion=_confusion(sheet, exam),
        cost=cost,
        request_usd=None if alone is None else a_request([alone], question.requests_per_month),
    )


def some(groups: Groups | None, rows: Flags) -> Groups | None:
    """Return the groups of some items, numbered anew so that none is empty."""
    if groups is None:
        return None
    numbered: Groups = np.unique(groups[rows], return_inverse=True)[1]
    return numbered


def _macro_f1(sheet: Sheet, exam: Exam, question: Question) -> Estimate:
    rows = sheet.answered
    if not rows.any():
        return statistics.nothing()
    counts = sheet.counts(exam).selected(rows)
    return macro_f1(counts, seed=question.seed, groups=some(exam.groups, rows))


def _classes(sheet: Sheet, exam: Exam) -> list[ClassFigures]:
    rows = sheet.answered
    answers, truth, right = sheet.answers[rows], exam.truth[rows], sheet.right[rows]
    groups = some(exam.groups, rows)
    found = []
    for index, label in enumerate(exam.labels):
        own, named = truth == index, answers[:, index] > 0
        recall = share(right[own], groups=some(groups, own), repeats=sheet.repeats)
        # Of the items that got the label at all; with repeats a share of an item counts as one.
        precision = share(own[named].astype(np.float64), groups=some(groups, named), repeats=1)
        found.append(ClassFigures(label, recall, precision))
    return found


def _confusion(sheet: Sheet, exam: Exam) -> list[list[float]]:
    table = np.zeros((len(exam.labels), len(exam.labels)))
    np.add.at(table, exam.truth, sheet.answers)
    return [[float(cell) for cell in row] for row in table]


def _calibration(sheet: Sheet) -> Calibration | None:
    rows = sheet.answered & ~np.isnan(sheet.confidence)
    n = int(rows.sum())
    if not n:
        return None
    confidence, right = sheet.confidence[rows], sheet.right[rows]
    number = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    bins = [
        Bin(float(confidence[number == b].mean()), share(right[number == b], repeats=sheet.repeats))
        for b in range(_BINS)
        if (number == b).any()
    ]
    ece = sum(one.right.n * abs(one.right.value - one.confidence) for one in bins) / n
    risk = _risk(confidence, right, asked=int(sheet.asked.sum()))
    area, brier = _area(confidence, right), float(((confidence - right) ** 2).mean())
    return Calibration(bins, float(ece), brier, n, risk, area)


def _risk(confidence: Floats, right: Floats, *, asked: int) -> list[tuple[float, float]]:
    """Return the error among the k most confident answers, at each end of a run of equal ones."""
    order = np.argsort(-confidence, kind="stable")
    ordered, errors = confidence[order], np.cumsum(1 - right[order])
    ends = np.flatnonzero(np.append(np.diff(ordered) != 0, True))
    return [(float((k + 1) / asked), float(errors[k] / (k + 1))) for k in ends]


def _area(confidence: Floats, right: Floats) -> float:
    """Return the mean, over every k, of the error among the k most confident answers.

    Of equal confidences any may come first: each has their mean error.
    """
    order = np.argsort(-confidence, kind="stable")
    _, run, sizes = np.unique(-confidence[order], return_inverse=True, return_counts=True)
    means = np.bincount(run, weights=1 - right[order]) / sizes
    return float((np.cumsum(means[run]) / np.arange(1, len(order) + 1)).mean())


def versus(sheet: Sheet, baseline: Sheet, exam: Exam, question: Question) -> Versus:
    """Compare one contender with the baseline, item by item."""
    both = sheet.answered & baseline.answered
    asked = sheet.asked & baseline.asked
    repeats = max(sheet.repeats, baseline.repeats)

    def reading(ours: Floats, theirs: Floats, rows: Flags) -> Reading:
        counts = pair(ours[rows], theirs[rows], groups=some(exam.groups, rows), repeats=repeats)
        found = noninferiority(counts, margin=question.margin, alpha=question.alpha)
        return Reading(counts, paired_difference(counts), found, mcnemar(counts))

    strict = reading(sheet.right_of_all, baseline.right_of_all, asked)
    if not both.any():
        return Versus(sheet.name, None, strict, None)
    return Versus(
        sheet.name,
        reading(sheet.right, baseline.right, both),
        strict,
        macro_f1_difference(
            sheet.counts(exam).selected(both),
            baseline.counts(exam).selected(both),
            seed=question.seed,
            groups=some(exam.groups, both),
        ),
    )


def adjusted(pairs: Iterable[Versus]) -> list[Versus]:
    """Fill in the p-values adjusted for the family of all contenders."""
    pairs = list(pairs)
    compared = {pair.name: pair.answered for pair in pairs if pair.answered is not None}
    inferior = holm({name: found.noninferior.p_value for name, found in compared.items()})
    equal = holm({name: found.mcnemar for name, found in compared.items()})
    return [
        replace(
            pair,
            adjusted_noninferiority=inferior.get(pair.name),
            adjusted_mcnemar=equal.get(pair.name),
        )
        for pair in pairs
    ]


@dataclass(frozen=True, slots=True)
class Flip:
    """An item on which exactly one of the two was right, and what each answered.

    `text` is the item's text, or the name of its `picture`.
    """

    item: str
    text: str
    label: str
    candidate: str
    baseline: str
    picture: PictureFile | None = None


def flips(candidate: Sheet, baseline: Sheet, exam: Exam) -> tuple[list[Flip], list[Flip]]:
    """Return the items that the candidate mended, and those that it broke.

    Of the items that both answered; with repeats, those on which its share of right answers is
    the larger, or the smaller.
    """
    change = candidate.right - baseline.right
    ours, theirs = answers_of(candidate), answers_of(baseline)

    def of(rows: Sequence[int]) -> list[Flip]:
        items = [exam.items[row] for row in rows]
        return [
            Flip(i.id, shown_as(i.input), i.label, ours[i.id], theirs[i.id], i.image) for i in items
        ]

    mended, broken = np.flatnonzero(change > 0), np.flatnonzero(change < 0)
    return of(mended.tolist()), of(broken.tolist())


def answers_of(sheet: Sheet) -> dict[str, str]:
    """Return what was answered to each item, the labels of repeats in a row."""
    said: dict[str, list[str]] = {}
    for outcome in sheet.outcomes:
        said.setdefault(outcome.item, []).append(outcome.label or f"({outcome.kind})")
    return {item: ", ".join(dict.fromkeys(words)) for item, words in said.items()}
