"""The sections of a report that set the contenders side by side."""

from collections.abc import Iterator

from hone.comparison import drawings
from hone.comparison.figures import ArmFigures, Versus
from hone.comparison.judgement import Judgement
from hone.comparison.wording import (
    amount,
    delay,
    difference,
    dollars,
    p_value,
    percent,
    share,
    words,
)
from hone.models.cells import Cell, Ranged
from hone.models.document import Block, Drawing, Folded, Heading, Side, Table, Text

_UNANSWERED_SHOWN = 8
"""Of each contender and kind; more are in report.json."""


def contenders(judgement: Judgement) -> Iterator[Block]:
    """Yield what each contender got right, how long it took, and what it costs."""
    said = words(judgement.question)
    numbers = {arm.name: index for index, arm in enumerate(judgement.arms, start=1)}
    yield Text(
        f"{said.measure} and macro F1 are of the answers that were given. "
        f"“{said.right.capitalize()} of "
        "all” counts every call, one without an answer as not "
        f"{said.right}. Beneath the figures are 95% intervals."
    )
    yield Table(
        (
            "Contender",
            said.measure,
            f"{said.right.capitalize()} of all",
            "1,000 requests",
            "Answered",
            "Macro F1",
        ),
        [_quality_row(arm, numbers, judgement) for arm in judgement.arms],
        "lllrll",
    )
    yield Side(list(_trades(judgement, numbers)))
    yield Table(
        ("Contender", "p50", "p95", "p99", "Different answers"),
        [_delay_row(arm, numbers) for arm in judgement.arms],
        "lllll",
    )
    yield Text(
        "Delays are those of calls that came back, retries excluded. “Different answers” is the "
        "share of the items asked more than once that were answered in more than one way."
    )
    untimed = list(_untimed(judgement))
    if untimed:
        yield Text(" ".join(untimed))


def _trades(judgement: Judgement, numbers: dict[str, int]) -> Iterator[Drawing]:
    """Yield what is right against what it costs, and against how long it takes."""
    arms, question = judgement.arms, judgement.question
    costs = {arm.name: 1000 * arm.request_usd for arm in arms if arm.request_usd is not None}
    delays = {arm.name: arm.latency["p50"].value for arm in arms if arm.latency["p50"].n}
    for across, name, in_dollars in (
        (costs, "dollars for 1,000 requests", True),
        (delays, "median delay", False),
    ):
        yield drawings.trade(arms, numbers, across, question, name=name, dollars_across=in_dollars)


def _untimed(judgement: Judgement) -> Iterator[str]:
    """Yield what contenders have answers whose time is not that of a call by itself."""
    for arm in judgement.arms:
        answered, timed = arm.kinds.get("answered", 0), arm.latency["p50"].n
        if 0 < timed < answered:
            yield (
                f"{arm.name}: {timed:,} of its {answered:,} answers have a time of their own, and "
                "its delays are of these alone."
            )


def thousand(arm: ArmFigures) -> str:
    """Return what 1,000 requests of an arm cost, in dollars, or that it is unknown."""
    return dollars(None if arm.request_usd is None else 1000 * arm.request_usd)


def _role(arm: ArmFigures, judgement: Judgement) -> str:
    role = {judgement.question.baseline: "baseline", judgement.question.candidate: "candidate"}
    named = role.get(arm.name, arm.arm.role)
    return f"{named}; {arm.arm.note}" if arm.arm.note else named


def _quality_row(arm: ArmFigures, numbers: dict[str, int], judgement: Judgement) -> list[Cell]:
    return [
        Ranged(_numbered(arm, numbers), _role(arm, judgement), wraps=True),
        share(arm.accuracy),
        share(arm.right_of_all),
        thousand(arm),
        share(arm.answered),
        share(arm.macro_f1),
    ]


def _delay_row(arm: ArmFigures, numbers: dict[str, int]) -> list[Cell]:
    flips = "–"
    if arm.flip_rate is not None:
        flips = f"{percent(arm.flip_rate)}, asked {arm.repeats} times each"
    return [_numbered(arm, numbers), *(delay(found) for found in arm.latency.values()), flips]


def _numbered(arm: ArmFigures, numbers: dict[str, int]) -> str:
    return f"{numbers[arm.name]}. {arm.name}"


def beside(judgement: Judgement) -> Iterator[Block]:
    """Yield each contender's difference from the baseline, and the tests of it."""
    question, said = judgement.question, words(judgement.question)
    yield Text(
        f"Differences are in points of {said.measure.lower()}, a contender less "
        f"{question.baseline}, on the "
        "items that both answered. “Alone” counts the items on which only one of the two is "
        f"{said.right}."
    )
    yield Side([drawings.forest(judgement.pairs, question)])
    yield Table(
        (
            "Contender",
            "Difference",
            "Lower bound",
            "p, non-inferior",
            "p, equal",
            f"Alone {said.right}",
            "Baseline alone",
            "Items",
            "Difference of all",
            "Difference in macro F1",
        ),
        [_pair_row(pair) for pair in judgement.pairs],
        "llrrrrrrll",
    )
    yield Text(
        f"The lower bound is one-sided, at {1 - question.alpha:.0%}. “p, non-inferior” tests that "
        "a contender is less than the margin worse, “p, equal” is "
        "McNemar's test that both are equally often "
        f"{said.right}; both are adjusted for all contenders (Holm). “Difference of all” counts "
        f"calls without an answer as not {said.right}."
    )
    own = judgement.pair.answered
    if own is not None and own.counts.gained + own.counts.lost < 6:
        yield Text(
            "Candidate and baseline differ on fewer than six items: McNemar's test cannot tell "
            "them apart at 5%, whichever is better."
        )


def _pair_row(pair: Versus) -> list[Cell]:
    found = pair.answered
    if found is None:
        return [pair.name, *("–",) * 6, 0, difference(pair.strict.difference), "–"]
    return [
        pair.name,
        difference(found.difference),
        f"{100 * found.noninferior.lower:+.2f}",
        _p(pair.adjusted_noninferiority),
        _p(pair.adjusted_mcnemar),
        amount(found.counts.gained),
        amount(found.counts.lost),
        found.counts.n,
        difference(pair.strict.difference),
        "–" if pair.macro_f1 is None else difference(pair.macro_f1),
    ]


def _p(value: float | None) -> str:
    return p_value(value).removeprefix("= ")


def without_answer(judgement: Judgement) -> Iterator[Block]:
    """Yield how many calls ended in which way."""
    yield Text(
        "A call that failed after its retries, a refusal, and an answer that names no label or "
        "more than one are no answers: none of them is silently counted as a wrong one."
    )
    rows: list[list[Cell]] = [
        [
            arm.name,
            *(arm.kinds.get(kind, 0) for kind in ("answered", "unparsable", "refused", "failed")),
        ]
        for arm in judgement.arms
    ]
    yield Table(("Contender", "Answered", "Names no label", "Refused", "Failed"), rows, "lrrrr")
    failed = _unanswered(judgement, "failed")
    if failed:
        yield Heading("Why calls failed")
        yield Table(("Contender", "Reason", "Calls"), failed, "llr")
    for kind, verb in (("unparsable", "names no label"), ("refused", "refuses")):
        if said := _unanswered(judgement, kind):
            head = ("Contender", "Begins with", "Answers")
            yield Folded(f"What is said that {verb}", [Table(head, said, "llr")])


def _unanswered(judgement: Judgement, kind: str) -> list[list[Cell]]:
    """Return what came in the place of answers of one kind: the contender, what, how often."""
    return [
        [arm.name, one.said or "(nothing)", one.calls]
        for arm in judgement.arms
        for one in [found for found in arm.unanswered if found.kind == kind][:_UNANSWERED_SHOWN]
    ]
