"""The completion and decision bodies as /openapi.json describes them; tests hold answers to them.

Every field that a model takes stands here, also those that it takes only when they ask for
nothing; the rest of the API's fields is refused by name.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from hone.service.schemas import Body, SavingsBody

EmptyList = Annotated[list[Any], Field(max_length=0)]
EmptyObject = Annotated[dict[str, Any], Field(max_length=0)]

_NOT_SUPPORTED = "Not supported: may be null or empty."
_NOT_READ = "Taken and not read."
_TEMPERATURE = "A classifier's answer is the most probable label, whatever this is."
_CAUSAL = "Of a causal model; a classifier's answer does not change with it."


class StreamOptions(Body):
    """What a stream holds beside the choices."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = Field(None, description="Without effect.")


class _Sampled(Body):
    n: int | None = Field(None, ge=1, le=128, description="A classifier's choices are equal.")
    stop: str | list[str] | None = Field(None, description="Up to 4; the first ends the text.")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2, description=_TEMPERATURE)
    top_p: float | None = Field(None, ge=0, le=1, description=_TEMPERATURE)
    presence_penalty: float | None = Field(None, ge=-2, le=2, description=_CAUSAL)
    frequency_penalty: float | None = Field(None, ge=-2, le=2, description=_CAUSAL)
    seed: int | None = Field(None, description=_CAUSAL)
    user: str | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = Field(
        None, description="Of a causal model, by token ids; refused by a classifier."
    )
    top_k: int | None = Field(
        None, ge=0, description="Of a causal model, 0 for no bound; refused by a classifier."
    )


class CompletionRequest(_Sampled):
    """Prompts; a classifier's with or without what the training data's prompts shared."""

    model: str | None = Field(None, description="May be null where the address names it.")
    prompt: str | list[str] | list[int] | list[list[int]] = Field(
        description="Token ids are for causal models.", examples=["Where is my card?\n\n###\n\n"]
    )
    logprobs: int | None = Field(None, ge=0, le=5)
    echo: bool | None = None
    best_of: int | None = Field(None, ge=1, le=128, description="Not below `n`; no effect else.")
    max_tokens: int | None = Field(None, ge=0, description="16 if not given; a label is one.")
    suffix: Literal[""] | None = Field(None, description=_NOT_SUPPORTED)


class LegacyLogprobs(Body):
    """Parallel lists; `text_offset` counts characters from the beginning of the prompt."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(Body):
    """A causal model's text, or a label as the training data's completions had it."""

    text: str
    index: int
    logprobs: LegacyLogprobs | None
    finish_reason: Literal["stop", "length"]


class PromptDetails(Body):
    """How many of a prompt's tokens were known from an earlier one."""

    cached_tokens: int


class CompletionUsage(Body):
    """Tokens that the model read and said; a label is one."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails | None = Field(None, description="Of a causal model.")


class _Answered(Body):
    id: str
    created: int
    model: str = Field(examples=["support@3"])
    system_fingerprint: str
    usage: CompletionUsage
    savings: SavingsBody | None


class CompletionResponse(_Answered):
    """`n` choices for each prompt."""

    object: Literal["text_completion"]
    choices: list[CompletionChoice]


class TextPart(Body):
    """A part of a message; further fields of it are not read."""

    model_config = ConfigDict(extra="ignore")
    type: Literal["text"]
    text: str


class ChatMessage(Body):
    """A message; an answer of this API may be sent back as it is."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = Field(
        None, description="Only an assistant's may be absent."
    )
    type: Literal["message"] | None = None
    name: str | None = None
    annotations: Any = Field(None, description=_NOT_READ)
    phase: Any = Field(None, description=_NOT_READ)
    audio: EmptyObject | None = Field(None, description=_NOT_SUPPORTED)
    function_call: EmptyObject | None = Field(None, description=_NOT_SUPPORTED)
    refusal: Literal[""] | None = Field(None, description=_NOT_SUPPORTED)
    tool_call_id: Literal[""] | None = Field(None, description=_NOT_SUPPORTED)
    tool_calls: EmptyList | None = Field(None, description=_NOT_SUPPORTED)


class ChatRequest(_Sampled):
    """A chat, with or without the system message and the turns that the training chats shared."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    max_tokens: int | None = Field(None, ge=1, description="As many as fit, if not given.")
    max_completion_tokens: int | None = Field(None, ge=1)
    modalities: list[Literal["text"]] | None = Field(None, min_length=1, max_length=1)
    reasoning_effort: Literal["none"] | None = None
    response_format: dict[str, Any] | None = Field(
        None, description="Of a causal model: text, json_object, or json_schema with a schema."
    )
    service_tier: Literal["auto", "default"] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    verbosity: Literal["medium"] | None = None
    safety_identifier: str | None = Field(None, description="Without effect.")
    prompt_cache_key: str | None = Field(None, description="Without effect.")
    prompt_cache_retention: str | None = Field(None, description="Without effect.")
    audio: EmptyObject | None = Field(None, description=_NOT_SUPPORTED)
    function_call: EmptyObject | None = Field(None, description=_NOT_SUPPORTED)
    functions: EmptyList | None = Field(None, description=_NOT_SUPPORTED)
    metadata: EmptyObject | None = Field(None, description=_NOT_SUPPORTED)
    moderation: EmptyObject | None = Field(None, description=_NOT_SUPPORTED)
    parallel_tool_calls: Literal[False] | None = Field(None, description=_NOT_SUPPORTED)
    prediction: EmptyObject | None = Field(None, description=_NOT_SUPPORTED)
    store: Literal[False] | None = Field(None, description=_NOT_SUPPORTED)
    tools: EmptyList | None = Field(None, description=_NOT_SUPPORTED)
    web_search_options: EmptyObject | None = Field(None, description=_NOT_SUPPORTED)


class TopLogprob(Body):
    """A label, its log-probability and its UTF-8 bytes."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """The token or label that was said, and the most probable ones."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(Body):
    """An entry for each token; a label is one."""

    content: list[TokenLogprob]
    refusal: None


class ChatAnswer(Body):
    """A causal model's text, or the label."""

    role: Literal["assistant"]
    content: str
    refusal: None
    annotations: list[Any]


class ChatChoice(Body):
    """One of `n` choices."""

    index: int
    message: ChatAnswer
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length"]


class ChatResponse(_Answered):
    """`n` choices."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]


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
