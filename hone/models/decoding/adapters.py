"""LoRA matrices of many adapters beside one loaded base (Hu et al. 2021).

For each linear layer that can be adapted, the graph takes two inputs, `adapter.LAYER.A` (units, 16,
in) and `adapter.LAYER.B` (units, 16, out), and adds `(x A^T, masked) B`, summed over the units, to
what the layer gives. A unit is 16 ranks; an adapter has as many units as its rank needs, the last
one filled up with zeros. The units of all adapters lie one after another in one table for each
input, in half precision beside a base of few bits. A run is given the range that holds all whom it
needs, as it lies in memory, and a mask which says whose each unit is. So sequences of different
adapters, and of the bare base, share a step.

The units are products of their own, not one wide product, as a matrix product's order of summation
goes by its shape: so what a row gets is the same to the last bit, whatever runs beside it.
"""

import itertools
import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from hone.models.engines import FloatArray
from hone.models.errors import BundleCorrupt

ADAPTER_PREFIX = "adapter."
"""What the names of the graph's inputs for adapters begin with; then the matrix's own name."""
ADAPTER_MASK = "adapter_mask"
"""The input bool (units, rows, 1): which units a row may use."""
ADAPTER_SHAPE = "adapter_shape"
"""The input int64 (3,): the run's rows, the tokens of each, -1."""
UNIT = 16
"""Ranks in a unit: as many numbers as a vector register holds."""
BARE = 0
"""The adapter of those that ask the base itself."""

_MOST_WASTE = 2
"""How many times the needed units a run may be given before adapters are brought together."""

BoolArray = npt.NDArray[np.bool_]
FloatType = type[np.float32] | type[np.float16]
Matrices = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class AdapterWeights:
    """An adapter's matrices: `LAYER.A` (rank, in) and `LAYER.B` (rank, out), float32, finite.

    The scale of LoRA, alpha divided by the rank, is folded into B.
    """

    rank: int
    matrices: Mapping[str, FloatArray]


def read_adapter(path: Path) -> AdapterWeights:
    """Read an adapter's safetensors; BundleCorrupt, with the matrix's name, unless all are sound.

    A number that is not finite is refused here, as it would reach the rows of other adapters.
    """
    try:
        matrices = load_file(path)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        raise BundleCorrupt(f"{path.name} cannot be read as safetensors") from None
    if not matrices:
        raise BundleCorrupt(f"{path.name} holds no matrices")
    rank = 0
    for name, matrix in matrices.items():
        if matrix.dtype != np.float32 or matrix.ndim != 2 or not matrix.size:
            raise BundleCorrupt(f"{path.name}: {name} is no matrix of float32")
        if not np.isfinite(matrix).all():
            raise BundleCorrupt(f"{path.name}: {name} holds what is not a finite number")
        rank = rank or len(matrix)
        if len(matrix) != rank:
            raise BundleCorrupt(f"{path.name}: {name} has rank {len(matrix)}, others {rank}")
    return AdapterWeights(rank, matrices)


class AdapterTables:
    """The matrices of the adapters in memory, each once. For one thread.

    `widths` says how wide each matrix is that the graph takes, by the matrix's name, and `dtype`
    what the graph takes them as.
    """

    def __init__(self, widths: Mapping[str, int], dtype: FloatType = np.float32) -> None:
        self._widths = dict(widths)
        self.dtype: np.dtype[np.floating[Any]] = np.dtype(dtype)
        self._tables = {name: _Table(UNIT * width, self.dtype) for name, width in widths.items()}
        self._sizes: dict[int, int] = {}
        """How many units each adapter has."""
        self._order: list[int] = []
        """The adapters as they lie in the tables."""
        self._owners = np.zeros(0, dtype=np.int64)
        """The adapter of each unit, a row of the tables."""
        self._numbers = itertools.count(BARE + 1)
        self.moves = 0
        """Grows whenever a unit may have got another address."""

    @property
    def units(self) -> int:
        """How many units there are."""
        return len(self._owners)

    @property
    def bytes(self) -> int:
        """How much memory the matrices take."""
        return self.units * sum(table.row_bytes for table in self._tables.values())

    def check(self, weights: AdapterWeights) -> None:
        """Refuse with BundleCorrupt an adapter that does not fit the base."""
        for name, matrix in weights.matrices.items():
            width = self._widths.get(name)
            if width is None:
                raise BundleCorrupt(f"the adapter has {name}, which its base does not take")
            if matrix.shape != (weights.rank, width):
                raise BundleCorrupt(
                    f"the adapter's {name} has the shape {matrix.shape}, and its base takes "
                    f"{(weights.rank, width)}"
                )
            if np.abs(matrix).max() > np.finfo(self.dtype).max:
                raise BundleCorrupt(
                    f"the adapter's {name} holds a number above {np.finfo(self.dtype).max}, and "
                    "its base takes none"
                )
            layer, _, part = name.rpartition(".")
            if f"{layer}.{'B' if part == 'A' else 'A'}" not in weights.matrices:
                raise BundleCorrupt(f"the adapter has one of the two matrices of {layer}")

    def add(self, weights: AdapterWeights) -> int:
        """Take an adapter in; return its number, which no other one ever gets.

        BundleCorrupt when it does not fit the base. Layers that it does not name stay the base's.
        """
        self.check(weights)
        start, number = self.units, next(self._numbers)
        end = start + -(-weights.rank // UNIT)
        for name, table in self._tables.items():
            table.grow(end, used=start)
            table.rows[start:end] = 0.0
            if name in weights.matrices:
                own = table.rows[start:end].reshape(-1, self._widths[name])
                own[: weights.rank] = weights.matrices[name]
        self._sizes[number] = end - start
        self._lie([*self._order, number])
        return number

    def remove(self, adapter: int) -> None:
        """Let an adapter go; the last one takes its place where it is of the same size."""
        order = list(self._order)
        place, last = order.index(adapter), order[-1]
        if last != adapter and self._sizes[last] == self._sizes[adapter]:
            order[place] = order.pop()
        else:
            del order[place]
        self._arrange(order)
        del self._sizes[adapter]
        for table in self._tables.values():
            table.release(self.units)

    def range_of(self, adapters: Iterable[int]) -> tuple[int, int]:
        """Return the units from which and up to which these adapters lie; none for the base.

        If too many others lie between them, these are brought to the front first.
        """
        wanted = set(adapters) - {BARE}
        if not wanted:
            return 0, 0
        start, end = self._range(wanted)
        if end - start > _MOST_WASTE * sum(self._sizes[adapter] for adapter in wanted):
            self._arrange(self._with_front(wanted))
            start, end = self._range(wanted)
        return start, end

    def matrices(self, start: int, end: int) -> Iterator[tuple[str, Matrices]]:
        """Yield each matrix's name and its units (end - start, 16, width), not copied."""
        for name, table in self._tables.items():
            yield name, table.rows[start:end].reshape(-1, UNIT, self._widths[name])

    def mask(self, adapters: Sequence[int], start: int, end: int) -> BoolArray:
        """Return which of the units from `start` to `end` are whose: (units, adapters, 1)."""
        asked = np.asarray(adapters, dtype=np.int64)
        mask: BoolArray = self._owners[start:end, None, None] == asked[None, :, None]
        return mask

    def _range(self, wanted: set[int]) -> tuple[int, int]:
        places = np.flatnonzero(np.isin(self._owners, list(wanted)))
        return int(places[0]), int(places[-1]) + 1

    def _with_front(self, wanted: set[int]) -> list[int]:
        """Return the order in which those wanted lie first, by exchanges of the same size."""
        order = list(self._order)
        outside = [place for place in range(len(wanted)) if order[place] not in wanted]
        for place in range(len(wanted), len(order)):
            if order[place] in wanted:
                size = self._sizes[order[place]]
                alike = (p for p in outside if self._sizes[order[p]] == size)
                other = next(alike, outside[0])
                outside.remove(other)
                order[place], order[other] = order[other], order[place]
        return order

    def _arrange(self, order: list[int]) -> None:
        """Move what has to be moved so that the adapters lie in this order."""
        starts = dict(zip(self._order, self._starts(self._order), strict=True))
        ranges = [np.arange(starts[a], starts[a] + self._sizes[a]) for a in order]
        came_from = np.concatenate(ranges) if ranges else np.zeros(0, dtype=np.int64)
        moved = np.flatnonzero(came_from != np.arange(len(came_from)))
        for table in self._tables.values():
            table.rows[moved] = table.rows[came_from[moved]]
        self._lie(order)

    def _starts(self, order: Sequence[int]) -> list[int]:
        ends = itertools.accumulate((self._sizes[adapter] for adapter in order), initial=0)
        return list(ends)[:-1]

    def _lie(self, order: list[int]) -> None:
        self._order = order
        sizes = [self._sizes[adapter] for adapter in order]
        self._owners = np.repeat(np.array(order, dtype=np.int64), sizes)
        self.moves += 1


class _Table:
    """Rows of numbers that may become more; the system gives their pages as they are written."""

    def __init__(self, width: int, dtype: "np.dtype[np.floating[Any]]") -> None:
        self.width, self.dtype = width, dtype
        self._map = self._mapped(1)
        self.rows = self._view()

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * self.width

    def grow(self, rows: int, *, used: int) -> None:
        """Have room for `rows`, twice as much as before if not; `used` of them are kept."""
        if rows > len(self.rows):
            old = self.rows
            self._map = self._mapped(max(rows, 2 * len(old)))
            self.rows = self._view()
            self.rows[:used] = old[:used]

    def release(self, used: int) -> None:
        """Give the pages back that hold none of the `used` rows."""
        start = -(-used * self.row_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        if start < len(self._map):
            self._map.madvise(mmap.MADV_DONTNEED, start, len(self._map) - start)

    def _mapped(self, rows: int) -> mmap.mmap:
        size = max(1, rows * self.row_bytes)
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def _view(self) -> Matrices:
        return np.frombuffer(self._map, dtype=self.dtype).reshape(-1, self.width)
