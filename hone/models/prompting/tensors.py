"""Safetensors files read and written with numpy alone: serving has no library for them.

The format: eight bytes that say how long the header is, little endian; a JSON object with type,
shape and place of each tensor; then their bytes, one after another.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from hone.models.durable import write_atomically
from hone.models.errors import InvalidInput

_LONGEST_HEADER = 100 * 2**20
_TYPES: dict[str, str] = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}

Array = npt.NDArray[np.floating]


def read_tensors(path: Path) -> dict[str, Array]:
    """Return the floating tensors of a file by name, mapped from it; the others are left out.

    InvalidInput for what is no such file, or one with a floating type that numpy has not.
    """
    try:
        start, header = _header(path)
        data = np.memmap(path, dtype=np.uint8, mode="r", offset=start)
        named = {name: entry for name, entry in header.items() if name != "__metadata__"}
        found = {name: _tensor(data, entry) for name, entry in named.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise InvalidInput(f"{path.name} is no safetensors file that numpy can read") from None
    return {name: array for name, array in found.items() if array is not None}


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    """Return where the tensors' bytes begin, and what they are."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_LONGEST_HEADER, size - 9):
            raise ValueError("header")
        header: dict[str, Any] = orjson.loads(file.read(length))
    return 8 + length, header


def _tensor(data: npt.NDArray[np.uint8], entry: Mapping[str, Any]) -> Array | None:
    kind, shape = entry["dtype"], [int(size) for size in entry["shape"]]
    start, end = entry["data_offsets"]
    if kind not in _TYPES:
        if kind.startswith(("F", "BF")):
            raise ValueError(kind)
        return None
    dtype = np.dtype(_TYPES[kind])
    if min([start, *shape]) < 0 or end - start != math.prod(shape) * dtype.itemsize:
        raise ValueError("shape")
    if end > len(data):
        raise ValueError("offsets")
    return np.frombuffer(data[start:end].tobytes(), dtype=dtype).reshape(shape)


def write_tensors(path: Path, tensors: Mapping[str, Array]) -> None:
    """Write arrays as float32."""
    blocks = {name: np.ascontiguousarray(array, dtype="<f4") for name, array in tensors.items()}
    header: dict[str, Any] = {}
    place = 0
    for name, block in blocks.items():
        ends = [place, place + block.nbytes]
        header[name] = {"dtype": "F32", "shape": list(block.shape), "data_offsets": ends}
        place += block.nbytes
    content = orjson.dumps(header)
    content += b" " * (-len(content) % 8)
    parts = [len(content).to_bytes(8, "little"), content, *(b.tobytes() for b in blocks.values())]
    write_atomically(path, b"".join(parts))
