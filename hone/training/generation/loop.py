"""The training loop of causal language models."""

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import nn

from hone.models.errors import InvalidInput
from hone.training import checkpoint
from hone.training.classifier import trained_parameters
from hone.training.dataset import bucketed_batches, share_of_batch
from hone.training.events import Events
from hone.training.finetune import Interrupted
from hone.training.generation.generation_recipe import GenerationRecipe
from hone.training.generation.losses import Judged, Objective
from hone.training.generation.optimizers import make_causal_optimizer
from hone.training.generation.settling import CausalHyperparameters
from hone.training.optimization import learning_rate_at
from hone.training.progress import Progress
from hone.training.row_schedule import RowLosses

_SECONDS_BETWEEN_STEP_EVENTS = 0.5
_POINTS_OF_LOSS_CURVE = 200


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


def make_accelerator(settled: CausalHyperparameters) -> Accelerator:
    """Return accelerate's view of this process, its device and precision."""
    precision = {"fp32": "no"}.get(settled.precision, settled.precision)
    return Accelerator(cpu=settled.device == "cpu", mixed_precision=precision)


def train_causal(
    model: nn.Module, objective: Objective, run: CausalRun, accelerator: Accelerator
) -> Progress:
    """Train `model` in place, leave it with the weights to keep, and return what happened.

    Goes on from the run's newest checkpoint if there is one: one process to the last bit as if it
    had not been broken off. Raises Interrupted, after writing a checkpoint, when asked to stop,
    InvalidInput when the weights run away, and BundleCorrupt for a checkpoint of another base or
    other settings. Of several processes only the main one is left with the kept weights.
    """
    torch.manual_seed(run.recipe.training.seed + accelerator.process_index)
    optimizer = make_causal_optimizer(model, run.settled.learning_rate, run.recipe.optimizer)
    loop = _Loop(model, optimizer, accelerator, objective, run)
    loop.announce()
    loop.run_to_end()
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
        objective: Objective,
        run: CausalRun,
    ) -> None:
        self.model, self.optimizer, self.objective = model, optimizer, objective
        self.run, self.accelerator = run, accelerator
        self.no_rows = RowLosses(0)  # every row takes part in every epoch
        found = checkpoint.load_checkpoint(
            run.folder, model, optimizer, self.no_rows, self._origin(), accelerator.scaler
        )
        self.resumed = found is not None
        self.progress = found or Progress()
        self._draw_apart()
        self.prepared: nn.Module
        self.prepared, self.prepared_optimizer = accelerator.prepare(model, optimizer)
        self.schedule = run.settled.schedule(len(objective.weights))
        self.total = self.schedule.total_steps
        self.clock = self.last_checkpoint = time.monotonic()
        self.saved_step = self.progress.step
        self.last_event = 0.0
        self.examples = 0
        self.untold: list[tuple[int, float, float, int, int]] = []

    def _origin(self) -> dict[str, Any]:
        """Return what the run's checkpoints belong to."""
        return {
            **asdict(self.run.settled),
            "base_revision": self.run.base_revision,
            "processes": self.accelerator.num_processes,
        }

    def _draw_apart(self) -> None:
        """Let each process of a resumed run draw dropout of its own."""
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
        every = self.run.settled.evaluate_every_epochs
        while self.progress.step < self.total and not self.progress.stopped_early:
            epoch, done = self.schedule.locate(self.progress.step)
            batches = self._batches(epoch)
            self.prepared.train()
            for rows in batches[done : done + self.total - self.progress.step]:
                # Before a step, not after it: an epoch's last step is saved with its evaluation.
                self._save_or_stop()
                self._tell(*self._step(rows.tolist()))
            if (epoch + 1) % every == 0 or self.progress.step >= self.total:
                self._evaluate()

    def _batches(self, epoch: int) -> list[npt.NDArray[np.int64]]:
        seed = self.run.recipe.training.seed
        size = self.run.settled.batch_size
        return bucketed_batches(self.objective.lengths, size, seed=seed, epoch=epoch)

    def _step(self, rows: list[int]) -> tuple[float, float]:
        """Take one optimizer step on this process's share of the rows.

        Return its loss and accuracy, as the model was before the step and with its dropout.
        """
        weights = self.objective.weights
        mine, scale = share_of_batch(
            rows,
            weights[rows],
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )
        rate = self._learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        summed = right = 0.0
        size = math.ceil(len(mine) / self.run.recipe.training.gradient_accumulation)
        for start in range(0, len(mine), size):
            last = start + size >= len(mine)
            # Processes may have different numbers of parts; they meet at the last one.
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.prepared):
                loss, hits = self.objective.loss(self.prepared, mine[start : start + size])
                self.accelerator.backward(loss * scale)
            summed, right = summed + float(loss.item()), right + hits
        self.accelerator.clip_grad_norm_(
            self.prepared.parameters(), self.run.recipe.optimizer.max_gradient_norm
        )
        self.prepared_optimizer.step()
        self.prepared_optimizer.zero_grad()
        self._count(rows)
        weight = float(weights[mine].sum())
        return summed / weight, right / weight

    def _learning_rate(self) -> float:
        return learning_rate_at(
            self.progress.step,
            self.total,
            self.run.settled.learning_rate,
            self.run.recipe.optimizer,
        )

    def _count(self, rows: Sequence[int]) -> None:
        self.progress.step += 1
        self.progress.examples += len(rows)
        self.progress.tokens += int(self.objective.lengths[list(rows)].sum())
        self.examples += len(rows)

    def _tell(self, loss: float, accuracy: float) -> None:
        progress, step, now = self.progress, self.progress.step, time.monotonic()
        self.untold.append((step, loss, accuracy, progress.examples, progress.tokens))
        if step % max(1, self.total // _POINTS_OF_LOSS_CURVE) == 0 or step == self.total:
            progress.losses.append((step, loss))
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
        if self.accelerator.is_main_process:
            checkpoint.save_checkpoint(
                self.run.folder,
                self.model,
                self.optimizer,
                self.progress,
                self.no_rows,
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
        judged = self.objective.judge(self.model)
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
            rows=self.run.validation_rows,
        )
        if self.accelerator.is_main_process and kept:
            checkpoint.save_best(self.run.folder, self.model)
        self.accelerator.wait_for_everyone()
        self._tell_judged(Judged(loss, accuracy, judged.scores), kept=kept)
        self._stop_early()
        self.clock = time.monotonic()  # an evaluation is no training
        self._save()
        # Last: what is killed while it watches, for want of memory say, has saved its progress.
        if self.accelerator.is_main_process:
            self.run.watch(self.progress.step, self.model)
        self.accelerator.wait_for_everyone()
        self.clock = self.last_checkpoint = time.monotonic()

    def _tell_judged(self, judged: Judged, *, kept: bool) -> None:
        self.run.events.emit(
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
        patience = self.run.recipe.training.early_stopping_patience
        if patience and self.progress.evaluations_without_gain >= patience:
            self.progress.stopped_early = True
            self.run.events.emit("early_stopped", patience=patience)
