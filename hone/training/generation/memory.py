"""How much memory a training will hold, estimated before it begins."""

import math
from dataclasses import dataclass

from torch import nn

from hone.training.classifier import trained_parameters
from hone.training.generation.generation_recipe import GenerationRecipe
from hone.training.generation.optimizers import STATE_BYTES
from hone.training.generation.settling import CausalHyperparameters

_OF_HIDDEN = {"fp32": 40, "bf16": 36, "fp16": 36}
"""Bytes that one layer keeps for each value of hidden size of each token until its gradient: what
its norms and residual sums were given, queries, keys, values and what attention answered. In half
precision the norms stay in fp32."""
_OF_MLP = {"fp32": 16, "bf16": 8, "fp16": 8}
"""Bytes for each value of the MLP's size: gate, its activation, what goes up, and their product."""
_LOGIT_COPIES = 3
"""Logits, their log-softmax and its gradient stand side by side."""


_KERNELS = 160_000_000
"""What the kernels of half precision on a CPU took with the cache that `loop` gives them: 130 to
350 MB, measured on a processor with AMX, most where lengths vary most."""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes, by what they are for.

    `before` is what was held before the model was loaded, measured: on a CPU the process's
    libraries and data, which the peak of the process has in it too. `kernels` is what PyTorch
    keeps of products in half precision on a CPU.
    """

    before: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    kernels: int

    @property
    def total(self) -> int:
        """All of them together."""
        held = self.before + self.weights + self.gradients + self.optimizer
        return held + self.activations + self.kernels


def estimate_memory(
    model: nn.Module,
    recipe: GenerationRecipe,
    settled: CausalHyperparameters,
    *,
    before: int,
    processes: int,
) -> MemoryEstimate:
    """Say how much the training of this model takes on each device, at its longest batch.

    `before` is what was held before the model was loaded. Activations are counted for the examples
    of `rows_together`, each of `max_tokens`; with gradient checkpointing one layer's and each
    layer's input.
    """
    trained, _ = trained_parameters(model)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    rows = rows_together(recipe, settled, processes=processes)
    rows *= 2 if settled.objective == "dpo" else 1
    return MemoryEstimate(
        before=before,
        weights=weights,
        gradients=4 * trained,
        optimizer=int(STATE_BYTES[recipe.optimizer.name] * trained),
        activations=_activations(model, recipe, settled, rows=rows),
        kernels=_KERNELS if padded_to(settled) > 1 else 0,
    )


def rows_together(
    recipe: GenerationRecipe, settled: CausalHyperparameters, *, processes: int
) -> int:
    """Return how many examples a process runs at once: its share of a part of a batch.

    As many are evaluated together, so that an evaluation holds no more than a step.
    """
    parts = processes * recipe.training.gradient_accumulation
    return max(1, math.ceil(settled.batch_size / parts))


def padded_to(settled: CausalHyperparameters) -> int:
    """Return the multiple of tokens to which batches are padded.

    In half precision on a CPU, PyTorch's products (oneDNN) keep kernels for every length that they
    have met, some 10 to 30 MB each: unless lengths are few, the memory grows with every step.
    """
    return 16 if settled.device == "cpu" and settled.precision != "fp32" else 1


def _activations(
    model: nn.Module,
    recipe: GenerationRecipe,
    settled: CausalHyperparameters,
    *,
    rows: int,
) -> int:
    """Count what the backward pass needs of so many texts of the longest length.

    Texts of unlike lengths need a mask, which attention turns into numbers in each layer: a square
    of the length for each text. LoRA with dropout keeps its own copy of what a layer is given.
    """
    config = model.config.get_text_config()  # type: ignore[operator, union-attr]
    layers, hidden, longest = config.num_hidden_layers, config.hidden_size, settled.max_tokens
    mlp = getattr(config, "intermediate_size", None) or 4 * hidden
    width = 4 if settled.precision == "fp32" else 2
    live = _OF_HIDDEN[settled.precision] * hidden + _OF_MLP[settled.precision] * mlp
    if recipe.model.method != "full" and recipe.model.lora_dropout:
        live += (width + 1) * (6 * hidden + mlp)  # each layer's input, and what of it is dropped
    live = rows * longest * live + rows * width * longest**2
    checkpointing = recipe.training.gradient_checkpointing
    kept = live + layers * 4 * hidden * rows * longest if checkpointing else layers * live
    return int(kept + _LOGIT_COPIES * 4 * config.vocab_size * rows * longest)
