"""The training loop: what is the same whatever is learned.

A `Task` says which rows a batch has, what their loss is and how a model is judged; here are the
steps, the learning rate, checkpoints and resuming, evaluations and early stopping.
"""

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from hone.models.errors import InvalidInput
from hone.training import checkpoint
from hone.training.dataset import share_of_batch
from hone.training.events import Events
from hone.training.hyperparameters import Settled
from hone.training.memory import peak_bytes
from hone.training.optimization import Schedule, learning_rate_at
from hone.training.progress import Judged, Progress
from hone.training.recipe_groups import LoopGroup
from hone.training.row_schedule import FloatRows, IntRows, RowLosses
from hone.training.telling import Telling


class Interrupted(Exception):
    """The run was asked to stop; its checkpoint is written and the same command goes on."""


class LoopRecipe(Protocol):
    """What of a recipe the loop obeys."""

    @property
    def training(self) -> LoopGroup:
        """When to save and to stop."""

    @property
    def optimizer(self) -> Schedule:
        """How to step."""


@dataclass(frozen=True, slots=True)
class LoopRun:
    """What the loop needs to know of the run it is part of.

    `base_revision` is the SHA-256 of the base's weights, to which a checkpoint belongs.
    """

    folder: Path
    recipe: LoopRecipe
    settled: Settled
    events: Events
    stop_requested: Callable[[], bool]
    base_revision: str


class BatchLoss(NamedTuple):
    """Of some rows of a batch: the sum of their weighted losses, and `right` of `of` answers."""

    loss: Tensor
    right: float
    of: float


class Task(Protocol):
    """What is learned. Rows are places in the training examples."""

    lengths: IntRows
    """Tokens of each training row, int64 (rows,)."""
    row_losses: RowLosses
    """The latest loss of each row, which a task may choose its batches by."""
    evaluate_every_epochs: int
    validation_rows: int

    def batches(self, epoch: int) -> list[IntRows]:
        """Return an epoch's batches of rows, by the seed, the epoch and `row_losses` alone."""

    def weights(self, rows: list[int]) -> FloatRows:
        """Return what rows weigh in the loss, float32 (rows,)."""

    def loss(self, model: nn.Module, rows: list[int], *, counts: bool) -> BatchLoss:
        """Run the model over rows; with `counts` false another process has them too."""

    def judge(self, model: nn.Module) -> Judged:
        """Judge the model on the validation rows; its loss is no number if it answers none."""

    def watch(self, step: int, model: nn.Module) -> None:
        """Look at the model after an evaluation, on the main process."""


def make_accelerator(settled: Settled) -> Accelerator:
    """Return accelerate's view of this process, its device and precision."""
    precision = {"fp32": "no"}.get(settled.precision, settled.precision)
    return Accelerator(cpu=settled.device == "cpu", mixed_precision=precision)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    task: Task,
    run: LoopRun,
    accelerator: Accelerator,
) -> Progress:
    """Train `model` in place, leave it with the weights to keep, and return what happened.

    Goes on from the run's newest checkpoint if there is one: one process to the last bit as if it
    had not been broken off; of several only the main one draws on where it was, the others anew.
    Raises Interrupted, after writing a checkpoint, when asked to stop, InvalidInput when the
    weights run away, and BundleCorrupt for a checkpoint of another base or other settings. Of
    several processes only the main one is left with the kept weights.
    """
    loop = _Loop(model, optimizer, task, run, accelerator)
    loop.telling.begun(model, resumed=loop.resumed)
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
        task: Task,
        run: LoopRun,
        accelerator: Accelerator,
    ) -> None:
        self.model, self.optimizer, self.task = model, optimizer, task
        self.run, self.accelerator = run, accelerator
        found = checkpoint.load_checkpoint(
            run.folder, model, optimizer, task.row_losses, self._origin(), accelerator.scaler
        )
        self.resumed = found is not None
        self.progress = found or Progress()
        self._draw_apart()
        self.prepared: nn.Module
        self.prepared, self.prepared_optimizer = accelerator.prepare(model, optimizer)
        self.schedule = run.settled.schedule(len(task.lengths))
        self.total = self.schedule.total_steps
        self.clock = self.last_checkpoint = time.monotonic()
        self.saved_step = self.progress.step
        self.telling = Telling(run.events, run.settled, self.schedule, self.progress)

    def _origin(self) -> dict[str, Any]:
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

    def run_to_end(self) -> None:
        """Run epochs until the steps are done or nothing is gained any more."""
        every = self.task.evaluate_every_epochs
        while self.progress.step < self.total and not self.progress.stopped_early:
            epoch, done = self.schedule.locate(self.progress.step)
            batches = self.task.batches(epoch)
            self.prepared.train()
            for rows in batches[done : done + self.total - self.progress.step]:
                # Before a step, not after it: an epoch's last step is saved with its evaluation.
                self._save_or_stop()
                loss, accuracy = self._step(rows.tolist())
                rate = self.optimizer.param_groups[0]["lr"]
                self.telling.step(loss, accuracy, learning_rate=rate)
            self.task.row_losses.end_epoch(self._sum_over_processes)
            if (epoch + 1) % every == 0 or self.progress.step >= self.total:
                self._evaluate()

    def _step(self, rows: list[int]) -> tuple[float, float]:
        """Take one optimizer step on this process's share of the rows.

        Return its loss and accuracy, as the model was before the step and with its dropout.
        """
        mine, scale = share_of_batch(
            rows,
            self.task.weights(rows),
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )
        self._set_learning_rate()
        size = math.ceil(len(mine) / self.run.recipe.training.gradient_accumulation)
        summed = right = of = 0.0
        for start in range(0, len(mine), size):
            last = start + size >= len(mine)
            # Processes may have different numbers of parts; they meet at the last one.
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.prepared):
                part = self.task.loss(self.prepared, mine[start : start + size], counts=scale > 0)
                self.accelerator.backward(part.loss * scale)
            summed += float(part.loss.item())
            right, of = right + part.right, of + part.of
        self.accelerator.clip_grad_norm_(
            self.prepared.parameters(), self.run.recipe.optimizer.max_gradient_norm
        )
        self.prepared_optimizer.step()
        self.prepared_optimizer.zero_grad()
        self.progress.step += 1
        self.progress.examples += len(rows)
        self.progress.tokens += int(self.task.lengths[rows].sum())
        return summed / float(self.task.weights(mine).sum()), right / of

    def _set_learning_rate(self) -> None:
        """Set this step's rate; a group of parameters may have a `rate_factor`."""
        rate = learning_rate_at(
            self.progress.step,
            self.total,
            self.run.settled.learning_rate,
            self.run.recipe.optimizer,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("rate_factor", 1.0)

    def _evaluate(self) -> None:
        self._count_seconds()
        judged = self.task.judge(self.model)
        if not math.isfinite(judged.loss):
            raise InvalidInput(
                f"the training ran away: after step {self.progress.step} the model's answers are "
                "not numbers; lower optimizer.learning_rate"
            )
        # One process's numbers for all: they must agree on when to stop.
        loss, accuracy = broadcast_object_list([judged.loss, judged.accuracy])
        kept = self.progress.record(
            seconds=self.progress.seconds,
            accuracy=accuracy,
            loss=loss,
            rows=self.task.validation_rows,
        )
        if self.accelerator.is_main_process and kept:
            checkpoint.save_best(self.run.folder, self.model)
        self.accelerator.wait_for_everyone()
        self.telling.evaluated(Judged(loss, accuracy, judged.scores), kept=kept)
        patience = self.run.recipe.training.early_stopping_patience
        if patience and self.progress.evaluations_without_gain >= patience:
            self.progress.stopped_early = True
            self.telling.stopped_early(patience)
        self.clock = time.monotonic()  # an evaluation is no training
        self._save()
        # Last: what is killed while it watches, for want of memory say, has saved its progress.
        if self.accelerator.is_main_process:
            self.task.watch(self.progress.step, self.model)
        self.accelerator.wait_for_everyone()
        self._restart_clocks()

    def _save_or_stop(self) -> None:
        every_s = self.run.recipe.training.checkpoint_every_s
        due = time.monotonic() - self.last_checkpoint > every_s
        stop, due = self._true_of_any(self.run.stop_requested(), due)
        if (stop or due) and self.saved_step != self.progress.step:
            self._save()
        if stop:
            self.accelerator.wait_for_everyone()  # none may end while the checkpoint is written
            self.telling.interrupted()
            raise Interrupted

    def _save(self) -> None:
        self._count_seconds()
        self._note_peak()
        self.task.row_losses.share(self._sum_over_processes)
        if self.accelerator.is_main_process:
            checkpoint.save_checkpoint(
                self.run.folder,
                self.model,
                self.optimizer,
                self.progress,
                self.task.row_losses,
                self._origin(),
                self.accelerator.scaler,
            )
            self.telling.saved()
        self.saved_step = self.progress.step
        self._restart_clocks()

    def _restart_clocks(self) -> None:
        self.clock = self.last_checkpoint = time.monotonic()
        self.telling.restart()

    def _count_seconds(self) -> None:
        """Add the time since the clock was started to what the training took."""
        now = time.monotonic()
        self.progress.seconds += now - self.clock
        self.clock = now

    def _note_peak(self) -> None:
        """Keep the most memory that any of the processes held, those of a broken-off run too."""
        here = torch.tensor([peak_bytes(self.run.settled.device)], device=self.accelerator.device)
        most = int(self.accelerator.gather(here).max())
        self.progress.peak_bytes = max(self.progress.peak_bytes, most)

    def _true_of_any(self, *here: bool) -> list[bool]:
        """Say of each condition whether any process has it: all must stop or save at one step."""
        if self.accelerator.num_processes == 1:
            return list(here)
        flags = torch.tensor(here, dtype=torch.float32, device=self.accelerator.device)
        return [bool(flag) for flag in self.accelerator.reduce(flags).tolist()]

    def _sum_over_processes(self, values: FloatRows) -> FloatRows:
        if self.accelerator.num_processes == 1 or not values.size:
            return values
        tensor = torch.from_numpy(values).to(self.accelerator.device)
        summed: FloatRows = self.accelerator.reduce(tensor).cpu().numpy()
        return summed
