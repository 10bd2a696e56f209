"""What a model is asked about: a text or a picture; and examples of it."""

from dataclasses import dataclass
from typing import Literal

from hone.models.examples import words_key
from hone.models.imaging.pictures import Picture

InputKind = Literal["text", "image"]
"""The kind of an input: also its key in JSON lines, and its placeholder in templates."""

Input = str | Picture


@dataclass(frozen=True, slots=True)
class Shot:
    """An input and its label, as a prompt shows it."""

    input: Input
    label: str


def kind_of(given: Input) -> InputKind:
    """Return the kind of an input."""
    return "text" if isinstance(given, str) else "image"


def identity(given: Input) -> str:
    """Return what two inputs share if they are the same: a text's words, a picture's bytes."""
    return words_key(given) if isinstance(given, str) else given.sha256


def shown_as(given: Input) -> str:
    """Return an input in words: the text itself, or the picture's name."""
    return given if isinstance(given, str) else given.name
