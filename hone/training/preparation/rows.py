"""What a reader gives: rows as they stand in a file, and lines that cannot be read."""

import datetime as dt
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Literal

from hone.models.errors import InvalidExamples
from hone.training.preparation.encoding import UNDECODABLE, Encoding
from hone.training.preparation.problems import Problem

Unit = Literal["line", "row", "item"]
"""What numbers count: lines of a text file, rows of a sheet, items of a JSON list; all from 1."""

LONGEST_LINE = 10_000_000
"""Characters. A longer line is reported and skipped, so that memory stays flat."""

_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row; `number` is where it begins in the file."""

    number: int
    fields: dict[str, object]


@dataclass(frozen=True, slots=True)
class BadLine:
    """A place that cannot be read, and why, as the end of a sentence that begins with it."""

    number: int
    reason: str


Record = RawRow | BadLine


@dataclass(frozen=True, slots=True)
class Source:
    """An opened example file. `records` starts again from the top with every call."""

    path: Path
    format: str
    unit: Unit
    records: Callable[[], Iterator[Record]]
    encoding: Encoding | None = None
    sheet: str | None = None
    problems: tuple[Problem, ...] = ()
    narrow: Callable[[Sequence[str]], Callable[[], Iterator[Record]]] | None = None

    def with_columns(self, names: Sequence[str]) -> "Source":
        """Return a source that need not read more than these columns, where the format allows."""
        return self if self.narrow is None else replace(self, records=self.narrow(names))


class UnusableField(ValueError):
    """A value that is not text and cannot become text; the message says why."""


def unreadable_reason(text: str, encoding: Encoding | None = None) -> str | None:
    """Return why a piece of decoded text cannot be used, or None when it can."""
    if "\x00" in text:
        return "holds a NUL character"
    if text.isascii():
        return None
    if encoding is not None and UNDECODABLE in text:
        return f"holds bytes that are not {encoding.spoken}"
    if _SURROGATE.search(text):
        return "holds half of a surrogate pair"
    return None


def field_text(value: object) -> str | None:
    """Return a field as text, None for a missing or blank one; raise UnusableField for a list.

    Numbers are written as a person would: 1.0 as `1`; truth values as `true` and `false`.
    """
    if value is None or isinstance(value, str):
        return value if value and value.strip() else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _number_text(value)
    if isinstance(value, dt.date | dt.time):
        return _date_text(value)
    if isinstance(value, int | Decimal | dt.timedelta):
        return str(value)
    kinds: dict[type, str] = {list: "a list", dict: "an object", bytes: "binary data"}
    raise UnusableField(f"is {kinds.get(type(value), 'not text')} where text is expected")


def _date_text(value: dt.date | dt.time) -> str:
    if isinstance(value, dt.datetime) and value.time() == dt.time():
        return value.date().isoformat()
    return value.isoformat()


def _number_text(value: float) -> str | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        raise UnusableField("is an infinite number where text is expected")
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def check_column_names(names: list[str], path: Path) -> None:
    """Raise InvalidExamples when two columns have one name."""
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise InvalidExamples(
            f"{path.name} names the column {twice[0]!r} twice: rename one, or give --no-header"
        )
