"""Examples: an input and the wanted output, as JSON lines.

A prepared data set is a folder with `train.jsonl`, `validation.jsonl` and `test.jsonl`, each line
`{"text": ..., "label": ...}`, UTF-8, and a `report.json` that says how they came about. Where the
inputs are pictures, `image` stands in the place of `text`: the picture's path in the folder.
"""

import hashlib
import re
import unicodedata
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import orjson

from hone.models.errors import InvalidExamples

SPLITS = ("train", "validation", "test")

_PROBLEMS_SHOWN = 100
_WORDS = re.compile(r"[^\W_]+")


Field = Literal["text", "image"]
"""The key of an example's input."""


@dataclass(frozen=True, slots=True)
class Example:
    """One input and its label. `text` is the text itself, or a picture's path."""

    text: str
    label: str


def words_key(text: str) -> str:
    """Return what two texts share when only case, punctuation, width and spacing differ.

    The words (runs of letters and digits) of the text after NFKC and case folding, joined by one
    space. Texts without any letter or digit keep their stripped form.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_WORDS.findall(folded)) or folded.strip()


def read_examples(path: Path, field: Field = "text") -> list[Example]:
    """Read a prepared JSONL file; raise InvalidExamples naming every bad line (the first 100).

    A byte order mark is taken off.
    """
    examples: list[Example] = []
    problems: list[str] = []
    for number, line in _lines(path):
        try:
            examples.append(_parse(line, field))
        except ValueError as error:
            problems.append(f"line {number}: {error}")
    if problems:
        raise InvalidExamples(unusable_lines(path, problems))
    if not examples:
        raise InvalidExamples(f"{path} has no examples")
    return examples


def unusable_lines(path: Path, problems: Sequence[str]) -> str:
    """Return the message of a file's unusable lines, the first 100."""
    many = f"{len(problems):,} unusable line{'' if len(problems) == 1 else 's'}"
    return "\n  ".join([f"{path} has {many}:", *problems[:_PROBLEMS_SHOWN]])


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                bare = line.removeprefix(BOM_UTF8) if number == 1 else line
                if bare.strip():
                    yield number, bare
    except (FileNotFoundError, IsADirectoryError):
        raise InvalidExamples(f"there is no file {path}") from None


def _parse(line: bytes, field: Field) -> Example:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise ValueError("is not JSON in UTF-8") from None
    if not isinstance(row, dict):
        raise ValueError("is not a JSON object")  # noqa: TRY004 - one kind of problem for the caller
    text, label = row.get(field), row.get("label")
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{field!r} is missing, empty or not a string")
    if not isinstance(label, str) or not label.strip():
        raise ValueError("'label' is missing, empty or not a string")
    return Example(text, label)


def write_examples(path: Path, examples: Iterable[Example], field: Field = "text") -> int:
    """Write examples as JSON lines and return how many."""
    count = 0
    with path.open("wb") as file:
        for example in examples:
            file.write(orjson.dumps({field: example.text, "label": example.label}) + b"\n")
            count += 1
    return count


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
