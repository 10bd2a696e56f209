"""The instruction that every example repeats: the prompt whose tokens a small model saves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

T = TypeVar("T", bound=Sequence[object])


@dataclass(frozen=True, slots=True)
class SharedInstruction:
    """`text` is what is sent with every request today; `messages` the same as chat messages."""

    kind: Literal["prompt_prefix", "chat"]
    text: str
    messages: tuple[dict[str, str], ...] = ()


def shared_start(first: T, second: T) -> T:
    """Return what two strings or tuples begin with in common."""
    length = 0
    shorter = min(len(first), len(second))
    while length < shorter and first[length] == second[length]:
        length += 1
    return first[:length]  # type: ignore[return-value]  # a slice keeps the kind
