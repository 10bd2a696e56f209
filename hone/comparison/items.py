"""The items of a comparison, its training examples and its labels, read from their files."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orjson

from hone.comparison.experiment import ExperimentGroup
from hone.comparison.outcomes import Item
from hone.models.errors import InvalidExamples
from hone.models.examples import Example, read_examples, sha256_of_file, words_key

_MOST_SHOWN = 100
Row = TypeVar("Row", Item, Example)


@dataclass(frozen=True, slots=True)
class Material:
    """What a comparison is made of.

    `items` are those that are asked, of `rows` in the test file; `leaked` are the ids of items
    that also stand in the training data, by their words. `sha256` has the files' hashes.
    """

    items: tuple[Item, ...]
    rows: int
    training: tuple[Example, ...]
    labels: tuple[str, ...]
    leaked: tuple[str, ...]
    repeated: int
    sha256: dict[str, str]


class InvalidMaterial(InvalidExamples):
    """Files or labels that cannot be used; `problems` holds all of them, not the first."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


def read_material(group: ExperimentGroup) -> Material:
    """Read an experiment's files; InvalidMaterial with all that is wrong with them."""
    test, train = _files(group)
    if group.path is not None and not Path(group.path).is_dir():
        raise InvalidMaterial([_missing(test, group)])
    problems: list[str] = []
    everything = _read(test, group, read_items, problems)
    training = () if train is None else tuple(_read(train, group, read_examples, problems))
    labels = _labels(group, everything, training, problems)
    if problems:
        raise InvalidMaterial(problems)
    items = _drawn(everything, group.most_items, group.seed)
    keys = Counter(words_key(item.text) for item in items)
    taught = {words_key(example.text) for example in training}
    hashes = {"test": sha256_of_file(test)} | ({"train": sha256_of_file(train)} if train else {})
    return Material(
        items=items,
        rows=len(everything),
        training=training,
        labels=labels,
        leaked=tuple(item.id for item in items if words_key(item.text) in taught),
        repeated=sum(count - 1 for count in keys.values()),
        sha256=hashes,
    )


def _read(
    path: Path, group: ExperimentGroup, read: Callable[[Path], list[Row]], problems: list[str]
) -> list[Row]:
    """Return what is read from a file, or nothing once `problems` has why it cannot be."""
    if not path.is_file():
        problems.append(_missing(path, group))
        return []
    try:
        return read(path)
    except InvalidExamples as error:
        problems.append(str(error))
        return []


def read_items(path: Path) -> list[Item]:
    """Read test items from JSON lines: text and label, and id and group if they have them.

    An item without an id is called by its line. InvalidExamples names every bad line (the first
    100), ids that repeat included.
    """
    items: list[Item] = []
    problems: list[str] = []
    lines: dict[str, int] = {}
    for number, row in _rows(path):
        try:
            item = _item(row, number)
        except ValueError as error:
            problems.append(f"line {number}: {error}")
            continue
        if item.id in lines:
            problems.append(f"line {number}: the id {item.id!r} is that of line {lines[item.id]}")
        lines.setdefault(item.id, number)
        items.append(item)
    if problems:
        shown = "\n  ".join(problems[:_MOST_SHOWN])
        raise InvalidExamples(f"{path} has {len(problems)} unusable lines:\n  {shown}")
    if not items:
        raise InvalidExamples(f"{path} has no items")
    return items


def _files(group: ExperimentGroup) -> tuple[Path, Path | None]:
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


def _rows(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            yield from ((n, line) for n, line in enumerate(file, 1) if line.strip())
    except (FileNotFoundError, IsADirectoryError):
        raise InvalidExamples(f"there is no file {path}") from None


def _item(line: bytes, number: int) -> Item:
    try:
        row: Any = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise ValueError("is not JSON in UTF-8") from None
    if not isinstance(row, dict):
        raise ValueError("is not a JSON object")  # noqa: TRY004 - one kind of problem
    if "image" in row and "text" not in row:
        raise InvalidExamples(f"line {number} is a picture, and only texts can be compared yet")
    for name in ("text", "label"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise ValueError(f"{name!r} is missing, empty or not a string")
    given, group = row.get("id"), row.get("group")
    return Item(
        id=f"line-{number}" if given is None else _name(given, "id"),
        text=row["text"],
        label=row["label"],
        group=None if group is None else _name(group, "group"),
    )


def _name(value: object, key: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise ValueError(f"{key!r} is not a string or a whole number")
    return str(value)


def _labels(
    group: ExperimentGroup,
    items: Sequence[Item],
    training: Sequence[Example],
    problems: list[str],
) -> tuple[str, ...]:
    """Return the labels in their order, adding what is wrong with them to `problems`.

    Where a file could not be read, nothing is said that may be due to that.
    """
    whole = not problems
    found = {item.label for item in items} | {example.label for example in training}
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
