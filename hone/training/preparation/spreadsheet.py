"""The first or a named sheet of an Excel workbook, row by row."""

import warnings
import zipfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from hone.models.errors import InvalidExamples, MissingDependency
from hone.training.preparation.columns import numbered_names
from hone.training.preparation.delimited import looks_like_header
from hone.training.preparation.rows import (
    BadLine,
    RawRow,
    Record,
    check_column_names,
    unreadable_reason,
)

_LARGEST_UNPACKED = 4 << 30
_MOST_ROWS = 1_048_576
_ROWS_AT_ONCE = 1000
_SAMPLE_ROWS = 200
_ERROR_CELLS = frozenset(
    {"#NULL!", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#N/A", "#GETTING_DATA"}
)


class Sheet:
    """One sheet whose header has been found. `others` names the sheets that are not read."""

    def __init__(
        self,
        path: Path,
        *,
        name: str | None = None,
        header: bool | None = None,
        wanted: Sequence[str] = (),
    ) -> None:
        self._path = path
        names = _sheet_names(path)
        if name is not None and name not in names:
            listed = ", ".join(repr(known) for known in names)
            raise InvalidExamples(f"{path.name} has no sheet {name!r}: its sheets are {listed}")
        self.name = name or names[0]
        self.others = tuple(other for other in names if other != self.name)
        sample = list(islice(self._rows(), _SAMPLE_ROWS))
        if not sample:
            raise InvalidExamples(f"the sheet {self.name!r} of {path.name} is empty")
        self._first_number, first = sample[0]
        rest = [row for _, row in sample[1:]]
        self.has_header = looks_like_header(first, rest, wanted) if header is None else header
        self.names = self._column_names(first)
        check_column_names(self.names, path)

    def _column_names(self, first: Sequence[object]) -> list[str]:
        if not self.has_header:
            return numbered_names(len(first))
        return ["" if cell is None else str(cell).strip() for cell in first]

    def records(self) -> Iterator[Record]:
        """Yield every row below the header that has a cell; numbers are those of the sheet."""
        for number, row in self._rows():
            if not (self.has_header and number == self._first_number):
                yield self._record(number, row)

    def _record(self, number: int, row: Sequence[object]) -> Record:
        if any(cell is not None for cell in row[len(self.names) :]):
            return BadLine(number, f"has more than the {len(self.names)} cells of the first row")
        for cell in row:
            reason = unreadable_reason(cell) if isinstance(cell, str) else None
            if reason is not None:
                return BadLine(number, reason)
        return RawRow(number, dict(zip(self.names, row, strict=False)))

    def _rows(self) -> Iterator[tuple[int, list[object]]]:
        workbook = _open(self._path)
        try:
            sheet = workbook[self.name]
            # Some writers leave a wrong size in the file; the cells themselves know better.
            sheet.reset_dimensions()
            rows = enumerate(sheet.iter_rows(values_only=True), start=1)
            while batch := _next_rows(rows, self._path):
                for number, row in batch:
                    cells = [None if cell in _ERROR_CELLS else cell for cell in _trimmed(row)]
                    if cells:
                        yield number, cells
        finally:
            workbook.close()


def _trimmed(row: Sequence[object]) -> Sequence[object]:
    end = len(row)
    while end and row[end - 1] is None:
        end -= 1
    return row[:end]


def _next_rows(rows: Iterator[tuple[int, Any]], path: Path) -> list[tuple[int, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about styles and drawings, which are not read
        try:
            batch = list(islice(rows, _ROWS_AT_ONCE))
        except Exception as error:  # the parser lets any kind out for a damaged sheet
            raise InvalidExamples(
                f"{path.name} is a damaged workbook: save it again, or as CSV"
            ) from error
    if batch and batch[-1][0] > _MOST_ROWS:
        raise InvalidExamples(f"{path.name} has more than {_MOST_ROWS:,} rows in a sheet")
    return batch


def _sheet_names(path: Path) -> list[str]:
    workbook = _open(path)
    try:
        return [sheet.title for sheet in workbook.worksheets]
    finally:
        workbook.close()


def _open(path: Path) -> Any:  # noqa: ANN401 - openpyxl has no types
    try:
        import openpyxl  # noqa: PLC0415 - of the extra, needed only here
    except ImportError:
        raise MissingDependency("reading Excel workbooks", "train") from None
    _check_size(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return openpyxl.load_workbook(path, read_only=True, data_only=True)
        except Exception as error:  # the parser lets any kind out for a damaged file
            raise InvalidExamples(
                f"{path.name} cannot be opened as an Excel workbook: save it again, or as CSV"
            ) from error


def _check_size(path: Path) -> None:
    """Refuse a small file that unpacks to something huge."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile:
        raise InvalidExamples(f"{path.name} is not an Excel workbook (.xlsx)") from None
    if unpacked > _LARGEST_UNPACKED:
        raise InvalidExamples(f"{path.name} unpacks to {unpacked:,} bytes: save it as CSV")
