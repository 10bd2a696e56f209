"""The completion bodies as /openapi.json describes them; tests hold answers to them.

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
_TOOLS = "Of a causal model whose chat template knows tools; refused by all others."
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


class CalledFunction(Body):
    """What is called, with its arguments as a string of JSON."""

    name: str = Field(max_length=64)
    arguments: str


class ToolCall(Body):
    """A call of a tool."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class SentToolCall(ToolCall):
    """A call that is sent back."""

    index: Any = Field(None, description=_NOT_READ)


class ChatMessage(Body):
    """A message; an answer of this API may be sent back as it is. Tools are for causal models."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
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
    tool_call_id: str | None = Field(None, description="Of a tool's message: what it answers.")
    tool_calls: list[SentToolCall] | None = Field(None, max_length=128, description=_TOOLS)


class FunctionTool(Body):
    """A function; `parameters` is a JSON schema, to which `strict` holds the arguments."""

    name: str = Field(pattern="^[A-Za-z0-9_-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ChatTool(Body):
    """A tool that may be called."""

    type: Literal["function"]
    function: FunctionTool


class FunctionName(Body):
    """Which function."""

    name: str


class NamedTool(Body):
    """The one function that must be called."""

    type: Literal["function"]
    function: FunctionName


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
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = Field(
        None, description=_TOOLS
    )
    verbosity: Literal["medium"] | None = None
    safety_identifier: str | None = Field(None, description="Without effect.")
    prompt_cache_key: str | None = Field(None, description="Without effect.")
    prompt_cache_retention: str | None = Field(None, description="Without effect.")
    audio: EmptyObject | None = Field(None, description=_NOT_SUPPORTED)
    function_call: EmptyObject | None = Field(None, description=_NOT_SUPPORTED)
    functions: EmptyList | None = Field(None, description=_NOT_SUPPORTED)
    metadata: EmptyObject | None = Field(None, description=_NOT_SUPPORTED)
    moderation: EmptyObject | None = Field(None, description=_NOT_SUPPORTED)
    parallel_tool_calls: bool | None = Field(None, description=_TOOLS)
    prediction: EmptyObject | None = Field(None, description=_NOT_SUPPORTED)
    store: Literal[False] | None = Field(None, description=_NOT_SUPPORTED)
    tools: list[ChatTool] | None = Field(None, max_length=128, description=_TOOLS)
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
    """A causal model's text or calls, or the label."""

    role: Literal["assistant"]
    content: str | None
    tool_calls: list[ToolCall] = Field([], description="Only there if there are some.")
    refusal: None
    annotations: list[Any]


class ChatChoice(Body):
    """One of `n` choices."""

    index: int
    message: ChatAnswer
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatResponse(_Answered):
    """`n` choices."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]
