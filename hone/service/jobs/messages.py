"""What a job's events say, in the words that clients of either API know.

Programs read some of them: the legacy command line prints them, and scripts look for the model's
name behind the colon.
"""

from hone.service.jobs.events import NewEvent
from hone.service.jobs.records import Failure, Job


def created(job: Job) -> list[NewEvent]:
    """Return the first event, for whoever creates the job."""
    kind = "fine-tuning job" if job.flavour == "modern" else "fine-tune"
    return [NewEvent(f"Created {kind}: {job.id}")]


def validating(job: Job) -> list[NewEvent]:
    """Return what is said when the files are about to be read."""
    if job.flavour == "legacy":
        return []
    both = f" and validation file: {job.validation_file}" if job.validation_file else ""
    return [NewEvent(f"Validating training file: {job.training_file}{both}")]


def queued(job: Job, ahead: int) -> list[NewEvent]:
    """Return what is said when the files were found good; `ahead` jobs are done before."""
    if job.flavour == "modern":
        return [NewEvent("Files validated, moving job to queued state")]
    number = f"Queue number: {ahead}"
    return [NewEvent("Fine-tune costs $0.00"), NewEvent(f"Fine-tune enqueued. {number}")]


def started(job: Job) -> list[NewEvent]:
    """Return what is said when a worker begins, or goes on."""
    what = "started" if job.token == 1 else "resumed"
    if job.flavour == "modern":
        return [NewEvent(f"Fine-tuning job {what}")]
    return [NewEvent(f"Fine-tune {what}")]


def validation_ignored() -> list[NewEvent]:
    """Return what is said where the validation file has the training file's content."""
    message = (
        "The validation file has the content of the training file and is not used: a part of the "
        "training examples is held out instead"
    )
    return [NewEvent(message, level="warn")]


def given_up(job: Job) -> list[NewEvent]:
    """Return what is said of a job that its worker gave up, by what it has become."""
    legacy = job.flavour == "legacy"
    match job.status:
        case "cancelled":
            return cancelled(job)
        case "paused":
            return [NewEvent("Fine-tune paused" if legacy else "The job has been paused")]
        case _:
            what = "Fine-tune" if legacy else "The job"
            message = f"{what} was interrupted and is queued again; it goes on where it was"
            return [NewEvent(message, level="warn")]


def cancelled(job: Job) -> list[NewEvent]:
    """Return the last event of a cancelled job."""
    legacy = job.flavour == "legacy"
    return [NewEvent("Fine-tune cancelled" if legacy else "The job has been cancelled")]


def published(job: Job, model: str) -> list[NewEvent]:
    """Return what is said when there is a model."""
    if job.flavour == "legacy":
        return [NewEvent(f"Uploaded model: {model}")]
    return [NewEvent(f"New fine-tuned model created: {model}")]


def result_file(job: Job, id_: str) -> list[NewEvent]:
    """Return what is said of the result file."""
    return [NewEvent(f"Uploaded result file: {id_}")] if job.flavour == "legacy" else []


def succeeded(job: Job) -> list[NewEvent]:
    """Return the last event of a job with a model."""
    legacy = job.flavour == "legacy"
    message = "Fine-tune succeeded" if legacy else "The job has successfully completed"
    return [NewEvent(message)]


def without_model(job: Job, failure: Failure) -> list[NewEvent]:
    """Return the last event of a job that has failed, or was cancelled before it could be said."""
    return cancelled(job) if job.status == "cancelled" else failed(job, failure)


def failed(job: Job, failure: Failure) -> list[NewEvent]:
    """Return the last event of a job without one."""
    if job.flavour == "modern":
        return [NewEvent(failure.message, level="error")]
    tail = f"Fine-tune failed. Whoever can help needs the fine-tune ID: {job.id}"
    return [NewEvent(f"{failure.message} {tail}", level="error")]
