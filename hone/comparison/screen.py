"""What a person sees of a comparison: the plan's estimate, and the table of outcomes."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from hone.comparison.cache import Sums
from hone.comparison.outcomes import Item, Kind, Outcome, asked_once
from hone.comparison.plan import Estimate
from hone.comparison.unanswered import unanswered
from hone.comparison.wording import counted
from hone.models.terminal import plain

_KINDS: tuple[Kind, ...] = ("answered", "unparsable", "refused", "failed")


def show_estimates(
    console: Console, found: Sequence[Estimate], *, limit: float | None, spent: float
) -> None:
    """Print what asking would take, held against the limit; an unknown price reads so.

    `spent` are the dollars that calls of the run's folder have cost, or may have cost, by now.
    """
    table = Table("contender", "calls", "prompt tokens", "answer tokens", "counted", "US dollars")
    for one in found:
        dollars = "unknown" if one.usd is None else f"{one.usd:.4f}"
        counts = (f"{n:,}" for n in (one.calls, one.prompt_tokens, one.completion_tokens))
        table.add_row(plain(one.contender), *counts, one.counting, dollars)
    console.print(table)
    known = sum(one.usd for one in found if one.usd is not None)
    unknown = sum(one.usd is None for one in found)
    beside = f", and {counted(unknown, 'contender')} of unknown price" if unknown else ""
    if unknown and unknown == len(found):
        console.print("what it costs is unknown: no price is known of a contender that is asked")
    else:
        console.print(f"about ${known:.4f}{beside}, nothing deducted for cached prompts or answers")
    if limit is not None:
        console.print(f"limits.dollars is ${limit:.4f}{_against(known, limit, spent)}")


def _against(known: float, limit: float, spent: float) -> str:
    """Say whether a run's estimate is above its limit, of which `spent` dollars are gone."""
    gone = f", of which ${spent:.4f} are spent" if spent else ""
    if known > limit:
        return (
            f"{gone}: the estimate is above it, and the run would stop before its end. Raise it, "
            "or ask fewer items (experiment.most_items)"
        )
    if known + spent > limit:
        return f"{gone}: it may not do, unless what is spent was for the same calls"
    return gone


def show_outcomes(
    console: Console, outcomes: Sequence[Outcome], items: Sequence[Item], sums: Sums
) -> None:
    """Print a plain table of what came of each contender's items."""
    gold = {item.id: item.label for item in items}
    table = Table(
        "contender", "right", "wrong", "no label", "refused", "failed", "calls", "prompt tokens"
    )
    for name in dict.fromkeys(outcome.contender for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.contender == name]
        kinds = Counter(outcome.kind for outcome in own)
        right = sum(o.kind == "answered" and o.label == gold[o.item] for o in own)
        once = asked_once(own)
        calls = sum(outcome.calls for outcome in once)
        tokens = sum(outcome.spent.prompt_tokens for outcome in once)
        counts = [right, kinds["answered"] - right, *(kinds[kind] for kind in _KINDS[1:])]
        table.add_row(plain(name), *(f"{n:,}" for n in (*counts, calls, tokens)))
    console.print(table)
    for name in dict.fromkeys(outcome.contender for outcome in outcomes):
        _show_failures(console, name, [one for one in outcomes if one.contender == name])
    console.print(f"{counted(sums.calls, 'call')} in this folder, ${sums.usd:.6f}")
    if sums.unclear_usd:
        console.print(f"calls without a whole answer: ${sums.unclear_usd:.6f} more at most")
    if sums.unpriced_calls:
        console.print(f"{counted(sums.unpriced_calls, 'call')} without a known price")


def _show_failures(console: Console, name: str, outcomes: Sequence[Outcome]) -> None:
    """Say why a contender's calls failed: the reason that most of them have, and how many more."""
    reasons = [one for one in unanswered(outcomes) if one.kind == "failed"]
    if not reasons:
        return
    said = "; ".join(f"{one.said or 'no reason is known'} ({one.calls:,})" for one in reasons[:3])
    more = len(reasons) - 3
    rest = f"; {more} more in the report" if more > 0 else ""
    console.print(plain(f"{name} failed: {said}{rest}"), soft_wrap=True, highlight=False)
