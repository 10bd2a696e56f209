"""Which of the waiting texts make the next batch.

A batch costs what its padded tokens cost, and something for being a batch at all: the runtime's
work on each operator, waking a worker, giving out answers. Measured in tokens that overhead is
some eight on a small encoder. So there is a best size: a neighbour of the same length spreads the
overhead over one more text, one that is longer makes all others be padded to its length.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

_HOPELESS = 0.05
"""How far below the best the share of useful tokens among the padded ones has to be before a
batch is not grown any more. More texts lessen the overhead, never the padding by much."""

Entry = tuple[int, int, Any]
"""Length in tokens, a number that tells entries of one length apart, and whatever is waiting."""


def choose_batch(
    pool: Sequence[Entry],
    first: tuple[int, int],
    *,
    most_texts: int,
    batch_tokens: int,
    overhead_tokens: float,
) -> tuple[int, int]:
    """Return the places [low, high) of the batch that holds `first`, in a pool sorted by length.

    Grown from `first` by the neighbour that leaves the larger share of useful tokens, to at most
    `most_texts` and `batch_tokens` padded tokens (unless it is one text), and then cut back to
    the size at which the useful tokens were the largest share of what the batch costs. Growing
    ends early when no number of texts could make up for the padding that there is by then.
    """
    low = bisect_left(pool, first)
    high = low + 1
    useful = pool[low][0]
    best, best_share = (low, high), useful / (overhead_tokens + useful)
    while high - low < most_texts:
        texts, longest = high - low + 1, pool[high - 1][0]
        above = below = -1.0
        if high < len(pool) and pool[high][0] * texts <= batch_tokens:
            above = (useful + pool[high][0]) / (overhead_tokens + pool[high][0] * texts)
        if low and longest * texts <= batch_tokens:
            below = (useful + pool[low - 1][0]) / (overhead_tokens + longest * texts)
        if above < 0 and below < 0:
            break
        if above >= below:
            useful += pool[high][0]
            high += 1
        else:
            low -= 1
            useful += pool[low][0]
        if max(above, below) > best_share:
            best, best_share = (low, high), max(above, below)
        elif useful / ((high - low) * pool[high - 1][0]) < best_share - _HOPELESS:
            break
    return best
