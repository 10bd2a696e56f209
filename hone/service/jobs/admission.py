"""Whether a job's files can be used: reads them, and queues the job or fails it.

A service that dies in between leaves the job as it was, and the next one reads the files again.
"""

import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass

from hone.models.errors import Conflict, NotFound
from hone.service.jobs import messages
from hone.service.jobs.checking import check
from hone.service.jobs.errors import StoreFailed
from hone.service.jobs.files import Files
from hone.service.jobs.pages import Cursor
from hone.service.jobs.records import Failure, Job, Records
from hone.service.jobs.translation import file_gone
from hone.service.jobs.validation import FileField, FileReport

logger = logging.getLogger(__name__)

_KEPT_REPORTS = 8
_AT_ONCE = 20


def refusal(job: Job, training: FileReport, validation: FileReport | None) -> Failure | None:
    """Return why a job cannot be done with its files, or None."""
    failure = training.failure("training_file")
    if failure is None and validation is not None:
        failure = validation.failure("validation_file")
    if failure is not None:
        return failure
    if validation is not None and validation.form != training.form:
        message = f"its form is {validation.form}, and the training file's is {training.form}."
        return _invalid("validation_file", message)
    return _unfit(job, training)


def _unfit(job: Job, training: FileReport) -> Failure | None:
    if job.method != "supervised":
        message = f"The method `{job.method}` is not available on this server."
        return Failure("method_not_supported", message, "method")
    if training.form == "preference":
        return _invalid("training_file", "preferences are for the method `dpo`.")
    if not training.is_classification or job.given.get("task") == "generation":
        return _open_ended(job.given.get("task"))
    if len(training.labels) < 2:
        return _invalid("training_file", "all completions are the same; it needs two labels.")
    return None


def _open_ended(task: str | None) -> Failure:
    """Return why a job that is not for a classifier, by its file or by choice, is not done."""
    if task == "generation":
        message = "This server trains classifiers only: leave `task` out."
        return Failure("generation_not_supported", message, "task")
    wanted = "few distinct labels, at most one for three examples"
    if task == "classification":
        return _invalid("training_file", f"its completions are not {wanted}.")
    message = (
        "The completions are open-ended text, and this server trains classifiers only: the "
        f"completions must be {wanted}."
    )
    return Failure("generation_not_supported", message, "training_file")


def _invalid(field: FileField, reason: str) -> Failure:
    kind = field.removesuffix("_file")
    message = f"The job failed due to an invalid {kind} file: {reason}"
    return Failure(f"invalid_{field}", message, field)


@dataclass(frozen=True, slots=True)
class Admission:
    """Reads the files of jobs that wait for it, oldest job first."""

    records: Records
    files: Files

    def admit_waiting(self, stopping: threading.Event) -> int:
        """Judge the jobs that wait now, and return how many; stop between two when told."""
        cursor = Cursor(limit=_AT_ONCE, oldest_first=True)
        waiting = self.records.list_all(statuses=("validating_files",), cursor=cursor).items
        reports: OrderedDict[str, FileReport] = OrderedDict()
        for job in waiting:
            if stopping.is_set():
                break
            try:
                self._admit(job, reports)
            except StoreFailed as error:  # this one's file cannot be read; the others' can
                logger.warning("job not read", extra={"job": job.id, "reason": str(error)})
        return len(waiting)

    def _admit(self, job: Job, reports: "OrderedDict[str, FileReport]") -> None:
        failure = self._judge(job, reports)
        said = messages.validating(job)
        try:
            if failure is not None:
                said += messages.failed(job, failure)
                self.records.refuse(job.id, failure, events=said)
            else:
                said += messages.queued(job, self.records.queue_position(job.id))
                self.records.admit(job.id, events=said)
        except (Conflict, NotFound):
            return  # cancelled meanwhile, or judged by another service

    def _judge(self, job: Job, reports: "OrderedDict[str, FileReport]") -> Failure | None:
        validation, missing = None, "training_file"
        try:
            training = self._report(job.owner, job.training_file, reports)
            missing = "validation_file"
            if job.validation_file is not None:
                validation = self._report(job.owner, job.validation_file, reports)
        except NotFound:
            return file_gone(missing)
        return refusal(job, training, validation)

    def _report(self, owner: str, id_: str, reports: "OrderedDict[str, FileReport]") -> FileReport:
        file = self.files.get(owner, id_)
        if file.sha256 not in reports:
            reports[file.sha256] = check(self.files.path(owner, id_))
            if len(reports) > _KEPT_REPORTS:
                reports.popitem(last=False)
        return reports[file.sha256]
