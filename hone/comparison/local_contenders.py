"""Contenders that answer in this process: a bundle, the bare base, the majority, a record."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import orjson

from hone.comparison.experiment import BundleContender, EmbeddedContender, RecordedContender
from hone.comparison.outcomes import Item, Outcome
from hone.models.engines import FloatArray
from hone.models.errors import InvalidExamples, InvalidInput
from hone.models.examples import unusable_lines
from hone.models.imaging.predictor import PicturePredictor, load_picture_predictor
from hone.models.manifest import Manifest, Variant
from hone.models.names import parse_reference
from hone.models.predictor import Predictor, choose_variant, load_predictor, softmax
from hone.models.prompting.answers import LabelReader
from hone.models.prompting.blas_threads import one_blas_thread
from hone.models.prompting.embedding import BertEncoder
from hone.models.prompting.inputs import Input, Shot, shown_as
from hone.models.prompting.prompts import fill
from hone.models.prompting.usage import Usage
from hone.models.registry import Registry

_COSINE_TEMPERATURE = 0.05
"""The base was trained with cosines times 20 as logits."""
_ALONE, _AHEAD = 400, 64
"""How many items are timed alone at least (a p99 takes 368), and how many are looked ahead to."""


class LocalContender(Protocol):
    """Answers one item at a time, in this process."""

    def answer(self, item: Item, repeat: int) -> Outcome:
        """Return what it says of an item."""


@dataclass(frozen=True, slots=True)
class BundleAnswerer:
    """A bundle's calibrated best label; each input alone.

    A text is timed with its tokenizing, a picture with its decoding, but not its way from the disk.
    """

    name: str
    predictor: Predictor | PicturePredictor
    manifest: Manifest
    variant: Variant

    def answer(self, item: Item, repeat: int) -> Outcome:
        """Return the label; an input that the bundle refuses is a failed call."""
        try:
            row, seconds = self._timed(item.input)
        except InvalidInput as error:
            return _failed(self.name, item, repeat, str(error))
        best = int(np.argmax(row))
        label = self.predictor.labels[best]
        return _answered(self.name, item, repeat, label, float(row[best]), seconds)

    def _timed(self, given: Input) -> tuple[FloatArray, float]:
        """Return the probabilities (labels,) of an input, and the seconds that they took."""
        predictor, content = self.predictor, b"" if isinstance(given, str) else given.read()
        started = time.perf_counter()
        if isinstance(predictor, PicturePredictor):
            row = predictor.probabilities(predictor.encode([content]))[0]
        else:
            row = predictor.probabilities(predictor.encode([shown_as(given)]))[0]
        return row, time.perf_counter() - started


def load_bundle(contender: BundleContender) -> BundleAnswerer:
    """Open and verify a bundle, and load it on this machine's CPU, with one thread."""
    bundle = Registry(Path(contender.store)).open(parse_reference(contender.model))
    variant = choose_variant(bundle, contender.variant, "cpu")
    load = load_predictor if bundle.manifest.preprocessing is None else load_picture_predictor
    predictor = load(bundle, variant=variant, device="cpu")
    return BundleAnswerer(contender.name, predictor, bundle.manifest, variant)


@dataclass(frozen=True, slots=True)
class EmbeddedAnswerer:
    """The label whose name's embedding is nearest to the text's; nothing was trained.

    The confidence is the softmax of the cosines at the base's own scale; nothing calibrated it.
    Every so many items, and any that is not among `items`, are embedded alone and timed, on one
    thread as bundles are. The others are embedded in batches, which is faster, and have no time:
    a share of a batch's is not what a request takes.
    """

    name: str
    encoder: BertEncoder
    labels: Sequence[str]
    names: FloatArray
    items: Sequence[Item] = ()
    places: Mapping[str, int] = field(default_factory=dict)
    ahead: dict[str, FloatArray] = field(default_factory=dict)

    def answer(self, item: Item, repeat: int) -> Outcome:
        """Return the nearest label."""
        place = self.places.get(item.id)
        if place is None or not place % self._every:
            started = time.perf_counter()
            likeness = self.names @ self.encoder.embed([shown_as(item.input)])[0]
            return self._nearest(item, repeat, likeness, time.perf_counter() - started)
        if item.id not in self.ahead:
            self._embed_from(place)
        return self._nearest(item, repeat, self.names @ self.ahead.pop(item.id), None)

    @property
    def _every(self) -> int:
        return max(1, len(self.items) // _ALONE)

    def _embed_from(self, place: int) -> None:
        """Embed an item and those after it, as many as a batch has, but for those timed alone."""
        places = range(place, min(place + _AHEAD, len(self.items)))
        batch = [self.items[next_] for next_ in places if next_ % self._every]
        with one_blas_thread():
            vectors = self.encoder.embed([shown_as(item.input) for item in batch])
        self.ahead.update({item.id: v for item, v in zip(batch, vectors, strict=True)})

    def _nearest(
        self, item: Item, repeat: int, likeness: FloatArray, seconds: float | None
    ) -> Outcome:
        best = int(np.argmax(likeness))
        confidence = float(softmax(likeness, _COSINE_TEMPERATURE)[best])
        return _answered(self.name, item, repeat, self.labels[best], confidence, seconds)


def embed_labels(
    contender: EmbeddedContender,
    encoder: BertEncoder,
    labels: Sequence[str],
    descriptions: Mapping[str, str],
    items: Sequence[Item] = (),
) -> EmbeddedAnswerer:
    """Embed the labels as the contender's template shows them, `_` and `-` read as spaces.

    `items` are those that will be asked, in their order.
    """
    plain = {label: " ".join(label.replace("_", " ").replace("-", " ").split()) for label in labels}
    shown = [
        fill(
            contender.template,
            {"label": plain[label], "description": descriptions.get(label, plain[label])},
        )
        for label in labels
    ]
    places = {item.id: place for place, item in enumerate(items)}
    return EmbeddedAnswerer(contender.name, encoder, labels, encoder.embed(shown), items, places)


@dataclass(frozen=True, slots=True)
class MajorityAnswerer:
    """The training examples' most frequent label, its share being the confidence."""

    name: str
    label: str
    share: float

    def answer(self, item: Item, repeat: int) -> Outcome:
        """Return that label, whatever the text."""
        return _answered(self.name, item, repeat, self.label, self.share, 0.0)


def find_majority(name: str, training: Sequence[Shot]) -> MajorityAnswerer:
    """Count the labels; of equals the first by the alphabet."""
    counts = Counter(example.label for example in training)
    label = min(counts, key=lambda found: (-counts[found], found))
    return MajorityAnswerer(name, label, counts[label] / len(training))


@dataclass(frozen=True, slots=True)
class RecordedAnswerer:
    """Answers from a file, found by the item's id or else by its text."""

    name: str
    by_id: Mapping[tuple[str, int], Mapping[str, Any]]
    by_text: Mapping[tuple[str | None, int], Mapping[str, Any]]
    reader: LabelReader

    @property
    def repeats(self) -> int:
        """How often an item was asked, at most."""
        return 1 + max(repeat for _, repeat in (*self.by_id, *self.by_text))

    def answer(self, item: Item, repeat: int) -> Outcome:
        """Return what was recorded; an item without a record is a failed call."""
        row = self.by_id.get((item.id, repeat))
        if row is None and item.text is not None:  # a picture is not that of an empty text
            row = self.by_text.get((item.text, repeat))
        if row is None:
            return _failed(self.name, item, repeat, "there is no recorded answer")
        if row.get("error") or not {"answer", "label"} & row.keys():
            return _failed(self.name, item, repeat, row["error"] or "no reason was recorded")
        answer = row.get("answer")
        read = self.reader.read(row["label"] if answer is None else answer)
        usage = _recorded_usage(row)
        return Outcome(
            contender=self.name,
            item=item.id,
            repeat=repeat,
            kind=read.kind,
            label=read.label,
            confidence=row.get("confidence") if read.kind == "answered" else None,
            raw=row["label"] if answer is None else answer,
            seconds=row.get("seconds"),
            calls=1,
            usage=usage,
            spent=usage,
        )


def read_recorded(
    contender: RecordedContender, items: Sequence[Item], reader: LabelReader
) -> RecordedAnswerer:
    """Read recorded answers; InvalidExamples names bad lines, or says that no item has one.

    `items` are empty where they are not known.
    """
    path = Path(contender.path)
    by_id: dict[tuple[str, int], Mapping[str, Any]] = {}
    by_text: dict[tuple[str | None, int], Mapping[str, Any]] = {}
    problems: list[str] = []
    try:
        lines = path.read_bytes().splitlines()
    except (FileNotFoundError, IsADirectoryError):
        raise InvalidExamples(f"there is no file {path.absolute()}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = _recorded_row(line)
        except ValueError as error:
            problems.append(f"line {number}: {error}")
            continue
        if "id" in row:
            by_id[str(row["id"]), row.get("repeat", 0)] = row
        if "text" in row:
            by_text[row["text"], row.get("repeat", 0)] = row
    if problems:
        raise InvalidExamples(unusable_lines(path, problems))
    answerer = RecordedAnswerer(contender.name, by_id, by_text, reader)
    if items and all((i.id, 0) not in by_id and (i.text, 0) not in by_text for i in items):
        raise InvalidExamples(f"{path} has no answer for any of the items: see its ids and texts")
    return answerer


_FIELDS: dict[str, tuple[type, ...]] = {
    "id": (str, int),
    "text": (str,),
    "answer": (str, dict, list),
    "label": (str,),
    "error": (str,),
    "confidence": (float, int),
    "seconds": (float, int),
    "repeat": (int,),
    "prompt_tokens": (int,),
    "completion_tokens": (int,),
    "cached_tokens": (int,),
    "cache_write_tokens": (int,),
}


def _recorded_row(line: bytes) -> dict[str, Any]:
    """Return a line's fields that are not null; ValueError says what is wrong with it."""
    try:
        content = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise ValueError("is not JSON in UTF-8") from None
    if not isinstance(content, dict):
        raise ValueError("is not a JSON object")  # noqa: TRY004 - one kind of problem
    row = {name: value for name, value in content.items() if value is not None}
    for name, value in row.items():
        if name not in _FIELDS:
            raise ValueError(f"there is no field {name!r}")
        if not isinstance(value, _FIELDS[name]) or isinstance(value, bool):
            raise ValueError(f"{name!r} has another type")  # noqa: TRY004 - as above
        if isinstance(value, int | float) and name != "id" and value < 0:
            raise ValueError(f"{name!r} is negative")
    if row.get("confidence", 0) > 1:
        raise ValueError("'confidence' is above 1")
    if "id" not in row and "text" not in row:
        raise ValueError("has neither 'id' nor 'text'")
    if not {"answer", "label", "error"} & set(row):
        raise ValueError("has neither 'answer' nor 'label' nor 'error'")
    if not isinstance(answer := row.get("answer", ""), str):
        row["answer"] = orjson.dumps(answer).decode()  # read as the model wrote it
    return row


def _recorded_usage(row: Mapping[str, Any]) -> Usage:
    if "prompt_tokens" not in row:
        return Usage()
    prompt = row["prompt_tokens"]
    cached = min(row.get("cached_tokens", 0), prompt)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=row.get("completion_tokens", 0),
        cached_tokens=cached,
        cache_write_tokens=min(row.get("cache_write_tokens", 0), prompt - cached),
        counting="measured",
    )


def _answered(
    name: str, item: Item, repeat: int, label: str, confidence: float, seconds: float | None
) -> Outcome:
    return Outcome(
        contender=name,
        item=item.id,
        repeat=repeat,
        kind="answered",
        label=label,
        confidence=min(confidence, 1.0),
        raw=label,
        seconds=seconds,
        calls=0,
    )


def _failed(name: str, item: Item, repeat: int, error: str) -> Outcome:
    return Outcome(contender=name, item=item.id, repeat=repeat, kind="failed", error=error, calls=0)
