"""Rows as values, and one page of a list by cursor."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

from sqlalchemy import Column, ColumnElement, Connection, Select, Table, select

from hone.models.errors import InvalidInput, NotFound

MOST_ITEMS = 10_000
"""The most rows of one page; a larger wish gets this many and `has_more`."""

Row = TypeVar("Row")


class NoSuchCursor(NotFound):
    """A page that begins after an item that there is not."""

    param = "after"


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Some rows of a list; with `has_more`, the next page begins after the last of them."""

    items: Sequence[Row]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page begins: after the row of the id `after`, or at the start."""

    after: str | None = None
    limit: int = 20
    oldest_first: bool = False


FIRST_PAGE = Cursor()


def columns_of(kind: type, table: Table) -> list[Column[Any]]:
    """Return the columns that a dataclass names by its fields."""
    return [table.c[field.name] for field in fields(kind)]


def read_rows(connection: Connection, kind: type[Row], statement: Select[Any]) -> list[Row]:
    """Return each row of a statement over `columns_of(kind, ...)` as a value."""
    return [kind(**row) for row in connection.execute(statement).mappings()]


def read_page(
    connection: Connection,
    kind: type[Row],
    table: Table,
    cursor: Cursor,
    *,
    mine: Sequence[ColumnElement[bool]],
    shown: Sequence[ColumnElement[bool]] = (),
) -> Page[Row]:
    """Return a page of the rows for which all of `mine` and `shown` hold.

    The cursor's row must be of `mine`, shown or not any more: NotFound otherwise. InvalidInput for
    a limit below 1.
    """
    if cursor.limit < 1:
        raise InvalidInput("limit must be at least 1")
    limit = min(cursor.limit, MOST_ITEMS)
    number = table.c.number
    chosen = select(*columns_of(kind, table)).where(*mine, *shown).limit(limit + 1)
    chosen = chosen.order_by(number.asc() if cursor.oldest_first else number.desc())
    if cursor.after is not None:
        start = _start(connection, table, cursor.after, mine)
        chosen = chosen.where(number > start if cursor.oldest_first else number < start)
    rows = read_rows(connection, kind, chosen)
    return Page(tuple(rows[:limit]), has_more=len(rows) > limit)


def _start(
    connection: Connection, table: Table, after: str, mine: Sequence[ColumnElement[bool]]
) -> int:
    found = connection.scalar(select(table.c.number).where(table.c.id == after, *mine))
    if found is None:
        raise NoSuchCursor("there is no item with the id given as `after`")
    return int(found)
