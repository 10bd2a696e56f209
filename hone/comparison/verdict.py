"""The verdict, by the rules of docs/verdict.md, in their order; the first that applies decides.

1. `calls-failed`: of either arm more calls failed than the question allows: NOT ENOUGH DATA.
2. `too-few-items`: fewer than 50 items that both answered, or 20 groups: NOT ENOUGH DATA.
3. `as-good`: shown to be less than the margin worse, by both readings of calls without an answer,
   and it does not cost more: REPLACE.
4. `dearer`: the same, but it costs more, and a saving was asked for: KEEP THE PROMPT.
5. `fallback`: a threshold holds the error bound, keeps enough, its cascade is shown by both
   readings to be less than the margin worse, and does not cost more: REPLACE WITH FALLBACK.
6. `worse`: shown by either reading to be more than the margin worse: KEEP THE PROMPT.
7. `undecided`: otherwise NOT ENOUGH DATA, and how many more items would do.
"""

import math
from dataclasses import dataclass
from typing import Literal

from hone.comparison.economics import Saving
from hone.comparison.fallback import Cascade, Fallback
from hone.comparison.figures import Reading
from hone.comparison.question import Question
from hone.comparison.statistics import sample_size
from hone.comparison.wording import (
    amount,
    dollars,
    p_value,
    points,
    saves,
    size_in_points,
    volume,
    words,
)

Word = Literal["REPLACE", "REPLACE WITH FALLBACK", "KEEP THE PROMPT", "NOT ENOUGH DATA"]
Rule = Literal[
    "calls-failed", "too-few-items", "as-good", "dearer", "fallback", "worse", "undecided"
]

LEAST_ITEMS = 50
LEAST_GROUPS = 20


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a verdict rests on.

    `answered` is None where no item was answered by both. `failed` holds the shares of calls
    that failed, of the baseline and of the candidate. `saving` is that of the candidate alone,
    `fallback_saving` that of the cascade, each as measured.
    """

    answered: Reading | None
    strict: Reading
    failed: tuple[float, float]
    saving: Saving
    fallback: Fallback | None = None
    fallback_saving: Saving | None = None


@dataclass(frozen=True, slots=True)
class Reasons:
    """Sentences on one thing, with the numbers in them, and what they are about."""

    title: str
    said: list[str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The word, the rule it came by, a sentence for a person, and what it rests on.

    The first of the `reasons` are those that decided, the others are there to be known.
    `more_items` is set where more items would decide, and None where no number up to ten million
    would, or more items are not what is missing.
    """

    word: Word
    rule: Rule
    sentence: str
    reasons: list[Reasons]
    more_items: int | None = None


def decide(evidence: Evidence, question: Question) -> Verdict:
    """Apply the rules in their order."""
    blocked = _not_judged(evidence, question)
    if blocked is not None:
        return blocked
    name, quality = question.candidate, _quality(evidence, question)
    money = _money(evidence.saving, question)
    if _shown(evidence) and worth_it(evidence.saving, question):
        sentence = _replace(evidence, question)
        reasons = _reasons([*quality, *money])
        return Verdict("REPLACE", "as-good", sentence, reasons)
    if _shown(evidence):
        enough = "is good enough" if not _better(evidence) else words(question).better_alone
        sentence = f"{name} {enough}, but {_dearer(evidence.saving)}."
        reasons = _reasons(money, (f"What {name} answers", quality))
        return Verdict("KEEP THE PROMPT", "dearer", sentence, reasons)
    fallback, costs = _fallback_reasons(evidence, question), (f"What {name} alone costs", money)
    if _falls_back(evidence, question):
        sentence = _cascade(evidence, question)
        reasons = _reasons(fallback, (f"{name} alone, which is not enough", quality), costs)
        return Verdict("REPLACE WITH FALLBACK", "fallback", sentence, reasons)
    readings = [*([evidence.answered] if evidence.answered else []), evidence.strict]
    unmended = ("With a fallback, which does not change it", fallback)
    refuted = [reading.noninferior.refuted for reading in readings]
    if any(refuted):
        sentence = (
            f"{name} {words(question).worse} {question.baseline} by more than the "
            f"{size_in_points(question.margin)} that were allowed."
        )
        reasons = _reasons(*_apart(quality, refuted), unmended, costs)
        return Verdict("KEEP THE PROMPT", "worse", sentence, reasons)
    open_ = [not reading.noninferior.shown for reading in readings]
    return _undecided(evidence, question, _reasons(*_apart(quality, open_), unmended, costs))


def _reasons(deciding: list[str], *others: tuple[str, list[str]]) -> list[Reasons]:
    """Put what decided first; what nothing is said of is left out."""
    named = [("What decides", deciding), *others]
    return [Reasons(title, said) for title, said in named if said]


def _apart(said: list[str], decide: list[bool]) -> tuple[list[str], tuple[str, list[str]]]:
    """Part the readings that decide from the other one."""
    pairs = list(zip(said, decide, strict=True))
    rest = [sentence for sentence, decides in pairs if not decides]
    return [sentence for sentence, decides in pairs if decides], ("The other reading", rest)


def _answered(evidence: Evidence) -> Reading:
    return evidence.strict if evidence.answered is None else evidence.answered


def _shown(evidence: Evidence) -> bool:
    return evidence.strict.noninferior.shown and _answered(evidence).noninferior.shown


def worth_it(saving: Saving, question: Question) -> bool:
    """Whether a replacement is not known to cost more than the prompt.

    At the stated volume; without one, at any volume. An unknown cost does not speak against it.
    """
    if not question.must_save or saving.per_1000 is None:
        return True
    if saving.saved_month is not None:
        return saving.saved_month >= 0
    return saving.break_even is None or saving.break_even < math.inf


def _not_judged(evidence: Evidence, question: Question) -> Verdict | None:
    seen = ("What was seen, and is not judged", _quality(evidence, question))
    for name, failed in zip((question.baseline, question.candidate), evidence.failed, strict=True):
        if failed > question.most_failed:
            sentence = (
                f"{failed:.1%} of the calls of {name} failed, more than the "
                f"{question.most_failed:.1%} that are allowed. Mend that and run it again."
            )
            shares = (
                f"Of the calls of {question.baseline} {evidence.failed[0]:.1%} failed, of those of "
                f"{question.candidate} {evidence.failed[1]:.1%}; {question.most_failed:.1%} may."
            )
            return Verdict("NOT ENOUGH DATA", "calls-failed", sentence, _reasons([shares], seen))
    counts = evidence.answered.counts if evidence.answered is not None else None
    items = counts.n if counts is not None else 0
    degrees = counts.degrees if counts is not None else None
    if items >= LEAST_ITEMS and (degrees is None or degrees >= LEAST_GROUPS - 1):
        return None
    few = f"{items:,} items" if items < LEAST_ITEMS else f"{(degrees or 0) + 1:,} groups of items"
    floor = f"Below {LEAST_ITEMS} items, or {LEAST_GROUPS} groups, nothing is judged."
    sentence = f"Only {few} were answered by both. {floor}"
    more = max(more_items(evidence, question) or 0, LEAST_ITEMS - items, 0)
    reasons = _reasons([f"Both answered {few}. {floor}"], seen)
    return Verdict("NOT ENOUGH DATA", "too-few-items", sentence, reasons, more or None)


def _replace(evidence: Evidence, question: Question) -> str:
    reading = _weaker(evidence)
    said = (
        f"{question.candidate} {words(question).better} {question.baseline}"
        if _better(evidence)
        else f"{question.candidate} {words(question).not_worse} {question.baseline} by as much as "
        f"{size_in_points(question.margin)}"
    )
    return f"{said} ({points(reading.difference.value)} measured), {_gain(evidence.saving)}."


def _gain(saving: Saving) -> str:
    """Return what a replacement that is recommended gains; a loss is called one."""
    if saving.saved_month is None and saving.break_even is None:
        return "and what it saves is unknown"
    if saving.saved_month is None:
        pays = "though it pays" if saving.break_even == math.inf else "and pays"
        return f"{pays} {volume(saving.break_even, saving.pays_until)}"
    if saving.saved_month < 0:
        return f"but it {saves(saving.saved_month)} a month, which must_save = false allows"
    return f"and {saves(saving.saved_month)} a month"


def _better(evidence: Evidence) -> bool:
    """Whether both readings have the candidate above the baseline, by their 95 % intervals."""
    lows = (evidence.strict.difference.low, _answered(evidence).difference.low)
    return all(low is not None and low > 0 for low in lows)


def _dearer(saving: Saving) -> str:
    if saving.saved_month is not None:
        return f"it would cost {dollars(-saving.saved_month)} more a month at this volume"
    return "it would cost more at any volume"


def _cascade(evidence: Evidence, question: Question) -> str:
    found = evidence.fallback
    if found is None or found.cascade is None or found.choice.threshold is None:
        return ""
    return (
        f"Let {question.candidate} answer where its confidence is at least "
        f"{found.choice.threshold:.3f}, which is {found.cascade.kept.value:.1%} of the requests, "
        f"and ask {question.baseline} for the rest{_cascade_gain(evidence.fallback_saving)}."
    )


def _cascade_gain(saving: Saving | None) -> str:
    if saving is None or saving.saved_month is None:
        return ""
    if saving.saved_month < 0:
        return f": that {saves(saving.saved_month)} a month, which must_save = false allows"
    return f": that {saves(saving.saved_month)} a month"


def _falls_back(evidence: Evidence, question: Question) -> bool:
    found = evidence.fallback
    if found is None or found.cascade is None or evidence.fallback_saving is None:
        return False
    cascade = found.cascade
    return (
        cascade.kept.value >= question.least_kept
        and cascade.noninferior.shown
        and cascade.noninferior_strict.shown
        and worth_it(evidence.fallback_saving, question)
    )


def _weaker(evidence: Evidence) -> Reading:
    return min((evidence.strict, _answered(evidence)), key=lambda r: r.noninferior.lower)


def more_items(evidence: Evidence, question: Question) -> int | None:
    """Return how many more items would decide, if all stays as it was observed.

    With the question's power. Both readings have to pass, so that it is by the one that needs more
    of them; one that is to fail is enough. None if ten million items would not do, as where the
    difference is about the margin itself.
    """
    readings = (evidence.strict, _answered(evidence))
    against = [one for one in readings if _is_against(one, question)]
    if against:
        known = [n for one in against if (n := _more(one, evidence, question)) is not None]
        return max(min(known), 1) if known else None
    most = 0
    for reading in readings:
        if not reading.noninferior.shown:
            more = _more(reading, evidence, question)
            if more is None:
                return None
            most = max(most, more)
    return max(most, 1)


def _is_against(reading: Reading, question: Question) -> bool:
    return reading.counts.difference <= -question.margin


def _more(reading: Reading, evidence: Evidence, question: Question) -> int | None:
    """Return how many more items would decide by one reading."""
    counts = reading.counts
    needed = sample_size(
        discordance=max(counts.discordance, 1 / counts.n),
        difference=counts.difference,
        margin=question.margin,
        alpha=question.alpha,
        power=question.power,
    )
    if needed is None:
        return None
    asked = evidence.strict.counts.n / counts.n
    return math.ceil((needed * counts.design_effect - counts.n) * asked)


def _undecided(evidence: Evidence, question: Question, reasons: list[Reasons]) -> Verdict:
    more, reading = more_items(evidence, question), _weaker(evidence)
    readings = (evidence.strict, _answered(evidence))
    towards = "against" if any(_is_against(one, question) for one in readings) else "for"
    if more is None:
        sentence = (
            f"The difference between {question.candidate} and {question.baseline} is so close to "
            "the margin that no number of items up to ten million would decide. Think about the "
            "margin again, for a new run."
        )
    else:
        sentence = (
            f"{reading.counts.n:,} items do not decide. If the difference stays as it is, about "
            f"{more:,} more would decide {towards} {question.candidate}, with a probability of "
            f"{question.power:.0%}."
        )
    return Verdict("NOT ENOUGH DATA", "undecided", sentence, reasons, more)


def _quality(evidence: Evidence, question: Question) -> list[str]:
    said = []
    if evidence.answered is not None:
        said.append(_reading("Of the items that both answered", evidence.answered, question))
    said.append(
        _reading(
            f"Counting calls without an answer as not {words(question).right}",
            evidence.strict,
            question,
        )
    )
    return said


def _reading(start: str, reading: Reading, question: Question) -> str:
    counts, test = reading.counts, reading.noninferior
    found = (
        "above it: shown"
        if test.shown
        else "and even the upper bound is below it: refuted"
        if test.refuted
        else "below it: not shown"
    )
    return (
        f"{start} (n = {counts.n:,}), {question.candidate} alone is {words(question).right} on "
        f"{amount(counts.gained)} and {question.baseline} alone on {amount(counts.lost)}: "
        f"a difference of {points(counts.difference)}. Its one-sided {1 - question.alpha:.0%} "
        "lower bound is "
        f"{points(test.lower)}; the margin is {points(-question.margin)}, {found} "
        f"(p {p_value(test.p_value)})."
    )


def _money(saving: Saving, question: Question) -> list[str]:
    if saving.per_1000 is None:
        return [f"What it would save is unknown ({saving.unknown}), and is no part of the verdict."]
    included = "machines and shadow calls" if question.shadow_share else "machines"
    cost = (
        f"1,000 requests cost {dollars(saving.replacement_1000)} in place of "
        f"{dollars(saving.baseline_1000)}, {included} included"
    )
    if saving.saved_month is None or question.requests_per_month is None:
        said = f"With machines in all the use that is planned for, {cost}."
    else:
        said = (
            f"At {question.requests_per_month:,.0f} requests a month, {cost}: that "
            f"{saves(saving.saved_month)} a month."
        )
    return [f"{said} {_pays(saving)}"]


def _pays(saving: Saving) -> str:
    if saving.pays_until is None or saving.break_even == math.inf:
        return f"It breaks even {volume(saving.break_even)}."
    return (
        f"It costs no more {volume(saving.break_even, saving.pays_until)}, and more beyond, where "
        "the baseline's machines are in use."
    )


def _fallback_reasons(evidence: Evidence, question: Question) -> list[str]:
    found = evidence.fallback
    if found is None:
        return []
    if found.cascade is None:
        return [f"A fallback is infeasible: {found.choice.reason}."]
    cascade, saved = found.cascade, evidence.fallback_saving
    kept = (
        f"With a fallback below a confidence of {found.choice.threshold:.3f}, "
        f"{cascade.kept.value:.1%} of the requests are kept"
    )
    few = cascade.kept.value < question.least_kept
    said = [
        f"{kept}, less than the {question.least_kept:.0%} that are worth it."
        if few
        else f"{kept}; the error among them is held to {question.max_error or 0:.1%}.",
        (
            f"The difference of both together from {question.baseline} has a one-sided lower bound "
            f"of {points(cascade.noninferior.lower)} where both answered, and of "
            f"{points(cascade.noninferior_strict.lower)} counting calls without an answer as not "
            f"{words(question).right}; the margin is {points(-question.margin)}, "
            f"{_bounds(cascade)}."
        ),
    ]
    return said if saved is None else [*said, *_money(saved, question)]


def _bounds(cascade: Cascade) -> str:
    shown = [cascade.noninferior.shown, cascade.noninferior_strict.shown]
    return "below them: shown" if all(shown) else "not below both: not shown"
