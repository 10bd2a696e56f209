"""Where pictures and their labels come from: folders of classes, and tables of paths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from hone.models.errors import InvalidExamples, NotFound
from hone.models.imaging.archives import is_archive, unpack
from hone.models.imaging.embedded import is_data_url
from hone.models.imaging.files import leads_out
from hone.models.imaging.sources import PICTURE_SUFFIXES, TABLE_SUFFIXES
from hone.training.preparation.columns import find_columns, find_text_column, named_column
from hone.training.preparation.pictures.embedded import embedded_items, is_embedded
from hone.training.preparation.pictures.items import PictureItem, spoken_name
from hone.training.preparation.problems import EXAMPLES_SHOWN, Problem
from hone.training.preparation.readers import ReadOptions, open_source
from hone.training.preparation.rows import BadLine, RawRow, UnusableField, field_text

CLASSES_FORM = "folder of classes"
"""The form of a source whose sub-folders are the labels."""

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
    """Tell whether a source is one of pictures: a folder, a zip, or a table with their paths.

    The column that was asked for decides. InvalidExamples where none was, and a table has both
    texts and pictures.
    """
    if path.is_dir() or is_archive(path):
        return True
    if path.suffix.lower() not in TABLE_SUFFIXES or not path.is_file():
        return False
    try:
        if _are_embedded(path, options):
            return True
        rows = _sample(path, options)
        if options.text_column is not None:
            return _wanted_paths(rows, options.text_column) is not None
    except InvalidExamples:
        return False  # the readers of texts will say what is wrong with it
    column = _path_column(rows, options.wanted)
    if column is not None:
        _refuse_texts_beside(column, rows, path.name, options)
    return column is not None


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
        if leads_out(tables[0], root):
            raise InvalidExamples(
                f"{path.name} has the table {tables[0].name}, a link that leads out of it, and "
                "such links are not followed"
            )
        return _open_table(tables[0], path.name, options, within=root)
    return _open_folder(root, path.name)


def _inner(folder: Path) -> Path:
    """Return the folder itself, or the one that it holds and nothing else."""
    while True:
        inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
        if len(inside) != 1 or not inside[0].is_dir() or _leads_out(inside[0], folder):
            return folder
        folder = inside[0]


def _open_folder(root: Path, name: str) -> PictureSource:
    classes = sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
    links = [path for path in root.iterdir() if _leads_out(path, root)]
    classes = [path for path in classes if path not in links]
    if len(classes) < 2:
        beside = f"; {_not_followed(links, root, name).message}" if links else ""
        raise InvalidExamples(
            f"{name} has no sub-folder for each class (nor one table of paths): it should hold "
            f"folders such as cat and dog, with their pictures inside{beside}"
        )
    items: list[PictureItem] = []
    others = [path.name for path in root.iterdir() if _is_other(path)]
    empty: list[str] = []
    for folder in classes:
        before = len(items)
        for path in sorted(folder.rglob("*")):
            shown = path.relative_to(root)
            if any(part.startswith(".") for part in shown.parts):
                continue
            if path.is_symlink() and (path.is_dir() or _leads_out(path, root)):
                links.append(path)
            elif path.suffix.lower() in PICTURE_SUFFIXES and not path.is_dir():
                items.append(_item_of_class(len(items) + 1, shown, path))
            elif _is_other(path):
                others.append(shown.as_posix())
        empty += [folder.name] if len(items) == before else []
    if not items:
        raise InvalidExamples(f"{name} holds no pictures")
    problems = (
        *([_not_pictures(name, others)] if others else []),
        *([_not_followed(links, root, name)] if links else []),
        *([_empty_classes(empty)] if empty else []),
    )
    return PictureSource(
        name, CLASSES_FORM, ("picture", "folder"), items, numbered=False, problems=problems
    )


def _is_other(path: Path) -> bool:
    """Tell whether a path, which makes no row, is worth telling of."""
    return path.name[0] != "." and path.exists() and not path.is_dir()


def _item_of_class(number: int, shown: Path, path: Path) -> PictureItem:
    """Return the picture of a class's folder; none under a label that cannot be written down."""
    name, label = spoken_name(shown.as_posix()), shown.parts[0]
    if spoken_name(label) != label:
        reason = "stands in a folder whose name is not UTF-8"
        return PictureItem(number, name, None, spoken_name(label), reason)
    return PictureItem(number, name, path, label)


def _leads_out(path: Path, root: Path) -> bool:
    """Tell whether a path is a link to something outside of a folder, or to nothing."""
    return path.is_symlink() and (not path.exists() or leads_out(path, root))


def _not_followed(links: Sequence[Path], root: Path, name: str) -> Problem:
    shown = _first_of([path.relative_to(root).as_posix() for path in links])
    message = (
        f"links that lead out of {name}, to nothing, or from a class to a folder are not followed: "
        f"{shown}"
    )
    return Problem("links", "advice", len(links), message)


def _empty_classes(names: Sequence[str]) -> Problem:
    message = f"folders without a picture make no class: {_first_of(names)}"
    return Problem("empty_classes", "advice", len(names), message)


def _first_of(names: Sequence[str]) -> str:
    return spoken_name(", ".join(names[:5])) + (", …" if len(names) > 5 else "")


def _not_pictures(name: str, others: Sequence[str]) -> Problem:
    message = (
        f"files of {name} that do not end as pictures' names do, or stand in no class, are left "
        f"alone: {_first_of(others)}"
    )
    examples: tuple[dict[str, object], ...] = tuple(
        {"file": name, "text": spoken_name(each)} for each in others[:EXAMPLES_SHOWN]
    )
    return Problem("other_files", "advice", len(others), message, examples=examples)


def _sample(path: Path, options: ReadOptions) -> list[Mapping[str, object]]:
    source = open_source(path, options)
    records = islice(source.records(), _SAMPLE_ROWS)
    return [record.fields for record in records if isinstance(record, RawRow)]


def _are_embedded(path: Path, options: ReadOptions) -> bool:
    """Tell by the first row that can be read: rows with pictures are too large for a sample."""
    records = open_source(path, options).records()
    first = next((record for record in records if isinstance(record, RawRow)), None)
    if first is None or not is_embedded(first.fields):
        return False
    wanted = options.text_column
    return wanted is None or is_data_url(first.fields.get(named_column(wanted, list(first.fields))))


def _open_embedded(path: Path, scratch: Path, options: ReadOptions) -> PictureSource:
    source = open_source(path, options)
    items = tuple(embedded_items(source.records(), scratch))
    form = f"{source.format} with embedded pictures"
    columns = ("image", "label")
    return PictureSource(path.name, form, columns, items, numbered=True, problems=source.problems)


def _path_column(rows: Sequence[Mapping[str, object]], wanted: Sequence[str]) -> str | None:
    """Return the column whose values are paths of pictures; one that was asked for goes first."""
    names = _names(rows)
    order = [n for n in names if n in wanted]
    order += [n for n in names if n.casefold() in _PATH_NAMES] + names
    return next((name for name in order if _has_paths(rows, name)), None)


def _names(rows: Sequence[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _has_paths(rows: Sequence[Mapping[str, object]], name: str) -> bool:
    """Tell whether a column is one of paths.

    A few that are none do not make a text of the others: they are told as unreadable. In a column
    that is named for paths more than half of the rows is enough.
    """
    paths = sum(_is_path(str(row[name])) for row in rows if row.get(name))
    least = _LEAST_NAMED if name.casefold() in _PATH_NAMES else _LEAST_PATHS
    return paths > least * len(rows)


def _wanted_paths(rows: Sequence[Mapping[str, object]], wanted: str) -> str | None:
    """Return the column that was asked for, if it is one of paths."""
    column = named_column(wanted, _names(rows))
    return column if _has_paths(rows, column) else None


def _refuse_texts_beside(
    column: str, rows: Sequence[Mapping[str, object]], name: str, options: ReadOptions
) -> None:
    """Refuse a table that has a column of texts, too, while nobody said which to read."""
    text = find_text_column(_names(rows))
    if text is None or text in {column, *options.wanted} or _has_paths(rows, text):
        return
    if not any(str(row.get(text) or "").strip() for row in rows):
        return
    raise InvalidExamples(
        f"{name} has texts in the column {text!r} and names of pictures in {column!r}: say which "
        f"are to be classified, with --text-column {text} or --text-column {column}"
    )


def _is_path(value: str) -> bool:
    return len(value) < 4096 and Path(value.strip()).suffix.lower() in PICTURE_SUFFIXES


def _open_table(
    path: Path, name: str, options: ReadOptions, *, within: Path | None
) -> PictureSource:
    rows = _sample(path, options)
    if options.text_column is not None:
        column = _wanted_paths(rows, options.text_column)
    else:
        column = _path_column(rows, options.wanted)
    if column is None:
        wanted = options.text_column
        named = "no column holds" if wanted is None else f"the column {wanted!r} does not hold"
        raise InvalidExamples(f"{name}: {named} the paths of pictures")
    if options.text_column is None:
        _refuse_texts_beside(column, rows, name, options)
    names = _names(rows)
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
    if within is not None and leads_out(path, within):
        return PictureItem(
            record.number, name, None, label, "leads out of the folder with the table"
        )
    return PictureItem(record.number, name, path, label)
