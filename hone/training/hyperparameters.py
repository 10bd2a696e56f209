"""What `auto` means: epochs, batch size, learning rate, precision, token limit."""

import math
from dataclasses import dataclass

import torch

from hone.models.errors import InvalidInput
from hone.training.recipe import ClassifierRecipe
from hone.training.row_schedule import RowSchedule

_MIN_STEPS = 600
_MAX_AUTO_EPOCHS = 30
_MIN_AUTO_EPOCHS = 8
_ROWS_TO_SPARE = 4000


@dataclass(frozen=True, slots=True)
class Settled:
    """What every training loop goes by.

    `batch_size` counts examples of one optimizer step on all devices, `learning_rate` is the
    highest, `precision` is `fp32`, `bf16` or `fp16`, `device` `cpu` or `cuda`.
    """

    epochs: float
    batch_size: int
    learning_rate: float
    precision: str
    device: str

    def schedule(self, rows: int) -> RowSchedule:
        """Return which epochs have how many of so many rows."""
        return RowSchedule(rows, self.batch_size, self.epochs)


@dataclass(frozen=True, slots=True)
class Hyperparameters(Settled):
    """The settled values for a classifier of texts."""

    max_tokens: int
    easy_share: float = 0.0

    def schedule(self, rows: int) -> RowSchedule:
        """Return which epochs have how many of so many rows."""
        return RowSchedule(rows, self.batch_size, self.epochs, self.easy_share)


@dataclass(frozen=True, slots=True)
class PictureHyperparameters(Settled):
    """The settled values for a classifier of pictures of `picture_size` pixels a side."""

    picture_size: int
    easy_share: float = 0.0

    def schedule(self, rows: int) -> RowSchedule:
        """Return which epochs have how many of so many rows."""
        return RowSchedule(rows, self.batch_size, self.epochs, self.easy_share)


def settle(
    recipe: ClassifierRecipe, *, rows: int, longest: int, token_limit: int
) -> Hyperparameters:
    """Replace every `auto` of the recipe by a value that fits the data and this machine.

    `rows` counts training examples, `longest` the tokens of the longest.
    """
    training = recipe.training
    batch_size = _batch_size(rows) if training.batch_size == "auto" else training.batch_size
    steps_per_epoch = math.ceil(rows / batch_size)
    device = choose_device(training.device)
    return Hyperparameters(
        epochs=_epochs(steps_per_epoch) if training.epochs == "auto" else training.epochs,
        batch_size=batch_size,
        learning_rate=_learning_rate(recipe, batch_size),
        precision=choose_precision(training.precision, device),
        device=device,
        max_tokens=_max_tokens(recipe, longest, token_limit),
        easy_share=_easy_share(rows) if training.easy_share == "auto" else training.easy_share,
    )


def _easy_share(rows: int) -> float:
    """Small data is trained on soon enough, and has no row to spare."""
    return 0.6 if rows >= _ROWS_TO_SPARE else 0.0


def _batch_size(rows: int) -> int:
    """Small data gets small batches, so that there are enough steps to learn anything."""
    return 8 if rows < 300 else 16 if rows < 2000 else 32


def _epochs(steps_per_epoch: int) -> float:
    """At least 600 steps, 8 to 30 epochs; early stopping ends a run that no longer gains."""
    wanted = math.ceil(_MIN_STEPS / steps_per_epoch)
    return float(min(_MAX_AUTO_EPOCHS, max(_MIN_AUTO_EPOCHS, wanted)))


def _learning_rate(recipe: ClassifierRecipe, batch_size: int) -> float:
    """LoRA's few matrices want a rate some five times that of all weights; both grow as √batch."""
    rate, multiplier = recipe.optimizer.learning_rate, recipe.optimizer.learning_rate_multiplier
    if rate != "auto":
        return rate * multiplier
    reference = 1e-3 if recipe.model.method == "lora" else 2e-4
    return reference * math.sqrt(batch_size / 32) * multiplier


def _max_tokens(recipe: ClassifierRecipe, longest: int, token_limit: int) -> int:
    """Take the longest text rounded up to 32, at least 128, within what the base can read.

    Batches are padded to their own longest text, so a high limit costs nothing for short ones.
    """
    if recipe.dataset.max_tokens != "auto":
        return min(recipe.dataset.max_tokens, token_limit)
    return min(token_limit, max(128, 32 * math.ceil(longest / 32)))


def choose_device(wanted: str) -> str:
    """Return `cuda` or `cpu`; InvalidInput if `cuda` was asked for in vain."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InvalidInput("training.device: there is no usable GPU here")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def choose_precision(wanted: str, device: str) -> str:
    """Return the fastest precision that this machine has in hardware; InvalidInput for none."""
    if wanted == "fp16" and device == "cpu":
        raise InvalidInput("training.precision: fp16 is for GPUs; take bf16 or fp32")
    if wanted != "auto":
        return wanted
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "bf16" if _cpu_has_bf16() else "fp32"


def _cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself (AVX-512 BF16 or AMX)."""
    capabilities = torch.backends.cpu.get_cpu_capability()
    if capabilities != "AVX512":
        return False
    return bool(torch.cpu._is_avx512_bf16_supported())  # noqa: SLF001 - torch has no public name
