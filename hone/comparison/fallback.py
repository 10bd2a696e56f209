"""A threshold on the candidate's confidence, below which a request goes to the prompt.

Learn-then-Test (Angelopoulos, Bates, Candès, Jordan and Lei 2021), the family of tests held by the
fallback procedure (Wiens 2003; Wiens and Dmitrienko 2005): thresholds are tried from a strict one
down, each by an exact binomial test that the error among the kept answers is above the bound. The
risk is shared between two places to start from; a test that rejects hands what it had to the next,
one that does not loses it, and the search goes on where there is a share left. With the wanted
probability, the error among kept answers is then within the bound.

The items are halved by the seed. One half's labels choose the threshold, and the other half says
what came of it. Which thresholds are tried is read off the other half's confidences, not its
labels: for the choosing half they are fixed beforehand, as the method demands. (Starting where
the choosing half itself has enough items would not be.)
"""

import math
from dataclasses import dataclass

import numpy as np

from hone.comparison.beta_distribution import at_most
from hone.comparison.figures import some
from hone.comparison.question import Question
from hone.comparison.sheets import Exam, Flags, Sheet
from hone.comparison.statistics import (
    Estimate,
    Floats,
    Groups,
    NonInferiority,
    PairedCounts,
    clopper_pearson,
    design_effect,
    noninferiority,
    pair,
    share,
)

_STEPS = 50
_ENOUGH = 4
"""How many times the least number of items that could show the bound the second start keeps."""
_STRICT_SHARE, _STRICT, _STRICT_STEPS = 0.3, 1.6, 2
"""The share of the risk that the first start has; how many times the least number that could show
the bound with that share it keeps; and how many steps there are before the second. Chosen by the
simulations: it helps where few items choose, and costs next to nothing where many do."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen threshold: an answer is kept if its confidence is at least that.

    `threshold` is None where none can be shown to hold the bound, and `reason` says why. `kept`,
    `wrong` and `upper` are of the choosing half: answers kept, wrong ones among them, and the
    upper bound on their error that holds with the wanted probability.
    """

    threshold: float | None
    reason: str
    n: int
    kept: int
    wrong: float
    upper: float | None
    tried: int


@dataclass(frozen=True, slots=True)
class Steps:
    """Thresholds to try, strictest first, and the risk that begins at each; float64 (steps,)."""

    thresholds: Floats
    risks: Floats


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the frontier, on the half that did not choose: shares, and delay in seconds."""

    threshold: float
    kept: float
    error_kept: float | None
    right: float
    p50: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class Cascade:
    """What the chosen threshold does on the other half.

    `answered` compares the cascade with the baseline where both answered, `strict` on all items,
    one without an answer counting as not right.
    """

    kept: Estimate
    error_kept: Estimate
    right: Estimate
    answered: PairedCounts
    strict: PairedCounts
    noninferior: NonInferiority
    noninferior_strict: NonInferiority


@dataclass(frozen=True, slots=True)
class Fallback:
    """The choice, what came of it, and the frontier that it was one point of."""

    choice: Choice
    cascade: Cascade | None
    frontier: list[Point]


def least_items(max_error: float, confidence: float) -> int:
    """Return how many answers without one error are needed to show the bound."""
    return math.ceil(math.log(1 - confidence) / math.log(1 - max_error))


def halves(n: int, *, seed: int, groups: Groups | None = None) -> Flags:
    """Return which items choose the threshold; groups stay whole."""
    units = np.arange(n) if groups is None else groups
    count = int(units.max()) + 1
    chosen = np.zeros(count, dtype=np.bool_)
    chosen[np.random.default_rng(seed).permutation(count)[: (count + 1) // 2]] = True
    flags: Flags = chosen[units]
    return flags


def steps(confidence: Floats, n: int, *, max_error: float, level: float) -> Steps:
    """Return what to try, from the other half's confidences (items,).

    `n` is the choosing half's number of items. Nothing where not even all of them could show the
    bound. NaN stands for an item without a confident answer, which is never kept.
    """
    known = np.sort(confidence[~np.isnan(confidence)])[::-1]
    least, risk = least_items(max_error, level), 1 - level
    expected = n * len(known) / max(len(confidence), 1)
    if not len(known) or expected < least:
        return Steps(np.empty(0), np.empty(0))
    second = max(min(_ENOUGH * least, expected / 2), min(1.25 * least, expected)) / expected
    shares, risks = np.linspace(second, 1, _STEPS), np.zeros(_STEPS)
    risks[0] = risk
    first = _STRICT * least_items(max_error, 1 - _STRICT_SHARE * risk) / expected
    if first < second:
        before = np.geomspace(first, second, _STRICT_STEPS, endpoint=False)
        shares = np.concatenate([before, shares])
        risks = np.concatenate([np.zeros(_STRICT_STEPS), risks * (1 - _STRICT_SHARE)])
        risks[0] = _STRICT_SHARE * risk
    places = np.ceil(shares * len(known)).astype(int) - 1
    tried, which = np.unique(-known[np.clip(places, 0, len(known) - 1)], return_inverse=True)
    together: Floats = np.bincount(which, weights=risks).astype(np.float64)
    return Steps(-tried, together)


def choose(
    confidence: Floats,
    wrong: Floats,
    tried: Steps,
    *,
    max_error: float,
    level: float,
    groups: Groups | None = None,
) -> Choice:
    """Choose among thresholds fixed beforehand, strictest first.

    `confidence` and `wrong` are float64 (items,) of the choosing half; `wrong` is 1 for a wrong
    answer, 0 for a right one. Groups shrink the counts by their design effect. `upper` is at the
    risk that the chosen threshold's test had.
    """
    best, risk = Choice(None, "", len(confidence), 0, 0.0, None, 0), 0.0
    pairs = zip(tried.thresholds.tolist(), tried.risks.tolist(), strict=True)
    for count, (threshold, own) in enumerate(pairs, start=1):
        risk += own
        if not risk:
            continue
        keeps = confidence >= threshold
        n, errors = _effective(wrong[keeps], None if groups is None else groups[keeps])
        if n <= 0 or at_most(errors, n, max_error) > risk:
            risk = 0.0
            continue
        upper = clopper_pearson(errors, n, 1 - 2 * risk)[1]
        total = float(wrong[keeps].sum())
        best = Choice(threshold, "", len(confidence), int(keeps.sum()), total, upper, count)
    if best.threshold is not None:
        return best
    reason = _infeasible(confidence, tried.thresholds, max_error, level)
    return Choice(None, reason, *_counts(best))


def _counts(choice: Choice) -> tuple[int, int, float, float | None, int]:
    return choice.n, choice.kept, choice.wrong, choice.upper, choice.tried


def _effective(wrong: Floats, groups: Groups | None) -> tuple[float, float]:
    n, errors = float(len(wrong)), float(wrong.sum())
    if groups is None or not n:
        return n, errors
    share = errors / n
    effect, _ = design_effect(wrong, share * (1 - share), groups=groups)
    return n / max(effect, 1.0), errors / max(effect, 1.0)


def _infeasible(confidence: Floats, tried: Floats, max_error: float, level: float) -> str:
    if np.isnan(confidence).all():
        return "the candidate gives no confidence with its answers"
    least = least_items(max_error, level)
    if not len(tried):
        return (
            f"an error of at most {max_error:.1%} takes at least {least:,} kept answers to show, "
            f"and the half that chooses has {int((~np.isnan(confidence)).sum()):,}"
        )
    return (
        f"neither the {int((confidence >= tried[0]).sum()):,} most confident answers of the half "
        f"that chooses nor more of them show an error of at most {max_error:.1%}"
    )


def seek(
    candidate: Sheet, baseline: Sheet, exam: Exam, question: Question, *, max_error: float
) -> Fallback:
    """Choose a threshold on one half of the items, and measure the cascade on the other.

    Only items that both systems were asked take part.
    """
    asked = candidate.asked & baseline.asked
    chooses = halves(len(asked), seed=question.seed, groups=exam.groups) & asked
    judges = ~chooses & asked
    confidence = np.where(candidate.answered, candidate.confidence, np.nan)
    level = question.confidence
    choice = choose(
        confidence[chooses],
        1 - np.nan_to_num(candidate.right[chooses]),
        steps(confidence[judges], int(chooses.sum()), max_error=max_error, level=level),
        max_error=max_error,
        level=level,
        groups=some(exam.groups, chooses),
    )
    frontier = _frontier(candidate, baseline, confidence, judges)
    if choice.threshold is None:
        return Fallback(choice, None, frontier)
    keeps = confidence >= choice.threshold
    return Fallback(
        choice, _cascade(candidate, baseline, exam, question, keeps=keeps, judges=judges), frontier
    )


def _cascade(
    candidate: Sheet,
    baseline: Sheet,
    exam: Exam,
    question: Question,
    *,
    keeps: Flags,
    judges: Flags,
) -> Cascade:
    right = np.where(keeps, candidate.right, baseline.right)
    of_all = np.where(keeps, candidate.right_of_all, baseline.right_of_all)
    repeats = max(candidate.repeats, baseline.repeats)

    def compared(ours: Floats, theirs: Floats) -> PairedCounts:
        rows = judges & ~np.isnan(ours) & ~np.isnan(theirs)
        return pair(ours[rows], theirs[rows], groups=some(exam.groups, rows), repeats=repeats)

    def shared(values: Floats, rows: Flags) -> Estimate:
        return share(values[rows], groups=some(exam.groups, rows), repeats=repeats)

    answered, strict = compared(right, baseline.right), compared(of_all, baseline.right_of_all)
    margin, alpha = question.margin, question.alpha
    return Cascade(
        kept=shared(keeps.astype(np.float64), judges),
        error_kept=shared(1 - candidate.right, keeps & judges),
        right=shared(of_all, judges),
        answered=answered,
        strict=strict,
        noninferior=noninferiority(answered, margin=margin, alpha=alpha),
        noninferior_strict=noninferiority(strict, margin=margin, alpha=alpha),
    )


def _frontier(candidate: Sheet, baseline: Sheet, confidence: Floats, judges: Flags) -> list[Point]:
    known = np.sort(confidence[judges & ~np.isnan(confidence)])[::-1]
    if not len(known):
        return []
    places = np.ceil(np.linspace(1 / _STEPS, 1, _STEPS) * len(known)).astype(int) - 1
    return [
        _point(candidate, baseline, confidence >= threshold, judges, threshold=float(threshold))
        for threshold in np.unique(known[places])[::-1]
    ]


def _point(
    candidate: Sheet, baseline: Sheet, keeps: Flags, judges: Flags, *, threshold: float
) -> Point:
    kept = keeps & judges
    right = np.where(keeps, candidate.right_of_all, baseline.right_of_all)[judges]
    delay = np.where(keeps, candidate.seconds, candidate.seconds + baseline.seconds)[judges]
    delay = delay[~np.isnan(delay)]
    p50, p95 = np.quantile(delay, (0.5, 0.95)) if len(delay) else (None, None)
    return Point(
        threshold=threshold,
        kept=float(kept.sum() / judges.sum()),
        error_kept=float(1 - candidate.right[kept].mean()) if kept.any() else None,
        right=float(right.mean()),
        p50=None if p50 is None else float(p50),
        p95=None if p95 is None else float(p95),
    )
