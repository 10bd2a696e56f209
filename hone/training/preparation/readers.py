"""Opening an example file, whatever its format."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hone.models.errors import InvalidExamples, InvalidInput, NotFound
from hone.training.preparation.delimited import DELIMITERS, DelimitedFile
from hone.training.preparation.encoding import Encoding, find_encoding
from hone.training.preparation.json_rows import (
    holds_a_list,
    json_line_records,
    json_list_records,
)
from hone.training.preparation.labelled_text import LabelledText
from hone.training.preparation.parquet import ParquetFile
from hone.training.preparation.problems import Problem
from hone.training.preparation.rows import Source, Unit
from hone.training.preparation.spreadsheet import Sheet

_FORMAT_OF_SUFFIX = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "txt",
}
FORMATS = tuple(dict.fromkeys(_FORMAT_OF_SUFFIX.values()))

# First bytes of what is often named like something else.
_SIGNATURES = {
    b"PK\x03\x04": "xlsx",
    b"PAR1": "parquet",
    b"\xd0\xcf\x11\xe0": "an old or locked Excel workbook: save it as .xlsx without a password",
    b"\x1f\x8b": "compressed data: unpack it first",
    b"%PDF": "a PDF document: export the examples as CSV",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How to read; what is None is found by looking at the file.

    `wanted` are the names of all columns that were asked for, `text_column` is the one of inputs.
    """

    format: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    header: bool | None = None
    wanted: Sequence[str] = ()
    text_column: str | None = None


def open_source(path: Path, options: ReadOptions) -> Source:
    """Open an example file.

    Raises NotFound when it is not there, InvalidExamples when it is none that can be read,
    InvalidInput for an unknown format or encoding, and MissingDependency.
    """
    _check_file(path)
    format_ = _format_of(path, options.format)
    if format_ == "xlsx":
        return _open_sheet(path, options)
    if format_ == "parquet":
        file = ParquetFile(path)
        return Source(path, format_, "row", file.records, narrow=file.narrowed)
    return _open_text_format(path, format_, options)


def _check_file(path: Path) -> None:
    if not path.exists():
        raise NotFound(f"there is no file {path}")
    if not path.is_file():
        raise InvalidExamples(f"{path} is a folder: give the file with the examples")
    if path.stat().st_size == 0:
        raise InvalidExamples(f"{path} is empty")


def _format_of(path: Path, given: str | None) -> str:
    if given is not None:
        if given not in FORMATS:
            raise InvalidInput(f"there is no format {given!r}: give one of {', '.join(FORMATS)}")
        return given
    named = _FORMAT_OF_SUFFIX.get(path.suffix.lower())
    with path.open("rb") as file:
        head = file.read(8)
    found = next((kind for sign, kind in _SIGNATURES.items() if head.startswith(sign)), None)
    if found is not None and found != named:
        advice = f"{found} data: give --format {found}" if found in FORMATS else found
        raise InvalidExamples(f"{path.name} holds {advice}")
    if named is None:
        raise InvalidExamples(
            f"the format of {path.name} is not known by its name: "
            f"give --format with one of {', '.join(FORMATS)}"
        )
    return named


def _open_sheet(path: Path, options: ReadOptions) -> Source:
    sheet = Sheet(path, name=options.sheet, header=options.header, wanted=options.wanted)
    problems = []
    if sheet.others and options.sheet is None:
        listed = ", ".join(repr(name) for name in sheet.others)
        message = f"only the sheet {sheet.name!r} of {path.name} is read; --sheet takes {listed}"
        problems.append(Problem("other_sheets", "advice", len(sheet.others), message))
    if not sheet.has_header:
        problems.append(_no_header(path))
    return Source(path, "xlsx", "row", sheet.records, sheet=sheet.name, problems=tuple(problems))


def _open_text_format(path: Path, format_: str, options: ReadOptions) -> Source:
    is_json = format_ in {"json", "jsonl"}
    encoding = find_encoding(path, given=options.encoding, is_json=is_json)
    problems = _encoding_problems(path, encoding)
    if is_json:
        is_list = holds_a_list(path, encoding)
        if is_list != (format_ == "json"):
            problems.append(_other_json(path, is_list=is_list))
        read = json_list_records if is_list else json_line_records
        unit: Unit = "item" if is_list else "line"
        records = partial(read, path, encoding)
        return Source(path, format_, unit, records, encoding, problems=tuple(problems))
    if format_ == "txt":
        text = LabelledText(path, encoding)
        return Source(path, format_, "line", text.records, encoding, problems=tuple(problems))
    table = DelimitedFile(
        path,
        encoding,
        delimiters="\t" if format_ == "tsv" else DELIMITERS,
        header=options.header,
        wanted=options.wanted,
    )
    if not table.has_header:
        problems.append(_no_header(path))
    return Source(path, format_, "line", table.records, encoding, problems=tuple(problems))


def _encoding_problems(path: Path, encoding: Encoding) -> list[Problem]:
    if encoding.guessed:
        message = (
            f"{path.name} is not UTF-8 and is read as {encoding.spoken}, which is a guess; "
            "look at the texts, and give --encoding if letters are wrong"
        )
        return [Problem("encoding", "necessary", 1, message, "write UTF-8", mended=True)]
    if encoding.has_mark:
        message = f"{path.name} begins with a byte order mark ({encoding.spoken})"
        return [Problem("byte_order_mark", "necessary", 1, message, "leave it out", mended=True)]
    return []


def _other_json(path: Path, *, is_list: bool) -> Problem:
    kind = "a JSON list" if is_list else "JSON lines"
    message = f"{path.name} holds {kind}, against what its name says, and is read as such"
    return Problem("json_form", "advice", 1, message)


def _no_header(path: Path) -> Problem:
    message = f"{path.name} is read as a table without a header: its first row is an example"
    return Problem("no_header", "advice", 1, message)
