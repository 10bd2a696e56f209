"""The training loop."""

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import nn

from hone.models.errors import InvalidInput
from hone.models.scoring import point_scores
from hone.training import checkpoint
from hone.training.calibration import calibrated_loss
from hone.training.checkpoint import Origin
from hone.training.classifier import trained_parameters
from hone.training.dataset import bucketed_batches, class_weights, share_of_batch
from hone.training.events import Events
from hone.training.feeding import Feed, LabelledSplit, run_over
from hone.training.hyperparameters import Hyperparameters, PictureHyperparameters
from hone.training.optimization import learning_rate_at, make_optimizer
from hone.training.progress import Progress
from hone.training.recipe import LabellingRecipe
from hone.training.row_schedule import FloatRows, RowLosses

_SECONDS_BETWEEN_STEP_EVENTS = 0.5
_POINTS_OF_LOSS_CURVE = 200


class Interrupted(Exception):
    """The run was asked to stop; its checkpoint is written and the same command goes on."""


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
    """Train `model` in place, leave it with its best weights, and return what happened.

    Goes on from the run's newest checkpoint if there is one: one process to the last bit as if
    it had not been broken off; of several only the main one draws on where it was, the others
    anew. Raises Interrupted, after writing a checkpoint, when asked to stop, InvalidInput when
    the weights run away, and BundleCorrupt for a checkpoint of another base or other settings.
    Of several processes only the main one is left with the best weights.
    """
    accelerator = _accelerator(run)
    torch.manual_seed(run.recipe.training.seed + accelerator.process_index)
    model.to(accelerator.device)
    optimizer = make_optimizer(model, run.settled.learning_rate, run.recipe.optimizer)
    loop = _Loop(model, optimizer, accelerator, train, validation, run)
    loop.announce()
    loop.run_to_end()
    # Takes the mixed-precision wrapper off `forward`: what is exported is the fp32 model.
    accelerator.unwrap_model(loop.prepared, keep_fp32_wrapper=False)
    if accelerator.is_main_process:
        checkpoint.load_best(run.folder, model)
    return loop.progress


class _Loop:
    """The state of one run of the loop; every method is one of its parts."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        accelerator: Accelerator,
        train: LabelledSplit,
        validation: LabelledSplit,
        run: Run,
    ) -> None:
        self.model, self.train, self.validation = model, train, validation
        self.run, self.accelerator, self.optimizer = run, accelerator, optimizer
        self.row_losses = RowLosses(len(train))
        found = checkpoint.load_checkpoint(
            run.folder, model, optimizer, self.row_losses, self._origin(), accelerator.scaler
        )
        self.resumed = found is not None
        self.progress = found or Progress()
        self._draw_apart()
        self.prepared: nn.Module
        self.prepared, self.prepared_optimizer = accelerator.prepare(model, optimizer)
        self.schedule = run.settled.schedule(len(train))
        self.total = self.schedule.total_steps
        self.row_weights = np.ones(len(train), dtype=np.float32)
        self.label_weights = _label_weights(train, run)
        self.criterion = nn.CrossEntropyLoss(
            torch.from_numpy(self.label_weights).to(accelerator.device),
            label_smoothing=run.recipe.training.label_smoothing,
            reduction="none",
        )
        self.clock = time.monotonic()
        self.last_checkpoint = self.clock
        self.saved_step = self.progress.step
        self.last_event = 0.0
        self.examples = 0
        self.untold: list[tuple[int, float, float, int, int]] = []
        self.lengths = train.lengths

    def _origin(self) -> Origin:
        """Return what the run's checkpoints belong to."""
        return {
            **asdict(self.run.settled),
            "base_revision": self.run.base_revision,
            "processes": self.accelerator.num_processes,
        }

    def _draw_apart(self) -> None:
        """Let each process of a resumed run draw dropout of its own.

        The checkpoint holds the state of the main process alone, and all have just loaded it.
        """
        rank = self.accelerator.process_index
        if self.resumed and rank > 0:
            key = [self.run.recipe.training.seed, rank, self.progress.step]
            torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))

    def announce(self) -> None:
        """Tell what was settled, and where the run goes on."""
        trained, everything = trained_parameters(self.model)
        self.run.events.emit(
            "settled",
            **asdict(self.run.settled),
            steps_per_epoch=self.schedule.steps(0),
            total_steps=self.total,
            trained_parameters=trained,
            all_parameters=everything,
        )
        if self.resumed:
            self.run.events.emit(
                "resumed", step=self.progress.step, evaluations=[*self.progress.evaluations]
            )

    def run_to_end(self) -> None:
        """Run epochs until the steps are done or nothing is gained any more."""
        while self.progress.step < self.total and not self.progress.stopped_early:
            epoch, done = self.schedule.locate(self.progress.step)
            batches = self._batches(epoch)
            self.prepared.train()
            for rows in batches[done : done + self.total - self.progress.step]:
                # Before a step, not after it: an epoch's last step is saved with its evaluation.
                self._save_or_stop()
                loss, accuracy = self._step(rows.tolist())
                self._tell(loss, accuracy)
            self.row_losses.end_epoch(self._sum_over_processes)
            self._evaluate()

    def _batches(self, epoch: int) -> list[npt.NDArray[np.int64]]:
        seed = self.run.recipe.training.seed
        rows, self.row_weights = self.schedule.choose(epoch, self.row_losses.known, seed=seed)
        return bucketed_batches(
            self.train.lengths, self.run.settled.batch_size, seed=seed, epoch=epoch, among=rows
        )

    def _sum_over_processes(self, values: FloatRows) -> FloatRows:
        if self.accelerator.num_processes == 1:
            return values
        tensor = torch.from_numpy(values).to(self.accelerator.device)
        summed: FloatRows = self.accelerator.reduce(tensor).cpu().numpy()
        return summed

    def _step(self, rows: list[int]) -> tuple[float, float]:
        """Take one optimizer step on this process's share of the rows.

        Return its loss and accuracy, as the model was before the step and with its dropout.
        """
        mine, scale = share_of_batch(
            rows,
            self._weights(rows),
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )
        for group in self.optimizer.param_groups:
            rate = learning_rate_at(
                self.progress.step,
                self.total,
                self.run.settled.learning_rate,
                self.run.recipe.optimizer,
            )
            group["lr"] = rate * group["rate_factor"]
        size = math.ceil(len(mine) / self.run.recipe.training.gradient_accumulation)
        summed, right = 0.0, 0
        for start in range(0, len(mine), size):
            last = start + size >= len(mine)
            # Processes may have different numbers of parts; they meet at the last one.
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.prepared):
                loss, hits = self._part_of_step(mine[start : start + size], scale)
                summed, right = summed + loss, right + hits
        self.accelerator.clip_grad_norm_(
            self.prepared.parameters(), self.run.recipe.optimizer.max_gradient_norm
        )
        self.prepared_optimizer.step()
        self.prepared_optimizer.zero_grad()
        self.progress.step += 1
        self.progress.examples += len(rows)
        self.progress.tokens += int(self.lengths[rows].sum())
        self.examples += len(rows)
        return summed / float(self._weights(mine).sum()), right / len(mine)

    def _weights(self, rows: list[int]) -> FloatRows:
        weights: FloatRows = self.label_weights[self.train.classes[rows]] * self.row_weights[rows]
        return weights

    def _part_of_step(self, rows: list[int], scale: float) -> tuple[float, int]:
        """Add the gradient of some rows of a batch, whose sum of losses is scaled so.

        Return the sum of their weighted losses, and how many rows were answered rightly.
        """
        device = self.accelerator.device
        inputs = self.run.feed(self.train, rows, device, training=True)
        classes = torch.from_numpy(self.train.classes[rows]).to(device)
        logits = self.prepared(*inputs).float()
        losses = self.criterion(logits, classes)
        loss = (losses * torch.from_numpy(self.row_weights[rows]).to(device)).sum()
        self.accelerator.backward(loss * scale)
        if scale > 0:  # else another process has this row
            self.row_losses.note(np.array(rows), losses.detach().cpu().numpy())
        return float(loss.item()), int((logits.argmax(dim=1) == classes).sum())

    def _tell(self, loss: float, accuracy: float) -> None:
        progress, step, now = self.progress, self.progress.step, time.monotonic()
        self.untold.append((step, loss, accuracy, progress.examples, progress.tokens))
        if step % max(1, self.total // _POINTS_OF_LOSS_CURVE) == 0 or step == self.total:
            self.progress.losses.append((step, loss))
        if now - self.last_event < _SECONDS_BETWEEN_STEP_EVENTS and step != self.total:
            return
        self.last_event = now
        speed = self.examples / max(now - self.clock, 1e-9)
        self.run.events.emit(
            "step",
            step=step,
            total=self.total,
            epoch=self.schedule.epochs_done(step),
            loss=loss,
            accuracy=accuracy,
            series=self._series(),
            learning_rate=self.optimizer.param_groups[0]["lr"],
            examples_per_s=speed,
            seconds_left=(self.total - step) * self.run.settled.batch_size / max(speed, 1e-9),
        )

    def _series(self) -> list[tuple[int, float, float, int, int]]:
        """Return every step that no event has told of yet."""
        series, self.untold = self.untold, []
        return series

    def _save_or_stop(self) -> None:
        every_s = self.run.recipe.training.checkpoint_every_s
        due = time.monotonic() - self.last_checkpoint > every_s
        stop, due = self._true_of_any(self.run.stop_requested(), due)
        if (stop or due) and self.saved_step != self.progress.step:
            self._save()
        if stop:
            self.accelerator.wait_for_everyone()  # none may end while the checkpoint is written
            self.run.events.emit("interrupted", step=self.progress.step, series=self._series())
            raise Interrupted

    def _true_of_any(self, *here: bool) -> list[bool]:
        """Say of each condition whether any process has it: all must stop or save at one step."""
        if self.accelerator.num_processes == 1:
            return list(here)
        flags = torch.tensor(here, dtype=torch.float32, device=self.accelerator.device)
        return [bool(flag) for flag in self.accelerator.reduce(flags).tolist()]

    def _save(self) -> None:
        self._count_seconds()
        self.examples = 0
        self.row_losses.share(self._sum_over_processes)
        if self.accelerator.is_main_process:
            checkpoint.save_checkpoint(
                self.run.folder,
                self.model,
                self.optimizer,
                self.progress,
                self.row_losses,
                self._origin(),
                self.accelerator.scaler,
            )
            self.run.events.emit("checkpoint_saved", step=self.progress.step)
        self.clock = self.last_checkpoint = time.monotonic()
        self.saved_step = self.progress.step

    def _count_seconds(self) -> None:
        """Add the time since the clock was started to what the training took."""
        now = time.monotonic()
        self.progress.seconds += now - self.clock
        self.clock = now

    def _evaluate(self) -> None:
        self._count_seconds()
        logits = run_over(self.model, self.validation, self.model, feed=self.run.feed)
        if not logits.isfinite().all():
            raise InvalidInput(
                f"the training ran away: after step {self.progress.step} the model's answers are "
                "not numbers; lower optimizer.learning_rate"
            )
        classes = self.validation.classes
        loss = calibrated_loss(logits.numpy(), classes)
        scores = self._scores(logits.numpy())
        # One process's numbers for all: they must agree on when to stop.
        loss, accuracy = broadcast_object_list([loss, scores["accuracy"]])
        progress = self.progress
        seconds = progress.seconds
        kept = progress.record(seconds=seconds, accuracy=accuracy, loss=loss, rows=len(classes))
        if kept:
            if self.accelerator.is_main_process:
                checkpoint.save_best(self.run.folder, self.model)
            self.accelerator.wait_for_everyone()
        self.run.events.emit(
            "evaluated",
            step=progress.step,
            epoch=self.schedule.epochs_done(progress.step),
            accuracy=accuracy,
            loss=loss,
            scores=scores,
            kept=kept,
            seconds=seconds,
            series=self._series(),
        )
        patience = self.run.recipe.training.early_stopping_patience
        if patience and progress.evaluations_without_gain >= patience:
            progress.stopped_early = True
            self.run.events.emit("early_stopped", patience=patience)
        self.clock = time.monotonic()  # an evaluation is no training
        self._save()

    def _scores(self, logits: npt.NDArray[np.float32]) -> dict[str, float]:
        dataset = self.run.recipe.dataset
        return point_scores(
            self.validation.classes,
            logits,
            self.run.labels,
            positive_label=dataset.positive_label,
            betas=dataset.betas,
        )


def _accelerator(run: Run) -> Accelerator:
    precision = {"fp32": "no"}.get(run.settled.precision, run.settled.precision)
    return Accelerator(cpu=run.settled.device == "cpu", mixed_precision=precision)


def _label_weights(train: LabelledSplit, run: Run) -> npt.NDArray[np.float32]:
    """Return what a row of each label weighs in the loss, float32 (labels,)."""
    labels = int(train.classes.max()) + 1
    if run.recipe.dataset.class_weights == "balanced":
        return class_weights(train.classes, labels)
    return np.ones(labels, dtype=np.float32)
