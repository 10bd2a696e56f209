"""From the LoRA matrices of a trained model to the file of an adapter.

The names are those of the exported graph's inputs. Where the graph's heads are wider than the
model's (`head_padding`), the matrices are widened alike.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from hone.models.engines import FloatArray
from hone.models.errors import InvalidInput
from hone.training.causal.head_padding import Heads

ADAPTER_FILE = "adapter.safetensors"

_LAYER = re.compile(r"model\.(layers\.\d+)\.(self_attn|mlp)\.([a-z]+_proj)")
_BLOCKS = {"self_attn": "attn", "mlp": "mlp"}
_KNOWN = {"attn": {"q_proj", "k_proj", "v_proj", "o_proj"},
          "mlp": {"gate_proj", "up_proj", "down_proj"}}  # fmt: skip


@dataclass(frozen=True, slots=True)
class LoraMatrices:
    """What LoRA adds to one linear layer: x A^T B^T, the scale folded into B.

    `a` is float32 (rank, in), `b` (out, rank), as peft has them.
    """

    a: FloatArray
    b: FloatArray


def write_adapter(layers: Mapping[str, LoraMatrices], base: Path, path: Path) -> int:
    """Write the matrices, by the names of transformers' layers; return their rank.

    `base` is the folder of the model that they change. InvalidInput for a layer that the exported
    graph would not let them change, or for numbers that are not finite.
    """
    heads = Heads.of(base)
    written: dict[str, FloatArray] = {}
    for name, matrices in layers.items():
        block, layer = _place(name)
        a, b = matrices.a, matrices.b
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise InvalidInput(f"the adapter of {name} holds what is not a finite number")
        if heads.needed and layer in {"q_proj", "k_proj", "v_proj"}:
            b = heads.widen(b)
        if heads.needed and layer == "o_proj":
            a = heads.widen(a.T).T
        written[f"{block}.{layer}.A"] = np.ascontiguousarray(a, dtype=np.float32)
        written[f"{block}.{layer}.B"] = np.ascontiguousarray(b.T, dtype=np.float32)
    ranks = {len(matrix) for matrix in written.values()}
    if len(ranks) != 1:
        raise InvalidInput(f"an adapter has one rank for all layers, and this has {sorted(ranks)}")
    save_file(written, path)
    return ranks.pop()


def check_layers(names: Iterable[str]) -> None:
    """Refuse with InvalidInput layers of transformers whose LoRA could not be kept apart."""
    for name in names:
        _place(name)


def _place(name: str) -> tuple[str, str]:
    found = _LAYER.fullmatch(name)
    block = _BLOCKS[found[2]] if found else ""
    if found is None or found[3] not in _KNOWN[block]:
        raise InvalidInput(
            f"LoRA of {name} cannot be kept as an adapter: only q, k, v, o, gate, up and down "
            "projections of their own can"
        )
    return f"{found[1]}.{block}", found[3]
