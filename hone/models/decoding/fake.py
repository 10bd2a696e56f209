"""A decoder without weights, for tests and for trying the API.

What it says follows from all tokens that its slot holds, so that a slot which was mixed up, moved
badly or filled with another's prefix says something else. An adapter adds its number to each id
that it keeps, so that what one of them kept is wrong for all others.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from hone.models.decoding.adapters import BARE, AdapterWeights
from hone.models.engines import FloatArray
from hone.models.errors import BundleCorrupt
from hone.models.tokenizer import IntArray

UNFITTING_RANK = 13
"""An adapter of this rank is refused."""


class FakeDecoder:
    """Keeps the ids themselves where a model keeps keys and values.

    `poison` is an id that makes a run fail; `before_run` is called before each, for instance to
    make it slow. `runs` are the runs so far: "step" or "prefill", and rows or tokens.
    """

    def __init__(
        self,
        vocabulary_size: int,
        *,
        slots: int = 4,
        longest: int = 256,
        poison: int | None = None,
        before_run: Callable[[], None] | None = None,
    ) -> None:
        self.slots = slots
        self.longest = longest
        self.vocabulary_size = vocabulary_size
        self.bytes_per_token = 4
        self.runs: list[tuple[str, int]] = []
        self.adapters: set[int] = set()
        self._loaded = BARE
        self._cache = np.zeros((1, slots, 1, longest, 1), dtype=np.float32)
        self._poison = poison
        self._before_run = before_run

    def load_adapter(self, weights: AdapterWeights) -> int:
        """Take an adapter in; BundleCorrupt for one of rank 13."""
        if weights.rank == UNFITTING_RANK:
            raise BundleCorrupt("the adapter does not fit")
        self._loaded += 1
        self.adapters.add(self._loaded)
        return self._loaded

    def unload_adapter(self, adapter: int) -> None:
        """Let an adapter go."""
        self.adapters.remove(adapter)

    def prefill(
        self, slot: int, ids: Sequence[int], start: int, *, every: bool, adapter: int = BARE
    ) -> FloatArray:
        """Read `ids` into a slot from place `start` on; return (1 or ids, vocabulary) logits."""
        self._begin("prefill", np.array(ids), len(ids))
        self._check([adapter])
        self._cache[0, slot, 0, start : start + len(ids), 0] = np.array(ids) + adapter
        ends = range(start + 1, start + len(ids) + 1) if every else [start + len(ids)]
        return np.stack([self._logits(slot, end) for end in ends])

    def step(
        self, first: int, ids: IntArray, lengths: IntArray, adapters: Sequence[int] | None = None
    ) -> FloatArray:
        """Read one id into each slot from `first` on; return (rows, vocabulary) logits."""
        self._begin("step", ids, len(ids))
        rows = np.arange(first, first + len(ids))
        adapters = adapters or [BARE] * len(ids)
        self._check(adapters)
        self._cache[0, rows, 0, lengths, 0] = ids + np.array(adapters)
        ends = (lengths + 1).tolist()
        return np.stack([self._logits(r, n) for r, n in zip(rows.tolist(), ends, strict=True)])

    def exchange(self, one: int, other: int, lengths: tuple[int, int]) -> None:
        """Let two slots, of which so many places are filled, change their contents."""
        del lengths
        self._cache[:, [one, other]] = self._cache[:, [other, one]]

    def read(self, slot: int, start: int, end: int) -> FloatArray:
        """Return a copy of a part of a slot."""
        return self._cache[:, slot, :, start:end].copy()

    def write(self, slot: int, start: int, block: FloatArray) -> None:
        """Put a copy back into a slot, from place `start` on."""
        self._cache[:, slot, :, start : start + block.shape[2]] = block

    def favoured(self, ids: Sequence[int], adapter: int = BARE) -> int:
        """Return the id that comes after `ids`."""
        return _favoured(np.array(ids, dtype=np.float32) + adapter, self.vocabulary_size)

    def _check(self, adapters: Sequence[int]) -> None:
        missing = set(adapters) - self.adapters - {BARE}
        if missing:
            raise RuntimeError(f"the adapters {missing} are not loaded")

    def _begin(self, kind: str, ids: npt.NDArray[np.int64], amount: int) -> None:
        if self._before_run is not None:
            self._before_run()
        self.runs.append((kind, amount))
        if self._poison is not None and (ids == self._poison).any():
            raise RuntimeError("poisoned")

    def _logits(self, slot: int, length: int) -> FloatArray:
        logits = np.zeros(self.vocabulary_size, dtype=np.float32)
        logits[_favoured(self._cache[0, slot, 0, :length, 0], self.vocabulary_size)] = 4.0
        return logits


def _favoured(ids: FloatArray, vocabulary_size: int) -> int:
    weighted = (ids.astype(np.int64) * (np.arange(len(ids)) % 7 + 1)).sum()
    return int(weighted % vocabulary_size)
