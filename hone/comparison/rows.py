"""The lines of a file of items or examples: of each its input, a text or a picture.

All lines of a file have inputs of one kind, which the first line tells unless it is given.
"""

from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, TypeVar

import orjson

from hone.models.errors import InvalidExamples
from hone.models.examples import read_examples, unusable_lines
from hone.models.imaging.headers import UnusablePicture
from hone.models.imaging.pictures import find_picture
from hone.models.prompting.inputs import Input, InputKind, Shot

_LONGEST_SHOWN = 200
_NOT_JSON = "is not JSON in UTF-8"
_NOUNS: dict[InputKind, str] = {"text": "a text", "image": "a picture"}

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Row:
    """One line: its number, where it begins, and its JSON object."""

    number: int
    at: int
    fields: dict[str, Any]

    def word(self, name: str) -> str:
        """Return a field that is a string which says something; ValueError otherwise."""
        value = self.fields.get(name)
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{name!r} is missing, empty or not a string")
        return value


class InputReader:
    """Reads the inputs of one file's rows. Pictures are checked, and left where they are."""

    def __init__(self, path: Path, kind: InputKind | None) -> None:
        self.path, self.kind = path, kind
        self._told_by = 0

    def read(self, row: Row) -> Input:
        """Return a row's input; ValueError says what is wrong with it."""
        kind = self._kind_in(row)
        if kind == "text":
            return row.word("text")
        value = row.word("image")
        shown = f"line {row.number}" if value.lower().startswith("data:") else value
        name = _name(row.fields.get("name")) or shown
        try:
            return find_picture(value, self.path, at=row.at, line=row.number, name=name)
        except UnusablePicture as error:
            place = "" if shown is not value else f"{shown[:_LONGEST_SHOWN]}: "
            raise ValueError(f"{place}{error}") from None

    def _kind_in(self, row: Row) -> InputKind:
        """Return the kind of the file's inputs; ValueError for a row of the other kind."""
        present: list[InputKind] = [k for k in _NOUNS if row.fields.get(k) is not None]
        if self.kind is None:
            if len(present) > 1:
                raise ValueError("has both a 'text' and an 'image': say which in experiment.task")
            self.kind, self._told_by = present[0] if present else "text", row.number
        elif len(present) == 1 and present[0] != self.kind:
            why = f"line {self._told_by} is" if self._told_by else "the items are"
            raise ValueError(
                f"is {_NOUNS[present[0]]} where {why} {_NOUNS[self.kind]}: "
                "all inputs have to be of one kind"
            )
        return self.kind


def _name(given: object) -> str | None:
    """Return what a line calls its picture; a place on somebody's machine is no name to show."""
    if not isinstance(given, str) or not given or PurePath(given).is_absolute():
        return None
    return given


def read_rows(path: Path, made: Callable[[Row], Record], *, noun: str) -> list[Record]:
    """Return what `made` makes of each line that is not empty.

    It raises ValueError with what is wrong. InvalidExamples names every bad line (the first 100),
    or says that there are no lines, or none of JSON. A byte order mark is taken off.
    """
    found: list[Record] = []
    problems: list[str] = []
    for number, at, line in _lines(path):
        try:
            found.append(made(_row(number, at, line)))
        except ValueError as error:
            problems.append(f"line {number}: {error}")
    if not found and len(problems) > 1 and all(_NOT_JSON in problem for problem in problems):
        raise InvalidExamples(
            f"{path} has no JSON lines: `hone prepare` makes them of csv, tsv, xlsx and others"
        )
    if problems:
        raise InvalidExamples(unusable_lines(path, problems))
    if not found:
        raise InvalidExamples(f"{path} has no {noun}")
    return found


def read_shots(path: Path, kind: InputKind | None) -> list[Shot]:
    """Read training examples of a kind, where None is given that of the first line.

    InvalidExamples names every bad line (the first 100).
    """
    if kind == "text":
        return [Shot(example.text, example.label) for example in read_examples(path)]
    inputs = InputReader(path, kind)
    return read_rows(path, lambda row: Shot(inputs.read(row), row.word("label")), noun="examples")


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield the number of each line that is not empty, where it begins, and its bytes."""
    try:
        with path.open("rb") as file:
            at = 0
            for number, line in enumerate(file, 1):
                mark = len(BOM_UTF8) if number == 1 and line.startswith(BOM_UTF8) else 0
                if line[mark:].strip():
                    yield number, at + mark, line[mark:]
                at += len(line)
    except (FileNotFoundError, IsADirectoryError):
        raise InvalidExamples(f"there is no file {path}") from None


def _row(number: int, at: int, line: bytes) -> Row:
    try:
        content: Any = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise ValueError(_NOT_JSON) from None
    if not isinstance(content, dict):
        raise ValueError("is not a JSON object")  # noqa: TRY004 - one kind of problem
    return Row(number, at, content)
