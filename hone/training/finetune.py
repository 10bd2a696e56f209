"""What a classifier, of texts or of pictures, learns in the training loop."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from hone.models.scoring import point_scores
from hone.training import loop
from hone.training.calibration import calibrated_loss
from hone.training.dataset import bucketed_batches, class_weights
from hone.training.feeding import Feed, LabelledSplit, run_over
from hone.training.hyperparameters import Hyperparameters, PictureHyperparameters
from hone.training.loop import BatchLoss, LoopRun, make_accelerator
from hone.training.optimization import make_optimizer
from hone.training.progress import Judged, Progress
from hone.training.recipe import LabellingRecipe
from hone.training.row_schedule import FloatRows, IntRows, RowLosses


@dataclass(frozen=True, slots=True)
class Run(LoopRun):
    """The run of a classifier."""

    recipe: LabellingRecipe
    settled: Hyperparameters | PictureHyperparameters
    feed: Feed
    labels: Sequence[str]


def fine_tune(
    model: nn.Module, train: LabelledSplit, validation: LabelledSplit, run: Run
) -> Progress:
    """Train `model` in place and return what happened, as `hone.training.loop.train` does."""
    accelerator = make_accelerator(run.settled)
    torch.manual_seed(run.recipe.training.seed + accelerator.process_index)
    model.to(accelerator.device)
    optimizer = make_optimizer(model, run.settled.learning_rate, run.recipe.optimizer)
    task = _Classification(train, validation, run, accelerator.device)
    return loop.train(model, optimizer, task, run, accelerator)


class _Classification:
    """The loop's `Task`: easy rows sit out some epochs, a label may weigh more than another."""

    evaluate_every_epochs = 1

    def __init__(
        self, train: LabelledSplit, validation: LabelledSplit, run: Run, device: torch.device
    ) -> None:
        self._train, self._validation, self._run, self._device = train, validation, run, device
        self.lengths = train.lengths
        self.row_losses = RowLosses(len(train))
        self.validation_rows = len(validation)
        self._schedule = run.settled.schedule(len(train))
        self._row_weights = np.ones(len(train), dtype=np.float32)
        self._label_weights = _label_weights(train, run)
        self._criterion = nn.CrossEntropyLoss(
            torch.from_numpy(self._label_weights).to(device),
            label_smoothing=run.recipe.training.label_smoothing,
            reduction="none",
        )

    def batches(self, epoch: int) -> list[IntRows]:
        seed = self._run.recipe.training.seed
        rows, self._row_weights = self._schedule.choose(epoch, self.row_losses.known, seed=seed)
        return bucketed_batches(
            self.lengths, self._run.settled.batch_size, seed=seed, epoch=epoch, among=rows
        )

    def weights(self, rows: list[int]) -> FloatRows:
        labels: FloatRows = self._label_weights[self._train.classes[rows]]
        return labels * self._row_weights[rows]

    def loss(self, model: nn.Module, rows: list[int], *, counts: bool) -> BatchLoss:
        inputs = self._run.feed(self._train, rows, self._device, training=True)
        classes = torch.from_numpy(self._train.classes[rows]).to(self._device)
        logits = model(*inputs).float()
        losses = self._criterion(logits, classes)
        loss = (losses * torch.from_numpy(self._row_weights[rows]).to(self._device)).sum()
        if counts:
            self.row_losses.note(np.array(rows), losses.detach().cpu().numpy())
        return BatchLoss(loss, int((logits.argmax(dim=1) == classes).sum()), len(rows))

    def judge(self, model: nn.Module) -> Judged:
        found = run_over(model, self._validation, model, feed=self._run.feed)
        if not found.isfinite().all():
            return Judged(math.nan, 0.0, {})
        logits = found.numpy()
        scores = self._scores(logits)
        loss = calibrated_loss(logits, self._validation.classes)
        return Judged(loss, scores["accuracy"], scores)

    def watch(self, step: int, model: nn.Module) -> None:
        """Nothing: a classifier is known by its scores."""

    def _scores(self, logits: npt.NDArray[np.float32]) -> dict[str, float]:
        dataset = self._run.recipe.dataset
        return point_scores(
            self._validation.classes,
            logits,
            self._run.labels,
            positive_label=dataset.positive_label,
            betas=dataset.betas,
        )


def _label_weights(train: LabelledSplit, run: Run) -> npt.NDArray[np.float32]:
    """Return what a row of each label weighs in the loss, float32 (labels,)."""
    labels = int(train.classes.max()) + 1
    if run.recipe.dataset.class_weights == "balanced":
        return class_weights(train.classes, labels)
    return np.ones(labels, dtype=np.float32)
