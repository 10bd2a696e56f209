"""A run's pictures: decoded once, cropped, and kept on disk as bytes."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.format import open_memmap

from hone.models.errors import InvalidExamples
from hone.models.examples import SPLITS, Example, read_examples, sha256_of_file
from hone.models.imaging.decoding import decode_picture
from hone.models.imaging.files import leads_out, read_picture_file
from hone.models.imaging.headers import UnusablePicture
from hone.models.imaging.preprocessing import Pixels, Preprocessing, crop_picture
from hone.models.manifest import SplitRecord
from hone.training.dataset import label_order
from hone.training.images.recipe import ImageRecipe

_MARGIN = 8 / 7
"""How much larger training pictures are kept than the model reads them, to be cropped from."""


class PictureFiles(Sequence[bytes]):
    """The bytes of picture files, read when they are asked for.

    `written` are their paths in a folder, as its table has them.
    """

    def __init__(self, written: Sequence[str], folder: Path) -> None:
        self.written, self.folder = list(written), folder

    def __len__(self) -> int:
        return len(self.written)

    def __getitem__(self, at: Any) -> Any:  # noqa: ANN401 - a number or a slice
        if isinstance(at, slice):
            return PictureFiles(self.written[at], self.folder)
        return self._read(self.folder / self.written[at], self.written[at])

    def _read(self, path: Path, written: str) -> bytes:
        """Return a file's bytes; InvalidExamples if it is none, or not what its name says.

        `hone prepare` names pictures for the SHA-256 of their bytes.
        """
        try:
            content = read_picture_file(path)
        except UnusablePicture as error:
            raise InvalidExamples(f"the picture {written} cannot be read: {error}") from None
        if len(path.stem) == 64 and hashlib.sha256(content).hexdigest() != path.stem:
            raise InvalidExamples(f"the picture {written} was changed after it was prepared")
        return content


@dataclass(frozen=True, slots=True)
class PictureSplit:
    """A split ready for the model: uint8 (rows, height, width, 3), and int64 classes (rows,)."""

    pixels: Pixels
    classes: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Ones: all pictures cost the same."""
        return np.ones(len(self.classes), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class PictureExamples:
    """The examples of a run, none decoded yet, with their labels in the model's order."""

    examples: dict[str, list[Example]]
    files: dict[str, PictureFiles]
    classes: dict[str, npt.NDArray[np.int64]]
    labels: list[str]
    records: dict[str, SplitRecord]


def read_picture_examples(recipe: ImageRecipe) -> PictureExamples:
    """Read the splits' files; InvalidExamples for what cannot be used.

    A picture lies in the folder of its split's file, or below it.
    """
    named = {split: recipe.dataset.file(split) for split in SPLITS}
    files = {split: file for split, file in named.items() if file is not None}
    examples = {split: read_examples(file, "image") for split, file in files.items()}
    for needed in ("train", "validation"):
        if needed not in examples:
            raise InvalidExamples(f"the recipe names no {needed} examples")
    labels = label_order(examples["train"])
    positive = recipe.dataset.positive_label
    if positive is not None and positive not in labels:
        raise InvalidExamples(f"dataset.positive_label: no example has the label {positive!r}")
    return PictureExamples(
        examples,
        {split: _files(rows, files[split]) for split, rows in examples.items()},
        {split: _classes(rows, labels, split) for split, rows in examples.items()},
        labels,
        {
            split: SplitRecord(rows=len(rows), sha256=sha256_of_file(files[split]))
            for split, rows in examples.items()
        },
    )


def _files(rows: Sequence[Example], table: Path) -> PictureFiles:
    """Return the pictures that a split names, all of which lie in its folder."""
    folder = table.parent
    written = [row.text for row in rows]
    if out := [name for name in written if leads_out(folder / name, folder)]:
        shown = ", ".join(repr(name[:120]) for name in out[:5]) + (", …" if len(out) > 5 else "")
        raise InvalidExamples(f"{table} names pictures that lie outside of its folder: {shown}")
    return PictureFiles(written, folder)


def _classes(rows: Sequence[Example], labels: Sequence[str], split: str) -> npt.NDArray[np.int64]:
    index = {label: place for place, label in enumerate(labels)}
    if unknown := sorted({row.label for row in rows} - index.keys()):
        raise InvalidExamples(
            f"the {split} split has {len(unknown)} labels that the training split lacks: "
            + ", ".join(unknown[:20])
        )
    return np.array([index[row.label] for row in rows], dtype=np.int64)


def training_rule(rule: Preprocessing) -> Preprocessing:
    """Return how training pictures are kept: all that is resized, or a margin around the crop."""
    if rule.shortest_edge is None:
        return rule.model_copy(
            update={"height": round(rule.height * _MARGIN), "width": round(rule.width * _MARGIN)}
        )
    edge = max(rule.shortest_edge, round(min(rule.height, rule.width) * _MARGIN))
    height, width = max(edge, rule.height), max(edge, rule.width)
    return rule.model_copy(update={"shortest_edge": edge, "height": height, "width": width})


def decode_split(
    data: PictureExamples,
    split: str,
    rule: Preprocessing,
    folder: Path,
    *,
    check: Callable[[], None] = lambda: None,
) -> PictureSplit:
    """Decode and crop a split once, into a file of the run's folder that a later run finds again.

    The file is mapped, so that more pictures than the memory holds can be trained on. `check` is
    called before each picture and may raise. InvalidExamples names the first unusable picture.
    """
    path = folder / f"pixels-{split}-{_key(data, split, rule)}.npy"
    files, shape = data.files[split], (len(data.files[split]), rule.height, rule.width, 3)
    if not path.is_file():
        beside = path.with_name(f".{path.name}")
        pixels = open_memmap(beside, mode="w+", dtype=np.uint8, shape=shape)
        for row, content in enumerate(files):
            check()
            try:
                pixels[row] = crop_picture(decode_picture(content), rule)
            except UnusablePicture as error:
                raise InvalidExamples(f"the picture {files.written[row]}: {error}") from None
        pixels.flush()
        del pixels
        os.replace(beside, path)  # noqa: PTH105 - one call that replaces
    return PictureSplit(np.load(path, mmap_mode="r"), data.classes[split])


def remove_pixels(folder: Path) -> None:
    """Delete what `decode_split` left."""
    for pattern in ("pixels-*.npy", ".pixels-*.npy"):
        for spent in folder.glob(pattern):
            spent.unlink()


def _key(data: PictureExamples, split: str, rule: Preprocessing) -> str:
    content = data.records[split].sha256 + rule.model_dump_json()
    return hashlib.sha256(content.encode()).hexdigest()[:16]
