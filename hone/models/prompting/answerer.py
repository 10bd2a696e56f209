"""An arm that is ready to be asked: its prompt for an input, and what an answer says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from hone.models.engines import FloatArray
from hone.models.errors import BundleCorrupt, InvalidInput
from hone.models.imaging.embedded import decode_data_url
from hone.models.imaging.pictures import PictureBytes, data_url
from hone.models.prompting.answers import LabelReader
from hone.models.prompting.arm import PromptArm, Retrieval
from hone.models.prompting.embedding import BertEncoder, nearest
from hone.models.prompting.inputs import Input, InputKind, Shot
from hone.models.prompting.prompts import Prompt, labels_list, nearest_last
from hone.models.prompting.reading import Said, read_label
from hone.models.prompting.tensors import read_tensors
from hone.models.prompting.tokens import TokenRule
from hone.models.prompting.usage import Usage
from hone.models.prompting.wire import PATHS, read_reply, request_body

EMBEDDINGS = "embeddings"
"""The name of the one tensor in a file of embeddings."""


@dataclass(frozen=True, slots=True)
class Finder:
    """Finds the examples nearest to a text. Thread-safe; one text takes some milliseconds."""

    encoder: BertEncoder
    vectors: FloatArray
    k: int

    def places(self, text: str) -> list[int]:
        """Return the places of the nearest examples, the nearest first."""
        found: list[int] = nearest(self.encoder.embed([text]), self.vectors, self.k)[0].tolist()
        return found


@dataclass(frozen=True)
class PromptAnswerer:
    """Makes requests of inputs and labels of answers, as the comparison did. Thread-safe."""

    arm: PromptArm
    examples: Sequence[Shot]
    finder: Finder | None
    reader: LabelReader

    @property
    def path(self) -> str:
        """Where under the address the requests go."""
        return PATHS[self.arm.api]

    def prompt(self, given: str | bytes) -> Prompt:
        """Return the prompt for a text, or for the bytes of a picture that was checked."""
        shown: Input = given if isinstance(given, str) else PictureBytes(given)
        examples = self.examples
        if self.finder is not None and isinstance(shown, str):
            examples = nearest_last(self.examples, self.finder.places(shown))
        labels = labels_list(self.arm.labels, self.arm.descriptions)
        return self.arm.templates.render(shown, labels=labels, examples=examples)

    def request(self, prompt: Prompt) -> bytes:
        """Return the body that asks a prompt, as JSON."""
        return orjson.dumps(request_body(self.arm, prompt, self.arm.labels, self.arm.descriptions))

    def read(self, prompt: Prompt, body: bytes) -> tuple[Said, Usage]:
        """Return what an answer's body says, and the tokens that it took.

        MalformedAnswer if it is no answer. Tokens that it does not tell are estimated.
        """
        reply = read_reply(self.arm.api, body)
        usage = reply.usage
        if usage is None:
            rule = TokenRule(None, self.arm.detail)
            usage = rule.usage(prompt, reply.text, chat=self.arm.api == "chat")
        return read_label(reply, self.arm.labels, self.reader), usage


def load_answerer(arm: PromptArm, file: Callable[[str], Path]) -> PromptAnswerer:
    """Load an arm; `file` gives the path of a file of its bundle, which was verified.

    BundleCorrupt if the files are not what the arm says.
    """
    try:
        examples = [] if arm.examples is None else read_shots(file(arm.examples), arm.inputs)
        finder = None if arm.retrieval is None else _finder(arm.retrieval, file)
    except InvalidInput as error:
        raise BundleCorrupt(f"the prompt arm of the bundle cannot be read: {error}") from None
    if finder is not None and len(finder.vectors) != len(examples):
        raise BundleCorrupt("the bundle's prompt arm has not a vector for each example")
    reader = LabelReader(arm.labels, lenient=arm.reading == "lenient")
    return PromptAnswerer(arm, tuple(examples), finder, reader)


def _finder(retrieval: Retrieval, file: Callable[[str], Path]) -> Finder:
    form = retrieval.form
    encoder = BertEncoder.load(
        file(retrieval.encoder), file(retrieval.tokenizer), form, retrieval.base
    )
    vectors = read_tensors(file(retrieval.embeddings)).get(EMBEDDINGS)
    if vectors is None or vectors.ndim != 2:
        raise InvalidInput(f"{retrieval.embeddings} has no embeddings")
    return Finder(encoder, vectors.astype(np.float32), retrieval.k)


def read_shots(path: Path, kind: InputKind) -> list[Shot]:
    """Read an arm's examples: a JSON list of objects with `text` (or `image`) and `label`."""
    try:
        rows = orjson.loads(path.read_bytes())
        return [Shot(_input(row, kind), str(row["label"])) for row in rows]
    except (ValueError, KeyError, TypeError, InvalidInput):
        raise InvalidInput(f"{path.name} holds no examples") from None


def _input(row: dict[str, Any], kind: InputKind) -> Input:
    if kind == "text":
        return str(row["text"])
    return PictureBytes(decode_data_url(row["image"])[0])


def write_shots(path: Path, examples: Sequence[Shot]) -> None:
    """Write an arm's examples; pictures as data URLs, so that the file needs no other."""
    rows = [
        {"text": shot.input, "label": shot.label}
        if isinstance(shot.input, str)
        else {"image": data_url(shot.input), "label": shot.label}
        for shot in examples
    ]
    path.write_bytes(orjson.dumps(rows))
