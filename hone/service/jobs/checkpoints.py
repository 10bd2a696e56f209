"""The checkpoints of a job: one for a step, however often a resumed run passes it.

A row has what was measured. Whether the weights of a step can be asked is for the store to say,
where they lie under the job's id and the step; a row needs no change when they go.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, or_, select

from hone.models.names import checkpoints_of
from hone.service.jobs.database import Database
from hone.service.jobs.events import require_job
from hone.service.jobs.fine_tuned import FineTunedModel
from hone.service.jobs.ids import new_id
from hone.service.jobs.pages import Cursor, Page, read_page
from hone.service.jobs.tables import fine_tuned_models, job_checkpoints, jobs

FIRST_TEN = Cursor(limit=10)
_OF_THE_JOB = (jobs.c.id, jobs.c.store_model, jobs.c.model)


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

    def find(self, owner: str, name: str) -> FineTunedModel | None:
        """Return an owner's checkpoint of this name as the model that it is.

        None if there is none, if its job came to nothing, or if the job's model was deleted. Its
        bundle may be gone: only the latest ones are kept.
        """
        found = (
            select(job_checkpoints.c.step, job_checkpoints.c.created_at, *_OF_THE_JOB)
            .join(jobs, jobs.c.id == job_checkpoints.c.job_id)
            .outerjoin(fine_tuned_models, fine_tuned_models.c.job_id == jobs.c.id)
            .where(
                job_checkpoints.c.model == name,
                jobs.c.owner == owner,
                jobs.c.deleted_at.is_(None),
                jobs.c.status.in_(("running", "queued", "paused", "succeeded")),
                or_(jobs.c.status != "succeeded", fine_tuned_models.c.deleted_at.is_(None)),
            )
        )
        with self._database.reading() as connection:
            row = connection.execute(found.limit(1)).one_or_none()
        if row is None:
            return None
        return FineTunedModel(
            id=name,
            owner=owner,
            store_model=checkpoints_of(row.store_model),
            store_version=row.step,
            base=row.model,
            job_id=row.id,
            created_at=row.created_at,
        )

    def list(
        self,
        owner: str,
        job_id: str,
        cursor: Cursor = FIRST_TEN,
        *,
        steps: Sequence[int] | None = None,
    ) -> Page[Checkpoint]:
        """Return a page of a job's checkpoints, newest first; NotFound for another's job.

        With `steps`, only those of these steps.
        """
        shown = [] if steps is None else [job_checkpoints.c.step.in_(steps)]
        with self._database.reading() as connection:
            require_job(connection, owner, job_id)
            mine = [job_checkpoints.c.job_id == job_id]
            return read_page(
                connection, Checkpoint, job_checkpoints, cursor, mine=mine, shown=shown
            )
