"""A zip archive of pictures as a training file, looked through without unpacking it.

As `hone prepare` reads one: a folder with one sub-folder a class, or one table of paths beside the
pictures; a folder that holds a single folder is entered. Every picture's outline is read, so that
what is no picture, or is cut off, is told by its entry's name; nothing is decoded.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import orjson

from hone.models.errors import InvalidExamples
from hone.models.imaging.archives import ArchiveBounds, OpenArchive
from hone.models.imaging.decoding import check_picture
from hone.models.imaging.headers import UnusablePicture
from hone.models.imaging.sources import PICTURE_SUFFIXES, TABLE_SUFFIXES

_LOOKED_AT = {".csv": ",", ".tsv": "\t"}
Problem = tuple[str | None, str]
"""An entry's name, None for the whole archive, and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class ArchiveFindings:
    """How many pictures there are, with how many of each label, whatever its case.

    `labels` is empty where a table has them.
    """

    pictures: int
    labels: Counter[str]
    problems: Sequence[Problem]


def look_through(path: Path, bounds: ArchiveBounds) -> ArchiveFindings:
    """Look at every entry; what keeps the whole archive from being used is a problem, too."""
    try:
        with OpenArchive(path, bounds) as archive:
            return _findings(archive)
    except InvalidExamples as error:
        return ArchiveFindings(0, Counter(), [(None, _plain(error))])


def _plain(error: InvalidExamples) -> str:
    """Return the message without the name under which the content lies here."""
    if "no zip archive" in str(error):
        return "The file is no zip archive, or is broken."
    return f"The file cannot be used: {error}."


def _findings(archive: OpenArchive) -> ArchiveFindings:
    paths = {name: PurePosixPath(name) for name in archive.names}
    depth = _shared_folders(list(paths.values()))
    names = {name: PurePosixPath(*path.parts[depth:]) for name, path in paths.items()}
    shown = {n: p for n, p in names.items() if not any(part[0] == "." for part in p.parts)}
    tables = [n for n, p in shown.items() if len(p.parts) == 1 and _is(p, TABLE_SUFFIXES)]
    pictures = {n: p for n, p in shown.items() if _is(p, PICTURE_SUFFIXES)}
    if len(tables) == 1 and not pictures:
        what = (
            "The file has a table and no picture beside it. Lines with pictures in them are sent "
            "as they are, in no archive."
        )
        return ArchiveFindings(0, Counter(), [(None, what)])
    if len(tables) == 1:
        problems = list(_table_problems(archive, tables[0], set(map(str, pictures.values()))))
        problems += _broken(archive, pictures)
        return ArchiveFindings(len(pictures), Counter(), problems)
    classes = {name: path for name, path in pictures.items() if len(path.parts) > 1}
    labels = Counter(path.parts[0].casefold() for path in classes.values())
    if not labels:
        what = (
            "The file has no sub-folder for each class, nor one table of paths: it should hold "
            "folders such as cat and dog, with their pictures inside."
        )
        return ArchiveFindings(0, labels, [(None, what)])
    return ArchiveFindings(len(classes), labels, list(_broken(archive, classes)))


def _shared_folders(paths: Sequence[PurePosixPath]) -> int:
    """Return how many folders hold everything, one in the other."""
    depth = 0
    while paths and all(
        len(path.parts) > depth + 1 and path.parts[depth] == paths[0].parts[depth] for path in paths
    ):
        depth += 1
    return depth


def _is(path: PurePosixPath, suffixes: frozenset[str]) -> bool:
    return path.suffix.lower() in suffixes


def _broken(archive: OpenArchive, pictures: dict[str, PurePosixPath]) -> Iterator[Problem]:
    for name in pictures:
        try:
            check_picture(b"".join(archive.chunks(name)))
        except UnusablePicture as error:
            yield name, f"cannot be used: {error}"
        except InvalidExamples as error:
            yield name, f"cannot be unpacked: {error}"


def _table_problems(archive: OpenArchive, table: str, pictures: set[str]) -> Iterator[Problem]:
    """Yield the rows of a table whose picture the archive does not have.

    Of CSV, TSV and JSON lines in UTF-8 with a column of paths; others are read when the job is.
    """
    for number, row in _rows(b"".join(archive.chunks(table)), PurePosixPath(table).suffix.lower()):
        named = [value.strip() for value in row if _is(PurePosixPath(value), PICTURE_SUFFIXES)]
        lost = [name for name in named if str(PurePosixPath(name)) not in pictures]
        if lost and len(lost) == len(named):  # else another column has names of something else
            yield table, f"names in line {number} a picture that is not there: {lost[0][:120]!r}"


def _rows(content: bytes, suffix: str) -> Iterator[tuple[int, list[str]]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return
    if suffix in _LOOKED_AT:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_LOOKED_AT[suffix])
        try:
            yield from ((reader.line_num, row) for row in reader)
        except csv.Error:
            return
    for number, line in enumerate(text.splitlines() if suffix == ".jsonl" else (), 1):
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(row, dict):
            yield number, [value for value in row.values() if isinstance(value, str)]
