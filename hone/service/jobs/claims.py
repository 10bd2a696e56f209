"""Who works on a job: claims with fencing tokens.

A claim raises the job's `token` in one UPDATE, and whatever its holder writes afterwards is guarded
by that token: a worker that was stopped for too long, and whose job another one has taken, changes
no row any more. Whether a worker lives is judged by its heartbeat counter and the observer's own
monotonic clock, never by times that somebody wrote down.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, func, insert, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from hone.service.jobs import checkpoints as checkpointing
from hone.service.jobs.checkpoints import NewCheckpoint
from hone.service.jobs.database import Database
from hone.service.jobs.errors import CancelWished, LeaseLost, NameTaken
from hone.service.jobs.events import NewEvent, append
from hone.service.jobs.ids import Clock, unix_seconds
from hone.service.jobs.records import JOB_COLUMNS, Failure, Job, Wish, error_columns
from hone.service.jobs.tables import fine_tuned_models, jobs


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on a job until somebody else's token is higher."""

    job: Job

    @property
    def token(self) -> int:
        """The fencing token: higher with each claim of the same job."""
        return self.job.token


@dataclass(frozen=True, slots=True)
class Progress:
    """What a worker has to tell with a heartbeat; what is None stays as it was."""

    events: Sequence[NewEvent] = ()
    checkpoints: Sequence[NewCheckpoint] = ()
    trained_tokens: int | None = None
    estimated_finish: int | None = None
    settled: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class NewModel:
    """A published bundle and the id under which the API offers it."""

    id: str
    base: str
    store_version: int
    store_model: str | None = None
    """The job's own name in the store, if not given."""


ResultFiles = Callable[[Connection], Sequence[str]]
"""Inserts the rows of result files in the transaction that ends the job; returns their ids."""

Columns = Mapping[str, Any]
"""New values by the names of columns of `jobs`; a value may be an SQL expression."""

NOTHING_NEW = Progress()


class Claims:
    """Claims for one worker, which is a name that no other live worker has."""

    def __init__(self, database: Database, worker: str, *, clock: Clock = time.time) -> None:
        self.worker = worker
        self._database, self._clock = database, clock

    def claim(self, *, most_running: int | None = None) -> Claim | None:
        """Take the job that has been queued longest.

        None if none is queued, if `most_running` jobs run already (on all workers together), or
        if somebody else is just claiming: ask again.
        """
        with self._database.writing() as connection:
            if most_running is not None and not self._has_room(connection, most_running):
                return None
            row = connection.execute(self._taking()).mappings().one_or_none()
            return None if row is None else Claim(Job(**row))

    def heartbeat(self, claim: Claim, progress: Progress = NOTHING_NEW) -> Wish | None:
        """Say that the job is being worked on, and what there is to tell; return its owner's wish.

        LeaseLost: stop at once. Nothing of `progress` was written then.
        """
        told = {"heartbeat": jobs.c.heartbeat + 1, **_told(progress)}
        with self._database.writing() as connection:
            job = self._write(connection, claim, told)
            now = unix_seconds(self._clock)
            checkpointing.keep(connection, job.id, progress.checkpoints, now)
            append(connection, job.id, progress.events, now)
            return job.wish

    def succeed(
        self,
        claim: Claim,
        model: NewModel,
        *,
        result_files: ResultFiles | None = None,
        progress: Progress = NOTHING_NEW,
    ) -> Job:
        """End the job with its model, all in one transaction: a second time is LeaseLost.

        NameTaken if another model has the id: nothing was written, try another one. CancelWished
        if the owner wishes the job cancelled; a cancel that was accepted before is never lost.
        """
        now = unix_seconds(self._clock)
        with self._database.writing() as connection:
            wish = select(jobs.c.wish).where(jobs.c.id == claim.job.id).with_for_update()
            if connection.scalar(wish) == "cancel":
                raise CancelWished("the job's owner wishes it cancelled")
            job = self._write(connection, claim, {**_told(progress), **_succeeded(model, now)})
            _insert_model(connection, job, model, now)
            if result_files is not None:
                ids = [*result_files(connection)]
                job = _update(connection, jobs.c.id == job.id, {"result_files": ids}) or job
            checkpointing.keep(connection, job.id, progress.checkpoints, now)
            append(connection, job.id, progress.events, now)
            return job

    def fail(
        self,
        claim: Claim,
        failure: Failure,
        *,
        events: Callable[[Job], Sequence[NewEvent]] = lambda _: (),
    ) -> Job:
        """End the job without a model: failed, or cancelled if its owner was told so already.

        `events` are chosen by what it has become. LeaseLost if it is not this worker's any more.
        """
        now = unix_seconds(self._clock)
        is_cancelled = jobs.c.wish == "cancel"
        ending: dict[str, Any] = {
            "status": case((is_cancelled, "cancelled"), else_="failed"),
            "finished_at": now,
            "wish": None,
        }
        for column, value in error_columns(failure).items():
            ending[column] = case((is_cancelled, None), else_=value)
        with self._database.writing() as connection:
            job = self._write(connection, claim, ending)
            append(connection, job.id, events(job), now)
            return job

    def put_back(
        self,
        claim: Claim,
        *,
        events: Callable[[Job], Sequence[NewEvent]] = lambda _: (),
    ) -> Job:
        """Give an unfinished job up, in order: it is cancelled or paused if that was wished,
        and queued again otherwise. `events` are chosen by what it has become.

        LeaseLost if it is not this worker's any more.
        """
        now = unix_seconds(self._clock)
        with self._database.writing() as connection:
            job = self._write(connection, claim, {**_given_up(now), "attempts": 0})
            append(connection, job.id, events(job), now)
            return job

    def requeue_all_of(self, worker: str) -> Sequence[str]:
        """Give up all jobs of a worker that is known to be dead, and return their ids."""
        now = unix_seconds(self._clock)
        held = (jobs.c.status == "running", jobs.c.worker == worker)
        given = update(jobs).where(*held).values({**_given_up(now), "updated_at": now})
        with self._database.writing() as connection:
            return [str(id_) for id_ in connection.scalars(given.returning(jobs.c.id))]

    def _has_room(self, connection: Connection, most_running: int) -> bool:
        """Count what runs, while nobody else can claim."""
        if not self._database.try_lock(connection, "claims"):
            return False
        running = select(func.count()).select_from(jobs).where(jobs.c.status == "running")
        return int(connection.scalar(running) or 0) < most_running

    def _taking(self) -> ReturningUpdate[Any]:
        now = unix_seconds(self._clock)
        queued = (jobs.c.status == "queued", jobs.c.deleted_at.is_(None))
        oldest = select(jobs.c.number).where(*queued).order_by(jobs.c.number).limit(1)
        free = oldest.with_for_update(skip_locked=True).scalar_subquery()
        taking = (
            update(jobs)
            .where(jobs.c.number == free)
            .values(
                status="running",
                token=jobs.c.token + 1,
                worker=self.worker,
                heartbeat=jobs.c.heartbeat + 1,
                attempts=jobs.c.attempts + 1,
                started_at=func.coalesce(jobs.c.started_at, now),
                updated_at=now,
                wish=None,
            )
        )
        return taking.returning(*JOB_COLUMNS)

    def _write(self, connection: Connection, claim: Claim, values: Columns) -> Job:
        """Change the claimed job's row; LeaseLost unless the claim still holds."""
        held = (
            (jobs.c.id == claim.job.id)
            & (jobs.c.token == claim.token)
            & (jobs.c.status == "running")
        )
        job = _update(connection, held, {**values, "updated_at": unix_seconds(self._clock)})
        if job is None:
            raise LeaseLost("the job is not this worker's any more")
        return job


class Reaper:
    """Gives up the jobs of workers whose heartbeat has not moved for `lease_s` seconds.

    It measures with its own monotonic clock from when it first saw a counter's value, so that a
    wall clock that jumps ends no lease. If it slept itself, it begins to watch anew: whatever
    stopped it may have stopped the workers too.
    """

    def __init__(
        self,
        database: Database,
        lease_s: float,
        *,
        monotonic: Clock = time.monotonic,
        clock: Clock = time.time,
    ) -> None:
        self._database, self._lease_s = database, lease_s
        self._monotonic, self._clock = monotonic, clock
        self._seen: dict[str, tuple[tuple[int, int], float]] = {}
        self._looked = monotonic()

    def reap(self) -> Sequence[str]:
        """Look once (several times in a lease), and return the ids of the jobs given up."""
        now = self._monotonic()
        if now - self._looked > self._lease_s:
            self._seen.clear()
        self._looked = now
        running = select(jobs.c.id, jobs.c.token, jobs.c.heartbeat).where(
            jobs.c.status == "running"
        )
        with self._database.reading() as connection:
            counters = {row.id: (row.token, row.heartbeat) for row in connection.execute(running)}
        self._seen = {
            id_: (counter, self._since(id_, counter, now)) for id_, counter in counters.items()
        }
        still = [id_ for id_, (_, since) in self._seen.items() if now - since >= self._lease_s]
        return [id_ for id_ in still if self._give_up(id_, *counters[id_])]

    def _since(self, id_: str, counter: tuple[int, int], now: float) -> float:
        before = self._seen.get(id_)
        return before[1] if before is not None and before[0] == counter else now

    def _give_up(self, id_: str, token: int, heartbeat: int) -> bool:
        now = unix_seconds(self._clock)
        unmoved = (
            (jobs.c.id == id_)
            & (jobs.c.token == token)
            & (jobs.c.heartbeat == heartbeat)
            & (jobs.c.status == "running")
        )
        with self._database.writing() as connection:
            return _update(connection, unmoved, {**_given_up(now), "updated_at": now}) is not None


def _told(progress: Progress) -> dict[str, Any]:
    """Return the columns that a worker has told something new for."""
    values = {
        "trained_tokens": progress.trained_tokens,
        "estimated_finish": progress.estimated_finish,
        "settled": None if progress.settled is None else dict(progress.settled),
    }
    return {name: value for name, value in values.items() if value is not None}


def _succeeded(model: NewModel, now: int) -> dict[str, Any]:
    return {
        "status": "succeeded",
        "finished_at": now,
        "wish": None,
        "fine_tuned_model": model.id,
    }


def _given_up(now: int) -> dict[str, Any]:
    """Return the columns of a job whose worker is gone: as its owner wished, or queued again."""
    status = case(
        (jobs.c.wish == "cancel", "cancelled"), (jobs.c.wish == "pause", "paused"), else_="queued"
    )
    finished = case((jobs.c.wish == "cancel", now), else_=None)
    return {"status": status, "finished_at": finished, "wish": None, "worker": None}


def _update(connection: Connection, where: ColumnElement[bool], values: Columns) -> Job | None:
    changed = update(jobs).where(where).values(dict(values)).returning(*JOB_COLUMNS)
    row = connection.execute(changed).mappings().one_or_none()
    return None if row is None else Job(**row)


def _insert_model(connection: Connection, job: Job, model: NewModel, now: int) -> None:
    taken = select(fine_tuned_models.c.number).where(fine_tuned_models.c.id == model.id)
    if connection.scalar(taken) is not None:
        raise NameTaken("another fine-tuned model has this id")
    row = {
        "id": model.id,
        "owner": job.owner,
        "store_model": model.store_model or job.store_model,
        "store_version": model.store_version,
        "base": model.base,
        "job_id": job.id,
        "created_at": now,
    }
    connection.execute(insert(fine_tuned_models).values(**row))
