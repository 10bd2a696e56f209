"""What everybody decodes: the same random prompts, and how far each is to go on."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

PROMPT_TOKENS = 16

Run = Callable[[int, Sequence[int]], float]
"""Answers requests for so many tokens each, greedily and whatever they say, that many at a time;
returns seconds."""


def prompts(streams: int) -> list[list[int]]:
    """Return the prompts of that many streams."""
    random = np.random.default_rng(0)
    return [[1, *random.integers(5, 16_000, PROMPT_TOKENS - 1).tolist()] for _ in range(streams)]


def groups(streams: int, wanted: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yield the requests as a static batch takes them: so many, and none before all have ended."""
    for start in range(0, len(wanted), streams):
        yield wanted[start : start + streams]


def mixed_lengths(requests: int) -> list[int]:
    """Return how many tokens requests of mixed lengths want: 8 to 192, most of them few."""
    random = np.random.default_rng(1)
    return [int(min(192, 8 + random.exponential(40))) for _ in range(requests)]
