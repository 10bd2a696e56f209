"""What a causal language model learns in the training loop."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import nn

from hone.training import loop
from hone.training.dataset import bucketed_batches
from hone.training.generation.generation_recipe import GenerationRecipe
from hone.training.generation.losses import Objective
from hone.training.generation.optimizers import make_causal_optimizer
from hone.training.generation.settling import CausalHyperparameters
from hone.training.loop import BatchLoss, LoopRun
from hone.training.progress import Judged, Progress
from hone.training.row_schedule import FloatRows, IntRows, RowLosses

os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")
# PyTorch's products in half precision on a CPU keep a kernel of some megabytes for each shape that
# they have met, 1,024 of them by default: with many lengths, a gigabyte of nothing else.


@dataclass(frozen=True, slots=True)
class CausalRun(LoopRun):
    """The run of a causal language model.

    `watch` is called at every evaluation, on the main process, with the step and the model.
    """

    recipe: GenerationRecipe
    settled: CausalHyperparameters
    watch: Callable[[int, nn.Module], None]
    validation_rows: int


def train_causal(
    model: nn.Module, objective: Objective, run: CausalRun, accelerator: Accelerator
) -> Progress:
    """Train `model` in place and return what happened, as `hone.training.loop.train` does."""
    torch.manual_seed(run.recipe.training.seed + accelerator.process_index)
    optimizer = make_causal_optimizer(model, run.settled.learning_rate, run.recipe.optimizer)
    return loop.train(model, optimizer, _Generation(objective, run), run, accelerator)


class _Generation:
    """The loop's `Task`: every epoch has all rows, and a row weighs what its trained tokens do."""

    def __init__(self, objective: Objective, run: CausalRun) -> None:
        self._objective, self._run = objective, run
        self.lengths = objective.lengths
        self.row_losses = RowLosses(0)  # nobody asks for them
        self.evaluate_every_epochs = run.settled.evaluate_every_epochs
        self.validation_rows = run.validation_rows

    def batches(self, epoch: int) -> list[IntRows]:
        seed = self._run.recipe.training.seed
        return bucketed_batches(self.lengths, self._run.settled.batch_size, seed=seed, epoch=epoch)

    def weights(self, rows: list[int]) -> FloatRows:
        return self._objective.weights[rows]

    def loss(self, model: nn.Module, rows: list[int], *, counts: bool) -> BatchLoss:
        del counts  # no losses of rows are kept
        loss, right = self._objective.loss(model, rows)
        return BatchLoss(loss, right, float(self.weights(rows).sum()))

    def judge(self, model: nn.Module) -> Judged:
        return self._objective.judge(model)

    def watch(self, step: int, model: nn.Module) -> None:
        self._run.watch(step, model)
