"""What everybody decodes: the same random prompts."""

from collections.abc import Callable

import numpy as np

PROMPT_TOKENS = 16

Run = Callable[[int, int], float]
"""Decodes that many streams greedily by that many tokens, whatever they say; returns seconds."""


def prompts(streams: int) -> list[list[int]]:
    """Return the prompts of that many streams."""
    random = np.random.default_rng(0)
    return [[1, *random.integers(5, 16_000, PROMPT_TOKENS - 1).tolist()] for _ in range(streams)]
