"""The events of a job, numbered from 1 without a gap in the order in which they were committed.

A stream that knows the number of the last event it sent misses nothing and repeats nothing.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, insert, select, update

from hone.models.errors import NotFound
from hone.service.jobs.database import Database
from hone.service.jobs.ids import Clock, new_id, unix_seconds
from hone.service.jobs.pages import FIRST_PAGE, Cursor, Page, columns_of, read_page, read_rows
from hone.service.jobs.tables import job_events, jobs

Level = Literal["info", "warn", "error"]
EventType = Literal["message", "metrics"]


@dataclass(frozen=True, slots=True)
class NewEvent:
    """Something to say about a job."""

    message: str
    level: Level = "info"
    type: EventType = "message"
    data: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was said about a job."""

    id: str
    number: int
    level: Level
    type: EventType
    message: str
    data: dict[str, Any] | None
    created_at: int


def append(connection: Connection, job_id: str, events: Sequence[NewEvent], now: int) -> None:
    """Add events in the caller's writing transaction; NotFound without the job.

    The job's row is locked by taking the numbers, so that they are committed in order.
    """
    if not events:
        return
    last = jobs.c.last_event
    raised = update(jobs).where(jobs.c.id == job_id).values(last_event=last + len(events))
    highest = connection.scalar(raised.returning(last))
    if highest is None:
        raise no_job()
    rows = [
        {
            "job_id": job_id,
            "number": number,
            "id": new_id("ftevent-"),
            "level": event.level,
            "type": event.type,
            "message": event.message,
            "data": None if event.data is None else dict(event.data),
            "created_at": now,
        }
        for number, event in enumerate(events, highest - len(events) + 1)
    ]
    connection.execute(insert(job_events), rows)


class Events:
    """The events of all jobs."""

    def __init__(self, database: Database, *, clock: Clock = time.time) -> None:
        self._database, self._clock = database, clock

    def add(self, job_id: str, events: Sequence[NewEvent]) -> None:
        """Add events to a job that nobody needs a claim for; NotFound without it."""
        with self._database.writing() as connection:
            append(connection, job_id, events, unix_seconds(self._clock))

    def list(self, owner: str, job_id: str, cursor: Cursor = FIRST_PAGE) -> Page[Event]:
        """Return a page of a job's events, newest first; NotFound for another owner's job."""
        with self._database.reading() as connection:
            require_job(connection, owner, job_id)
            mine = [job_events.c.job_id == job_id]
            return read_page(connection, Event, job_events, cursor, mine=mine)

    def after(self, owner: str, job_id: str, number: int, *, limit: int = 1000) -> Sequence[Event]:
        """Return up to `limit` events with higher numbers, oldest first: for streams.

        0 begins with the first one. NotFound for another owner's job.
        """
        newer = (job_events.c.job_id == job_id, job_events.c.number > number)
        found = select(*columns_of(Event, job_events)).where(*newer)
        with self._database.reading() as connection:
            require_job(connection, owner, job_id)
            ordered = found.order_by(job_events.c.number).limit(limit)
            return read_rows(connection, Event, ordered)


def require_job(connection: Connection, owner: str, job_id: str) -> None:
    """Raise NotFound unless the owner has this job."""
    mine = (jobs.c.id == job_id, jobs.c.owner == owner, jobs.c.deleted_at.is_(None))
    if connection.scalar(select(jobs.c.number).where(*mine)) is None:
        raise no_job()


def no_job() -> NotFound:
    """Say that there is no such job, or that it is another owner's."""
    return NotFound("there is no fine-tuning job with this id")
