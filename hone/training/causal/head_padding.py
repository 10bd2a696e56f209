"""Heads of odd sizes made wide enough for ONNX Runtime's attention.

`GroupQueryAttention` with rotary positions takes head sizes that are multiples of 16 only. A model
with smaller heads (some tiny ones have 8) is exported with zeros between: a head's two halves,
which the rotation pairs, are each filled up. Zeros add nothing to a product of query and key, and
the rows of the output projection that they meet are zeros too, so every logit stays what it was;
only the scale and the rotary table must remain those of the narrow head.
"""

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper
from safetensors.numpy import load_file, save_file

from hone.models.errors import InvalidInput

_MULTIPLE = 16
_PADDABLE = frozenset({"llama", "mistral", "qwen2"})
"""Models without a norm over each head, whose mean the zeros would change."""

Weights = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Heads:
    """A model's head size, the size it is padded to, and the base of its rotary positions."""

    size: int
    padded: int
    theta: float

    @classmethod
    def of(cls, folder: Path) -> "Heads":
        """Read them from a folder's `config.json`; InvalidInput where there is none."""
        config = _config(folder)
        try:
            size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        except (KeyError, TypeError, ZeroDivisionError):
            raise InvalidInput(f"{folder} does not hold a causal language model") from None
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        theta = float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0)
        heads = cls(size, -(-size // _MULTIPLE) * _MULTIPLE, theta)
        plain = rope.get("rope_type", "default") == "default"
        if heads.needed and not (plain and config.get("model_type") in _PADDABLE and size % 2 == 0):
            raise InvalidInput(f"heads of {size} in such a model cannot be exported")
        return heads

    @property
    def needed(self) -> bool:
        """Whether there is anything to pad."""
        return self.size != self.padded

    def widen(self, weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return (heads x size, ...) as (heads x padded, ...), each half of a head filled up."""
        halves = weight.reshape(-1, self.size // 2, *weight.shape[1:])
        room = [(0, 0), (0, (self.padded - self.size) // 2), *[(0, 0)] * (weight.ndim - 1)]
        return np.pad(halves, room).reshape(-1, *weight.shape[1:])


def widen_heads(folder: Path, heads: Heads, out: Path) -> None:
    """Write a copy of a model's folder whose heads have the padded size."""
    shutil.copytree(folder, out, ignore=shutil.ignore_patterns("*.safetensors*", "*.bin"))
    (out / "config.json").write_text(json.dumps(_config(folder) | {"head_dim": heads.padded}))
    weights: Weights = {}
    for path in sorted(folder.glob("*.safetensors")):
        weights |= load_file(path)
    save_file({name: _widened(name, weight, heads) for name, weight in weights.items()},
              out / "model.safetensors", {"format": "pt"})  # fmt: skip


def _widened(name: str, weight: npt.NDArray[np.float32], heads: Heads) -> npt.NDArray[np.float32]:
    if any(f".{part}_proj." in name for part in "qkv"):
        return heads.widen(weight)
    if ".o_proj.weight" in name:
        return np.ascontiguousarray(heads.widen(weight.T).T)
    return weight


def keep_narrow(model: onnx.ModelProto, heads: Heads) -> None:
    """Give the graph of a widened model the scale and the rotary table of its narrow heads."""
    for node in model.graph.node:
        if node.op_type == "GroupQueryAttention":
            scale = next(a for a in node.attribute if a.name == "scale")
            scale.f = 1 / math.sqrt(heads.size)
    frequencies = heads.theta ** -(np.arange(0, heads.size, 2, dtype=np.float32) / heads.size)
    for table in model.graph.initializer:
        if table.name in {"cos_cache", "sin_cache"}:
            old = numpy_helper.to_array(table)
            angles = np.arange(len(old), dtype=np.float32)[:, None] * frequencies
            turned = np.cos(angles) if table.name == "cos_cache" else np.sin(angles)
            padded = np.pad(turned, ((0, 0), (0, old.shape[1] - turned.shape[1])))
            table.CopyFrom(numpy_helper.from_array(padded.astype(old.dtype), table.name))


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InvalidInput(f"{folder} has no readable config.json") from None
    if not isinstance(config, dict):
        raise InvalidInput(f"{folder} has no readable config.json")
    return config
