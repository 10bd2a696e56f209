"""What a client asks of a causal model, by either completion API.

All that steers sampling has its effect here; what is not supported is refused by its name.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from hone.models.decoding.chat_messages import ChatMessage, shown_messages
from hone.models.decoding.generations import GenerationRequest
from hone.models.decoding.sampling import SamplingParameters
from hone.models.errors import InvalidInput
from hone.models.prompt_form import Turn
from hone.service.errors import InvalidRequest
from hone.service.generating import GeneratingModel, Inbox
from hone.service.openai.fields import Fields
from hone.service.openai.messages import CAUSAL_READER, read_chat
from hone.service.openai.sampling import MOST_CHOICES, MOST_STOPS, check_choices
from hone.service.openai.tools import ToolUse, read_tools
from hone.service.reading import check_texts
from hone.service.settings import Settings

DEFAULT_MAX_TOKENS = 16
MOST_BIASES = 300

_SEEDS = 2**63
_MOST_TOP_K = 2**31
_UNSUPPORTED_CHAT = (
    "audio", "function_call", "functions", "metadata", "moderation", "prediction",
    "web_search_options", "store",
)  # fmt: skip
_WITHOUT_EFFECT = ("safety_identifier", "prompt_cache_key", "prompt_cache_retention")
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "modalities": (["text"],),
    "reasoning_effort": ("none",),
    "service_tier": ("auto", "default"),
    "verbosity": ("medium",),
}
"""What may be sent of a field that is not supported: what is done anyway."""

Prompt = str | tuple[int, ...]


class Answering(NamedTuple):
    """How the answer is to be written."""

    stream: bool
    include_usage: bool
    echo: bool
    logprobs: int | None


@dataclass(frozen=True, slots=True)
class GenerationQuestion:
    """A request as it was read. `messages` are a chat's, `prompts` a completion's.

    `max_tokens` None is as many as there is room for. `schema` asks for JSON, any object if it is
    empty. `tools` are None where none may be called.
    """

    model: str
    prompts: Sequence[Prompt]
    places: Sequence[str]
    messages: Sequence[ChatMessage] | None
    sampling: SamplingParameters
    choices: int
    max_tokens: int | None
    stops: tuple[str, ...]
    schema: Mapping[str, Any] | None
    answering: Answering
    tools: ToolUse | None = None

    @property
    def is_chat(self) -> bool:
        """Whether it came by the chat API."""
        return self.messages is not None

    @property
    def scores_prompts(self) -> bool:
        """Whether the prompts' own tokens are asked for, with their log-probabilities."""
        return self.answering.echo and self.answering.logprobs is not None

    def requests(self, model: GeneratingModel, inbox: Inbox) -> list[GenerationRequest]:
        """Return one request for each prompt; InvalidRequest for one that cannot be completed.

        Tokenizes, renders and compiles: not for the event loop.
        """
        self._check_tools(model)
        grammar = self._grammar(model)
        return [
            self._request(model, ids, place, grammar, inbox)
            for ids, place in zip(self._ids(model), self.places, strict=True)
        ]

    def baseline_input_tokens(self, model: GeneratingModel) -> int:
        """Return the tokens, as the model's baseline counts, of what that would have been given.

        What was sent of the baseline's own static part, though it need not be, does not count
        twice. 0 without a baseline. Tokenizes: not for the event loop.
        """
        if model.savings is None:
            return 0
        baseline, count = model.savings.baseline, model.savings.count_text
        if self.messages is None:
            decode = model.tokenizer.decode
            prompts = (p if isinstance(p, str) else decode(p) for p in self.prompts)
            return sum(count(text) for prompt in prompts for text in baseline.unsaid(prompt))
        turns = [Turn(message.role, message.content) for message in self.messages]
        called = [json.dumps(call.shown()) for m in self.messages for call in m.calls]
        tools = [json.dumps(tool) for tool in self.tools.shown] if self.tools else []
        return sum(map(count, (*baseline.unsaid(turns), *called, *tools)))

    def _check_tools(self, model: GeneratingModel) -> None:
        """Refuse tools, and what they once answered, for a model whose template knows none."""
        if self.messages is None or (model.template and model.template.tool_form):
            return
        places = [
            f"messages[{n}].{'tool_calls' if message.calls else 'role'}"
            for n, message in enumerate(self.messages)
            if message.calls or message.role == "tool"
        ]
        for place in ["tools"] * bool(self.tools) + places:
            message = f"'{place}' is not supported by this model: its chat template knows no tools."
            raise InvalidRequest(message, param=place, code="unsupported_parameter")

    def _ids(self, model: GeneratingModel) -> list[tuple[int, ...]]:
        if self.messages is not None:
            return [self._chat_ids(self.messages, model)]
        found = []
        for prompt, place in zip(self.prompts, self.places, strict=True):
            try:
                ids = model.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
            except InvalidInput as error:
                raise InvalidRequest(f"'{place}': {error}.", param=place, code=error.code) from None
            found.append(tuple(ids))
        return found

    def _chat_ids(self, messages: Sequence[ChatMessage], model: GeneratingModel) -> tuple[int, ...]:
        if model.template is None:
            raise InvalidRequest(
                f"'{model.facts.name}' has no chat template: ask it at /v1/completions.",
                param="model",
                code="not_a_chat_model",
            )
        tools = self.tools.shown if self.tools else ()
        try:
            text = model.template.render(shown_messages(messages), tools=tools)
            # A template writes the special tokens itself.
            return tuple(model.tokenizer.encode(text, special=False))
        except InvalidInput as error:
            raise InvalidRequest(
                f"'messages': {error}.", param="messages", code=error.code
            ) from None

    def _request(
        self,
        model: GeneratingModel,
        ids: tuple[int, ...],
        place: str,
        grammar: str | None,
        inbox: Inbox,
    ) -> GenerationRequest:
        room = model.context_tokens - len(ids)
        wanted = room if self.max_tokens is None else self.max_tokens
        if room < max(1, wanted):
            more = f" and {wanted} more are" if self.max_tokens is not None else " are"
            message = (
                f"'{place}': this model's context is {model.context_tokens} tokens; the prompt's "
                f"{len(ids)}{more} too many."
            )
            raise InvalidRequest(message, param=place, code="context_length_exceeded")
        if not ids:
            raise InvalidRequest(f"'{place}' has no tokens.", param=place, code="empty_text")
        if not all(0 <= token < model.vocabulary_size for token in ids):
            raise InvalidRequest(f"'{place}' holds no tokens of this model.", param=place)
        if any(token >= model.vocabulary_size for token in self.sampling.logit_bias):
            raise InvalidRequest("'logit_bias' names no token of this model.", param="logit_bias")
        scored = self.answering.logprobs if self.scores_prompts else None
        return GenerationRequest(
            ids, self.sampling, wanted, self.stops, self.choices, grammar, scored, inbox
        )

    def _grammar(self, model: GeneratingModel) -> str | None:
        if self.tools is not None and model.template and model.template.tool_form:
            return self.tools.grammar(model.template.tool_form, model.constraints)
        if self.schema is None:
            return None
        if model.constraints is None:
            raise InvalidRequest(
                f"'response_format' is not supported by {CAUSAL_READER}: its tokenizer is unknown "
                "to the library that follows schemas.",
                param="response_format",
                code="unsupported_parameter",
            )
        try:
            return model.constraints.grammar(self.schema or None)
        except InvalidInput as error:
            raise InvalidRequest(
                f"'response_format': {error}.", param="response_format", code=error.code
            ) from None


def read_completion_question(
    content: Mapping[str, Any], model: str, settings: Settings
) -> GenerationQuestion:
    """Read a body of `/v1/completions`; InvalidRequest with the field that is wrong."""
    fields = Fields(content, reader=CAUSAL_READER)
    prompts, places = _prompts(fields, settings)
    logprobs = fields.whole_if_any("logprobs", low=0, high=5)
    sampling = _sampling(fields, logprobs)
    choices = fields.whole("n", 1, low=1, high=MOST_CHOICES)
    check_choices(choices, len(prompts), settings.max_items)
    if fields.whole("best_of", choices, low=1, high=MOST_CHOICES) != choices:
        raise fields.unsupported("best_of")
    max_tokens = fields.whole("max_tokens", DEFAULT_MAX_TOKENS, low=0, high=_MOST_TOP_K)
    echo = fields.flag("echo")
    stops = _stops(fields)
    stream, include_usage = _stream(fields)
    fields.none_of(["suffix"])
    fields.word("user")
    fields.end()
    return GenerationQuestion(
        model, prompts, places, None, sampling, choices, max_tokens, stops, None,
        Answering(stream, include_usage, echo, logprobs),
    )  # fmt: skip


def read_chat_question(
    content: Mapping[str, Any], model: str, settings: Settings
) -> GenerationQuestion:
    """Read a body of `/v1/chat/completions`; InvalidRequest with the field that is wrong."""
    fields = Fields(content, reader=CAUSAL_READER)
    fields.none_of(_UNSUPPORTED_CHAT)
    for name, harmless in _HARMLESS.items():
        fields.one_of(name, harmless)
    for name in (*_WITHOUT_EFFECT, "user"):
        fields.word(name)
    messages = read_chat(fields.take("messages"), "messages", settings)
    tools = read_tools(fields, CAUSAL_READER)
    logprobs = _chat_logprobs(fields)
    sampling = _sampling(fields, logprobs)
    choices = fields.whole("n", 1, low=1, high=MOST_CHOICES)
    check_choices(choices, 1, settings.max_items)
    limits = [
        fields.whole_if_any(name, low=1, high=_MOST_TOP_K)
        for name in ("max_completion_tokens", "max_tokens")
    ]
    max_tokens = next((limit for limit in limits if limit is not None), None)
    stops = _stops(fields)
    schema = _schema(fields)
    if schema is not None and tools is not None:
        raise fields.wrong("response_format", "cannot be asked for beside tools that may be called")
    stream, include_usage = _stream(fields)
    fields.end()
    return GenerationQuestion(
        model, (), ("messages",), messages, sampling, choices, max_tokens, stops, schema,
        Answering(stream, include_usage, echo=False, logprobs=logprobs), tools,
    )  # fmt: skip


def _sampling(fields: Fields, logprobs: int | None) -> SamplingParameters:
    return SamplingParameters(
        temperature=fields.number("temperature", 1.0, low=0, high=2),
        top_p=fields.number("top_p", 1.0, low=0, high=1),
        top_k=fields.whole("top_k", 0, low=0, high=_MOST_TOP_K),
        presence_penalty=fields.number("presence_penalty", low=-2, high=2),
        frequency_penalty=fields.number("frequency_penalty", low=-2, high=2),
        logit_bias=_biases(fields),
        seed=fields.whole_if_any("seed", low=-_SEEDS, high=_SEEDS - 1),
        logprobs=logprobs,
    )


def _biases(fields: Fields) -> dict[int, float]:
    value = fields.take("logit_bias") or {}
    if type(value) is not dict or len(value) > MOST_BIASES:
        raise fields.wrong("logit_bias", f"must be an object of at most {MOST_BIASES} token ids")
    found = {}
    for key, bias in value.items():
        token = int(key) if key.isascii() and key.isdigit() and len(key) < 10 else -1
        if token < 0 or type(bias) not in {int, float} or not -100 <= bias <= 100:
            raise fields.wrong("logit_bias", "must give token ids numbers from -100 to 100")
        found[token] = float(bias)
    return found


def _chat_logprobs(fields: Fields) -> int | None:
    wanted = fields.flag("logprobs")
    shown = fields.whole_if_any("top_logprobs", low=0, high=20)
    if shown is not None and not wanted:
        raise fields.wrong("top_logprobs", "is only for 'logprobs': true")
    return (shown or 0) if wanted else None


def _stops(fields: Fields) -> tuple[str, ...]:
    value = fields.take("stop")
    stops = [value] if type(value) is str else [] if value is None else value
    if type(stops) is not list or not all(type(stop) is str for stop in stops):
        raise fields.wrong("stop", "must be a string or a list of strings")
    if len(stops) > MOST_STOPS or any(len(stop) > 1000 for stop in stops):
        raise fields.wrong("stop", f"has more than {MOST_STOPS} strings, or too long ones")
    return tuple(stop for stop in stops if stop)


def _stream(fields: Fields) -> tuple[bool, bool]:
    stream = fields.flag("stream")
    value = fields.take("stream_options")
    if value is None:
        return stream, False
    if type(value) is not dict or not stream:
        raise fields.wrong("stream_options", "is an object, and only for streams")
    options = Fields(value, "stream_options.", reader=CAUSAL_READER)
    include_usage = options.flag("include_usage")
    if options.flag("include_obfuscation"):
        raise options.unsupported("include_obfuscation")
    options.end()
    return stream, include_usage


def _schema(fields: Fields) -> Mapping[str, Any] | None:
    """Return the schema of `response_format`; empty for any object, None for any text."""
    value = fields.take("response_format")
    if value is None:
        return None
    form = Fields(value if type(value) is dict else {}, "response_format.", reader=CAUSAL_READER)
    kind = form.take("type")
    if kind in ("text", "json_object"):
        form.end()
        return {} if kind == "json_object" else None
    if kind != "json_schema":
        raise fields.unsupported("response_format")
    named = form.take("json_schema")
    inner = Fields(named if type(named) is dict else {}, "response_format.json_schema.")
    inner.word("name")
    inner.word("description")
    inner.flag("strict")
    schema = inner.take("schema")
    if type(schema) is not dict:
        raise inner.wrong("schema", "must be an object")
    inner.end()
    form.end()
    return schema


def _prompts(fields: Fields, settings: Settings) -> tuple[Sequence[Prompt], Sequence[str]]:
    """Return prompts, which may be texts or token ids, one or many, and their places."""
    value = fields.take("prompt")
    if type(value) is list and value and type(value[0]) is int:
        return [_token_ids(value, "prompt")], ["prompt"]
    if type(value) is list and value and type(value[0]) is list:
        if len(value) > settings.max_items:
            raise fields.wrong("prompt", f"has more than {settings.max_items} prompts")
        places = [f"prompt[{index}]" for index in range(len(value))]
        return [_token_ids(v, p) for v, p in zip(value, places, strict=True)], places
    texts = check_texts(value, "prompt", settings, blank=True)  # a blank has tokens, too
    single = type(value) is str
    return texts, ["prompt"] if single else [f"prompt[{i}]" for i in range(len(texts))]


def _token_ids(value: Any, place: str) -> tuple[int, ...]:  # noqa: ANN401 - any JSON
    ids: Iterable[Any] = value if type(value) is list else [None]
    if not value or not all(type(token) is int and token >= 0 for token in ids):
        raise InvalidRequest(f"'{place}' must be a list of token ids.", param=place)
    return tuple(value)
