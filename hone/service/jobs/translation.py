"""From what a training process tells to what the API says of the job.

The words of libraries, and paths, end here: a failure's message is one of ours.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from signal import SIGKILL
from typing import Any, Literal

from hone.service.jobs.checkpoints import NewCheckpoint
from hone.service.jobs.claims import Progress
from hone.service.jobs.events import NewEvent
from hone.service.jobs.hyperparameters import settled_hyperparameters
from hone.service.jobs.naming import checkpoint_name
from hone.service.jobs.records import Failure, Job
from hone.service.jobs.results import Measurements, StepRow
from hone.service.jobs.tasks.contract import TaskKind
from hone.service.jobs.trainer import TrainingEvent

MOST_METRICS = 200
"""About how many steps are told of as events; the result file has them all."""

OUT_OF_MEMORY = Failure(
    "out_of_memory",
    "The training needed more memory than the server has to give. Use shorter examples or a "
    "smaller batch_size.",
    "batch_size",
)
DISK_FULL = Failure(
    "disk_full", "The server's disk is full. Nothing of the job's result was stored.", None
)
CRASHED = Failure(
    "training_crashed", "The training ended unexpectedly; the server's log says why.", None
)
SERVER_LOST = Failure(
    "server_error", "The server was interrupted too often while it worked on the job.", None
)
SERVER_ERROR = Failure("server_error", "The server failed on this job; its log says why.", None)
_BY_CODE = {
    "out_of_memory": OUT_OF_MEMORY,
    "disk_full": DISK_FULL,
    "parity_failed": Failure(
        "parity_failed",
        "The exported model does not answer as the trained one did, so nothing was published.",
        None,
    ),
    "invalid_recipe": Failure(
        "invalid_hyperparameters",
        "The hyperparameters cannot be trained with: one of them is out of range.",
        "hyperparameters",
    ),
    "missing_dependency": Failure(
        "training_not_installed", "This server lacks a part that training needs.", "model"
    ),
    "tools_not_supported": Failure(
        "tools_not_supported",
        "The base's chat template does not know tools, or not in a form that can be served, and "
        "the examples have some. Take a base whose template knows them, or examples without.",
        "training_file",
    ),
    "not_found": Failure("model_not_found", "The model to begin from is not there.", "model"),
}
DIVERGED = Failure(
    "training_diverged",
    "The training ran away: the model's answers are no numbers any more. Lower "
    "learning_rate_multiplier.",
    "learning_rate_multiplier",
)

NOT_EXPORTED = Failure(
    "export_failed",
    "The trained model cannot be exported: this server does not know its base's architecture.",
    "model",
)

_STATUSES = {71: OUT_OF_MEMORY, 74: DISK_FULL}
_OUT_OF_MEMORY_WORDS = re.compile(
    r"MemoryError|bad_alloc|can(no|')t allocate memory|failed to map segment|out of memory",
    re.IGNORECASE,
)
_DISK_FULL_WORDS = re.compile(r"no space left on device|file too large", re.IGNORECASE)

Stage = Literal["prepare", "train"]


def file_gone(field_name: str) -> Failure:
    """Return the failure of a job whose file is not there any more."""
    kind = field_name.replace("_", " ")
    message = f"The {kind} of the job is not there: it was deleted before the job began."
    return Failure("file_not_found", message, field_name)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended: its exit status, and the end of what it said besides events."""

    stage: Stage
    status: int
    errors: str

    @property
    def was_killed(self) -> bool:
        """Whether SIGKILL ended it, which the kernel's lack of memory and others send."""
        return self.status in (-SIGKILL, 128 + SIGKILL)


@dataclass(slots=True)
class Translator:
    """The events of one job's training, over all its processes.

    What is translated waits in `take` until it is asked for.
    """

    job: Job
    model: str
    kind: TaskKind
    found: Measurements = field(default_factory=Measurements)
    _events: list[NewEvent] = field(default_factory=list)
    _checkpoints: list[NewCheckpoint] = field(default_factory=list)
    _settled: dict[str, Any] | None = None
    _finish: int | None = None
    _failed: TrainingEvent | None = None
    _has_settled: bool = False
    _has_trained: bool = False
    _told_step: int = 0
    _told_evaluation: int = 0
    _total: int = 0
    _epochs: float = 0

    def feed(self, events: Iterable[TrainingEvent], *, told_before: bool = False) -> None:
        """Take in events. `told_before`: an earlier worker has said what there is to say.

        Checkpoints are kept again all the same: the store knows those that it has.
        """
        for event in events:
            self.found.take(event)
            self._take(event)
        if told_before:
            self._events.clear()

    def take(self) -> Progress:
        """Return what there is to tell since the last call."""
        progress = Progress(
            events=tuple(self._events),
            checkpoints=tuple(self._checkpoints),
            estimated_finish=self._finish,
            settled=self._settled,
        )
        self._events, self._checkpoints = [], []
        self._settled = self._finish = None
        return progress

    def put_back(self, progress: Progress) -> None:
        """Take back what could not be told."""
        self._events = [*progress.events, *self._events]
        self._checkpoints = [*progress.checkpoints, *self._checkpoints]
        self._settled = self._settled or (dict(progress.settled) if progress.settled else None)

    def say(self, events: Iterable[NewEvent]) -> None:
        """Add something to tell."""
        self._events.extend(events)

    @property
    def trained_tokens(self) -> int | None:
        """Tokens read in training so far, each as often as it was read."""
        return self.found.last()[1].tokens

    def failure(self, ending: Ending) -> Failure:
        """Return why the process ended without what it was for."""
        failed = {} if self._failed is None else self._failed
        by_status = _STATUSES.get(ending.status) or _BY_CODE.get(str(failed.get("code")))
        if by_status is not None:
            return by_status
        if failed.get("code") == "invalid_examples":
            return self.kind.unprepared
        if failed.get("code") == "invalid_input" and self._has_settled:
            return NOT_EXPORTED if self._has_trained else DIVERGED
        if _OUT_OF_MEMORY_WORDS.search(ending.errors) or ending.was_killed:
            return OUT_OF_MEMORY
        if _DISK_FULL_WORDS.search(ending.errors):
            return DISK_FULL
        refused = ending.status == 1 and "Traceback" not in ending.errors
        return self.kind.unprepared if refused and ending.stage == "prepare" else CRASHED

    def _take(self, event: TrainingEvent) -> None:
        match event["event"]:
            case "run_started":
                self._failed, self._has_settled, self._has_trained = None, False, False
            case "model_saved":
                self._has_trained = True
            case "settled":
                self._take_settled(event)
            case "step":
                self._take_step(event)
            case "evaluated":
                self._take_evaluation(event)
            case "early_stopped":
                self._say("The training is over early: nothing is gained any more")
            case "variant_left_out":
                message = f"The variant {event['variant']} is left out: it does not answer as well"
                self._say(message)
            case "failed":
                self._failed = event
        self._events.extend(self.kind.told(self.job, event))

    def _say(self, message: str) -> None:
        self._events.append(NewEvent(message))

    def _take_settled(self, event: TrainingEvent) -> None:
        self._has_settled = True
        self._epochs = event["epochs"]
        self._total = max(1, math.ceil(event["epochs"] * event["steps_per_epoch"]))
        self._settled = settled_hyperparameters(
            self.job, epochs=event["epochs"], batch=event["batch_size"]
        )
        shown = ", ".join(f"{name} {value:g}" for name, value in self._settled.items())
        self._say(f"Training with {shown}: {self._total} steps")

    def _take_step(self, event: TrainingEvent) -> None:
        self._finish = round(event["time"] + event["seconds_left"])
        step, total = event["step"], event["total"]
        due = step - self._told_step >= total / MOST_METRICS or step == total
        if self.job.flavour == "modern" and due:
            self._told_step = step
            self._tell_metrics(step, total, self.found.rows.get(step, StepRow()))

    def _take_evaluation(self, event: TrainingEvent) -> None:
        step, row = event["step"], self.found.rows[event["step"]]
        if step <= self._told_evaluation:  # a resumed run has come by once more
            return
        self._told_evaluation = step
        if self.job.flavour == "modern":
            self._tell_metrics(step, self._total, row)
        else:
            done, of = round(event["epoch"], 1), round(self._epochs, 1)
            self._say(f"Completed epoch {done:g}/{of:g}")
        checkpoint = NewCheckpoint(step, checkpoint_name(self.model, step), _metrics(step, row))
        self._checkpoints.append(checkpoint)

    def _tell_metrics(self, step: int, total: int, row: StepRow) -> None:
        loss = "none" if row.loss is None else f"{row.loss:.2f}"
        message = f"Step {step}/{total}: training loss={loss}"
        if row.valid_loss is not None:
            message += f", validation loss={row.valid_loss:.2f}"
        data = {**_metrics(step, row), "total_steps": total}
        self._events.append(NewEvent(message, type="metrics", data=data))


def _metrics(step: int, row: StepRow) -> Mapping[str, float]:
    """Return what is known of a step; the validation is always of the whole validation file."""
    named = {
        "step": step,
        "train_loss": row.loss,
        "train_mean_token_accuracy": row.accuracy,
        "valid_loss": row.valid_loss,
        "valid_mean_token_accuracy": row.valid_accuracy,
        "full_valid_loss": row.valid_loss,
        "full_valid_mean_token_accuracy": row.valid_accuracy,
    }
    return {name: value for name, value in named.items() if value is not None}
