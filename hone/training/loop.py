"""The training loop: what is the same whatever is learned.

A subclass says which rows a batch has, what their loss is and how a model is judged; here are the
steps, the learning rate, checkpoints and resuming, evaluations, early stopping and the events.
"""

import contextlib
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from hone.models.errors import InvalidInput
from hone.training import checkpoint
from hone.training.classifier import trained_parameters
from hone.training.dataset import share_of_batch
from hone.training.loop_run import LoopRun, Settled
from hone.training.memory import peak_bytes
from hone.training.optimization import learning_rate_at
from hone.training.progress import Judged, Progress
from hone.training.row_schedule import FloatRows, IntRows, RowLosses

os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
# PyTorch's products in half precision on a CPU keep a kernel of some megabytes for each shape that
# they have met, 1,024 of them by default: a tiny model came to hold a gigabyte of nothing else.

_SECONDS_BETWEEN_STEP_EVENTS = 0.5
_POINTS_OF_LOSS_CURVE = 200


class Interrupted(Exception):
    """The run was asked to stop; its checkpoint is written and the same command goes on."""


class BatchLoss(NamedTuple):
    """Of some rows of a batch: the sum of their weighted losses, and `right` of `of` answers."""

    loss: Tensor
    right: float
    of: float


def make_accelerator(settled: Settled) -> Accelerator:
    """Return accelerate's view of this process, its device and precision."""
    precision = {"fp32": "no"}.get(settled.precision, settled.precision)
    return Accelerator(cpu=settled.device == "cpu", mixed_precision=precision)


class TrainingLoop(ABC):
    """The state of one run; every method is one of its parts.

    Goes on from the run's newest checkpoint if there is one: one process to the last bit as if it
    had not been broken off; of several only the main one draws on where it was, the others anew.
    """

    evaluate_every_epochs = 1

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        accelerator: Accelerator,
        run: LoopRun,
        *,
        lengths: IntRows,
        row_losses: RowLosses,
    ) -> None:
        """Take `lengths`, int64 (rows,), the tokens of each training row."""
        self.model, self.optimizer, self.accelerator = model, optimizer, accelerator
        self._run, self.lengths, self.row_losses = run, lengths, row_losses
        found = checkpoint.load_checkpoint(
            run.folder, model, optimizer, row_losses, self._origin(), accelerator.scaler
        )
        self.resumed = found is not None
        self.progress = found or Progress()
        self._draw_apart()
        self.prepared: nn.Module
        self.prepared, self.prepared_optimizer = accelerator.prepare(model, optimizer)
        self.schedule = run.settled.schedule(len(lengths))
        self.total = self.schedule.total_steps
        self.clock = self.last_checkpoint = time.monotonic()
        self.saved_step = self.progress.step
        self.last_event = 0.0
        self.examples = 0
        self.untold: list[tuple[int, float, float, int, int]] = []

    def train(self) -> Progress:
        """Train the model in place, leave it with the weights to keep, return what happened.

        Raises Interrupted, after writing a checkpoint, when asked to stop, and InvalidInput when
        the weights run away. Of several processes only the main one is left with the kept weights.
        """
        self._announce()
        self._run_to_end()
        # Takes the mixed-precision wrapper off `forward`: what is exported is the fp32 model.
        self.accelerator.unwrap_model(self.prepared, keep_fp32_wrapper=False)
        if self.accelerator.is_main_process:
            checkpoint.load_best(self._run.folder, self.model)
        return self.progress

    # What a subclass says

    @abstractmethod
    def _batches(self, epoch: int) -> list[IntRows]:
        """Return an epoch's batches of row numbers, by the seed and the epoch alone."""

    @abstractmethod
    def _weights(self, rows: list[int]) -> FloatRows:
        """Return what rows weigh in the loss, float32 (rows,)."""

    @abstractmethod
    def _loss(self, rows: list[int], *, counts: bool) -> BatchLoss:
        """Run the prepared model over rows; not `counts` if another process has them too."""

    @abstractmethod
    def _judge(self) -> Judged:
        """Judge the model on the validation rows; raise `_ran_away()` if it answers no numbers."""

    @property
    @abstractmethod
    def _judged_rows(self) -> int:
        """How many validation rows there are."""

    @abstractmethod
    def _watch(self) -> None:
        """Look at the model after an evaluation, on the main process, or do nothing."""

    # The loop

    def _origin(self) -> dict[str, Any]:
        """Return what the run's checkpoints belong to."""
        return {
            **asdict(self._run.settled),
            "base_revision": self._run.base_revision,
            "processes": self.accelerator.num_processes,
        }

    def _draw_apart(self) -> None:
        """Let each process of a resumed run draw dropout of its own.

        The checkpoint holds the state of the main process alone, and all have just loaded it.
        """
        rank = self.accelerator.process_index
        if self.resumed and rank > 0:
            key = [self._run.recipe.training.seed, rank, self.progress.step]
            torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))

    def _announce(self) -> None:
        """Tell what was settled, and where the run goes on."""
        trained, everything = trained_parameters(self.model)
        self._run.events.emit(
            "settled",
            **asdict(self._run.settled),
            steps_per_epoch=self.schedule.steps(0),
            total_steps=self.total,
            trained_parameters=trained,
            all_parameters=everything,
        )
        if self.resumed:
            self._run.events.emit(
                "resumed", step=self.progress.step, evaluations=[*self.progress.evaluations]
            )

    def _run_to_end(self) -> None:
        """Run epochs until the steps are done or nothing is gained any more."""
        while self.progress.step < self.total and not self.progress.stopped_early:
            epoch, done = self.schedule.locate(self.progress.step)
            batches = self._batches(epoch)
            self.prepared.train()
            for rows in batches[done : done + self.total - self.progress.step]:
                # Before a step, not after it: an epoch's last step is saved with its evaluation.
                self._save_or_stop()
                self._tell(*self._step(rows.tolist()))
            self.row_losses.end_epoch(self._sum_over_processes)
            if (epoch + 1) % self.evaluate_every_epochs == 0 or self.progress.step >= self.total:
                self._evaluate()

    def _step(self, rows: list[int]) -> tuple[float, float]:
        """Take one optimizer step on this process's share of the rows.

        Return its loss and accuracy, as the model was before the step and with its dropout.
        """
        training = self._run.recipe.training
        mine, scale = share_of_batch(
            rows,
            self._weights(rows),
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )
        self._set_learning_rate()
        size = math.ceil(len(mine) / training.gradient_accumulation)
        summed = right = of = 0.0
        for start in range(0, len(mine), size):
            last = start + size >= len(mine)
            # Processes may have different numbers of parts; they meet at the last one.
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.prepared):
                part = self._loss(mine[start : start + size], counts=scale > 0)
                self.accelerator.backward(part.loss * scale)
            summed += float(part.loss.item())
            right, of = right + part.right, of + part.of
        self.accelerator.clip_grad_norm_(
            self.prepared.parameters(), self._run.recipe.optimizer.max_gradient_norm
        )
        self.prepared_optimizer.step()
        self.prepared_optimizer.zero_grad()
        self._count(rows)
        return summed / float(self._weights(mine).sum()), right / of

    def _set_learning_rate(self) -> None:
        """Set this step's rate; a group of parameters may have a `rate_factor`."""
        rate = learning_rate_at(
            self.progress.step,
            self.total,
            self._run.settled.learning_rate,
            self._run.recipe.optimizer,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("rate_factor", 1.0)

    def _count(self, rows: Sequence[int]) -> None:
        self.progress.step += 1
        self.progress.examples += len(rows)
        self.progress.tokens += int(self.lengths[list(rows)].sum())
        self.examples += len(rows)

    def _sum_over_processes(self, values: FloatRows) -> FloatRows:
        if self.accelerator.num_processes == 1 or not values.size:
            return values
        tensor = torch.from_numpy(values).to(self.accelerator.device)
        summed: FloatRows = self.accelerator.reduce(tensor).cpu().numpy()
        return summed

    # What is told

    def _tell(self, loss: float, accuracy: float) -> None:
        progress, step, now = self.progress, self.progress.step, time.monotonic()
        self.untold.append((step, loss, accuracy, progress.examples, progress.tokens))
        if step % max(1, self.total // _POINTS_OF_LOSS_CURVE) == 0 or step == self.total:
            progress.losses.append((step, loss))
        if now - self.last_event < _SECONDS_BETWEEN_STEP_EVENTS and step != self.total:
            return
        self.last_event = now
        speed = self.examples / max(now - self.clock, 1e-9)
        self._run.events.emit(
            "step",
            step=step,
            total=self.total,
            epoch=self.schedule.epochs_done(step),
            loss=loss,
            accuracy=accuracy,
            series=self._series(),
            learning_rate=self.optimizer.param_groups[0]["lr"],
            examples_per_s=speed,
            seconds_left=(self.total - step) * self._run.settled.batch_size / max(speed, 1e-9),
        )

    def _series(self) -> list[tuple[int, float, float, int, int]]:
        """Return every step that no event has told of yet."""
        series, self.untold = self.untold, []
        return series

    # What is saved

    def _save_or_stop(self) -> None:
        every_s = self._run.recipe.training.checkpoint_every_s
        due = time.monotonic() - self.last_checkpoint > every_s
        stop, due = self._true_of_any(self._run.stop_requested(), due)
        if (stop or due) and self.saved_step != self.progress.step:
            self._save()
        if stop:
            self.accelerator.wait_for_everyone()  # none may end while the checkpoint is written
            self._run.events.emit("interrupted", step=self.progress.step, series=self._series())
            raise Interrupted

    def _true_of_any(self, *here: bool) -> list[bool]:
        """Say of each condition whether any process has it: all must stop or save at one step."""
        if self.accelerator.num_processes == 1:
            return list(here)
        flags = torch.tensor(here, dtype=torch.float32, device=self.accelerator.device)
        return [bool(flag) for flag in self.accelerator.reduce(flags).tolist()]

    def _save(self) -> None:
        self._count_seconds()
        self._note_peak()
        self.examples = 0
        self.row_losses.share(self._sum_over_processes)
        if self.accelerator.is_main_process:
            checkpoint.save_checkpoint(
                self._run.folder,
                self.model,
                self.optimizer,
                self.progress,
                self.row_losses,
                self._origin(),
                self.accelerator.scaler,
            )
            self._run.events.emit("checkpoint_saved", step=self.progress.step)
        self.clock = self.last_checkpoint = time.monotonic()
        self.saved_step = self.progress.step

    def _count_seconds(self) -> None:
        """Add the time since the clock was started to what the training took."""
        now = time.monotonic()
        self.progress.seconds += now - self.clock
        self.clock = now

    def _note_peak(self) -> None:
        """Keep the most memory that any of the processes held, those of a broken-off run too."""
        here = torch.tensor([peak_bytes(self._run.settled.device)], device=self.accelerator.device)
        most = int(self.accelerator.gather(here).max())
        self.progress.peak_bytes = max(self.progress.peak_bytes, most)

    # What is judged

    def _ran_away(self) -> InvalidInput:
        return InvalidInput(
            f"the training ran away: after step {self.progress.step} the model's answers are not "
            "numbers; lower optimizer.learning_rate"
        )

    def _evaluate(self) -> None:
        self._count_seconds()
        judged = self._judge()
        if not math.isfinite(judged.loss):
            raise self._ran_away()
        # One process's numbers for all: they must agree on when to stop.
        loss, accuracy = broadcast_object_list([judged.loss, judged.accuracy])
        seconds = self.progress.seconds
        kept = self.progress.record(
            seconds=seconds, accuracy=accuracy, loss=loss, rows=self._judged_rows
        )
        if self.accelerator.is_main_process and kept:
            checkpoint.save_best(self._run.folder, self.model)
        self.accelerator.wait_for_everyone()
        self._tell_judged(Judged(loss, accuracy, judged.scores), kept=kept)
        self._stop_early()
        self.clock = time.monotonic()  # an evaluation is no training
        self._save()
        # Last: what is killed while it watches, for want of memory say, has saved its progress.
        if self.accelerator.is_main_process:
            self._watch()
        self.accelerator.wait_for_everyone()
        self.clock = self.last_checkpoint = time.monotonic()

    def _tell_judged(self, judged: Judged, *, kept: bool) -> None:
        self._run.events.emit(
            "evaluated",
            step=self.progress.step,
            epoch=self.schedule.epochs_done(self.progress.step),
            accuracy=judged.accuracy,
            loss=judged.loss,
            scores=judged.scores,
            kept=kept,
            seconds=self.progress.seconds,
            series=self._series(),
        )

    def _stop_early(self) -> None:
        patience = self._run.recipe.training.early_stopping_patience
        if patience and self.progress.evaluations_without_gain >= patience:
            self.progress.stopped_early = True
            self._run.events.emit("early_stopped", patience=patience)
