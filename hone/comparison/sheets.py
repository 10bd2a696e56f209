"""Each contender's answers laid out by item, as the arrays that statistics are computed from."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hone.comparison.outcomes import Item, Kind, Outcome
from hone.comparison.resampling import ClassCounts, class_counts
from hone.comparison.statistics import Floats, Groups

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Exam:
    """What all contenders have in common: gold labels as int64 (items,), and groups, if any."""

    items: Sequence[Item]
    labels: list[str]
    truth: Groups
    groups: Groups | None


@dataclass(frozen=True, slots=True)
class Sheet:
    """One contender's answers; all arrays are float64 and have one row an item.

    `right` is the share of an item's answers that are right, NaN where there was no answer;
    `right_of_all` is the share of its calls, an unanswered one counting as not right, NaN where
    the item was never asked, as is `answered_of_all`, the share of its calls that have an answer.
    `answers` (items, labels) is the share of an item's answers that
    named each label. `confidence` and `seconds` are those of the first repeat, NaN where there
    are none; `every_second` has the times of all calls that came back. `flip_rate` is the share
    of the items with several answers on which they differ.
    """

    name: str
    right: Floats
    right_of_all: Floats
    answered_of_all: Floats
    answers: Floats
    confidence: Floats
    seconds: Floats
    every_second: Floats
    kinds: dict[Kind, int]
    repeats: int
    flip_rate: float | None
    outcomes: Sequence[Outcome]

    @property
    def answered(self) -> Flags:
        """Which items have at least one answer."""
        return ~np.isnan(self.right)

    @property
    def asked(self) -> Flags:
        """Which items were asked at all."""
        return ~np.isnan(self.right_of_all)

    def counts(self, exam: Exam) -> ClassCounts:
        """Return what macro F1 needs, of every item."""
        return class_counts(exam.truth, self.answers)


def lay_out_exam(items: Sequence[Item], outcomes: dict[str, list[Outcome]]) -> Exam:
    """Give numbers to the labels (gold ones and all that were answered) and to the groups.

    An item without a group is a group of its own, where other items have one.
    """
    answered = {o.label for found in outcomes.values() for o in found if o.label is not None}
    labels = sorted({item.label for item in items} | answered)
    place = {label: index for index, label in enumerate(labels)}
    truth = np.array([place[item.label] for item in items], dtype=np.int64)
    groups = None
    if any(item.group is not None for item in items):
        named = [("item", i.id) if i.group is None else ("group", i.group) for i in items]
        numbers = {name: index for index, name in enumerate(dict.fromkeys(named))}
        groups = np.array([numbers[name] for name in named], dtype=np.int64)
    return Exam(items, labels, truth, groups)


def lay_out(name: str, outcomes: Sequence[Outcome], exam: Exam) -> Sheet:
    """Lay out one contender's outcomes."""
    by_item: dict[str, list[Outcome]] = {item.id: [] for item in exam.items}
    for outcome in outcomes:
        by_item[outcome.item].append(outcome)
    place = {label: index for index, label in enumerate(exam.labels)}
    size = len(exam.items)
    right, of_all, answered, confidence, seconds = (np.full(size, np.nan) for _ in range(5))
    answers = np.zeros((size, len(exam.labels)))
    for row, item in enumerate(exam.items):
        calls = by_item[item.id]
        if not calls:
            continue
        given = [call.label for call in calls if call.label is not None]
        hits = given.count(item.label)
        of_all[row], answered[row] = hits / len(calls), len(given) / len(calls)
        first = calls[0]
        confidence[row] = np.nan if first.confidence is None else first.confidence
        seconds[row] = np.nan if first.seconds is None else first.seconds
        if given:
            right[row] = hits / len(given)
        for label in given:
            answers[row, place[label]] += 1 / len(given)
    return Sheet(
        name=name,
        right=right,
        right_of_all=of_all,
        answered_of_all=answered,
        answers=answers,
        confidence=confidence,
        seconds=seconds,
        every_second=np.array([o.seconds for o in outcomes if _came_back(o)], dtype=np.float64),
        kinds=dict(Counter(outcome.kind for outcome in outcomes)),
        repeats=max((len(calls) for calls in by_item.values()), default=0),
        flip_rate=_flip_rate(by_item),
        outcomes=outcomes,
    )


def _came_back(outcome: Outcome) -> bool:
    return outcome.seconds is not None and outcome.kind != "failed"


def _flip_rate(by_item: dict[str, list[Outcome]]) -> float | None:
    answers = [[c.label for c in calls if c.label is not None] for calls in by_item.values()]
    several = [given for given in answers if len(given) > 1]
    return sum(len(set(given)) > 1 for given in several) / len(several) if several else None
