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
from hone.comparison.fallback import Fallback
from hone.comparison.figures import Reading
from hone.comparison.question import Question
from hone.comparison.statistics import sample_size
from hone.comparison.wording import amount, dollars, p_value, points, size_in_points, volume, words

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
class Verdict:
    """The word, the rule it came by, a sentence for a person, and what it rests on.

    `more_items` is set where more items would decide, and None where no number up to ten million
    would, or more items are not what is missing.
    """

    word: Word
    rule: Rule
    sentence: str
    reasons: list[str]
    more_items: int | None = None


def decide(evidence: Evidence, question: Question) -> Verdict:
    """Apply the rules in their order."""
    reasons = [*_quality(evidence, question), *_money(evidence.saving, question)]
    blocked = _not_judged(evidence, question)
    if blocked is not None:
        return blocked
    shown = _shown(evidence)
    if shown and worth_it(evidence.saving, question):
        return Verdict("REPLACE", "as-good", _replace(evidence, question), reasons)
    if shown:
        enough = "is good enough" if not _better(evidence) else words(question).better_alone
        sentence = f"{question.candidate} {enough}, but {_dearer(evidence.saving)}."
        return Verdict("KEEP THE PROMPT", "dearer", sentence, reasons)
    reasons += _fallback_reasons(evidence, question)
    if _falls_back(evidence, question):
        return Verdict("REPLACE WITH FALLBACK", "fallback", _cascade(evidence, question), reasons)
    if evidence.strict.noninferior.refuted or _answered(evidence).noninferior.refuted:
        sentence = (
            f"{question.candidate} {words(question).worse} {question.baseline} by more than the "
            f"{size_in_points(question.margin)} that were allowed."
        )
        return Verdict("KEEP THE PROMPT", "worse", sentence, reasons)
    return _undecided(evidence, question, reasons)


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
    for name, failed in zip((question.baseline, question.candidate), evidence.failed, strict=True):
        if failed > question.most_failed:
            sentence = (
                f"{failed:.1%} of the calls of {name} failed, more than the "
                f"{question.most_failed:.1%} that are allowed. Mend that and run it again."
            )
            return Verdict(
                "NOT ENOUGH DATA", "calls-failed", sentence, _quality(evidence, question)
            )
    counts = evidence.answered.counts if evidence.answered is not None else None
    items = counts.n if counts is not None else 0
    degrees = counts.degrees if counts is not None else None
    if items >= LEAST_ITEMS and (degrees is None or degrees >= LEAST_GROUPS - 1):
        return None
    few = f"{items:,} items" if items < LEAST_ITEMS else f"{(degrees or 0) + 1:,} groups of items"
    sentence = (
        f"Only {few} were answered by both. Below {LEAST_ITEMS} items, or {LEAST_GROUPS} groups, "
        "nothing is judged."
    )
    more = max(more_items(evidence, question) or 0, LEAST_ITEMS - items)
    return Verdict("NOT ENOUGH DATA", "too-few-items", sentence, _quality(evidence, question), more)


def _replace(evidence: Evidence, question: Question) -> str:
    reading = _weaker(evidence)
    said = (
        f"{question.candidate} {words(question).better} {question.baseline}"
        if _better(evidence)
        else f"{question.candidate} {words(question).not_worse} {question.baseline} by as much as "
        f"{size_in_points(question.margin)}"
    )
    saving = evidence.saving
    tail = "; what it saves is unknown"
    if saving.saved_month is not None:
        loses = saving.saved_month < 0
        word = "though it costs" if loses else "and saves"
        tail = f", {word} {dollars(abs(saving.saved_month))} {'more ' if loses else ''}a month"
    elif saving.break_even is not None:
        pays = "though it pays" if saving.break_even == math.inf else "and pays"
        tail = f", {pays} {volume(saving.break_even)}"
    return f"{said} ({points(reading.difference.value)} measured){tail}."


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
        f"and ask {question.baseline} for the rest."
    )


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

    With the question's power, by the reading that needs more of them; None if ten million items
    would not do, as where the difference is about the margin itself.
    """
    most = 0
    for reading in (evidence.strict, _answered(evidence)):
        if reading.noninferior.shown:
            continue
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
        most = max(most, math.ceil((needed * counts.design_effect - counts.n) * asked))
    return max(most, 1)


def _undecided(evidence: Evidence, question: Question, reasons: list[str]) -> Verdict:
    more, reading = more_items(evidence, question), _weaker(evidence)
    towards = "for" if reading.counts.difference > -question.margin else "against"
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
    said = [f"For 1,000 requests it saves {dollars(saving.per_1000)}, machines aside."]
    if saving.saved_month is not None and question.requests_per_month is not None:
        said.append(
            f"At {question.requests_per_month:,.0f} requests a month it saves "
            f"{dollars(saving.saved_month)} a month, machines included."
        )
    said.append(f"It breaks even {volume(saving.break_even)}.")
    return said


def _fallback_reasons(evidence: Evidence, question: Question) -> list[str]:
    found = evidence.fallback
    if found is None:
        return []
    if found.cascade is None:
        return [f"A fallback is infeasible: {found.choice.reason}."]
    cascade = found.cascade
    weaker = min(cascade.noninferior.lower, cascade.noninferior_strict.lower)
    saved = evidence.fallback_saving
    said = (
        f"With a fallback below a confidence of {found.choice.threshold:.3f}, "
        f"{cascade.kept.value:.1%} of the requests are kept, and the lower bound of the cascade's "
        f"difference is {points(weaker)}."
    )
    if saved is not None and saved.saved_month is not None:
        said += f" It saves {dollars(saved.saved_month)} a month."
    if cascade.kept.value < question.least_kept:
        said += f" That keeps less than the {question.least_kept:.0%} that are worth it."
    return [said]
