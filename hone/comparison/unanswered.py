"""What came in the place of answers: why calls failed, and what was said that names no label."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby, islice

from hone.comparison.outcomes import Kind, Outcome

MOST_KEPT = 20
"""How many of a contender and a kind are kept."""
_CHARACTERS = 160


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Calls of one contender that ended alike.

    `said` is why they failed or, of a refusal and of an answer without a label, how it begins (up
    to 160 characters, its white space made one); empty where nothing was said. `calls` is how often
    that was.
    """

    kind: Kind
    said: str
    calls: int


def unanswered(outcomes: Iterable[Outcome]) -> list[Unanswered]:
    """Return how a contender's calls ended without an answer, the most frequent of each kind first.

    So a few failures do not vanish behind many answers that all say something else.
    """
    found = Counter(
        (outcome.kind, _said(outcome)) for outcome in outcomes if outcome.kind != "answered"
    )
    ordered = sorted(
        (Unanswered(kind, said, calls) for (kind, said), calls in found.items()),
        key=lambda one: (one.kind, -one.calls, one.said),
    )
    by_kind = groupby(ordered, key=lambda one: one.kind)
    return [one for _, alike in by_kind for one in islice(alike, MOST_KEPT)]


def _said(outcome: Outcome) -> str:
    given = outcome.error if outcome.kind == "failed" and outcome.error else outcome.raw
    said = " ".join(given[: 4 * _CHARACTERS].split())
    return said if len(said) <= _CHARACTERS else f"{said[:_CHARACTERS]}…"
