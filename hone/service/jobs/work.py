"""One claimed job, from its claim to its end: a machine whose `turn` never waits.

    waiting -> preparing -> waiting -> training -> waiting -> over
                                                   (published: succeeded)

Whenever no process runs, the store is asked first whether the job's own name has a version. If so
the job is done, whoever published it; nothing is trained a second time. The question is asked while
the lock of the job's folder is held, which a process takes over: on this machine nobody else can
be about to publish.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from hone.models.errors import HoneError, NotFound
from hone.models.names import checkpoints_of
from hone.service.jobs import messages
from hone.service.jobs.claims import Claim, Claims, NewModel, Progress
from hone.service.jobs.errors import CancelWished, DiskFull, LeaseLost, NameTaken, StoreFailed
from hone.service.jobs.events import NewEvent
from hone.service.jobs.files import Files, NewFile
from hone.service.jobs.hyperparameters import betas
from hone.service.jobs.incoming import Incoming
from hone.service.jobs.leftovers import remove_all_versions
from hone.service.jobs.naming import model_name
from hone.service.jobs.origins import Origin, Refused, Store, find_origin
from hone.service.jobs.plan import notes, prepare_command, train_command
from hone.service.jobs.records import Failure, Job, Wish
from hone.service.jobs.results import LEGACY_NAME, MODERN_NAME, legacy_csv, modern_csv
from hone.service.jobs.tasks.kinds import KINDS
from hone.service.jobs.trainer import Command, EventTail, Trainer, folder_lock
from hone.service.jobs.translation import (
    DISK_FULL,
    SERVER_ERROR,
    SERVER_LOST,
    Ending,
    Stage,
    Translator,
    file_gone,
)
from hone.service.jobs.workplace import workplace

logger = logging.getLogger(__name__)

_INTERRUPTED = frozenset({75, -15, -2, 128 + 15})
"""Exit statuses of a process that somebody asked to end, and that can go on."""

_MOST_NAMES = 16


@dataclass(frozen=True, slots=True)
class Desk:
    """What the work on every job needs."""

    claims: Claims
    files: Files
    store: Store
    state: Path
    on_published: Callable[[str, int], None] = lambda _model, _version: None
    """Called with a bundle's name and version, after its job has succeeded."""


@dataclass
class Work:
    """The work on one claimed job. All its methods belong to one thread, which starts processes."""

    claim: Claim
    desk: Desk
    monotonic: Callable[[], float] = time.monotonic
    over: bool = False
    trouble: str = ""
    """What the store said when it could not be used, last time; for the log."""

    _warnings: list[NewEvent] = field(default_factory=list)
    _begun: bool = False
    _failure: Failure | None = None
    _wish: Wish | None = None
    _leaving: bool = False
    _lost: bool = False
    _trainer: Trainer | None = None
    _stage: Stage = "prepare"
    _kills: int = 0
    _killed_at: int = 0
    _last_beat: float | None = None
    _origin: Origin = field(init=False)
    _translator: Translator = field(init=False)

    def __post_init__(self) -> None:
        self._settings = self.desk.store.settings
        self._place = workplace(self.desk.state, self.claim.job.id)
        self._tail = EventTail(self._place.events)

    @property
    def job(self) -> Job:
        """The job as it was claimed."""
        return self.claim.job

    def _begin(self) -> None:
        """Look at what is there already; a job that cannot be done is failed."""
        if self.job.attempts > self._settings.most_attempts:
            self._fail(SERVER_LOST)
            return
        try:
            self._origin = find_origin(self.job, self.desk.store)
            self._make_place()
        except Refused as refused:
            self._fail(refused.failure)
            return
        except DiskFull:
            self._fail(DISK_FULL)
            return
        except StoreFailed:
            logger.exception("a job cannot be begun", extra={"job": self.job.id})
            self._fail(SERVER_ERROR)
            return
        name = model_name(self.job, self._origin.name, time.time())
        self._translator = Translator(self.job, name, KINDS[self._origin.task])
        self._translator.feed(self._tail.read(), told_before=True)
        self._translator.say([*messages.started(self.job), *self._warnings])
        self._begun = True

    def turn(self) -> None:
        """Do what can be done now without waiting. HoneErrors of the store: try again later."""
        if self._failure is not None:
            self._fail(self._failure)
            return
        if not self._begun:
            self._begin()
            return
        self._translator.feed(self._tail.read())
        try:
            self._beat()
        finally:
            if self._trainer is not None:  # also while the store cannot be used
                self._watch(self._trainer)
        if self._lost and self._trainer is None:
            self.over = True
        elif self._trainer is None and self._failure is None:
            self._go_on()

    def leave(self) -> None:
        """Ask for the end of the work, the job going back to the queue."""
        self._leaving = True

    def abandon(self) -> None:
        """End the process at once; what becomes of the job is for others to say."""
        if self._trainer is not None:
            self._trainer.kill()
        self.over = True

    def give_up(self) -> None:
        """Fail the job for a fault of the service's own."""
        self.abandon()
        with suppress(HoneError):
            self._fail(SERVER_ERROR)

    def _make_place(self) -> None:
        job, files = self.job, self.desk.files
        if self._place.training.exists():
            return  # by an earlier worker; the files may have been deleted since
        validation, missing = None, "training_file"
        try:
            training = files.path(job.owner, job.training_file)
            missing = "validation_file"
            if job.validation_file is not None:
                validation = files.path(job.owner, job.validation_file)
        except NotFound:
            raise Refused(file_gone(missing)) from None
        if validation == training:  # after the removal of duplicates it could only be empty
            validation = None
            self._warnings = messages.validation_ignored()
        self._place.make(training, validation)

    def _beat(self) -> None:
        """Tell what there is to tell, hear what the owner wishes, and stop if the job is lost."""
        now = self.monotonic()
        due = self._last_beat is None or now - self._last_beat >= self._settings.heartbeat_s
        if self._lost or not due:
            return
        self._last_beat = now
        progress = self._translator.take()
        try:
            self._wish = self.desk.claims.heartbeat(self.claim, progress)
        except LeaseLost:
            self._lose()
        except HoneError:
            self._translator.put_back(progress)
            raise

    def _lose(self) -> None:
        logger.warning("job lost to another worker", extra={"job": self.job.id})
        self._lost = True
        if self._trainer is not None:
            self._trainer.stop(self._settings.stop_grace_s)

    @property
    def _shall_stop(self) -> bool:
        return self._leaving or self._lost or self._wish is not None

    def _watch(self, trainer: Trainer) -> None:
        if self._shall_stop:
            trainer.stop(self._settings.stop_grace_s)
        status = trainer.poll()
        if status is None:
            return
        self._trainer = None
        self._translator.feed(self._tail.read())
        if not trainer.stop_asked and not (status == 0 and self._has_result()):
            self._take_ending(Ending(self._stage, status, trainer.errors()))

    def _has_result(self) -> bool:
        """Whether what the last process was for is there."""
        if self._stage == "prepare":
            return self._place.is_prepared
        return self._published() is not None

    def _take_ending(self, ending: Ending) -> None:
        """Judge a process that ended by itself without having done what it was for."""
        extra = {"job": self.job.id, "stage": ending.stage, "status": ending.status}
        logger.warning("training process ended", extra={**extra, "stderr": ending.errors[-2000:]})
        if ending.status in _INTERRUPTED or self._published() is not None:
            self._leaving = True
        elif ending.was_killed and self._may_go_on():
            self._translator.say([NewEvent("The training was killed and goes on", level="warn")])
        else:
            self._fail(self._translator.failure(ending))

    def _may_go_on(self) -> bool:
        """Whether a killed process is started again: not if it is killed without any progress."""
        step = self._translator.found.last()[0]
        self._kills = self._kills + 1 if step <= self._killed_at else 1
        self._killed_at = max(step, self._killed_at)
        return self._kills < self._settings.most_kills

    def _go_on(self) -> None:
        """Take the next step, with no process running."""
        with folder_lock(self._place.folder) as lock:
            if lock is None:  # an earlier process of this job is still about to end
                if self._shall_stop:
                    self._put_back()
                return
            version = self._published()
            if version is not None and self._wish == "cancel":
                self._unpublish(version)
                self._put_back()
            elif version is not None:
                self._succeed(version)
            elif self._shall_stop:
                self._put_back()
            else:
                self._start(lock)

    def _start(self, lock: int) -> None:
        job, place = self.job, self._place
        self._stage = "train" if place.is_prepared else "prepare"
        try:
            if self._stage == "prepare":
                argv = prepare_command(job, self._origin, place)
            else:
                argv = train_command(job, self._origin, place, self.desk.store)
                if not self._translator.found.rows:
                    self._translator.say(notes(job, self._origin, place.report()))
            threads, nice = self._settings.trainer_threads, self._settings.nice
            self._trainer = Trainer.start(Command(argv, place.folder, threads, nice), lock)
        except Refused as refused:
            self._fail(refused.failure)
        except DiskFull:
            self._fail(DISK_FULL)
        except StoreFailed:
            logger.exception("a job's folder cannot be used", extra={"job": job.id})
            self._fail(SERVER_ERROR)

    def _published(self) -> int | None:
        """Return the first version under the job's own name."""
        try:
            return self.desk.store.registry.listing(self.job.store_model).versions[0]
        except NotFound:
            return None

    def _unpublish(self, version: int) -> None:
        """Take back what was published while the wish to cancel was on its way; nobody knows it."""
        try:
            self.desk.store.registry.remove(self.job.store_model, version)
        except OSError as error:
            raise StoreFailed("the cancelled job's bundle cannot be removed") from error

    def _succeed(self, version: int) -> None:
        """Record the model and the result file, and all that is left to say, in one transaction."""
        content = self._results()
        with self.desk.files.incoming() as incoming:
            incoming.write(content)
            incoming.flush()
            try:
                self._record(version, incoming)
            except LeaseLost:
                self._lose()
                return
            except CancelWished:  # the next turn takes back what was published
                self._wish = "cancel"
                return
        self.over = True
        self._place.forget()
        try:
            self.desk.on_published(self.job.store_model, version)
        except Exception:
            # Somebody else's code; the job is done, whatever it does with the news.
            logger.exception("nobody took the new model", extra={"job": self.job.id})

    def _record(self, version: int, results: Incoming) -> None:
        """Try names until one is free; an insert that was undone has moved nothing yet."""
        now = time.time()
        for taken in range(_MOST_NAMES):
            name = model_name(self.job, self._origin.name, now, taken=taken)
            try:
                self._record_as(name, version, results)
            except NameTaken:
                continue
            return
        raise NameTaken("no free name was found for a fine-tuned model")

    def _record_as(self, name: str, version: int, results: Incoming) -> None:
        told = self._translator.take()
        events = [*told.events, *messages.published(self.job, name)]
        kind = LEGACY_NAME if self.job.flavour == "legacy" else MODERN_NAME
        new = NewFile(self.job.owner, "fine-tune-results", kind, status="processed")

        def insert(connection: Connection) -> list[str]:
            # Called before the events are written, so that they can name the file.
            stored = self.desk.files.insert(connection, results, new)
            events.extend(messages.result_file(self.job, stored.id))
            events.extend(messages.succeeded(self.job))
            return [stored.id]

        progress = Progress(
            events=events,
            checkpoints=told.checkpoints,
            trained_tokens=self._translator.trained_tokens,
            settled=told.settled,
        )
        model = NewModel(name, base=self._origin.name, store_version=version)
        try:
            self.desk.claims.succeed(self.claim, model, result_files=insert, progress=progress)
        except HoneError:
            self._translator.put_back(told)
            raise

    def _results(self) -> bytes:
        found = self._translator.found
        if self.job.flavour == "modern":
            return modern_csv(found)
        classes = bool(self.job.given.get("compute_classification_metrics"))
        one_token = self._origin.task != "text-generation"
        return legacy_csv(found, classes=classes, betas=betas(self.job), one_token=one_token)

    def _put_back(self) -> None:
        try:
            if not self._lost:
                self._tell_rest()
                job = self.desk.claims.put_back(self.claim, events=messages.given_up)
                if job.status == "cancelled":
                    self._forget_all()
        except LeaseLost:
            self._lose()
        self.over = True

    def _forget_all(self) -> None:
        """Remove what a job without a model has left; what cannot be, the sweep removes."""
        self._place.forget()
        with suppress(HoneError, OSError):
            remove_all_versions(self.desk.store.registry, checkpoints_of(self.job.store_model))

    def _tell_rest(self) -> None:
        progress = self._translator.take()
        try:
            self.desk.claims.heartbeat(self.claim, progress)
        except HoneError:
            self._translator.put_back(progress)
            raise

    def _fail(self, failure: Failure) -> None:
        """End the job without a model; if the store cannot take it now, the next turn tries."""
        self._failure = failure
        try:
            events = partial(messages.without_model, failure=failure)
            self.desk.claims.fail(self.claim, failure, events=events)
            self._forget_all()
        except LeaseLost:
            self._lose()
        self.over = True
