"""How the report words its figures."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from hone.comparison.question import Question
from hone.comparison.statistics import Estimate
from hone.models.cells import Ranged


@dataclass(frozen=True, slots=True)
class Words:
    """What equality with the gold labels is called, by who gave them.

    Labels of a model may be wrong themselves, so against them nothing is right or accurate.
    """

    measure: str
    right: str
    better: str
    better_alone: str
    worse: str
    not_worse: str


_PEOPLE = Words(
    "Accuracy", "right", "is better than", "is better", "is worse than", "is not worse than"
)
_MODEL = Words(
    "Agreement",
    "in agreement",
    "agrees more with the labels than",
    "agrees more with the labels",
    "agrees less with the labels than",
    "does not agree less with the labels than",
)


def words(question: Question) -> Words:
    """Return the words for the question's gold labels."""
    return _MODEL if question.labels_from == "model" else _PEOPLE


def dollars(value: float | None) -> str:
    """Return an amount of US dollars with its sign in front, as in `-$3.20`; `unknown` for None."""
    if value is None:
        return "unknown"
    size = abs(value)
    if not size:
        return "$0.00"
    digits = 2 if size >= 1 else min(9, 1 - math.floor(math.log10(size)))
    return f"{'-' if value < 0 else ''}${size:,.{max(digits, 2)}f}"


def saves(value: float) -> str:
    """Return what a month's saving is, in words that call a loss a loss."""
    if not value:
        return "costs as much"
    return f"saves {dollars(value)}" if value > 0 else f"costs {dollars(-value)} more"


def dollar_tick(value: float) -> str:
    """Return dollars as a tick reads: `$0.003`, `$30`, `$20k`."""
    return f"${count(value)}" if value >= 1 else f"${value:.10f}".rstrip("0")


def percent(value: float) -> str:
    """Return a share in percent, to three figures."""
    return f"{100 * value:.3g}%"


def share(found: Estimate) -> Ranged | str:
    """Return a share in percent with its interval."""
    return _ranged(found, lambda value: f"{100 * value:.1f}%", lambda end: f"{100 * end:.1f}")


def difference(found: Estimate) -> Ranged | str:
    """Return a difference of shares in points with its interval."""
    return _ranged(found, lambda value: f"{100 * value:+.2f}", lambda end: f"{100 * end:+.2f}")


def delay(found: Estimate) -> Ranged | str:
    """Return a time with its interval."""
    return _ranged(found, seconds, seconds)


def _ranged(
    found: Estimate, reads: Callable[[float], str], ends: Callable[[float], str]
) -> Ranged | str:
    if not found.n:
        return "–"
    if found.low is None or found.high is None:
        return Ranged(reads(found.value), f"no interval: {found.method}", wraps=True)
    return Ranged(reads(found.value), f"{ends(found.low)} to {ends(found.high)}")


def spelt(cell: Ranged | str) -> str:
    """Return a figure and its interval in one line: `93.1% (92.0 to 94.1)`."""
    return cell if isinstance(cell, str) else f"{cell.value} ({cell.range})"


def seconds(value: float) -> str:
    """Return a time in the unit that suits it."""
    if value < 0.001:
        return f"{1e6 * value:.3g} µs"
    return f"{1000 * value:.3g} ms" if value < 1 else f"{value:.3g} s"


def count(value: float) -> str:
    """Return a large number as a tick reads: `20k`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def amount(value: float) -> str:
    """Return a count, with a decimal only if it is no whole number."""
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


def p_value(value: float | None) -> str:
    """Return a p-value to two figures: `= 0.012`, or `< 0.0001`."""
    if value is None:
        return "–"
    return "< 0.0001" if value < 0.0001 else f"= {value:.2g}"


def points(value: float) -> str:
    """Return a difference of shares with its sign: `+1.20 points`."""
    return f"{100 * value:+.2f} points"


def size_in_points(value: float) -> str:
    """Return the size of a margin: `2 points`."""
    return f"{100 * value:g} point{'' if value == 0.01 else 's'}"


def volume(requests: float | None, until: float | None = None) -> str:
    """Return at which volumes a replacement pays, in words: from break-even on, or `until` some."""
    if requests is None:
        return "at an unknown volume"
    if requests == math.inf:
        return "at no volume"
    if until is not None:
        start = "up to" if requests <= 1 else f"from {math.ceil(requests):,} to"
        return f"{start} {math.floor(until):,} requests a month"
    if requests <= 1:
        return "at any volume"
    return f"from {math.ceil(requests):,} requests a month on"


def volume_cell(requests: float | None, until: float | None = None) -> str:
    """Return the volumes at which a replacement pays as a number or two, where there are any."""
    if requests is None:
        return "unknown"
    if requests == math.inf:
        return "never"
    if until is not None:
        start = "up to" if requests <= 1 else f"{math.ceil(requests):,} to"
        return f"{start} {math.floor(until):,}"
    return "any" if requests <= 1 else f"{math.ceil(requests):,}"


def months(value: float | None) -> str:
    """Return a payback time in words."""
    if value is None:
        return "unknown"
    return "never" if value == math.inf else f"{value:,.1f} months"


def counted(number: int, thing: str, verb: str = "") -> str:
    """Return a number and what it counts: `1 item`, `2,000 items`; or `1 item counts`."""
    some = f"{number:,} {thing}{'' if number == 1 else 's'}"
    return f"{some} {verb}{'s' if number == 1 else ''}" if verb else some
