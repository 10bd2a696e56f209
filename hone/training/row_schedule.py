"""Which rows an epoch trains on.

Most rows are learned in the first epochs, and their gradients are small from then on. So some of
the rows with the lowest loss sit out every other epoch or so, and those of them that take part
weigh more, which leaves the expected gradient as it is (InfoBatch, Qin et al. 2024; there the
rows below the mean loss are the easy ones, here a fixed share, so that the number of steps is
known in advance). The first epoch, which knows no losses, and the last eighth have all rows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatRows = npt.NDArray[np.float32]
IntRows = npt.NDArray[np.int64]

_LAST_SHARE = 0.125
_PURPOSE = 1
"""Tells this draw apart from the others that are made with the same seed and epoch."""


@dataclass(frozen=True, slots=True)
class RowSchedule:
    """The sizes of all epochs. `easy_share` of the rows count as easy; half of those sit out.

    `epochs` may end in a part of one. With `easy_share` 0 every epoch has all rows.
    """

    rows: int
    batch_size: int
    epochs: float
    easy_share: float = 0.0

    @property
    def easy(self) -> int:
        """How many rows count as easy."""
        return int(self.rows * self.easy_share)

    @property
    def total_steps(self) -> int:
        """How many optimizer steps the run has."""
        whole = math.floor(self.epochs)
        steps = sum(self.steps(epoch) for epoch in range(whole))
        return max(1, steps + math.ceil(self.steps(whole) * (self.epochs - whole)))

    def is_full(self, epoch: int) -> bool:
        """Whether an epoch has all rows."""
        last = max(1, round(_LAST_SHARE * self.epochs))
        return not self.easy or epoch == 0 or epoch >= math.ceil(self.epochs) - last

    def size(self, epoch: int) -> int:
        """How many rows an epoch has."""
        return self.rows if self.is_full(epoch) else self.rows - self.easy // 2

    def steps(self, epoch: int) -> int:
        """How many optimizer steps an epoch has."""
        return math.ceil(self.size(epoch) / self.batch_size)

    def locate(self, step: int) -> tuple[int, int]:
        """Return the epoch of a step (both counted from 0) and its place in that epoch."""
        epoch = 0
        while step >= self.steps(epoch):
            step -= self.steps(epoch)
            epoch += 1
        return epoch, step

    def epochs_done(self, step: int) -> float:
        """Return how many epochs, and what part of one, so many steps are."""
        epoch, done = self.locate(step)
        return epoch + done / self.steps(epoch)

    def choose(self, epoch: int, losses: FloatRows, *, seed: int) -> tuple[IntRows, FloatRows]:
        """Return the rows of an epoch, ascending, and the weight of every row, 0 if it sits out.

        `losses`, float32 (rows,), are the latest known; a row without one (NaN) counts as hard.
        The choice follows from them, the seed and the epoch alone.
        """
        weights = np.ones(self.rows, dtype=np.float32)
        if not self.is_full(epoch):
            generator = np.random.default_rng([seed, epoch, _PURPOSE])
            easy = np.argsort(losses, kind="stable")[: self.easy]  # NaN sorts to the end
            out = generator.permutation(easy)[: self.easy // 2]
            weights[easy] = self.easy / (self.easy - self.easy // 2)
            weights[out] = 0.0
        return np.flatnonzero(weights), weights


class RowLosses:
    """The latest training loss of every row, float32 (rows,), NaN where there is none yet.

    `known` is as it was when the epoch began, and decides who takes part in it, also after a
    resume in its middle; `fresh` holds what this epoch has found so far.
    """

    def __init__(self, rows: int) -> None:
        self.known: FloatRows = np.full(rows, np.nan, dtype=np.float32)
        self.fresh: FloatRows = self.known.copy()

    def note(self, rows: IntRows, losses: FloatRows) -> None:
        """Take the losses of some rows."""
        self.fresh[rows] = losses

    def share(self, sum_over_processes: Callable[[FloatRows], FloatRows]) -> None:
        """Give every process what any of them has noted; all must call it at the same step."""
        seen = ~np.isnan(self.fresh)
        sums, counts = sum_over_processes(np.stack([np.where(seen, self.fresh, 0.0), seen]))
        found = counts > 0
        self.fresh[found] = sums[found] / counts[found]

    def end_epoch(self, sum_over_processes: Callable[[FloatRows], FloatRows]) -> None:
        """Make what the epoch found known, on every process the same."""
        self.share(sum_over_processes)
        found = ~np.isnan(self.fresh)
        self.known[found] = self.fresh[found]
        self.fresh[:] = np.nan
