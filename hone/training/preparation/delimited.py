"""CSV and TSV, one record at a time; a broken record never takes the following ones with it."""

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from hone.models.errors import InvalidExamples
from hone.training.preparation.columns import is_known_column, numbered_names
from hone.training.preparation.encoding import Encoding
from hone.training.preparation.lines import OVERLONG, numbered_lines
from hone.training.preparation.rows import (
    LONGEST_LINE,
    BadLine,
    RawRow,
    Record,
    check_column_names,
    unreadable_reason,
)

DELIMITERS = ",;\t|"
_SAMPLE_RECORDS = 1000
_SAMPLE_CHARACTERS = 200


class _Overlong(Exception):
    """Raised out of the line source, through the csv module."""


class _RecordLines:
    """Feeds lines to the csv module and can take back those of a record that went wrong."""

    def __init__(self, path: Path, encoding: Encoding) -> None:
        self._lines = numbered_lines(path, encoding)
        self._returned: deque[tuple[int, str | None]] = deque()
        self._record: list[tuple[int, str | None]] = []
        self._characters = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        number, line = self._returned.popleft() if self._returned else next(self._lines)
        self._record.append((number, line))
        self._characters += len(line or "")
        if line is None or self._characters > LONGEST_LINE:
            raise _Overlong
        return line

    @property
    def start(self) -> int:
        """The number of the line on which the current record begins."""
        return self._record[0][0]

    def begin_record(self) -> None:
        self._record = []
        self._characters = 0

    def give_back_all_but_first(self) -> None:
        self._returned.extendleft(reversed(self._record[1:]))


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a line is cut. Without `quotes` a quotation mark is a letter like any other."""

    delimiter: str
    quotes: bool = True


@dataclass(frozen=True, slots=True)
class _Sample:
    """The first records as one dialect cuts them; `broken` ones are not among them."""

    dialect: Dialect
    records: list[tuple[int, list[str]]]
    broken: int

    @property
    def width(self) -> int:
        return len(self.records[0][1]) if self.records else 0

    @property
    def alike(self) -> float:
        """Which share of all records has as many fields as the first."""
        alike = sum(len(fields) == self.width for _, fields in self.records)
        return alike / max(1, len(self.records) + self.broken)

    @property
    def records_per_line(self) -> float:
        return len(self.records) / self.records[-1][0] if self.records else 0.0


def _split(
    path: Path, encoding: Encoding, dialect: Dialect
) -> Iterator[tuple[int, list[str] | str]]:
    """Yield (line, fields), or (line, reason) for a record that cannot be split; that is re-read
    from its second line on: an open quote costs one row.
    """
    csv.field_size_limit(LONGEST_LINE)
    lines = _RecordLines(path, encoding)
    reader = csv.reader(
        lines,
        delimiter=dialect.delimiter,
        strict=True,
        quoting=csv.QUOTE_MINIMAL if dialect.quotes else csv.QUOTE_NONE,
    )
    while True:
        lines.begin_record()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield lines.start, "has a quote that is not closed, or not doubled within quotes"
            lines.give_back_all_but_first()
        except _Overlong:
            yield lines.start, OVERLONG
            lines.give_back_all_but_first()
        else:
            if fields:
                yield lines.start, fields


class DelimitedFile:
    """A CSV or TSV file whose delimiter and header have been found."""

    def __init__(
        self,
        path: Path,
        encoding: Encoding,
        *,
        delimiters: str = DELIMITERS,
        header: bool | None = None,
        wanted: Sequence[str] = (),
    ) -> None:
        self._path = path
        self._encoding = encoding
        sample = self._best_sample(delimiters)
        self.dialect = sample.dialect
        number, first = sample.records[0]
        rest = [fields for _, fields in sample.records[1:]]
        self.has_header = looks_like_header(first, rest, wanted) if header is None else header
        self._header_line = number if self.has_header else None
        self.names = [n.strip() for n in first] if self.has_header else numbered_names(len(first))
        check_column_names(self.names, path)

    def _best_sample(self, delimiters: str) -> _Sample:
        """Take the delimiter that cuts most of the first records like the very first."""
        samples = [
            self._tab_sample() if delimiter == "\t" else self._sample(Dialect(delimiter))
            for delimiter in delimiters
        ]
        best = max(samples, key=lambda sample: (sample.width > 1, sample.alike))
        if best.width < 2:
            raise InvalidExamples(
                f"{self._path.name} has only one column: a text and a label are needed, "
                "with a comma, a semicolon, a tab or a bar between them"
            )
        return best

    def _tab_sample(self) -> _Sample:
        """Tables with tabs are often written without quotes. Read with quotes, two lines that
        each have a lone one then look like one record over many lines.
        """
        samples = (self._sample(Dialect("\t")), self._sample(Dialect("\t", quotes=False)))
        return max(samples, key=lambda sample: (sample.alike, sample.records_per_line))

    def _sample(self, dialect: Dialect) -> _Sample:
        """Return the first records with the beginnings of their cells."""
        found = list[tuple[int, list[str]]]()
        broken = 0
        for number, fields in islice(_split(self._path, self._encoding, dialect), _SAMPLE_RECORDS):
            if isinstance(fields, str):
                broken += 1
            else:
                found.append((number, [cell[:_SAMPLE_CHARACTERS] for cell in fields]))
        return _Sample(dialect, found, broken)

    def records(self) -> Iterator[Record]:
        """Yield every record but the header."""
        for number, fields in _split(self._path, self._encoding, self.dialect):
            if number == self._header_line:
                continue
            reason = fields if isinstance(fields, str) else self._reason_against(fields)
            if reason is None:
                yield RawRow(number, dict(zip(self.names, fields, strict=True)))
            else:
                yield BadLine(number, reason)

    def _reason_against(self, fields: list[str]) -> str | None:
        if len(fields) != len(self.names):
            return f"has {len(fields)} fields where {len(self.names)} are expected"
        reasons = (unreadable_reason(field, self._encoding) for field in fields)
        return next((reason for reason in reasons if reason), None)


def looks_like_header(
    first: Sequence[object], rest: Sequence[Sequence[object]], wanted: Sequence[str] = ()
) -> bool:
    """Tell whether a first row names columns.

    It does if it holds a known or wanted name. It does not if a cell is a number, or comes back
    below in its column, as labels do.
    """
    names = [str(cell).strip() for cell in first if cell is not None]
    if any(is_known_column(name) or name in wanted for name in names):
        return True
    if any(_is_number(name) for name in names):
        return False
    return not any(
        cell not in {None, ""} and any(len(row) > i and row[i] == cell for row in rest)
        for i, cell in enumerate(first)
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
