"""The objects of the fine-tuning API as they are sent, old and new, made from the store's rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from hone.service.jobs.checkpoints import Checkpoint
from hone.service.jobs.events import Event
from hone.service.jobs.files import StoredFile
from hone.service.jobs.records import Job
from hone.service.jobs.uploads import Part, Upload
from hone.service.schemas import Body


class FileObject(Body):
    """A file."""

    id: str
    object: str = "file"
    bytes: int
    created_at: int
    expires_at: int | None = None
    filename: str
    purpose: str
    status: str = Field(examples=["processed"])
    status_details: str | None = None


class FileList(Body):
    """A page of files."""

    object: str = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedObject(Body):
    """What is said of something that is gone."""

    id: str
    object: str
    deleted: bool = True


class UploadObject(Body):
    """An upload; `file` is there once it is completed."""

    id: str
    object: str = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: str
    file: FileObject | None = None


class PartObject(Body):
    """A part of an upload."""

    id: str
    object: str = "upload.part"
    created_at: int
    upload_id: str


class JobError(Body):
    """Why a job failed; all three are null in a job that did not."""

    code: str
    message: str
    param: str | None


class JobObject(Body):
    """A fine-tuning job."""

    object: str = "fine_tuning.job"
    id: str
    model: str
    created_at: int
    finished_at: int | None
    fine_tuned_model: str | None
    organization_id: str
    result_files: list[str]
    status: str = Field(examples=["queued"])
    training_file: str
    validation_file: str | None
    trained_tokens: int | None
    estimated_finish: int | None
    seed: int
    error: JobError | None
    hyperparameters: dict[str, Any]
    integrations: list[Any]
    metadata: dict[str, str] | None
    method: dict[str, Any]


class JobList(Body):
    """A page of jobs."""

    object: str = "list"
    data: list[JobObject]
    has_more: bool


class EventObject(Body):
    """An event of a job."""

    object: str = "fine_tuning.job.event"
    id: str
    created_at: int
    level: str
    message: str
    type: str
    data: dict[str, Any] | None


class EventList(Body):
    """A page of events, newest first."""

    object: str = "list"
    data: list[EventObject]
    has_more: bool


class CheckpointObject(Body):
    """A checkpoint of a job."""

    object: str = "fine_tuning.job.checkpoint"
    id: str
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    metrics: dict[str, Any]
    step_number: int


class CheckpointList(Body):
    """A page of checkpoints, newest first."""

    object: str = "list"
    data: list[CheckpointObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FineTuneEvent(Body):
    """An event of a legacy job."""

    object: str = "fine-tune-event"
    level: str
    message: str
    created_at: int


class FineTune(Body):
    """A legacy job; `events` is null in lists."""

    object: str = "fine-tune"
    id: str
    model: str
    created_at: int
    updated_at: int
    organization_id: str
    status: str = Field(examples=["pending"])
    fine_tuned_model: str | None
    hyperparams: dict[str, Any]
    training_files: list[FileObject]
    validation_files: list[FileObject]
    result_files: list[FileObject]
    events: list[FineTuneEvent] | None = None


class FineTuneList(Body):
    """All legacy jobs."""

    object: str = "list"
    data: list[FineTune]


class FineTuneEventList(Body):
    """All events of a legacy job, oldest first."""

    object: str = "list"
    data: list[FineTuneEvent]


_LEGACY_STATUS = {"validating_files": "pending", "queued": "pending", "paused": "pending"}
_MODERN_HYPERPARAMETERS = ("n_epochs", "batch_size", "learning_rate_multiplier")


def file_object(file: StoredFile) -> FileObject:
    """Return a file as it is sent."""
    return FileObject(
        id=file.id,
        bytes=file.bytes,
        created_at=file.created_at,
        expires_at=file.expires_at,
        filename=file.filename,
        purpose=file.purpose,
        status=file.status if file.deleted_at is None else "deleted",
        status_details=file.status_details,
    )


def upload_object(upload: Upload, file: StoredFile | None = None) -> UploadObject:
    """Return an upload as it is sent."""
    return UploadObject(
        id=upload.id,
        bytes=upload.bytes,
        created_at=upload.created_at,
        expires_at=upload.expires_at,
        filename=upload.filename,
        purpose=upload.purpose,
        status=upload.status,
        file=None if file is None else file_object(file),
    )


def part_object(part: Part) -> PartObject:
    """Return a part as it is sent."""
    return PartObject(id=part.id, created_at=part.created_at, upload_id=part.upload_id)


def _status(job: Job) -> str:
    """Return a job's status as its owner sees it.

    A running job whose cancel was accepted is cancelled, whatever its process still does: nothing
    else can come of it.
    """
    return "cancelled" if job.wish == "cancel" else job.status


def job_object(job: Job) -> JobObject:
    """Return a modern job as it is sent: what "auto" stands for is shown once it is settled."""
    known = {**job.given, **(job.settled or {})}
    hyperparameters = {name: known.get(name, "auto") for name in _MODERN_HYPERPARAMETERS}
    of_method = {**hyperparameters}
    if job.method == "dpo":
        of_method["beta"] = known.get("beta", "auto")
    error = job.error
    return JobObject(
        id=job.id,
        model=job.model,
        created_at=job.created_at,
        finished_at=job.finished_at,
        fine_tuned_model=job.fine_tuned_model,
        organization_id=job.owner,
        result_files=job.result_files,
        status=_status(job),
        training_file=job.training_file,
        validation_file=job.validation_file,
        trained_tokens=job.trained_tokens,
        estimated_finish=job.estimated_finish if _status(job) == "running" else None,
        seed=job.seed,
        error=error and JobError(code=error.code, message=error.message, param=error.param),
        hyperparameters=hyperparameters,
        integrations=job.integrations or [],
        metadata=job.metadata,
        method={"type": job.method, job.method: {"hyperparameters": of_method}},
    )


def event_object(event: Event) -> EventObject:
    """Return a modern event as it is sent."""
    return EventObject(
        id=event.id,
        created_at=event.created_at,
        level=event.level,
        message=event.message,
        type=event.type,
        data=event.data,
    )


def checkpoint_object(checkpoint: Checkpoint) -> CheckpointObject:
    """Return a checkpoint as it is sent."""
    return CheckpointObject(
        id=checkpoint.id,
        created_at=checkpoint.created_at,
        fine_tuned_model_checkpoint=checkpoint.model,
        fine_tuning_job_id=checkpoint.job_id,
        metrics=checkpoint.metrics,
        step_number=checkpoint.step,
    )


def fine_tune_event(event: Event) -> FineTuneEvent:
    """Return a legacy event as it is sent."""
    return FineTuneEvent(level=event.level, message=event.message, created_at=event.created_at)


def fine_tune(
    job: Job, files: Mapping[str, StoredFile], events: Sequence[Event] | None = None
) -> FineTune:
    """Return a legacy job as it is sent; `files` are those that it names, by their ids."""

    def named(*ids: str | None) -> list[FileObject]:
        return [file_object(files[id_]) for id_ in ids if id_ is not None and id_ in files]

    return FineTune(
        id=job.id,
        model=job.model,
        created_at=job.created_at,
        updated_at=job.updated_at,
        organization_id=job.owner,
        status=_LEGACY_STATUS.get(_status(job), _status(job)),
        fine_tuned_model=job.fine_tuned_model,
        hyperparams=_hyperparams(job),
        training_files=named(job.training_file),
        validation_files=named(job.validation_file),
        result_files=named(*job.result_files),
        events=None if events is None else [fine_tune_event(event) for event in events],
    )


def _hyperparams(job: Job) -> dict[str, Any]:
    """Return what was given, and what was settled of what was not; null before that."""
    open_ones = dict.fromkeys(("n_epochs", "batch_size", "learning_rate_multiplier"))
    given = {name: value for name, value in job.given.items() if name != "task"}
    return {**open_ones, **given, **(job.settled or {})}
