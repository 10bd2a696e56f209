"""The training loop of causal language models."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from hone.training.dataset import bucketed_batches
from hone.training.events import Events
from hone.training.generation.generation_recipe import GenerationRecipe
from hone.training.generation.losses import Objective
from hone.training.generation.optimizers import make_causal_optimizer
from hone.training.generation.settling import CausalHyperparameters
from hone.training.loop import BatchLoss, TrainingLoop
from hone.training.progress import Judged, Progress
from hone.training.row_schedule import FloatRows, IntRows, RowLosses


@dataclass(frozen=True, slots=True)
class CausalRun:
    """What the loop needs to know of the run it is part of.

    `watch` is called at every evaluation, on the main process, with the step and the model.
    """

    folder: Path
    recipe: GenerationRecipe
    settled: CausalHyperparameters
    events: Events
    stop_requested: Callable[[], bool]
    base_revision: str
    watch: Callable[[int, nn.Module], None]
    validation_rows: int


def train_causal(
    model: nn.Module, objective: Objective, run: CausalRun, accelerator: Accelerator
) -> Progress:
    """Train `model` in place as `TrainingLoop` says, and return what happened.

    Raises Interrupted when asked to stop, InvalidInput when the weights run away, and
    BundleCorrupt for a checkpoint of another base or other settings.
    """
    torch.manual_seed(run.recipe.training.seed + accelerator.process_index)
    optimizer = make_causal_optimizer(model, run.settled.learning_rate, run.recipe.optimizer)
    return _CausalLoop(model, optimizer, accelerator, objective, run).train()


class _CausalLoop(TrainingLoop):
    """Every epoch has all rows, and a row weighs what its trained tokens do."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        accelerator: Accelerator,
        objective: Objective,
        run: CausalRun,
    ) -> None:
        super().__init__(
            model,
            optimizer,
            accelerator,
            run,
            lengths=objective.lengths,
            row_losses=RowLosses(0),  # nobody asks for them
        )
        self.objective, self.run = objective, run
        self.evaluate_every_epochs = run.settled.evaluate_every_epochs

    def _batches(self, epoch: int) -> list[IntRows]:
        seed = self.run.recipe.training.seed
        return bucketed_batches(self.lengths, self.run.settled.batch_size, seed=seed, epoch=epoch)

    def _weights(self, rows: list[int]) -> FloatRows:
        return self.objective.weights[rows]

    def _loss(self, rows: list[int], *, counts: bool) -> BatchLoss:
        del counts
        loss, right = self.objective.loss(self.prepared, rows)
        return BatchLoss(loss, right, float(self._weights(rows).sum()))

    def _judge(self) -> Judged:
        return self.objective.judge(self.model)

    @property
    def _judged_rows(self) -> int:
        return self.run.validation_rows

    def _watch(self) -> None:
        self.run.watch(self.progress.step, self.model)
