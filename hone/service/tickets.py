"""A request's texts, or pictures, on their way through the batcher."""

import asyncio
import enum
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from hone.models.engines import FloatArray
from hone.models.errors import HoneError
from hone.models.tokenizer import IntArray

Input = str | bytes
"""A text, or the bytes of a picture's file."""


class Encoded(Protocol):
    """An input as its model reads it; `TokenizedText` and `PreparedPicture` are two."""

    @property
    def length(self) -> int:
        """What it costs in a batch, where all are as long as the longest; 0 for nothing."""

    @property
    def tokens(self) -> int:
        """What `usage` counts for it."""


FallbackOutcome = Literal[
    "answered",
    "refused",
    "unreadable",
    "failed",
    "timed_out",
    "busy",
    "paused",
    "spent",
    "off",
    "cancelled",
]
"""What became of asking the prompt: only after `answered` its label is the answer. `busy`: there
was no place in time; `paused`: it failed too often of late, and was not asked; `spent`: what
fallbacks may cost a day is, or the arm has no price to hold it by; `off`: the service has no
address."""


@dataclass(frozen=True, slots=True)
class PromptAnswer:
    """What a prompt said of a text below the threshold, as the place of a label, and its cost.

    `dollars` is None where the price is not known.
    """

    outcome: FallbackOutcome
    place: int | None = None
    prompt_tokens: int = 0
    dollars: float | None = 0.0

    def without_costs(self) -> "PromptAnswer":
        """Return it for a text that shares the call of an equal one."""
        return PromptAnswer(self.outcome, self.place)


class State(enum.Enum):
    """Where a text is. `waits` tells whether it takes a place in the queue."""

    ARRIVED = (0, True)
    TOKENIZING = (1, True)
    POOLED = (2, True)
    RUNNING = (3, False)
    DROPPED = (4, False)

    def __init__(self, order: int, waits: bool) -> None:
        self.order = order
        self.waits = waits


class WorkItem:
    """One text or picture. The batcher's lock guards `state`; a worker fills the rest.

    `row` holds the probabilities, float32 of shape (labels,), and `order` the labels' places,
    int64 of shape (labels,), highest probability first. Times are `time.perf_counter` seconds.
    """

    __slots__ = (
        "baseline_tokens", "encoded", "ended_at", "error", "length", "order", "prompt_answer",
        "row", "sequence", "started_at", "state", "text", "ticket", "tokenization_s",
    )  # fmt: skip

    def __init__(self, ticket: "Ticket", text: Input) -> None:
        self.ticket = ticket
        self.text = text
        self.state = State.ARRIVED
        self.sequence = 0
        self.length = 0
        self.encoded: Encoded | None = None
        self.baseline_tokens = 0
        self.tokenization_s = 0.0
        self.started_at = 0.0
        self.ended_at = 0.0
        self.row: FloatArray | None = None
        self.order: IntArray | None = None
        self.error: HoneError | None = None
        self.prompt_answer: PromptAnswer | None = None

    @property
    def tokens(self) -> int:
        """What `usage` counts for it."""
        return self.encoded.tokens if self.encoded is not None else 0

    @property
    def confidence(self) -> float:
        """The probability that the model gives its best label."""
        if self.row is None or self.order is None:
            raise ValueError("the text has no scores")
        return float(self.row[self.order[0]])

    @property
    def answer(self) -> int:
        """The place of the label to answer with: the prompt's, if it was asked and named one."""
        if self.order is None:
            raise ValueError("the text has no scores")
        said = self.prompt_answer
        return int(self.order[0]) if said is None or said.place is None else said.place

    @property
    def answered_by(self) -> Literal["model", "prompt"]:
        """Whose label `answer` is."""
        said = self.prompt_answer
        return "model" if said is None or said.place is None else "prompt"


class Ticket:
    """One request. `future` is done when each of its texts has a row or an error.

    `last` is then the text that was finished last.
    """

    __slots__ = ("future", "items", "last", "remaining", "submitted_at")

    def __init__(self, texts: Sequence[Input], future: "asyncio.Future[None]") -> None:
        self.items = [WorkItem(self, text) for text in texts]
        self.future = future
        self.remaining = len(self.items)
        self.last = self.items[0]
        self.submitted_at = time.perf_counter()

    def first_error(self) -> tuple[int, HoneError] | None:
        """Return the first text that failed and why, or None."""
        for index, item in enumerate(self.items):
            if item.error is not None:
                return index, item.error
        return None
