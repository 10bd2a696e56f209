"""One completion on its way: what was asked, how far it is, and what is told about it."""

import enum
import time
from dataclasses import dataclass, field
from typing import Any, Literal

from hone.models.decoding.constraints import Constraint
from hone.models.decoding.detokenizing import Detokenizer
from hone.models.decoding.sampling import (
    Sampler,
    SamplingParameters,
    TokenLogprob,
    logprob_of,
)
from hone.models.decoding.stopping import StopFinder
from hone.models.decoding.voices import Voice
from hone.models.engines import FloatArray
from hone.models.errors import HoneError

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A prompt to complete, `choices` times.

    `grammar` is one of `ConstraintFactory.grammar`. `prompt_logprobs` is how many of the best
    tokens to report with the log-probability of each of the prompt's, None for nothing. `sender`
    is whatever the caller knows its request by.
    """

    prompt: tuple[int, ...]
    sampling: SamplingParameters
    max_tokens: int
    stops: tuple[str, ...] = ()
    choices: int = 1
    grammar: str | None = None
    prompt_logprobs: int | None = None
    sender: Any = None


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was chosen, and its log-probability if that was asked for.

    `place` is how many characters were said before it, a stop string's among them.
    """

    id: int
    logprob: TokenLogprob | None = None
    place: int = 0


@dataclass(slots=True)
class Update:
    """What is new of a generation: text, tokens, and at the end why it ended or what befell it."""

    generation: "Generation"
    text: str = ""
    token: Token | None = None
    finish: FinishReason | None = None
    error: HoneError | None = None

    @property
    def last(self) -> bool:
        """Whether nothing comes after it."""
        return self.finish is not None or self.error is not None


class Stage(enum.Enum):
    """Where a generation is."""

    WAITING = "waiting"
    READING = "reading"
    """It has a slot, and its prompt is being read."""
    RUNNING = "running"
    OVER = "over"


@dataclass(eq=False)
class Generation:
    """One choice of a request. All but `cancelled` belongs to the scheduler's thread."""

    request: GenerationRequest
    voice: Voice
    choice: int = 0
    leader: "Generation | None" = None
    constraint: Constraint | None = None
    cancelled: bool = False
    stage: Stage = Stage.WAITING
    slot: int = -1
    filled: int = 0
    """How many places of the slot are filled."""
    reused: int = 0
    """How many of the prompt's tokens were known from before."""
    ids: list[int] = field(default_factory=list)
    """The prompt and what came after it."""
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    submitted_at: float = field(default_factory=time.perf_counter)
    first_token_at: float = 0.0
    ended_at: float = 0.0

    def __post_init__(self) -> None:
        self.ids = list(self.request.prompt)
        self._sampler = Sampler(self.request.sampling, choice=self.choice)
        self._detokenizer = Detokenizer(self.voice.tokenizer, self.request.prompt)
        self._stops = StopFinder(self.request.stops)
        self._said = 0

    @property
    def generated(self) -> int:
        """How many tokens were chosen."""
        return len(self.ids) - len(self.request.prompt)

    @property
    def unread(self) -> int:
        """How many tokens of the prompt are not in the slot yet."""
        return len(self.request.prompt) - self.filled

    @property
    def estimate(self) -> int:
        """How many tokens it may cost."""
        return len(self.request.prompt) + self.request.max_tokens

    def advance(self, logits: FloatArray) -> Update:
        """Choose the next token by logits (vocabulary,); return what is new.

        ValueError when there is no token to choose.
        """
        allowed = self.constraint.allowed() if self.constraint else None
        token = self._sampler.choose(logits, allowed=allowed)
        wanted = self.request.sampling.logprobs
        logprob = None if wanted is None else logprob_of(logits, token, wanted)
        self.ids.append(token)
        if not self.first_token_at:
            self.first_token_at = time.perf_counter()
        if token in self.voice.tokenizer.eos_ids:
            return Update(self, self._rest(), None, "stop")
        if self.constraint:
            self.constraint.follow(token)
        piece = self._detokenizer.push(token)
        update = Update(self, self._stops.push(piece), Token(token, logprob, self._said))
        self._said += len(piece)
        complete = self.constraint is not None and self.constraint.complete
        if self._stops.found is not None or complete:
            update.finish = "stop"
        elif self.generated >= self.request.max_tokens:
            update.finish = "length"
        if update.finish and self._stops.found is None:
            update.text += self._rest()
            update.finish = "stop" if self._stops.found is not None else update.finish
        return update

    def _rest(self) -> str:
        text = self._stops.push(self._detokenizer.finish())
        return text + self._stops.finish()
