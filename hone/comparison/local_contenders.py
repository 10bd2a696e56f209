"""Contenders that answer in this process: a bundle, the bare base, the majority, a record."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import orjson

from hone.comparison.experiment import BundleContender, EmbeddedContender, RecordedContender
from hone.comparison.outcomes import Item, Outcome
from hone.models.engines import FloatArray
from hone.models.errors import InvalidExamples, InvalidInput
from hone.models.examples import Example
from hone.models.manifest import Manifest, Variant
from hone.models.names import parse_reference
from hone.models.predictor import Predictor, choose_variant, load_predictor, softmax
from hone.models.prompting.answers import LabelReader
from hone.models.prompting.embedding import BertEncoder
from hone.models.prompting.prompts import fill
from hone.models.prompting.usage import Usage
from hone.models.registry import Registry

_COSINE_TEMPERATURE = 0.05
"""The base was trained with cosines times 20 as logits."""


class LocalContender(Protocol):
    """Answers one item at a time, in this process."""

    def answer(self, item: Item, repeat: int) -> Outcome:
        """Return what it says of an item."""


@dataclass(frozen=True, slots=True)
class BundleAnswerer:
    """A bundle's calibrated best label; each text alone, timed with its tokenizing."""

    name: str
    predictor: Predictor
    manifest: Manifest
    variant: Variant

    def answer(self, item: Item, repeat: int) -> Outcome:
        """Return the label; a text that the bundle refuses is a failed call."""
        started = time.perf_counter()
        try:
            row = self.predictor.probabilities(self.predictor.encode([item.text]))[0]
        except InvalidInput as error:
            return _failed(self.name, item, repeat, str(error))
        seconds = time.perf_counter() - started
        best = int(np.argmax(row))
        label = self.predictor.labels[best]
        return _answered(self.name, item, repeat, label, float(row[best]), seconds)


def load_bundle(contender: BundleContender) -> BundleAnswerer:
    """Open and verify a bundle, and load it on this machine's CPU, with one thread."""
    bundle = Registry(Path(contender.store)).open(parse_reference(contender.model))
    variant = choose_variant(bundle, contender.variant, "cpu")
    predictor = load_predictor(bundle, variant=variant, device="cpu")
    return BundleAnswerer(contender.name, predictor, bundle.manifest, variant)


@dataclass(frozen=True, slots=True)
class EmbeddedAnswerer:
    """The label whose name's embedding is nearest to the text's; nothing was trained.

    The confidence is the softmax of the cosines at the base's own scale; nothing calibrated it.
    """

    name: str
    encoder: BertEncoder
    labels: Sequence[str]
    names: FloatArray

    def answer(self, item: Item, repeat: int) -> Outcome:
        """Return the nearest label."""
        started = time.perf_counter()
        likeness = self.names @ self.encoder.embed([item.text])[0]
        seconds = time.perf_counter() - started
        best = int(np.argmax(likeness))
        confidence = float(softmax(likeness, _COSINE_TEMPERATURE)[best])
        return _answered(self.name, item, repeat, self.labels[best], confidence, seconds)


def embed_labels(
    contender: EmbeddedContender,
    encoder: BertEncoder,
    labels: Sequence[str],
    descriptions: Mapping[str, str],
) -> EmbeddedAnswerer:
    """Embed the labels as the contender's template shows them, `_` and `-` read as spaces."""
    plain = {label: " ".join(label.replace("_", " ").replace("-", " ").split()) for label in labels}
    shown = [
        fill(
            contender.template,
            {"label": plain[label], "description": descriptions.get(label, plain[label])},
        )
        for label in labels
    ]
    return EmbeddedAnswerer(contender.name, encoder, labels, encoder.embed(shown))


@dataclass(frozen=True, slots=True)
class MajorityAnswerer:
    """The training examples' most frequent label, its share being the confidence."""

    name: str
    label: str
    share: float

    def answer(self, item: Item, repeat: int) -> Outcome:
        """Return that label, whatever the text."""
        return _answered(self.name, item, repeat, self.label, self.share, 0.0)


def find_majority(name: str, training: Sequence[Example]) -> MajorityAnswerer:
    """Count the labels; of equals the first by the alphabet."""
    counts = Counter(example.label for example in training)
    label = min(counts, key=lambda found: (-counts[found], found))
    return MajorityAnswerer(name, label, counts[label] / len(training))


@dataclass(frozen=True, slots=True)
class RecordedAnswerer:
    """Answers from a file, found by the item's id or else by its text."""

    name: str
    by_id: Mapping[tuple[str, int], Mapping[str, Any]]
    by_text: Mapping[tuple[str, int], Mapping[str, Any]]
    reader: LabelReader

    @property
    def repeats(self) -> int:
        """How often an item was asked, at most."""
        return 1 + max(repeat for _, repeat in (*self.by_id, *self.by_text))

    def answer(self, item: Item, repeat: int) -> Outcome:
        """Return what was recorded; an item without a record is a failed call."""
        row = self.by_id.get((item.id, repeat)) or self.by_text.get((item.text, repeat))
        if row is None:
            return _failed(self.name, item, repeat, "there is no recorded answer")
        if row.get("error"):
            return _failed(self.name, item, repeat, str(row["error"]))
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
    """Read recorded answers; InvalidExamples names bad lines, or says that no item has one."""
    path = Path(contender.path)
    by_id: dict[tuple[str, int], Mapping[str, Any]] = {}
    by_text: dict[tuple[str, int], Mapping[str, Any]] = {}
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
        shown = "\n  ".join(problems[:100])
        raise InvalidExamples(f"{path} has {len(problems)} unusable lines:\n  {shown}")
    answerer = RecordedAnswerer(contender.name, by_id, by_text, reader)
    if all((i.id, 0) not in by_id and (i.text, 0) not in by_text for i in items):
        raise InvalidExamples(f"{path} has no answer for any of the items: see its ids and texts")
    return answerer


_FIELDS: dict[str, tuple[type, ...]] = {
    "id": (str, int),
    "text": (str,),
    "answer": (str,),
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
    name: str, item: Item, repeat: int, label: str, confidence: float, seconds: float
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
