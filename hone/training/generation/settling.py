"""What `auto` means for causal language models."""

import math
from dataclasses import dataclass

from hone.models.errors import InvalidInput
from hone.training.generation.generation_recipe import (
    SCRATCH_PREFIX,
    GenerationRecipe,
    OptimizerName,
)
from hone.training.hyperparameters import Settled, choose_device, choose_precision

_LEAST_STEPS, _MOST_EPOCHS = 300, 60
_EPOCHS_SCRATCH, _EPOCHS_PRETRAINED, _EPOCHS_DPO = 20, 3, 1
_EVALUATIONS = 10

_RATES: dict[OptimizerName, float] = {
    "adamw": 1.0,
    "adamw_8bit": 1.0,
    "paged_adamw": 1.0,
    "lion": 0.2,  # its steps have the size of the rate; Chen et al. 2023 take 3 to 10 times less
    "adafactor": 2.0,
    "sgd": 100.0,
}
"""Rates against AdamW's."""


@dataclass(frozen=True, slots=True)
class CausalHyperparameters(Settled):
    """The settled values for a causal language model."""

    objective: str
    max_tokens: int
    evaluate_every_epochs: int


def refuse_what_needs_a_gpu(recipe: GenerationRecipe, device: str) -> None:
    """Raise InvalidInput for methods and optimizers that this machine cannot run."""
    wrong = [] if device == "cuda" else recipe.what_needs_a_gpu()
    if wrong:
        raise InvalidInput("; ".join(wrong))


def settle_causal(
    recipe: GenerationRecipe, *, preferences: bool, rows: int, longest: int, token_limit: int
) -> CausalHyperparameters:
    """Replace every `auto` of the recipe by a value that fits the data and this machine.

    `rows` counts training examples, `longest` the tokens of the longest.
    """
    training = recipe.training
    batch_size = _batch_size(rows) if training.batch_size == "auto" else training.batch_size
    device = choose_device(training.device)
    objective = objective_for(training.objective, preferences=preferences)
    scratch = recipe.model.base.startswith(SCRATCH_PREFIX)
    steps = math.ceil(rows / batch_size)
    epochs = training.epochs
    if epochs == "auto":
        epochs = _epochs(steps, objective=objective, scratch=scratch)
    every = training.evaluate_every_epochs
    wanted = recipe.dataset.max_tokens
    return CausalHyperparameters(
        objective=objective,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=_learning_rate(recipe, batch_size, objective=objective, scratch=scratch),
        precision=choose_precision(training.precision, device),
        device=device,
        max_tokens=min(token_limit, longest if wanted == "auto" else wanted),
        evaluate_every_epochs=math.ceil(epochs / _EVALUATIONS) if every == "auto" else every,
    )


def objective_for(wanted: str, *, preferences: bool) -> str:
    """Return what is learned from the data; InvalidInput if `wanted` does not fit it."""
    fits = "dpo" if preferences else "supervised"
    if wanted not in {"auto", fits}:
        holds = "preferences" if preferences else "completions, not preferences"
        raise InvalidInput(f"training.objective: {wanted} does not fit the data, which has {holds}")
    return fits


def _batch_size(rows: int) -> int:
    return 8 if rows < 300 else 16 if rows < 2000 else 32


def _epochs(steps_per_epoch: int, *, objective: str, scratch: bool) -> float:
    if objective == "dpo":
        return float(_EPOCHS_DPO)
    usual = _EPOCHS_SCRATCH if scratch else _EPOCHS_PRETRAINED
    return float(min(_MOST_EPOCHS, max(usual, math.ceil(_LEAST_STEPS / steps_per_epoch))))


def _learning_rate(
    recipe: GenerationRecipe, batch_size: int, *, objective: str, scratch: bool
) -> float:
    """Give a new model a high rate, a pretrained one a low one, and DPO a twentieth of that."""
    rate, multiplier = recipe.optimizer.learning_rate, recipe.optimizer.learning_rate_multiplier
    if rate != "auto":
        return rate * multiplier
    if recipe.optimizer.name == "prodigy":
        return multiplier
    reference = 2e-3 if scratch else 1e-3 if recipe.model.method != "full" else 2e-4
    if objective == "dpo":
        reference /= 20
    return reference * _RATES[recipe.optimizer.name] * math.sqrt(batch_size / 32) * multiplier
