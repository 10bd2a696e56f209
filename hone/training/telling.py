"""What a training loop tells of its steps and evaluations."""

import time
from dataclasses import asdict

from torch import nn

from hone.training.classifier import trained_parameters
from hone.training.events import Events
from hone.training.hyperparameters import Settled
from hone.training.progress import Judged, Progress
from hone.training.row_schedule import RowSchedule

_SECONDS_BETWEEN_STEP_EVENTS = 0.5
_POINTS_OF_LOSS_CURVE = 200


class Telling:
    """Emits the events of one run, and keeps its loss curve. Steps are told twice a second at most.

    Each event has all steps since the one before, so that none is lost.
    """

    def __init__(
        self, events: Events, settled: Settled, schedule: RowSchedule, progress: Progress
    ) -> None:
        self._events, self._settled = events, settled
        self._schedule, self._progress = schedule, progress
        self._last_event = 0.0
        self._untold: list[tuple[int, float, float, int, int]] = []
        self.restart()

    def restart(self) -> None:
        """Measure the speed from now on: what was between is no training."""
        self._started, self._examples_then = time.monotonic(), self._progress.examples

    def begun(self, model: nn.Module, *, resumed: bool) -> None:
        """Tell what was settled, and where the run goes on."""
        trained, everything = trained_parameters(model)
        self._events.emit(
            "settled",
            **asdict(self._settled),
            steps_per_epoch=self._schedule.steps(0),
            total_steps=self._schedule.total_steps,
            trained_parameters=trained,
            all_parameters=everything,
        )
        if resumed:
            progress = self._progress
            self._events.emit("resumed", step=progress.step, evaluations=[*progress.evaluations])

    def step(self, loss: float, accuracy: float, *, learning_rate: float) -> None:
        """Tell of a step that was taken."""
        progress, total, now = self._progress, self._schedule.total_steps, time.monotonic()
        step = progress.step
        self._untold.append((step, loss, accuracy, progress.examples, progress.tokens))
        if step % max(1, total // _POINTS_OF_LOSS_CURVE) == 0 or step == total:
            progress.losses.append((step, loss))
        if now - self._last_event < _SECONDS_BETWEEN_STEP_EVENTS and step != total:
            return
        self._last_event = now
        examples = progress.examples - self._examples_then
        speed = examples / max(now - self._started, 1e-9)
        self._events.emit(
            "step",
            step=step,
            total=total,
            epoch=self._schedule.epochs_done(step),
            loss=loss,
            accuracy=accuracy,
            series=self._series(),
            learning_rate=learning_rate,
            examples_per_s=speed,
            seconds_left=(total - step) * self._settled.batch_size / max(speed, 1e-9),
        )

    def evaluated(self, judged: Judged, *, kept: bool) -> None:
        """Tell how the model was judged, and whether its weights were kept."""
        progress = self._progress
        self._events.emit(
            "evaluated",
            step=progress.step,
            epoch=self._schedule.epochs_done(progress.step),
            accuracy=judged.accuracy,
            loss=judged.loss,
            scores=judged.scores,
            kept=kept,
            seconds=progress.seconds,
            series=self._series(),
        )

    def saved(self) -> None:
        """Tell that a checkpoint was written."""
        self._events.emit("checkpoint_saved", step=self._progress.step)

    def interrupted(self) -> None:
        """Tell that the run stops because it was asked to."""
        self._events.emit("interrupted", step=self._progress.step, series=self._series())

    def stopped_early(self, patience: int) -> None:
        """Tell that so many evaluations gained nothing."""
        self._events.emit("early_stopped", patience=patience)

    def _series(self) -> list[tuple[int, float, float, int, int]]:
        """Return every step that no event has told of yet."""
        series, self._untold = self._untold, []
        return series
