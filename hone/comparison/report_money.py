"""The section of a report on costs, savings and break-even."""

import math
from collections.abc import Iterator, Sequence

from hone.comparison import drawings
from hone.comparison.economics import Saving, ServedBy, part, replaced
from hone.comparison.figures import ArmFigures
from hone.comparison.judgement import Judgement
from hone.comparison.monthly import Part
from hone.comparison.report_contenders import thousand
from hone.comparison.wording import counted, dollars, months, percent, volume_cell
from hone.models.cells import Cell
from hone.models.document import Block, Bullets, Heading, Side, Table, Text

_COUNTED = {
    "measured": "measured",
    "exact": "counted exactly",
    "estimated": "estimated",
    "none": "none",
}


def money(judgement: Judgement) -> Iterator[Block]:
    """Yield tokens and dollars of each arm, what a replacement saves, and when it pays."""
    volume = judgement.question.requests_per_month
    yield Text(_rule(volume))
    yield Table(
        (
            "Contender",
            "1,000 requests",
            "of that, tokens",
            "Machines",
            "This run",
            "Tokens in",
            "of them cached",
            "Tokens out",
            "Counted",
        ),
        [_cost_row(arm, volume) for arm in judgement.arms],
        "lrrlrrrrl",
    )
    yield from _unpriced_notes(judgement)
    yield from _counting_notes(judgement)
    yield Heading("What a replacement saves")
    yield Text(_assumptions(judgement))
    yield _savings_table(judgement.savings, judgement)
    if judgement.fallback_savings:
        yield Heading("What a replacement with fallback saves")
        if judgement.fallback_savings == judgement.savings:
            yield Text("The same: the threshold keeps all answers, so that none falls back.")
        else:
            yield _savings_table(judgement.fallback_savings, judgement)
    ways = list(_ways(judgement))
    if len(ways) > 1:
        yield Side([drawings.monthly_costs(ways, _volumes(judgement))])
    if judgement.tokens is not None:
        gross, net = judgement.tokens
        change = f"{net:,.0f} of them are saved" if net >= 0 else f"it takes {-net:,.0f} more"
        shadow = " and of shadow calls" if judgement.question.shadow_share else ""
        yield Text(
            f"A request to {judgement.question.baseline} takes {gross:,.0f} tokens, in and out. "
            f"Replaced, {change}, net of the candidate's own{shadow}."
        )


def _rule(volume: float | None) -> str:
    if volume is None:
        return (
            "A request costs its tokens and its share of the machines. The number of requests a "
            "month was not given (costs.requests_per_month), so machines are taken to be in all "
            "the use that is planned for: with fewer requests, one costs more."
        )
    return (
        "A request costs its tokens and its share of the machines that answer "
        f"{volume:,.0f} requests a month; one that always runs is paid for all month. Every figure "
        "of cost here goes by that."
    )


def _cost_row(arm: ArmFigures, volume: float | None) -> list[Cell]:
    tokens, cost = arm.cost.tokens, arm.cost
    counts: list[Cell] = [tokens.prompt, tokens.cached, tokens.completion]
    unknown = arm.request_usd is None
    return [
        arm.name,
        thousand(arm),
        "–" if unknown or cost.tokens_usd is None else dollars(1000 * cost.tokens_usd),
        "–" if cost.served is None else _machines(cost.served, volume),
        dollars(cost.run_usd),
        *(counts if tokens.outcomes else ["–", "–", "–"]),
        _COUNTED[tokens.label] if tokens.outcomes else "–",
    ]


def _machines(served: ServedBy, volume: float | None) -> str:
    found = "by this run, one call at a time" if served.from_run else "as stated"
    number = ""
    if volume is not None and served.always_on:
        number = f"{math.ceil(volume / served.requests_a_month):,} at "
    paid = "all month" if served.always_on else "for time in use"
    return (
        f"{number}{dollars(served.usd_per_hour)} an hour, {paid}; one answers "
        f"{served.requests_per_second:,.3g} requests a second {found}, {served.most_in_use:.0%} of "
        "it planned for"
    )


def _unpriced_notes(judgement: Judgement) -> Iterator[Block]:
    """Yield why a cost is unknown, and which setting makes it known."""
    found = [arm for arm in judgement.arms if arm.request_usd is None]
    if found:
        yield Bullets([f"{arm.name}: {arm.cost.unknown}. {_setting(arm, judgement)}".strip()
                       for arm in found])  # fmt: skip


def _setting(arm: ArmFigures, judgement: Judgement) -> str:
    costs = arm.arm.costs
    candidate = arm.name == judgement.question.candidate
    group = "[costs]" if candidate else f"the [contenders.costs] of {arm.name}"
    if costs.serving is not None and arm.cost.served is None:
        return f"requests_per_second in {group} gives it."
    if costs.price is not None and arm.kinds.get("failed", 0) == sum(arm.kinds.values()):
        return ""  # what would count tokens of answers is no help where there are none
    if costs.price is not None:
        return "tokenizer names a tokenizer.json that counts them."
    if costs.price_name is not None:
        return "costs.prices names a file that has it, and price_model its name there."
    return (
        f"serving_usd_per_hour in {group} gives the price of the machine that it runs on, and "
        "requests_per_second what that sustains."
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
            they = "It is" if tokens.uncounted == 1 else "They are"
            yield Text(
                f"{counted(tokens.uncounted, 'call')} of {arm.name} reported no tokens. {they} in "
                "no sum, so what it spent is at least what stands here."
            )
        if len(tokens.counting) > 1:
            ways = ", ".join(
                f"{_COUNTED[w]}: {counted(n, 'call')}" for w, n in tokens.counting.items()
            )
            yield Text(f"The tokens of {arm.name} were counted in several ways ({ways}).")


def _assumptions(judgement: Judgement) -> str:
    question = judgement.question
    costs = question.arms[question.candidate].costs
    sentences = [
        (
            f"Against {question.baseline}; less than zero is a loss. It breaks even at the number "
            "of requests a month from which nothing is lost, machines included. “Baseline” and "
            "“Replaced” are what a month costs."
        )
    ]
    if _paid_once(judgement):
        sentences.append(
            f"Training ({dollars(costs.training_usd)}) and labelling "
            f"({dollars(costs.labelling_usd)}) are paid once; “breaks even, one-off costs "
            f"included” spreads them over {question.months:g} months."
        )
    else:
        sentences.append(
            "Nothing was paid once, as far as was said: costs.training_usd and "
            "costs.labelling_usd are for that."
        )
    if question.shadow_share:
        sentences.append(
            f"{percent(question.shadow_share)} of the requests still go to the baseline as well, "
            "and are paid for."
        )
    static = question.arms[question.baseline].costs.static_prompt_tokens
    if static is None and judgement.baseline.cost.price is not None:
        sentences.append(
            "How much of the baseline's prompt a cache could hold was not stated: the shortest "
            "prompt of the run stands for it, so the cached cost is a lower bound."
        )
    return " ".join(sentences)


def _paid_once(judgement: Judgement) -> bool:
    costs = judgement.question.arms[judgement.question.candidate].costs
    return costs.training_usd + costs.labelling_usd > 0


def _savings_table(savings: Sequence[Saving], judgement: Judgement) -> Table:
    """Return a row for each assumption; without one-off costs, nothing of them."""
    heads = (
        "If",
        "Saved a month",
        "Breaks even at",
        "1,000 requests save",
        "Baseline",
        "Replaced",
        "Breaks even, one-off costs included",
        "Paid back after",
    )
    columns = len(heads) if _paid_once(judgement) else len(heads) - 2
    rows = [_saving_row(saving)[:columns] for saving in savings]
    return Table(heads[:columns], rows, "lrrrrrrr"[:columns])


def _saving_row(saving: Saving) -> list[Cell]:
    if saving.per_1000 is None:
        return [saving.name, "unknown", "unknown", "unknown", "–", "–", "–", "–"]
    return [
        saving.name,
        dollars(saving.saved_month),
        volume_cell(saving.break_even, saving.pays_until),
        dollars(saving.per_1000),
        dollars(saving.baseline_month),
        dollars(saving.replacement_month),
        volume_cell(saving.break_even_with_once, saving.pays_until_with_once),
        months(saving.payback_months),
    ]


def _ways(judgement: Judgement) -> Iterator[tuple[str, str, list[Part]]]:
    question = judgement.question
    costs = judgement.baseline.cost, judgement.candidate.cost
    old, new = part(costs[0], 1.0), replaced(*costs, question)
    if old is not None:
        yield question.baseline, "warn", [old]
    if new is not None:
        yield question.candidate, "accent", new
    cascade = judgement.fallback.cascade if judgement.fallback is not None else None
    if cascade is not None and cascade.kept.value < 1:
        both = replaced(*costs, question, kept=cascade.kept.value)
        if both is not None:
            yield "with fallback", "good", both


def _volumes(judgement: Judgement) -> list[float]:
    known = [saving.break_even for saving in judgement.savings[:1]]
    found = [v for v in known if v is not None and 1 < v < math.inf]
    asked = judgement.question.requests_per_month
    return [*found, *([asked] if asked is not None else [])] or [100_000.0]
