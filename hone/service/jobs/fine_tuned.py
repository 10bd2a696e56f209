"""Fine-tuned models: the API's ids, and which bundle of the store each one means."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, select, update

from hone.models.errors import NotFound
from hone.service.jobs.database import Database
from hone.service.jobs.ids import Clock, unix_seconds
from hone.service.jobs.pages import FIRST_PAGE, Cursor, Page, columns_of, read_page, read_rows
from hone.service.jobs.tables import fine_tuned_models as models


@dataclass(frozen=True, slots=True)
class FineTunedModel:
    """A model's row: `store_model@store_version` is its bundle, `base` what it was made from."""

    id: str
    owner: str
    store_model: str
    store_version: int
    base: str
    job_id: str
    created_at: int


class FineTunedModels:
    """The fine-tuned models of all owners. `Claims.succeed` adds them."""

    def __init__(self, database: Database, *, clock: Clock = time.time) -> None:
        self._database, self._clock = database, clock

    def get(self, owner: str, id_: str) -> FineTunedModel:
        """Return an owner's model; NotFound if it has none of this id."""
        found = select(*columns_of(FineTunedModel, models)).where(*_mine(owner, id_))
        with self._database.reading() as connection:
            rows = read_rows(connection, FineTunedModel, found)
        if not rows:
            raise _no_model()
        return rows[0]

    def list(self, owner: str, cursor: Cursor = FIRST_PAGE) -> Page[FineTunedModel]:
        """Return a page of an owner's models, newest first."""
        mine, shown = [models.c.owner == owner], [models.c.deleted_at.is_(None)]
        with self._database.reading() as connection:
            return read_page(connection, FineTunedModel, models, cursor, mine=mine, shown=shown)

    def all(self) -> Sequence[FineTunedModel]:
        """Return everybody's models, oldest first: what a service may have to load."""
        found = select(*columns_of(FineTunedModel, models)).where(models.c.deleted_at.is_(None))
        with self._database.reading() as connection:
            return read_rows(connection, FineTunedModel, found.order_by(models.c.number))

    def delete(self, owner: str, id_: str) -> FineTunedModel:
        """Delete an owner's model and return what it was; NotFound. Its bundle is not touched."""
        gone = update(models).where(*_mine(owner, id_))
        gone = gone.values(deleted_at=unix_seconds(self._clock))
        returned = gone.returning(*columns_of(FineTunedModel, models))
        with self._database.writing() as connection:
            row = connection.execute(returned).mappings().one_or_none()
        if row is None:
            raise _no_model()
        return FineTunedModel(**row)


def _mine(owner: str, id_: str) -> tuple[ColumnElement[bool], ...]:
    return models.c.id == id_, models.c.owner == owner, models.c.deleted_at.is_(None)


def _no_model() -> NotFound:
    return NotFound("there is no fine-tuned model with this id")
