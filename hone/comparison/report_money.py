"""The section of a report on costs, savings and break-even."""

import math
from collections.abc import Iterator, Sequence

from hone.comparison import drawings
from hone.comparison.economics import Part, Saving, ServedBy, part
from hone.comparison.figures import ArmFigures
from hone.comparison.judgement import Judgement
from hone.comparison.report_contenders import cost_cell
from hone.comparison.wording import counted, dollars, months, volume_cell
from hone.models.document import Block, Cell, Heading, Side, Table, Text

_COUNTED = {
    "measured": "measured",
    "exact": "counted exactly",
    "estimated": "estimated",
    "none": "none",
}


def money(judgement: Judgement) -> Iterator[Block]:
    """Yield tokens and dollars of each arm, what a replacement saves, and when it pays."""
    yield Table(
        (
            "Contender",
            "Tokens in",
            "of them cached",
            "Tokens out",
            "Counted",
            "This run",
            "Tokens of 1,000 requests",
            "A machine",
        ),
        [_cost_row(arm) for arm in judgement.arms],
        "lrrrllll",
    )
    yield from _counting_notes(judgement)
    yield Heading("What a replacement saves")
    yield Text(_assumptions(judgement))
    yield _savings_table(judgement.savings)
    if judgement.fallback_savings:
        yield Heading("What a replacement with fallback saves")
        yield _savings_table(judgement.fallback_savings)
    ways = list(_ways(judgement))
    if len(ways) > 1:
        yield Side([drawings.monthly_costs(ways, _volumes(judgement))])
    if judgement.tokens is not None:
        gross, net = judgement.tokens
        yield Text(
            f"A request to {judgement.question.baseline} takes {gross:,.0f} tokens, in and out. "
            f"Replaced, {net:,.0f} of them are saved, net of the candidate's own and of shadow "
            "calls."
        )


def _cost_row(arm: ArmFigures) -> list[Cell]:
    tokens, cost = arm.cost.tokens, arm.cost
    counts: list[Cell] = [tokens.prompt, tokens.cached, tokens.completion]
    per_1000 = None if cost.request_usd is None else 1000 * cost.request_usd
    return [
        arm.name,
        *(counts if tokens.outcomes else ["–", "–", "–"]),
        _COUNTED[tokens.label] if tokens.outcomes else "–",
        cost_cell(cost.run_usd, cost.unknown),
        cost_cell(per_1000, cost.unknown),
        "–" if cost.served is None else _machine(cost.served),
    ]


def _machine(served: ServedBy) -> str:
    paid = "all month" if served.always_on else "for time in use"
    found = "by this run, one call at a time" if served.from_run else "as stated"
    return (
        f"{dollars(served.usd_per_hour)} an hour, {paid}; {served.requests_per_second:,.3g} "
        "requests a "
        f"second {found}, {served.most_in_use:.0%} of it planned for"
    )


def _counting_notes(judgement: Judgement) -> Iterator[Block]:
    for arm in judgement.arms:
        tokens, billed = arm.cost.tokens, arm.cost.billed
        if billed.outcomes < tokens.outcomes:
            yield Text(
                f"{arm.name} was asked {billed.outcomes:,} requests for {tokens.outcomes:,} "
                f"answers: equal ones were asked once. Billed were {billed.prompt:,} tokens in "
                f"({billed.cached:,} of them cached) and {billed.completion:,} out, which “This "
                "run” is of; the table's tokens, and the cost of 1,000 requests, are as if each "
                "had been asked by itself."
            )
        if arm.cost.price is not None and tokens.uncounted:
            yield Text(
                f"{counted(tokens.uncounted, 'call')} of {arm.name} reported no tokens. They are "
                "in no sum, "
                "so what it spent is at least what stands here."
            )
        if len(tokens.counting) > 1:
            ways = ", ".join(f"{_COUNTED[w]}: {n:,} calls" for w, n in tokens.counting.items())
            yield Text(f"The tokens of {arm.name} were counted in several ways ({ways}).")


def _assumptions(judgement: Judgement) -> str:
    question = judgement.question
    costs = question.arms[question.candidate].costs
    sentences = [
        (
            f"Against {question.baseline}; less than zero is a loss, and it breaks even at so many "
            "requests a month. “Baseline” and “Replaced” are what a month costs. Training "
            f"({dollars(costs.training_usd)}) and labelling ({dollars(costs.labelling_usd)}) are "
            "paid once; “with one-off costs” spreads them over "
            f"{question.months:g} months."
        )
    ]
    if question.shadow_share:
        sentences.append(
            f"{question.shadow_share:.1%} of the requests still go to the baseline as well, and "
            "are "
            "paid for."
        )
    static = question.arms[question.baseline].costs.static_prompt_tokens
    if static is None and judgement.baseline.cost.price is not None:
        sentences.append(
            "How much of the baseline's prompt a cache could hold was not stated: the shortest "
            "prompt of the run stands for it, so the cached cost is a lower bound."
        )
    return " ".join(sentences)


def _savings_table(savings: Sequence[Saving]) -> Table:
    return Table(
        (
            "If",
            "1,000 requests save",
            "Baseline",
            "Replaced",
            "Saved a month",
            "Breaks even at",
            "with one-off costs",
            "Paid back after",
        ),
        [_saving_row(saving) for saving in savings],
        "lrrrrrrr",
    )


def _saving_row(saving: Saving) -> list[Cell]:
    if saving.per_1000 is None:
        return [saving.name, "unknown", "–", "–", "–", "unknown", "–", "–"]
    return [
        saving.name,
        dollars(saving.per_1000),
        dollars(saving.baseline_month),
        dollars(saving.replacement_month),
        dollars(saving.saved_month),
        volume_cell(saving.break_even),
        volume_cell(saving.break_even_with_once),
        months(saving.payback_months),
    ]


def _ways(judgement: Judgement) -> Iterator[tuple[str, str, list[Part]]]:
    question = judgement.question
    old = part(judgement.baseline.cost, 1.0)
    new = part(judgement.candidate.cost, 1.0)
    shadow = part(judgement.baseline.cost, question.shadow_share)
    if old is not None:
        yield question.baseline, "warn", [old]
    if new is not None:
        yield question.candidate, "accent", [new, *([shadow] if shadow and shadow.share else [])]
    cascade = judgement.fallback.cascade if judgement.fallback is not None else None
    if cascade is not None and new is not None:
        rest = part(judgement.baseline.cost, 1 - cascade.kept.value + question.shadow_share)
        if rest is not None:
            yield "with fallback", "good", [new, rest]


def _volumes(judgement: Judgement) -> list[float]:
    known = [saving.break_even for saving in judgement.savings[:1]]
    found = [v for v in known if v is not None and 1 < v < math.inf]
    asked = judgement.question.requests_per_month
    return [*found, *([asked] if asked is not None else [])] or [100_000.0]
