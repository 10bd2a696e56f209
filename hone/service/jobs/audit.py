"""The audit log: who did what, to what, and how it ended. Rows are added and never changed."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import insert, select

from hone.service.jobs.database import Database
from hone.service.jobs.ids import Clock, unix_seconds
from hone.service.jobs.pages import columns_of, read_rows
from hone.service.jobs.tables import audit

Outcome = Literal["done", "refused", "failed"]


@dataclass(frozen=True, slots=True)
class Action:
    """Something done, or refused, with a key (None: at the terminal); `target` is an id."""

    owner: str
    key_id: str | None
    action: str
    target: str | None
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Entry(Action):
    """An action with its place in the log and its time."""

    number: int
    created_at: int


class AuditLog:
    """The actions of all owners."""

    def __init__(self, database: Database, *, clock: Clock = time.time) -> None:
        self._database, self._clock = database, clock

    def write(self, action: Action) -> None:
        """Add an action."""
        values = {name: getattr(action, name) for name in Action.__dataclass_fields__}
        with self._database.writing() as connection:
            now = unix_seconds(self._clock)
            connection.execute(insert(audit).values(created_at=now, **values))

    def since(self, number: int = 0, *, limit: int = 1000) -> Sequence[Entry]:
        """Return up to `limit` entries after the one with this number, oldest first."""
        newer = select(*columns_of(Entry, audit)).where(audit.c.number > number)
        with self._database.reading() as connection:
            return read_rows(connection, Entry, newer.order_by(audit.c.number).limit(limit))
