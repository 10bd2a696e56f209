"""The items of a comparison, its training examples and its labels, read from their files."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from hone.comparison.experiment import ExperimentGroup
from hone.comparison.outcomes import Item
from hone.comparison.rows import InputReader, Row, read_rows, read_shots
from hone.models.errors import InvalidExamples
from hone.models.examples import sha256_of_file
from hone.models.imaging.pictures import PictureFile
from hone.models.manifest import sha256_of_json
from hone.models.prompting.inputs import Input, InputKind, Shot, identity, kind_of

_KINDS: dict[str, InputKind | None] = {
    "classification": None,
    "text-classification": "text",
    "image-classification": "image",
}
"""Of each task the kind of its inputs; None for what the items tell."""

Record = TypeVar("Record", Item, Shot)


@dataclass(frozen=True, slots=True)
class Material:
    """What a comparison is made of.

    `items` are those that are asked, of `rows` in the test file; `leaked` are the ids of items
    that also stand in the training data, by their words, or by their bytes if they are pictures.
    `sha256` has the files' hashes, and one of all pictures together. `kind` is that of the inputs.
    """

    items: tuple[Item, ...]
    rows: int
    training: tuple[Shot, ...]
    labels: tuple[str, ...]
    leaked: tuple[str, ...]
    repeated: int
    sha256: dict[str, str]
    kind: InputKind


class InvalidMaterial(InvalidExamples):
    """Files or labels that cannot be used; `problems` holds all of them, not the first."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


def read_material(group: ExperimentGroup) -> Material:
    """Read an experiment's files; InvalidMaterial with all that is wrong with them."""
    test, train = files_of(group)
    if group.path is not None and not Path(group.path).is_dir():
        raise InvalidMaterial([_missing(test, group)])
    problems: list[str] = []
    wanted = _KINDS[group.task]
    everything = _read(test, group, lambda path: read_items(path, wanted), problems)
    kind = kind_of(everything[0].input) if everything else wanted
    training: tuple[Shot, ...] = ()
    if train is not None:
        training = tuple(_read(train, group, lambda path: read_shots(path, kind), problems))
    labels = _labels(group, everything, training, problems)
    if problems or kind is None:  # without an item there is a problem, too
        raise InvalidMaterial(problems)
    items = _drawn(everything, group.most_items, group.seed)
    keys = Counter(identity(item.input) for item in items)
    taught = {identity(shot.input) for shot in training}
    hashes = {"test": sha256_of_file(test)} | ({"train": sha256_of_file(train)} if train else {})
    hashes |= _of_pictures([*(item.input for item in everything), *(s.input for s in training)])
    return Material(
        items=items,
        rows=len(everything),
        training=training,
        labels=labels,
        leaked=tuple(item.id for item in items if identity(item.input) in taught),
        repeated=sum(count - 1 for count in keys.values()),
        sha256=hashes,
        kind=kind,
    )


def _of_pictures(inputs: Sequence[Input]) -> dict[str, str]:
    """Return the hash of all pictures, whose bytes may change where their lines do not."""
    found = [each.sha256 for each in inputs if not isinstance(each, str)]
    return {"pictures": sha256_of_json(found)} if found else {}


def _read(
    path: Path, group: ExperimentGroup, read: Callable[[Path], list[Record]], problems: list[str]
) -> list[Record]:
    """Return what is read from a file, or nothing once `problems` has why it cannot be."""
    if not path.is_file():
        problems.append(_missing(path, group))
        return []
    try:
        return read(path)
    except InvalidExamples as error:
        problems.append(str(error))
        return []


def read_items(path: Path, kind: InputKind | None) -> list[Item]:
    """Read test items from JSON lines: text or image, label, and id and group if they have them.

    All are of one kind, where None is given that of the first line. An item without an id is called
    by its line. InvalidExamples names every bad line (the first 100), ids that repeat and pictures
    that cannot be used included.
    """
    inputs, lines = InputReader(path, kind), dict[str, int]()

    def made(row: Row) -> Item:
        item = _item(row, inputs.read(row))
        if item.id in lines:
            raise ValueError(f"the id {item.id!r} is that of line {lines[item.id]}")
        lines[item.id] = row.number
        return item

    return read_rows(path, made, noun="items")


def files_of(group: ExperimentGroup) -> tuple[Path, Path | None]:
    """Return the files of the items and of the training examples, there or not."""
    if group.path is not None:
        return Path(group.path) / "test.jsonl", Path(group.path) / "train.jsonl"
    return Path(group.test or ""), None if group.train is None else Path(group.train)


def _missing(path: Path, group: ExperimentGroup) -> str:
    """Say where a file was looked for, and how it can be made."""
    said = f"there is no file {path.absolute()}"
    if group.made_by is not None:
        return f"{said}: `{group.made_by}` makes it"
    if group.path is not None:
        return f"{said}: experiment.path should be a folder that `hone prepare` made"
    return said


def _item(row: Row, given: Input) -> Item:
    name, group = row.fields.get("id"), row.fields.get("group")
    return Item(
        id=f"line-{row.number}" if name is None else _name(name, "id"),
        text=given if isinstance(given, str) else None,
        image=given if isinstance(given, PictureFile) else None,
        label=row.word("label"),
        group=None if group is None else _name(group, "group"),
    )


def _name(value: object, key: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise ValueError(f"{key!r} is not a string or a whole number")
    return str(value)


def _labels(
    group: ExperimentGroup,
    items: Sequence[Item],
    training: Sequence[Shot],
    problems: list[str],
) -> tuple[str, ...]:
    """Return the labels in their order, adding what is wrong with them to `problems`.

    Where a file could not be read, nothing is said that may be due to that.
    """
    whole = not problems
    found = {item.label for item in items} | {shot.label for shot in training}
    labels = tuple(group.labels or sorted(found))
    if len(set(labels)) < len(labels):
        problems.append("experiment.labels: a label is given twice")
    if not (group.labels or whole):
        return labels
    for where, names in (("the files have", found), ("descriptions are of", set(
        group.label_descriptions
    ))):  # fmt: skip
        unknown = sorted(names - set(labels))
        if unknown:
            problems.append(f"{where} labels that are not listed: {', '.join(unknown[:10])}")
    if len(set(labels)) < 2:
        problems.append("there is one label only: nothing can be compared")
    return labels


def _drawn(items: Sequence[Item], most: int | None, seed: int) -> tuple[Item, ...]:
    """Return the items to ask, drawn without their labels being looked at, in the file's order."""
    if most is None or most >= len(items):
        return tuple(items)
    places = np.random.default_rng(seed).choice(len(items), size=most, replace=False)
    return tuple(items[place] for place in sorted(places.tolist()))
