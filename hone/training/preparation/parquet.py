"""Parquet files, a slice of rows at a time."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hone.models.errors import InvalidExamples, MissingDependency
from hone.training.preparation.rows import BadLine, RawRow, Record, unreadable_reason

if TYPE_CHECKING:
    import polars as pl

_ROWS_AT_ONCE = 16_384


class ParquetFile:
    """Slices, and not the engine's own batches, because those read far ahead: 230 MiB against
    90 MiB for a million short rows.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._frame = _scan(path)

    def narrowed(self, names: Sequence[str]) -> "partial[Iterator[Record]]":
        """Return `records` for some columns only: an embedding beside the text costs nothing."""
        return partial(self.records, self._frame.select(names))

    def records(self, frame: "pl.LazyFrame | None" = None) -> Iterator[Record]:
        """Yield every row; numbers are rows, from 1."""
        offset = 0
        while rows := self._rows(self._frame if frame is None else frame, offset):
            for number, fields in enumerate(rows, start=offset + 1):
                yield _record(number, fields)
            offset += len(rows)

    def _rows(self, frame: "pl.LazyFrame", offset: int) -> list[dict[str, object]]:
        import polars as pl  # noqa: PLC0415 - of the extra, needed only here

        try:
            return frame.slice(offset, _ROWS_AT_ONCE).collect().to_dicts()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise InvalidExamples(f"{self._path.name} is damaged after row {offset:,}") from error


def _scan(path: Path) -> "pl.LazyFrame":
    try:
        import polars as pl  # noqa: PLC0415 - of the extra, needed only here
    except ImportError:
        raise MissingDependency("reading Parquet files", "train") from None
    try:
        frame = pl.scan_parquet(path, glob=False)
        frame.collect_schema()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise InvalidExamples(f"{path.name} cannot be opened as a Parquet file") from error
    return frame


def _record(number: int, fields: dict[str, object]) -> Record:
    for value in fields.values():
        reason = unreadable_reason(value) if isinstance(value, str) else None
        if reason is not None:
            return BadLine(number, reason)
    return RawRow(number, fields)
