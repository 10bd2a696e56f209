"""The checkpoints of a job: one for a step, however often a resumed run passes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from hone.service.jobs.database import Database
from hone.service.jobs.events import require_job
from hone.service.jobs.ids import new_id
from hone.service.jobs.pages import Cursor, Page, read_page
from hone.service.jobs.tables import job_checkpoints

FIRST_TEN = Cursor(limit=10)


@dataclass(frozen=True, slots=True)
class NewCheckpoint:
    """A step's metrics, and the id under which its model could be used."""

    step: int
    model: str
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint's row."""

    id: str
    job_id: str
    step: int
    model: str
    metrics: dict[str, Any]
    created_at: int


def keep(
    connection: Connection, job_id: str, checkpoints: Sequence[NewCheckpoint], now: int
) -> None:
    """Add checkpoints in the caller's writing transaction, but none for a step that has one.

    The caller holds the job's row.
    """
    steps = [checkpoint.step for checkpoint in checkpoints]
    known = select(job_checkpoints.c.step).where(
        job_checkpoints.c.job_id == job_id, job_checkpoints.c.step.in_(steps)
    )
    passed = set(connection.scalars(known)) if steps else set()
    for checkpoint in checkpoints:
        if checkpoint.step in passed:
            continue
        passed.add(checkpoint.step)
        row = {
            "id": new_id("ftckpt_"),
            "job_id": job_id,
            "step": checkpoint.step,
            "model": checkpoint.model,
            "metrics": dict(checkpoint.metrics),
            "created_at": now,
        }
        connection.execute(insert(job_checkpoints).values(**row))


class Checkpoints:
    """The checkpoints of all jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, owner: str, job_id: str, cursor: Cursor = FIRST_TEN) -> Page[Checkpoint]:
        """Return a page of a job's checkpoints, newest first; NotFound for another's job."""
        with self._database.reading() as connection:
            require_job(connection, owner, job_id)
            mine = [job_checkpoints.c.job_id == job_id]
            return read_page(connection, Checkpoint, job_checkpoints, cursor, mine=mine)
