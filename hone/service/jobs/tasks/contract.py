"""The contract of a task: which files it trains on, with which commands, and what is said of it.

A further task is a further module here, and its line in `kinds.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from hone.service.jobs.events import NewEvent
from hone.service.jobs.origins import Origin
from hone.service.jobs.records import Failure, Job
from hone.service.jobs.trainer import TrainingEvent
from hone.service.jobs.validation import FileField, FileReport

PreparedReport = Mapping[str, Any]
"""What `hone prepare` wrote into its `report.json`."""


class TaskKind(Protocol):
    """One task. Its methods keep nothing; Refused where the job cannot be done as asked for."""

    @property
    def name(self) -> str:
        """What a job's field `task` calls it."""

    @property
    def unprepared(self) -> Failure:
        """Why a job failed for which `hone prepare` left too little."""

    @property
    def sampled_checkpoints(self) -> bool:
        """Whether its checkpoints are published, and can be asked while the job runs."""

    def method_refusal(self, method: str, origin: Origin) -> Failure | None:
        """Return why such a base cannot be trained with a method, whatever the files hold."""

    def refusal(
        self, job: Job, origin: Origin, training: FileReport, validation: FileReport | None
    ) -> Failure | None:
        """Return why a job cannot be done with these files, which have no bad lines."""

    def recipe(self, origin: Origin) -> str:
        """Return the recipe that ships for such a base."""

    def preparation(self, origin: Origin) -> Sequence[str]:
        """Return its own options of `hone prepare`."""

    def overrides(self, job: Job, origin: Origin, report: PreparedReport) -> dict[str, Any]:
        """Return its own keys of the recipe; those that are None keep their default."""

    def notes(self, job: Job, origin: Origin, report: PreparedReport) -> Iterator[NewEvent]:
        """Yield what the client should know of how the job is done, before it begins."""

    def told(self, job: Job, event: TrainingEvent) -> Iterator[NewEvent]:
        """Yield what an event of the training means that only this task has or judges."""


def invalid_file(field: FileField, reason: str) -> Failure:
    """Return the failure of a job with a file that it cannot use."""
    kind = field.removesuffix("_file")
    message = f"The job failed due to an invalid {kind} file: {reason}"
    return Failure(f"invalid_{field}", message, field)


def unprepared(needs: str) -> Failure:
    """Return the failure of a job of whose file too little is left; `needs` says what it needs."""
    message = (
        "The job failed due to an invalid training file. Too little is left of it to train, choose "
        f"and test with: {needs}"
    )
    return Failure("invalid_training_file", message, "training_file")


def label_count(report: PreparedReport) -> int:
    """Return how many classes the prepared data have."""
    return len(report["labels"])
