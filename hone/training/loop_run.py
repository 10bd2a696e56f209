"""What the training loop needs to know of the run it is part of, whatever is learned."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Protocol

from hone.training.events import Events
from hone.training.optimization import Schedule
from hone.training.row_schedule import RowSchedule


class Stepping(Schedule, Protocol):
    """What of a recipe's optimizer group the loop obeys."""

    @property
    def max_gradient_norm(self) -> float:
        """To which the gradient is clipped."""


class Saving(Protocol):
    """What of a recipe's training group the loop obeys."""

    @property
    def seed(self) -> int:
        """Of the order of the rows, and of dropout."""

    @property
    def checkpoint_every_s(self) -> float:
        """Seconds between checkpoints."""

    @property
    def gradient_accumulation(self) -> int:
        """Parts in which a batch is computed."""

    @property
    def early_stopping_patience(self) -> int:
        """Evaluations without gain after which the run stops; 0 never stops."""


class LoopRecipe(Protocol):
    """What of a recipe the loop obeys."""

    @property
    def training(self) -> Saving:
        """When to save and to stop."""

    @property
    def optimizer(self) -> Stepping:
        """How to step."""


class Settled(Protocol):
    """What the loop needs of the settled hyperparameters, a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def batch_size(self) -> int:
        """Examples of one optimizer step on all devices."""

    @property
    def learning_rate(self) -> float:
        """The highest."""

    @property
    def precision(self) -> str:
        """`fp32`, `bf16` or `fp16`."""

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""

    def schedule(self, rows: int) -> RowSchedule:
        """Return which epochs have how many of so many rows."""


class LoopRun(Protocol):
    """What the loop needs to know of the run it is part of."""

    @property
    def folder(self) -> Path:
        """Where its checkpoints lie."""

    @property
    def recipe(self) -> LoopRecipe:
        """What was asked for."""

    @property
    def settled(self) -> Settled:
        """What was settled."""

    @property
    def events(self) -> Events:
        """Who is told."""

    @property
    def stop_requested(self) -> Callable[[], bool]:
        """Whether somebody asked the run to stop."""

    @property
    def base_revision(self) -> str:
        """The SHA-256 of the base's weights, to which a checkpoint belongs."""
