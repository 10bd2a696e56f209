"""How much memory a training takes: estimated before, measured after."""

import resource
import sys
from dataclasses import dataclass

import torch
from torch import nn

from hone.training.classifier import trained_parameters
from hone.training.generation.generation_recipe import GenerationRecipe
from hone.training.generation.optimizers import STATE_BYTES
from hone.training.generation.settling import CausalHyperparameters

_LIVE_PER_LAYER = {"fp32": 34, "bf16": 24, "fp16": 24}
"""Values of hidden size that one layer keeps for each token until its gradient, in fp32's four
bytes: norms, queries, keys, values, attention's output, the MLP's three and its product. In half
precision the products are half as large, and the norms are not."""
_LOGIT_COPIES = 3
"""Logits, their log-softmax and its gradient stand side by side."""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes, by what they are for."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All of them together."""
        return self.weights + self.gradients + self.optimizer + self.activations


def estimate_memory(
    model: nn.Module, recipe: GenerationRecipe, settled: CausalHyperparameters, *, processes: int
) -> MemoryEstimate:
    """Say how much the training of this model takes on each device, at its longest batch.

    Activations are counted for `batch_size / accumulation / processes` texts of `max_tokens`;
    with gradient checkpointing one layer's and each layer's input.
    """
    trained, _ = trained_parameters(model)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    rows = max(1, -(-settled.batch_size // (processes * recipe.training.gradient_accumulation)))
    rows *= 2 if settled.objective == "dpo" else 1
    return MemoryEstimate(
        weights=weights,
        gradients=4 * trained,
        optimizer=int(STATE_BYTES[recipe.optimizer.name] * trained),
        activations=_activations(model, recipe, settled, tokens=rows * settled.max_tokens),
    )


def _activations(
    model: nn.Module, recipe: GenerationRecipe, settled: CausalHyperparameters, *, tokens: int
) -> int:
    config = model.config.get_text_config()  # type: ignore[operator, union-attr]
    layers, hidden = config.num_hidden_layers, config.hidden_size
    live = _LIVE_PER_LAYER[settled.precision] // 2 * 4 * hidden * tokens
    stream = 4 * hidden * tokens
    kept = live + layers * stream if recipe.training.gradient_checkpointing else layers * live
    return int(kept + _LOGIT_COPIES * 4 * config.vocab_size * tokens)


class MemoryPeak:
    """The most memory that was held since it was made: of the GPU, or of the process on a CPU.

    On a CPU what the process held before is taken off, so that libraries do not count.
    """

    def __init__(self, device: str) -> None:
        self.on_gpu = device == "cuda"
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        self.before = 0 if self.on_gpu else _resident_bytes()

    def bytes(self) -> int:
        """Return the peak so far, in bytes."""
        if self.on_gpu:
            return int(torch.cuda.max_memory_allocated())
        return max(0, _most_resident_bytes() - self.before)


def _most_resident_bytes() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no real file
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:  # no such file system here
        return _most_resident_bytes()
