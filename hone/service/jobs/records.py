"""Fine-tuning jobs as their owners see them: create, list, get, cancel, pause, resume, delete.

    validating_files -> queued -> running -> succeeded, failed
    validating_files -> failed
    queued <-> paused
    validating_files, queued, paused -> cancelled

A running job can only be given a wish, to cancel or to pause: its worker hears of it by the next
heartbeat, stops, and puts the job back as wished. A cancel that was accepted is never outdone: such
a job ends as cancelled, whatever its training does meanwhile. Who works on a job is in `claims.py`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, exists, func, insert, select, update

from hone.models.errors import Conflict, Overloaded
from hone.service.jobs.database import Database
from hone.service.jobs.events import NewEvent, append, no_job
from hone.service.jobs.ids import Clock, new_id, unix_seconds
from hone.service.jobs.pages import FIRST_PAGE, Cursor, Page, columns_of, read_page, read_rows
from hone.service.jobs.tables import jobs, storable

Flavour = Literal["modern", "legacy"]
Status = Literal[
    "validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"
]
Wish = Literal["cancel", "pause"]

WAITING: tuple[Status, ...] = ("validating_files", "queued")
UNFINISHED: tuple[Status, ...] = (*WAITING, "running", "paused")
OVER: tuple[Status, ...] = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class NewJob:
    """What is asked for. `given` holds the hyperparameters and options as the client sent them."""

    owner: str
    flavour: Flavour
    model: str
    training_file: str
    seed: int
    validation_file: str | None = None
    method: str = "supervised"
    given: Mapping[str, Any] | None = None
    integrations: Sequence[Any] | None = None
    suffix: str | None = None
    metadata: Mapping[str, str] | None = None
    status: Literal["validating_files", "queued"] = "queued"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed: a stable word, a sentence, and the field that is to blame."""

    code: str
    message: str
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job's row. Times are Unix seconds.

    `settled` holds the hyperparameters that were used in place of "auto"; `store_model` is the name
    that only this job publishes under; `attempts` counts the claims in a row whose worker never
    said how it ended.
    """

    id: str
    owner: str
    flavour: Flavour
    model: str
    training_file: str
    validation_file: str | None
    method: str
    given: dict[str, Any]
    settled: dict[str, Any] | None
    integrations: list[Any] | None
    seed: int
    suffix: str | None
    metadata: dict[str, str] | None
    status: Status
    wish: Wish | None
    error_code: str | None
    error_message: str | None
    error_param: str | None
    store_model: str
    fine_tuned_model: str | None
    result_files: list[str]
    trained_tokens: int | None
    token: int
    worker: str | None
    heartbeat: int
    attempts: int
    created_at: int
    updated_at: int
    started_at: int | None
    finished_at: int | None
    estimated_finish: int | None

    @property
    def error(self) -> Failure | None:
        """Why it failed, if it did."""
        if self.error_code is None:
            return None
        return Failure(self.error_code, self.error_message or "", self.error_param)


JOB_COLUMNS = columns_of(Job, jobs)

AlsoInsert = Callable[[Connection, Job], None]
"""Something to do in the transaction that inserts the row: both happen, or neither."""


class Records:
    """The jobs of all owners."""

    def __init__(self, database: Database, *, clock: Clock = time.time) -> None:
        self._database, self._clock = database, clock

    def create(
        self,
        new: NewJob,
        *,
        events: Sequence[NewEvent] = (),
        most_unfinished: int | None = None,
        also: AlsoInsert | None = None,
    ) -> Job:
        """Add a job. Overloaded if the owner already has `most_unfinished` that are not over."""
        now = unix_seconds(self._clock)
        with self._database.writing() as connection:
            if most_unfinished is not None:
                self._database.lock(connection, f"jobs of {new.owner}")
                _check_room(connection, new.owner, most_unfinished)
            added = insert(jobs).values(**_values(new, now)).returning(*JOB_COLUMNS)
            job = Job(**connection.execute(added).mappings().one())
            append(connection, job.id, events, now)
            if also is not None:
                also(connection, job)
        self._database.bell.ring()
        return job

    def get(self, owner: str, id_: str) -> Job:
        """Return an owner's job; NotFound if it has none of this id."""
        with self._database.reading() as connection:
            return _read(connection, id_, jobs.c.owner == owner)

    def find(self, id_: str) -> Job:
        """Return anybody's job, for the runner and the operator; NotFound."""
        with self._database.reading() as connection:
            return _read(connection, id_)

    def list(
        self,
        owner: str,
        *,
        flavour: Flavour | None = None,
        metadata: Mapping[str, str] | None = None,
        cursor: Cursor = FIRST_PAGE,
    ) -> Page[Job]:
        """Return a page of an owner's jobs that have all of `metadata`, newest first."""
        shown = [jobs.c.deleted_at.is_(None), *self._having(metadata or {})]
        if flavour is not None:
            shown.append(jobs.c.flavour == flavour)
        mine = [jobs.c.owner == owner]
        with self._database.reading() as connection:
            return read_page(connection, Job, jobs, cursor, mine=mine, shown=shown)

    def list_all(
        self, *, statuses: Sequence[Status] | None = None, cursor: Cursor = FIRST_PAGE
    ) -> Page[Job]:
        """Return a page of everybody's jobs, for the runner and the operator."""
        shown = [jobs.c.deleted_at.is_(None)]
        if statuses is not None:
            shown.append(jobs.c.status.in_(statuses))
        with self._database.reading() as connection:
            return read_page(connection, Job, jobs, cursor, mine=[], shown=shown)

    def queue_position(self, id_: str) -> int:
        """Return how many jobs must be claimed before this one; 0 if it does not wait."""
        with self._database.reading() as connection:
            row = connection.execute(
                select(jobs.c.number, jobs.c.status).where(jobs.c.id == id_)
            ).one_or_none()
            if row is None:
                raise no_job()
            if row.status not in WAITING:
                return 0
            ahead = (jobs.c.status.in_(WAITING), jobs.c.number < row.number)
            counted = select(func.count()).select_from(jobs).where(*ahead)
            return int(connection.scalar(counted) or 0)

    def cancel(self, owner: str, id_: str, *, events: Sequence[NewEvent] = ()) -> Job:
        """End a job, or wish that its worker does. Conflict if it is over.

        `events` are added only where the job is ended at once.
        """
        return self._step(owner, id_, _cancelled, events)

    def pause(self, owner: str, id_: str, *, events: Sequence[NewEvent] = ()) -> Job:
        """Hold a job, or wish that its worker does. Conflict if it neither waits nor runs."""
        return self._step(owner, id_, _paused, events)

    def resume(self, owner: str, id_: str, *, events: Sequence[NewEvent] = ()) -> Job:
        """Queue a paused job again, or take a wish to pause back. Conflict for another one."""
        return self._step(owner, id_, _resumed, events)

    def admit(self, id_: str, *, events: Sequence[NewEvent] = ()) -> Job:
        """Queue a job whose files were found good. Conflict if it is not being validated."""
        return self._step(None, id_, _admitted, events)

    def refuse(self, id_: str, failure: Failure, *, events: Sequence[NewEvent] = ()) -> Job:
        """Fail a job whose files cannot be used. Conflict if it is not being validated."""
        return self._step(None, id_, lambda job, now: _refused(job, now, failure), events)

    def delete(self, owner: str, id_: str) -> None:
        """Delete a job that is over; Conflict for another one."""
        self._step(owner, id_, _deleted, ())

    def _step(self, owner: str | None, id_: str, step: "Step", events: Sequence[NewEvent]) -> Job:
        """Change a job that nobody else can change meanwhile."""
        now = unix_seconds(self._clock)
        mine = [] if owner is None else [jobs.c.owner == owner]
        with self._database.writing() as connection:
            job = _read(connection, id_, *mine, lock=True)
            changes = step(job, now)
            if not changes:
                return job
            changed = update(jobs).where(jobs.c.id == id_).values(updated_at=now, **changes)
            row = connection.execute(changed.returning(*JOB_COLUMNS)).mappings().one()
            if "status" in changes:
                append(connection, id_, events, now)
        self._database.bell.ring()
        return Job(**row)

    def _having(self, metadata: Mapping[str, str]) -> Sequence[ColumnElement[bool]]:
        each = func.json_each if self._database.is_sqlite else func.jsonb_each_text
        conditions = []
        for key, value in metadata.items():
            pairs = each(jobs.c.metadata).table_valued("key", "value")
            same = (pairs.c.key == storable(key), pairs.c.value == storable(value))
            conditions.append(exists().where(*same))
        return conditions


Step = Callable[[Job, int], dict[str, Any]]
"""From a job and the time to the columns that change; none if it is already so."""


def _cancelled(job: Job, now: int) -> dict[str, Any]:
    if job.status not in UNFINISHED:
        raise Conflict(f"the job is {job.status}; it cannot be cancelled any more")
    if job.status == "running":
        return {} if job.wish == "cancel" else {"wish": "cancel"}
    return {"status": "cancelled", "finished_at": now}


def _paused(job: Job, _: int) -> dict[str, Any]:
    if job.status not in ("queued", "running") or job.wish == "cancel":
        state = "being cancelled" if job.wish == "cancel" else job.status
        raise Conflict(f"the job is {state}; it cannot be paused")
    if job.status == "running":
        return {} if job.wish == "pause" else {"wish": "pause"}
    return {"status": "paused"}


def _resumed(job: Job, _: int) -> dict[str, Any]:
    if job.status == "running" and job.wish == "pause":
        return {"wish": None}
    if job.status != "paused":
        state = "being cancelled" if job.wish == "cancel" else job.status
        raise Conflict(f"the job is {state}; only a paused one can be resumed")
    return {"status": "queued"}


def _admitted(job: Job, _: int) -> dict[str, Any]:
    _must_be_validating(job)
    return {"status": "queued"}


def _refused(job: Job, now: int, failure: Failure) -> dict[str, Any]:
    _must_be_validating(job)
    return {"status": "failed", "finished_at": now, **error_columns(failure)}


def _must_be_validating(job: Job) -> None:
    if job.status != "validating_files":
        raise Conflict(f"the job is {job.status} and no longer being validated")


def _deleted(job: Job, now: int) -> dict[str, Any]:
    if job.wish == "cancel":
        raise Conflict("the job is still being cancelled; delete it in some seconds")
    if job.status in UNFINISHED:
        raise Conflict(f"the job is {job.status}; cancel it before deleting it")
    return {"deleted_at": now}


def error_columns(failure: Failure) -> dict[str, str | None]:
    """Return the columns of a failed job that say why."""
    return {f"error_{field.name}": getattr(failure, field.name) for field in fields(failure)}


def _read(connection: Connection, id_: str, *mine: ColumnElement[bool], lock: bool = False) -> Job:
    living = (jobs.c.id == id_, jobs.c.deleted_at.is_(None), *mine)
    found = select(*JOB_COLUMNS).where(*living)
    rows = read_rows(connection, Job, found.with_for_update() if lock else found)
    if not rows:
        raise no_job()
    return rows[0]


def _check_room(connection: Connection, owner: str, most: int) -> None:
    mine = (jobs.c.owner == owner, jobs.c.status.in_(UNFINISHED), jobs.c.deleted_at.is_(None))
    count = connection.scalar(select(func.count()).select_from(jobs).where(*mine)) or 0
    if count >= most:
        message = f"this key's owner has {count} unfinished jobs, and may have {most}"
        raise Overloaded(message, retry_after_s=60)


def _values(new: NewJob, now: int) -> dict[str, Any]:
    id_ = new_id("ftjob-" if new.flavour == "modern" else "ft-")
    asked = {field.name: getattr(new, field.name) for field in fields(new)}
    return {
        **asked,
        "id": id_,
        "given": dict(new.given or {}),
        "metadata": None if new.metadata is None else dict(new.metadata),
        "integrations": None if new.integrations is None else [*new.integrations],
        "store_model": id_,
        "result_files": [],
        "token": 0,
        "heartbeat": 0,
        "attempts": 0,
        "last_event": 0,
        "created_at": now,
        "updated_at": now,
    }
