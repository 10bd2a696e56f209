"""Decoders: token ids in, logits of the next token out, with keys and values kept in slots.

The contract is `DecoderEngine`. A slot is the memory of one sequence. One step runs the slots
`first .. first + rows - 1` together, so whoever calls keeps the running sequences side by side.

Source of the method: `GroupQueryAttention` of ONNX Runtime takes a length for each row, and past
and present may be one buffer, which it writes in place. So sequences of different lengths share a
step, and one may join or leave between two steps. A graph that takes adapters (`adapters.py`) is
told with each run which adapter each of its rows goes by.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

# ONNX Runtime's official builds report usage to their makers unless told not to before import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

from hone.models.decoding.adapters import (
    ADAPTER_MASK,
    ADAPTER_PREFIX,
    ADAPTER_SHAPE,
    BARE,
    UNIT,
    AdapterTables,
    AdapterWeights,
    FloatType,
)
from hone.models.engines import FloatArray
from hone.models.errors import BundleCorrupt, InvalidInput
from hone.models.huge_pages import HUGE_PAGE, in_huge_pages
from hone.models.tokenizer import IntArray

_WIDTH = 32
"""The mask's width is a multiple of this, so that shapes seldom change from step to step."""
_KEY = "past_key_values.{}.key"
_KEPT_BINDINGS = 64
_ADAPTER_TYPES: dict[str, FloatType] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
"""What a graph may take adapters' matrices as, by the library's names."""


class DecoderEngine(Protocol):
    """Runs a causal language model. One thread at a time."""

    @property
    def slots(self) -> int:
        """How many sequences fit at once."""

    @property
    def longest(self) -> int:
        """How many tokens a slot holds."""

    @property
    def vocabulary_size(self) -> int:
        """How many logits there are."""

    def prefill(
        self, slot: int, ids: Sequence[int], start: int, *, every: bool, adapter: int = BARE
    ) -> FloatArray:
        """Read `ids` into a slot from place `start` on; the places before it are filled.

        Returns float32 logits of shape (1, vocabulary), those after the last id, or with `every`
        of shape (ids, vocabulary).
        """

    def step(
        self, first: int, ids: IntArray, lengths: IntArray, adapters: Sequence[int] | None = None
    ) -> FloatArray:
        """Read one id (rows,) into each of the slots from `first` on, which hold `lengths` tokens.

        `adapters` has one for each row; without it all rows are the base's. Returns float32 logits
        of shape (rows, vocabulary); they are overwritten by the next call.
        """

    def load_adapter(self, weights: AdapterWeights) -> int:
        """Take an adapter in beside others; return its number, which no other ever gets.

        BundleCorrupt when it does not fit, or when the model takes none.
        """

    def unload_adapter(self, adapter: int) -> None:
        """Let an adapter go that no slot uses any more."""

    def exchange(self, one: int, other: int, lengths: tuple[int, int]) -> None:
        """Let two slots, of which so many places are filled, change their contents."""

    def read(self, slot: int, start: int, end: int) -> FloatArray:
        """Return a copy of what a slot holds of the places from `start` to `end`."""

    def write(self, slot: int, start: int, block: FloatArray) -> None:
        """Put a copy that `read` gave back into a slot, from place `start` on."""

    @property
    def bytes_per_token(self) -> int:
        """How much memory the keys and values of one token take."""


class OnnxDecoder:
    """ONNX Runtime on the CPU, over a graph of `hone.training.causal.export`.

    Keys and values of all slots lie in one array (layers x 2, slots, heads, longest, head size)
    whose pages the system gives only as they are written. `intra_threads` is for one step.
    """

    def __init__(
        self, model: Path, *, slots: int, longest: int, intra_threads: int | None = None
    ) -> None:
        if slots < 1 or longest < 2:
            raise InvalidInput("a decoder needs a slot at least, of two tokens at least")
        with in_huge_pages():
            self._session = _open(model, intra_threads)
        shapes = {value.name: value.shape for value in self._session.get_inputs()}
        layers = sum(name.endswith(".key") for name in shapes)
        if "logit_positions" not in shapes or _KEY.format(0) not in shapes:
            raise BundleCorrupt(f"{model.name} is no decoder that Hone exported")
        _, heads, _, head_size = shapes[_KEY.format(0)]
        if not isinstance(heads, int) or not isinstance(head_size, int):
            raise BundleCorrupt(f"{model.name} does not say how large its cache is")
        self._names = [f"{layer}.{part}" for layer in range(layers) for part in ("key", "value")]
        self._cache = _pages_of_zeros((2 * layers, slots, heads, longest, head_size))
        self._tables = _tables(self._session.get_inputs())
        self._vocabulary_size = int(self._session.get_outputs()[0].shape[-1])
        self._logits = np.empty((slots, 1, self._vocabulary_size), dtype=np.float32)
        self._bindings: dict[tuple[int, int], Any] = {}
        self._bound: dict[tuple[int, int], tuple[int, int, int]] = {}
        """Which rows of the adapters' tables a binding has, and as of which move of theirs."""
        self._last = np.zeros(1, dtype=np.int64)

    @property
    def slots(self) -> int:
        """How many sequences fit at once."""
        return int(self._cache.shape[1])

    @property
    def longest(self) -> int:
        """How many tokens a slot holds."""
        return int(self._cache.shape[3])

    @property
    def vocabulary_size(self) -> int:
        """How many logits there are."""
        return self._vocabulary_size

    @property
    def bytes_per_token(self) -> int:
        """How much memory the keys and values of one token take."""
        parts, _, heads, _, head_size = self._cache.shape
        return int(parts * heads * head_size * self._cache.itemsize)

    @property
    def adapter_bytes(self) -> int:
        """How much memory the adapters take."""
        return self._tables.bytes if self._tables else 0

    def load_adapter(self, weights: AdapterWeights) -> int:
        """Take an adapter in; return its number. BundleCorrupt when it does not fit."""
        if self._tables is None:
            raise BundleCorrupt("the model was not exported to take adapters")
        return self._tables.add(weights)

    def unload_adapter(self, adapter: int) -> None:
        """Let an adapter go that no slot uses any more."""
        if self._tables is not None:
            self._tables.remove(adapter)

    def prefill(
        self, slot: int, ids: Sequence[int], start: int, *, every: bool, adapter: int = BARE
    ) -> FloatArray:
        """Read `ids` into a slot from `start` on; return (1 or ids, vocabulary) logits."""
        places = np.arange(len(ids)) if every else np.array([len(ids) - 1])
        logits = np.empty((1, len(places), self._vocabulary_size), dtype=np.float32)
        # A prompt's piece is told from a step by the width of its mask: exactly what is filled.
        fed = {
            "input_ids": np.array([ids], dtype=np.int64),
            "attention_mask": np.ones((1, start + len(ids)), dtype=np.int64),
            "logit_positions": places.astype(np.int64),
        }
        self._run(slot, fed, logits, [adapter])
        last: FloatArray = logits[0]
        return last

    def step(
        self, first: int, ids: IntArray, lengths: IntArray, adapters: Sequence[int] | None = None
    ) -> FloatArray:
        """Read one id into each slot from `first` on; return (rows, vocabulary) logits."""
        filled = lengths + 1
        width = min(self.longest, -(-int(filled.max()) // _WIDTH) * _WIDTH)
        logits = self._logits[: len(ids)]
        fed = {
            "input_ids": np.ascontiguousarray(ids[:, None]),
            "attention_mask": (np.arange(width) < filled[:, None]).astype(np.int64),
            "logit_positions": self._last,
        }
        self._run(first, fed, logits, adapters or [BARE] * len(ids))
        return logits[:, 0]

    def exchange(self, one: int, other: int, lengths: tuple[int, int]) -> None:
        """Let two slots, of which so many places are filled, change their contents."""
        kept = self.read(one, 0, lengths[0])
        self._cache[:, one, :, : lengths[1]] = self._cache[:, other, :, : lengths[1]]
        self.write(other, 0, kept)

    def read(self, slot: int, start: int, end: int) -> FloatArray:
        """Return a copy (layers x 2, heads, places, head size) of a part of a slot."""
        return self._cache[:, slot, :, start:end].copy()

    def write(self, slot: int, start: int, block: FloatArray) -> None:
        """Put a copy back into a slot, from place `start` on."""
        self._cache[:, slot, :, start : start + block.shape[2]] = block

    def _run(
        self, first: int, fed: dict[str, IntArray], logits: FloatArray, adapters: Sequence[int]
    ) -> None:
        binding = self._binding(first, len(adapters))
        for name, array in fed.items():
            binding.bind_input(name, "cpu", 0, np.int64, array.shape, array.ctypes.data)
        binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        if self._tables is not None:
            start, end = self._tables.range_of(adapters)
            self._bind_adapters(self._tables, binding, (first, len(adapters)), (start, end))
            mask = self._tables.mask(adapters, start, end)
            binding.bind_input(ADAPTER_MASK, "cpu", 0, np.bool_, mask.shape, mask.ctypes.data)
            shape = np.array([*fed["input_ids"].shape, -1], dtype=np.int64)
            binding.bind_input(ADAPTER_SHAPE, "cpu", 0, np.int64, (3,), shape.ctypes.data)
        self._session.run_with_iobinding(binding)

    def _bind_adapters(
        self,
        tables: AdapterTables,
        binding: Any,  # noqa: ANN401 - the library's own type
        key: tuple[int, int],
        rows: tuple[int, int],
    ) -> None:
        """Give a binding these rows of the tables, unless it has them from an earlier run."""
        bound = (tables.moves, *rows)
        if self._bound.get(key) != bound:
            for name, matrix in tables.matrices(*rows):
                binding.bind_input(ADAPTER_PREFIX + name, "cpu", 0, tables.dtype.type,
                                   matrix.shape, matrix.ctypes.data)  # fmt: skip
            self._bound[key] = bound

    def _binding(self, first: int, rows: int) -> Any:  # noqa: ANN401 - the library's own type
        """Return a binding of these slots' keys and values, made once for each row count."""
        binding = self._bindings.get((first, rows))
        if binding is None:
            if len(self._bindings) >= _KEPT_BINDINGS:
                self._bindings.clear()
                self._bound.clear()
            binding = self._session.io_binding()
            _, _, heads, longest, head_size = self._cache.shape
            shape = (rows, heads, longest, head_size)
            for part, name in zip(self._cache, self._names, strict=True):
                at = part[first:].ctypes.data
                for bind, of in ((binding.bind_input, "past_key_values"),
                                 (binding.bind_output, "present")):  # fmt: skip
                    bind(f"{of}.{name}", "cpu", 0, np.float32, shape, at)
            self._bindings[first, rows] = binding
        return binding


def _pages_of_zeros(shape: tuple[int, ...]) -> FloatArray:
    """Return zeros, float32, that begin with a huge page, in which numpy asks for its memory.

    Elsewhere the beginning of a slot would often lie in two of them, and take twice the memory.
    """
    size = math.prod(shape) * np.dtype(np.float32).itemsize
    memory = np.zeros(size + HUGE_PAGE, dtype=np.uint8)
    start = -memory.ctypes.data % HUGE_PAGE
    return memory[start : start + size].view(np.float32).reshape(shape)


def _tables(inputs: Sequence[Any]) -> AdapterTables | None:
    """Return empty tables for the adapters that a graph takes; None if it takes none.

    BundleCorrupt, with the input's name, for one that no row of the tables could be given to.
    """
    widths: dict[str, int] = {}
    first: Any = None
    for value in inputs:
        if not value.name.startswith(ADAPTER_PREFIX):
            continue
        first = first or value
        if len(value.shape) != 3 or value.shape[1] != UNIT or not isinstance(value.shape[2], int):
            raise BundleCorrupt(
                f"the model takes {value.name} in the shape {value.shape}, and adapters come in "
                f"units of {UNIT} ranks and a known width"
            )
        if value.type not in _ADAPTER_TYPES or value.type != first.type:
            raise BundleCorrupt(
                f"the model takes {value.name} as {value.type} and {first.name} as {first.type}: "
                "all adapters beside a base have one type, float or float16"
            )
        widths[value.name.removeprefix(ADAPTER_PREFIX)] = value.shape[2]
    return AdapterTables(widths, _ADAPTER_TYPES[first.type]) if widths else None


def _open(model: Path, intra_threads: int | None) -> Any:  # noqa: ANN401 - it has no types
    options = ort.SessionOptions()
    options.intra_op_num_threads = intra_threads or 0
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # Threads wait for each other actively, also from one step to the next, which takes less than a
    # millisecond; no longer, as an idle service must not burn a core.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.intra_op.spin_duration_us", "1000")
    # Shapes differ from step to step; a memory plan for each shape is kept for ever.
    options.enable_mem_pattern = False
    try:
        return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's errors share no class but Exception
        raise BundleCorrupt(f"ONNX Runtime cannot load {model.name}") from error


def prefill_in_pieces(
    engine: DecoderEngine, slot: int, ids: Sequence[int], *, piece: int, adapter: int = BARE
) -> npt.NDArray[np.float32]:
    """Read a whole prompt into a slot, `piece` tokens at a time; return its last logits (1, V)."""
    for start in range(0, len(ids), piece):
        part = ids[start : start + piece]
        logits = engine.prefill(slot, part, start, every=False, adapter=adapter)
    return logits
