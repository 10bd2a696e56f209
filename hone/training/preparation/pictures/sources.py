"""Where pictures and their labels come from: folders of classes, and tables of paths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from hone.models.errors import InvalidExamples, NotFound
from hone.models.imaging.archives import is_archive, unpack
from hone.models.imaging.sources import PICTURE_SUFFIXES, TABLE_SUFFIXES
from hone.training.preparation.columns import find_columns
from hone.training.preparation.pictures.embedded import embedded_items, is_embedded
from hone.training.preparation.pictures.items import PictureItem
from hone.training.preparation.problems import Problem
from hone.training.preparation.readers import ReadOptions, open_source
from hone.training.preparation.rows import BadLine, RawRow, UnusableField, field_text

_SAMPLE_ROWS = 200
_PATH_NAMES = ("image", "picture", "photo", "path", "file", "filename", "image_path", "file_name")
_LEAST_PATHS, _LEAST_NAMED = 0.9, 0.5
"""In a column of paths more than this share of the rows ends as pictures' names do."""


@dataclass(frozen=True, slots=True)
class PictureSource:
    """An opened source; `numbered` tells whether an item's number means a line of a table."""

    name: str
    form: str
    columns: tuple[str, ...]
    items: Sequence[PictureItem]
    numbered: bool
    problems: tuple[Problem, ...] = ()


def holds_pictures(path: Path, options: ReadOptions) -> bool:
    """Tell whether a source is one of pictures: a folder, a zip, or a table with their paths."""
    if path.is_dir() or is_archive(path):
        return True
    if path.suffix.lower() not in TABLE_SUFFIXES or not path.is_file():
        return False
    try:
        if _are_embedded(path, options):
            return True
        rows = _sample(path, options)
    except InvalidExamples:
        return False  # the readers of texts will say what is wrong with it
    return _path_column(rows, options.wanted) is not None


def open_pictures(path: Path, scratch: Path, options: ReadOptions) -> PictureSource:
    """Open a source of pictures; what is in an archive, or embedded in lines, is
    written into the empty folder `scratch` first.

    NotFound when it is not there, InvalidExamples when it holds nothing of the kind.
    """
    if not path.exists():
        raise NotFound(f"there is no file or folder {path}")
    if not path.is_dir() and not is_archive(path):
        if _are_embedded(path, options):
            return _open_embedded(path, scratch, options)
        return _open_table(path, path.name, options, within=None)
    root = path
    if not path.is_dir():
        scratch.mkdir(parents=True)
        unpack(path, scratch)
        root = scratch
    root = _inner(root)
    tables = [p for p in sorted(root.iterdir()) if p.suffix.lower() in TABLE_SUFFIXES]
    if len(tables) == 1 and tables[0].is_file():
        return _open_table(tables[0], path.name, options, within=root)
    return _open_folder(root, path.name)


def _inner(folder: Path) -> Path:
    """Return the folder itself, or the one that it holds and nothing else."""
    while True:
        inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
        if len(inside) != 1 or not inside[0].is_dir():
            return folder
        folder = inside[0]


def _open_folder(root: Path, name: str) -> PictureSource:
    classes = sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
    if len(classes) < 2:
        raise InvalidExamples(
            f"{name} has no sub-folder for each class (nor one table of paths): it should hold "
            "folders such as cat and dog, with their pictures inside"
        )
    items: list[PictureItem] = []
    others = [path.name for path in root.iterdir() if path.is_file() and path.name[0] != "."]
    for folder in classes:
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or any(p.startswith(".") for p in path.relative_to(root).parts):
                continue
            shown = path.relative_to(root).as_posix()
            if path.suffix.lower() not in PICTURE_SUFFIXES:
                others.append(shown)
                continue
            items.append(PictureItem(len(items) + 1, shown, path, folder.name))
    if not items:
        raise InvalidExamples(f"{name} holds no pictures")
    problems = (_not_pictures(name, others),) if others else ()
    return PictureSource(
        name, "folder of classes", ("picture", "folder"), items, numbered=False, problems=problems
    )


def _not_pictures(name: str, others: Sequence[str]) -> Problem:
    message = f"files of {name} that are not pictures and are left alone: {', '.join(others[:5])}"
    more = ", …" if len(others) > 5 else ""
    return Problem("other_files", "advice", len(others), message + more)


def _sample(path: Path, options: ReadOptions) -> list[Mapping[str, object]]:
    source = open_source(path, options)
    records = islice(source.records(), _SAMPLE_ROWS)
    return [record.fields for record in records if isinstance(record, RawRow)]


def _are_embedded(path: Path, options: ReadOptions) -> bool:
    """Tell by the first row that can be read: rows with pictures are too large for a sample."""
    records = open_source(path, options).records()
    first = next((record for record in records if isinstance(record, RawRow)), None)
    return first is not None and is_embedded(first.fields)


def _open_embedded(path: Path, scratch: Path, options: ReadOptions) -> PictureSource:
    source = open_source(path, options)
    items = tuple(embedded_items(source.records(), scratch))
    form = f"{source.format} with embedded pictures"
    columns = ("image", "label")
    return PictureSource(path.name, form, columns, items, numbered=True, problems=source.problems)


def _path_column(rows: Sequence[Mapping[str, object]], wanted: Sequence[str]) -> str | None:
    """Return the column whose values are paths of pictures; one that was asked for goes first.

    A few that are none do not make a text of the others: they are told as unreadable. In a column
    that is named for paths more than half of the rows is enough.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    order = [n for n in names if n in wanted]
    order += [n for n in names if n.casefold() in _PATH_NAMES] + names
    for name in order:
        paths = sum(_is_path(str(row[name])) for row in rows if row.get(name))
        least = _LEAST_NAMED if name.casefold() in _PATH_NAMES else _LEAST_PATHS
        if paths > least * len(rows):
            return name
    return None


def _is_path(value: str) -> bool:
    return len(value) < 4096 and Path(value.strip()).suffix.lower() in PICTURE_SUFFIXES


def _open_table(
    path: Path, name: str, options: ReadOptions, *, within: Path | None
) -> PictureSource:
    rows = _sample(path, options)
    column = _path_column(rows, options.wanted)
    if column is None:
        raise InvalidExamples(f"{name}: no column holds the paths of pictures")
    names = list(dict.fromkeys(key for row in rows for key in row))
    label = next((n for n in options.wanted if n in names and n != column), None)
    columns = find_columns(names, rows, text=column, label=label)
    source = open_source(path, options)
    items: list[PictureItem] = []
    for record in source.records():
        if isinstance(record, BadLine):
            items.append(PictureItem(record.number, "", None, None, record.reason))
        else:
            items.append(_item(record, columns.text, columns.label, path.parent, within))
    form = f"{source.format} with paths"
    used = (columns.text, columns.label)
    return PictureSource(name, form, used, items, numbered=True, problems=source.problems)


def _item(
    record: RawRow, column: str, label_column: str, folder: Path, within: Path | None
) -> PictureItem:
    try:
        name, label = (field_text(record.fields.get(each)) for each in (column, label_column))
    except UnusableField as error:
        return PictureItem(record.number, "", None, None, str(error))
    if name is None:
        return PictureItem(record.number, "", None, label, "names no picture")
    if "://" in name:
        reason = "is an address, and nothing is fetched"
        return PictureItem(record.number, name, None, label, reason)
    path = folder / name.strip()
    if within is not None and not path.resolve().is_relative_to(within.resolve()):
        return PictureItem(record.number, name, None, label, "leads out of the archive")
    return PictureItem(record.number, name, path, label)
