"""Whether a job's files can be used by its base: reads them, and queues the job or fails it.

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
from hone.service.jobs.origins import Origin, Refused, Store, find_origin
from hone.service.jobs.pages import Cursor
from hone.service.jobs.records import Failure, Job, Records
from hone.service.jobs.tasks.contract import invalid_file
from hone.service.jobs.tasks.kinds import KINDS
from hone.service.jobs.translation import file_gone
from hone.service.jobs.validation import FileReport

logger = logging.getLogger(__name__)

_KEPT_REPORTS = 8
_AT_ONCE = 20


def refusal(
    job: Job, origin: Origin, training: FileReport, validation: FileReport | None
) -> Failure | None:
    """Return why a job cannot be done with its base and its files, or None."""
    failure = training.failure("training_file")
    if failure is None and validation is not None:
        failure = validation.failure("validation_file")
    if failure is not None:
        return failure
    if validation is not None and not _go_together(training, validation):
        message = f"its form is {validation.form}, and the training file's is {training.form}."
        return invalid_file("validation_file", message)
    return _unfit(job, origin, training, validation)


def _go_together(training: FileReport, validation: FileReport) -> bool:
    """Whether two files may train and validate one model: pictures come in several forms."""
    both_pictures = training.of_pictures and validation.of_pictures
    return both_pictures or validation.form == training.form


def _unfit(
    job: Job, origin: Origin, training: FileReport, validation: FileReport | None
) -> Failure | None:
    """Return why the base cannot learn what the files teach, or what the client says they do."""
    kind = KINDS[origin.task]
    asked = job.given.get("task", kind.name)
    if asked != kind.name:
        message = f"The base `{origin.name}` is for the task `{kind.name}`, not for `{asked}`."
        return Failure(f"{asked}_not_supported", message, "task")
    return kind.refusal(job, origin, training, validation)


@dataclass(frozen=True, slots=True)
class Admission:
    """Reads the files of jobs that wait for it, oldest job first."""

    records: Records
    files: Files
    store: Store

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
        try:
            origin = find_origin(job, self.store)
        except Refused as refused:
            return refused.failure
        return refusal(job, origin, training, validation)

    def _report(self, owner: str, id_: str, reports: "OrderedDict[str, FileReport]") -> FileReport:
        file = self.files.get(owner, id_)
        if file.sha256 not in reports:
            path = self.files.path(owner, id_)
            reports[file.sha256] = check(path, self.store.settings.archive_bounds)
            if len(reports) > _KEPT_REPORTS:
                reports.popitem(last=False)
        return reports[file.sha256]
