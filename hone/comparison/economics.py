"""What a replacement costs and saves: per request, per month, and from which volume on.

Sums of dollars are exact to rounding (`math.fsum`). What is unknown stays None and is named;
a saving below zero is shown as one.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hone.comparison.monthly import (
    HOURS_A_MONTH,
    SECONDS_A_MONTH,
    Part,
    a_request,
    break_even,
    month,
    payback,
    pays_until,
)
from hone.comparison.outcomes import Outcome, asked_once
from hone.comparison.prices import Price, cost_usd
from hone.comparison.question import ArmCosts, Question, Serving
from hone.models.prompting.usage import Counting, Usage


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one arm's run, failed attempts included.

    `outcomes` with a count had `prompt`, `completion`, `cached` and `cache_write` tokens in all;
    `uncounted` outcomes had none to go by. `counting` says how many outcomes were counted how.
    """

    outcomes: int
    uncounted: int
    prompt: int
    completion: int
    cached: int
    cache_write: int
    shortest_prompt: int
    counting: dict[Counting, int]

    @property
    def label(self) -> Counting:
        """The least certain way in which a count was made."""
        order: tuple[Counting, ...] = ("estimated", "exact", "measured")
        return next((way for way in order if self.counting.get(way)), "none")

    def a_request(self) -> float | None:
        """Return the mean number of tokens of a counted request, in and out."""
        return (self.prompt + self.completion) / self.outcomes if self.outcomes else None


@dataclass(frozen=True, slots=True)
class ServedBy:
    """A machine: dollars an hour, the requests a second it sustains, and who measured that."""

    usd_per_hour: float
    requests_per_second: float
    from_run: bool
    most_in_use: float
    always_on: bool

    @property
    def requests_a_month(self) -> float:
        """How many requests one machine is planned to answer in a month."""
        return self.requests_per_second * self.most_in_use * SECONDS_A_MONTH

    @property
    def usd_a_request(self) -> float:
        """What a request costs where only time in use is paid."""
        return self.usd_per_hour * HOURS_A_MONTH / self.requests_a_month


@dataclass(frozen=True, slots=True)
class ArmCost:
    """What one arm costs. `tokens_usd` is the tokens of a mean request, None where unknown.

    `tokens` are those of all outcomes, as if each had been asked by itself, and `billed` those of
    the run: equal requests were asked once. `run_usd` is what the run's tokens cost; `unknown` says
    why a figure is missing, and is empty otherwise.
    """

    tokens: Tokens
    billed: Tokens
    price: Price | None
    run_usd: float | None
    tokens_usd: float | None
    served: ServedBy | None
    unknown: str


@dataclass(frozen=True, slots=True)
class Saving:
    """How a replacement compares with the baseline under one assumption about its price.

    Dollars, negative where the replacement is dearer, None where a price or the volume is
    unknown. `per_1000` is what 1,000 requests save, as `a_request` has their cost: `baseline_1000`
    less `replacement_1000`. `break_even` is the least number of
    requests a month from which nothing is lost (`with_once`: one-off costs spread over the months
    included); infinite if there is none. `pays_until` is the largest such number, None if there is
    no end. `payback_months` is infinite if it never comes, and None if nothing was paid once.
    """

    name: str
    per_1000: float | None
    baseline_month: float | None
    replacement_month: float | None
    saved_month: float | None
    break_even: float | None
    break_even_with_once: float | None
    payback_months: float | None
    unknown: str = ""
    baseline_1000: float | None = None
    replacement_1000: float | None = None
    pays_until: float | None = None
    pays_until_with_once: float | None = None


def count_tokens(outcomes: Sequence[Outcome]) -> Tokens:
    """Add up what was spent; an outcome without `spent` goes by the `usage` of its answer."""
    spent = [o.usage if o.spent.counting == "none" else o.spent for o in outcomes]
    known = [usage for usage in spent if usage.counting != "none"]
    prompts = [o.usage.prompt_tokens for o in outcomes if o.usage.counting != "none"]
    return Tokens(
        outcomes=len(known),
        uncounted=len(spent) - len(known),
        prompt=sum(usage.prompt_tokens for usage in known),
        completion=sum(usage.completion_tokens for usage in known),
        cached=sum(usage.cached_tokens for usage in known),
        cache_write=sum(usage.cache_write_tokens for usage in known),
        shortest_prompt=min(prompts, default=0),
        counting=dict(Counter(usage.counting for usage in known)),
    )


def cost_of(outcomes: Sequence[Outcome], costs: ArmCosts) -> ArmCost:
    """Return what an arm costs by its outcomes and its prices."""
    tokens, served = count_tokens(outcomes), _served(costs.serving, outcomes)
    once = asked_once(outcomes)
    billed = count_tokens(once)
    unknown = ""
    if costs.serving is not None and served is None:
        unknown = "its throughput is unknown"
    elif costs.price is not None and not tokens.outcomes:
        failed = bool(outcomes) and all(outcome.kind == "failed" for outcome in outcomes)
        unknown = "none of its calls was answered" if failed else "its tokens were not counted"
    elif costs.price is None and costs.serving is None and not costs.free:
        unknown = (
            f"the price of {costs.price_name} is unknown"
            if costs.price_name
            else "no price was given"
        )
    if costs.price is None or not tokens.outcomes:
        spent = None if unknown else 0.0
        return ArmCost(tokens, billed, costs.price, spent, spent, served, unknown)
    run, every = run_cost(once, costs.price), run_cost(outcomes, costs.price)
    return ArmCost(tokens, billed, costs.price, run, every / tokens.outcomes, served, unknown)


def run_cost(outcomes: Sequence[Outcome], price: Price) -> float:
    """Return what all counted tokens of the outcomes cost, in US dollars."""
    return math.fsum(
        _usage_cost(o.usage if o.spent.counting == "none" else o.spent, price) for o in outcomes
    )


def _usage_cost(usage: Usage, price: Price) -> float:
    return cost_usd(
        price,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )


def _served(serving: Serving | None, outcomes: Sequence[Outcome]) -> ServedBy | None:
    if serving is None:
        return None
    rate, seconds = serving.requests_per_second, [o.seconds for o in outcomes if o.seconds]
    if rate is None and seconds:
        rate = len(seconds) / math.fsum(seconds)
    if rate is None:
        return None
    return ServedBy(
        serving.usd_per_hour,
        rate,
        serving.requests_per_second is None,
        serving.most_in_use,
        serving.billing == "always_on",
    )


def cached_request_usd(cost: ArmCost, costs: ArmCosts) -> float | None:
    """Return a mean request's tokens if a provider's cache held the prompt's static part.

    Every call is taken to find it there. Without a stated static part the shortest prompt stands
    for it, which is more than can be cached: the cost is then a lower bound. None where the price
    has no cache price, or the cost is unknown.
    """
    tokens, price = cost.tokens, cost.price
    if price is None or cost.tokens_usd is None or price.cache_read_input_token_cost is None:
        return None
    static = costs.static_prompt_tokens
    static = tokens.shortest_prompt if static is None else static
    prompt = tokens.prompt / tokens.outcomes
    cached = min(max(static, tokens.cached / tokens.outcomes), prompt)
    return cost_usd(
        price,
        prompt_tokens=prompt,
        completion_tokens=tokens.completion / tokens.outcomes,
        cached_tokens=cached,
    )


def part(cost: ArmCost, share: float) -> Part | None:
    """Return an arm's part of all requests; None where its cost is unknown."""
    tokens = cost.tokens_usd
    if tokens is None or cost.unknown:
        return None
    served = cost.served
    if served is None:
        return Part(share, tokens)
    if served.always_on:
        return Part(share, tokens, served.usd_per_hour * HOURS_A_MONTH, served.requests_a_month)
    return Part(share, tokens + served.usd_a_request)


def savings(
    baseline: ArmCost, candidate: ArmCost, question: Question, *, kept: float = 1.0
) -> list[Saving]:
    """Compare costs as they are, with the baseline at half its price, cached, and both.

    `kept` is the share of requests that the candidate's answer serves; the baseline answers the
    rest as well, and the question's shadow share of those.
    """
    arm = question.arms[question.baseline].costs
    cached = cached_request_usd(baseline, arm)
    as_is = baseline.tokens_usd
    cases = [("as measured", as_is, baseline)]
    if baseline.price is not None:
        half = None if as_is is None else as_is / 2
        half_cached = None if cached is None else cached / 2
        cases += [
            ("the baseline's tokens at half the price", half, baseline),
            ("the baseline's prompt cached", cached, baseline),
            ("half the price, and cached", half_cached, baseline),
        ]
    return [
        _saving(name, replace(cost, tokens_usd=usd), candidate, question, kept=kept)
        for name, usd, cost in cases
    ]


def replaced(
    baseline: ArmCost, candidate: ArmCost, question: Question, *, kept: float = 1.0
) -> list[Part] | None:
    """Return who answers how much after a replacement; None where a cost is unknown.

    The candidate sees all requests, and the baseline those that are not kept and the shadow share
    of the others.
    """
    new = part(candidate, 1.0)
    again = part(baseline, _asked_again(question, kept))
    if new is None or again is None:
        return None
    return [new, again] if again.share else [new]


def _asked_again(question: Question, kept: float) -> float:
    """Return the share that the baseline answers as well; what falls back is not asked twice."""
    return (1.0 - kept) + kept * question.shadow_share


def _saving(
    name: str, baseline: ArmCost, candidate: ArmCost, question: Question, *, kept: float
) -> Saving:
    old, after = part(baseline, 1.0), replaced(baseline, candidate, question, kept=kept)
    if old is None or after is None:
        nothing = Saving(name, None, None, None, None, None, None, None)
        return replace(nothing, unknown=_why(baseline, candidate, question))
    costs = question.arms[question.candidate].costs
    once = costs.training_usd + costs.labelling_usd
    volume, monthly = question.requests_per_month, once / question.months
    now, then = (1000 * a_request(parts, volume) for parts in ([old], after))
    found = Saving(
        name,
        per_1000=now - then,
        baseline_month=None,
        replacement_month=None,
        saved_month=None,
        break_even=break_even([old], after),
        break_even_with_once=break_even([old], after, fixed=monthly),
        payback_months=None,
        baseline_1000=now,
        replacement_1000=then,
        pays_until=pays_until([old], after),
        pays_until_with_once=pays_until([old], after, fixed=monthly),
    )
    if volume is None:
        return replace(found, unknown="the number of requests a month was not given")
    before, later = month([old], volume), month(after, volume)
    return replace(
        found,
        baseline_month=before,
        replacement_month=later,
        saved_month=before - later,
        payback_months=payback(once, before - later) if once else None,
    )


def _why(baseline: ArmCost, candidate: ArmCost, question: Question) -> str:
    for name, cost in ((question.baseline, baseline), (question.candidate, candidate)):
        if cost.unknown:
            return f"{name}: {cost.unknown}"
    return "the price table has no price for cached tokens"


def net_tokens(
    baseline: ArmCost, candidate: ArmCost, question: Question, *, kept: float = 1.0
) -> tuple[float, float] | None:
    """Return the tokens of a baseline request, and what a replacement saves of them, net.

    Net of the candidate's own, of requests that fall back and of shadow requests; None where the
    baseline's were not counted.
    """
    gross = baseline.tokens.a_request()
    if gross is None:
        return None
    own = candidate.tokens.a_request() or 0.0
    return gross, gross - own - gross * _asked_again(question, kept)
