"""Random LoRA of stories260K: as a file beside the base, and merged into a model of its own."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hone.models.decoding.adapters import AdapterWeights, read_adapter
from hone.training.causal.adapter_file import LoraMatrices, write_adapter
from tests.training.causal import reference


def random_lora(base: Path, rank: int, seed: int) -> dict[str, LoraMatrices]:
    """Return matrices for each linear layer but the last, which change what the model says.

    They add 0.02 to a weight, more or less, whatever the rank: an eighth of what it is itself.
    """
    random = np.random.default_rng(seed)
    found = {}
    for name, layer in reference.load(base).named_modules():
        if isinstance(layer, nn.Linear) and not name.endswith("lm_head"):
            out, width = layer.weight.shape
            a, b = (random.standard_normal(s) for s in ((rank, width), (out, rank)))
            a, b = 0.1 * a, 0.2 / rank**0.5 * b
            found[name] = LoraMatrices(a.astype(np.float32), b.astype(np.float32))
    return found


def merged(base: Path, lora: dict[str, LoraMatrices]) -> Any:
    """Return transformers' model with the matrices added to its weights."""
    model = reference.load(base)
    with torch.no_grad():
        for name, matrices in lora.items():
            model.get_submodule(name).weight += torch.from_numpy(matrices.b @ matrices.a)
    return model


def as_weights(base: Path, lora: dict[str, LoraMatrices], scratch: Path) -> AdapterWeights:
    """Return the matrices as a service reads them."""
    write_adapter(lora, base, scratch / "adapter.safetensors")
    return read_adapter(scratch / "adapter.safetensors")
