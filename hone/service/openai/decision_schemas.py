"""The decision bodies as /openapi.json describes them; tests hold answers to them."""

from typing import Any, Literal

from pydantic import Field

from hone.service.schemas import Body, SavingsBody

_NOT_READ = "Taken and not read."


class _Question(Body):
    instructions: str | list[dict[str, Any]] = Field(description="Checked and not read.")
    name: str | None = None


class PredicateQuestion(_Question):
    """How probable the label `name` is, or the positive one of two."""

    type: Literal["predicate"]


class ChoiceOption(Body):
    """A label; true and false are the labels `true` and `false`."""

    value: str | bool
    description: str | None = None


class ChoiceQuestion(_Question):
    """Which of these labels it is."""

    type: Literal["choice"]
    choices: list[ChoiceOption] = Field(min_length=2, max_length=255)


class ScoreLevel(Body):
    """A label; its place in the list, from 0, is its value."""

    label: str
    description: str | None = None


class ScoreQuestion(_Question):
    """Where between these labels it lies."""

    type: Literal["score"]
    levels: list[ScoreLevel] = Field(min_length=2, max_length=255)


class DecisionRequest(Body):
    """Questions about one input; each must be about the model's labels."""

    model: str
    input: str | list[dict[str, Any]]
    questions: list[PredicateQuestion | ChoiceQuestion | ScoreQuestion] = Field(
        min_length=1, max_length=400
    )
    prompt_cache_key: str | None = Field(None, description="Without effect.")
    prompt_cache_options: Any = Field(None, description=_NOT_READ)
    safety_identifier: str | None = Field(None, description="Without effect.")


class _NamedAnswer(Body):
    name: str | None


class PredicateAnswer(_NamedAnswer):
    """A calibrated probability."""

    type: Literal["predicate"]
    probability: float = Field(ge=0, le=1)


class ValueProbability(Body):
    """A choice and its share."""

    value: str | bool
    probability: float


class ChoiceAnswer(_NamedAnswer):
    """The most probable choice; `confidence` is its probability among the choices."""

    type: Literal["choice"]
    choice: str | bool
    confidence: float
    probabilities: list[ValueProbability]


class LevelProbability(Body):
    """A level, its value and its share."""

    label: str
    value: int
    probability: float


class ScoreAnswer(_NamedAnswer):
    """The mean value; `confidence` is the probability of the most probable level."""

    type: Literal["score"]
    score: float
    confidence: float
    probabilities: list[LevelProbability]


class RefusalAnswer(_NamedAnswer):
    """None of the choices has any probability."""

    type: Literal["refusal"]


class InputDetails(Body):
    """Nothing is cached."""

    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(Body):
    """Nothing is reasoned."""

    reasoning_tokens: int


class DecisionUsage(Body):
    """Tokens that the model read, once for all questions."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class DecisionResponse(Body):
    """One answer for each question, in their order."""

    model: str
    answers: list[PredicateAnswer | ChoiceAnswer | ScoreAnswer | RefusalAnswer]
    usage: DecisionUsage
    savings: SavingsBody | None
