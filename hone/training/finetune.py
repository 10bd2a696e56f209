"""The training loop of classifiers, of texts and of pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import nn

from hone.models.scoring import point_scores
from hone.training.calibration import calibrated_loss
from hone.training.dataset import bucketed_batches, class_weights
from hone.training.events import Events
from hone.training.feeding import Feed, LabelledSplit, run_over
from hone.training.hyperparameters import Hyperparameters, PictureHyperparameters
from hone.training.loop import BatchLoss, TrainingLoop, make_accelerator
from hone.training.optimization import make_optimizer
from hone.training.progress import Judged, Progress
from hone.training.recipe import LabellingRecipe
from hone.training.row_schedule import FloatRows, IntRows, RowLosses


@dataclass(frozen=True, slots=True)
class Run:
    """What the loop needs to know of the run it is part of."""

    folder: Path
    recipe: LabellingRecipe
    settled: Hyperparameters | PictureHyperparameters
    feed: Feed
    events: Events
    stop_requested: Callable[[], bool]
    base_revision: str
    """The SHA-256 of the base's weights, to which a checkpoint belongs."""
    labels: Sequence[str]


def fine_tune(
    model: nn.Module, train: LabelledSplit, validation: LabelledSplit, run: Run
) -> Progress:
    """Train `model` in place as `TrainingLoop` says, and return what happened.

    Raises Interrupted when asked to stop, InvalidInput when the weights run away, and
    BundleCorrupt for a checkpoint of another base or other settings.
    """
    accelerator = make_accelerator(run.settled)
    torch.manual_seed(run.recipe.training.seed + accelerator.process_index)
    model.to(accelerator.device)
    optimizer = make_optimizer(model, run.settled.learning_rate, run.recipe.optimizer)
    return _ClassifierLoop(model, optimizer, accelerator, train, validation, run).train()


class _ClassifierLoop(TrainingLoop):
    """Easy rows sit out some epochs, and a label may weigh more than another."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        accelerator: Accelerator,
        train: LabelledSplit,
        validation: LabelledSplit,
        run: Run,
    ) -> None:
        super().__init__(
            model,
            optimizer,
            accelerator,
            run,
            lengths=train.lengths,
            row_losses=RowLosses(len(train)),
        )
        self.training, self.validation, self.run = train, validation, run
        self.row_weights = np.ones(len(train), dtype=np.float32)
        self.label_weights = _label_weights(train, run)
        self.criterion = nn.CrossEntropyLoss(
            torch.from_numpy(self.label_weights).to(accelerator.device),
            label_smoothing=run.recipe.training.label_smoothing,
            reduction="none",
        )

    def _batches(self, epoch: int) -> list[IntRows]:
        seed = self.run.recipe.training.seed
        rows, self.row_weights = self.schedule.choose(epoch, self.row_losses.known, seed=seed)
        return bucketed_batches(
            self.lengths, self.run.settled.batch_size, seed=seed, epoch=epoch, among=rows
        )

    def _weights(self, rows: list[int]) -> FloatRows:
        classes = self.training.classes[rows]
        weights: FloatRows = self.label_weights[classes] * self.row_weights[rows]
        return weights

    def _loss(self, rows: list[int], *, counts: bool) -> BatchLoss:
        device = self.accelerator.device
        inputs = self.run.feed(self.training, rows, device, training=True)
        classes = torch.from_numpy(self.training.classes[rows]).to(device)
        logits = self.prepared(*inputs).float()
        losses = self.criterion(logits, classes)
        loss = (losses * torch.from_numpy(self.row_weights[rows]).to(device)).sum()
        if counts:
            self.row_losses.note(np.array(rows), losses.detach().cpu().numpy())
        return BatchLoss(loss, int((logits.argmax(dim=1) == classes).sum()), len(rows))

    def _judge(self) -> Judged:
        found = run_over(self.model, self.validation, self.model, feed=self.run.feed)
        if not found.isfinite().all():
            raise self._ran_away()
        logits = found.numpy()
        scores = self._scores(logits)
        loss = calibrated_loss(logits, self.validation.classes)
        return Judged(loss, scores["accuracy"], scores)

    @property
    def _judged_rows(self) -> int:
        return len(self.validation)

    def _watch(self) -> None:
        pass  # a classifier is known by its scores

    def _scores(self, logits: npt.NDArray[np.float32]) -> dict[str, float]:
        dataset = self.run.recipe.dataset
        return point_scores(
            self.validation.classes,
            logits,
            self.run.labels,
            positive_label=dataset.positive_label,
            betas=dataset.betas,
        )


def _label_weights(train: LabelledSplit, run: Run) -> npt.NDArray[np.float32]:
    """Return what a row of each label weighs in the loss, float32 (labels,)."""
    labels = int(train.classes.max()) + 1
    if run.recipe.dataset.class_weights == "balanced":
        return class_weights(train.classes, labels)
    return np.ones(labels, dtype=np.float32)
