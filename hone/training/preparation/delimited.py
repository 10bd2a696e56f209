"""CSV and TSV, one record at a time; a broken record never takes the following ones with it."""

import csv
from collections import deque
from collections.abc import Iterator, Sequence
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
_SAMPLE_RECORDS = 200
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


def _split(path: Path, encoding: Encoding, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """Yield (line, fields), or (line, reason) for a record that cannot be split; that is re-read
    from its second line on: an open quote costs one row.
    """
    csv.field_size_limit(LONGEST_LINE)
    lines = _RecordLines(path, encoding)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
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
        self.delimiter, sample = self._find_delimiter(delimiters)
        number, first = sample[0]
        rest = [fields for _, fields in sample[1:]]
        self.has_header = looks_like_header(first, rest, wanted) if header is None else header
        self._header_line = number if self.has_header else None
        self.names = [n.strip() for n in first] if self.has_header else numbered_names(len(first))
        check_column_names(self.names, path)

    def _find_delimiter(self, delimiters: str) -> tuple[str, list[tuple[int, list[str]]]]:
        """Take the one that cuts most of the first records like the very first."""
        best, best_share, best_sample = "", 0.0, list[tuple[int, list[str]]]()
        for delimiter in delimiters:
            sample = self._sample(delimiter)
            if not sample or len(sample[0][1]) < 2:
                continue
            width = len(sample[0][1])
            share = sum(len(fields) == width for _, fields in sample) / len(sample)
            if share > best_share:
                best, best_share, best_sample = delimiter, share, sample
        if not best:
            raise InvalidExamples(
                f"{self._path.name} has only one column: a text and a label are needed, "
                "with a comma, a semicolon, a tab or a bar between them"
            )
        return best, best_sample

    def _sample(self, delimiter: str) -> list[tuple[int, list[str]]]:
        """Return the first records with the beginnings of their cells."""
        found = islice(_split(self._path, self._encoding, delimiter), _SAMPLE_RECORDS)
        return [
            (number, [cell[:_SAMPLE_CHARACTERS] for cell in fields])
            for number, fields in found
            if not isinstance(fields, str)
        ]

    def records(self) -> Iterator[Record]:
        """Yield every record but the header."""
        for number, fields in _split(self._path, self._encoding, self.delimiter):
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
