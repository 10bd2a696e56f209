"""The bodies of the APIs that large models are asked by: what is sent, and what comes back.

Chat, completions and decisions are OpenAI's; classify is Hone's own `/v1/classify`. A body that
has not the shape of an answer is a `MalformedAnswer`, never an empty one.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import orjson

from hone.models.imaging.pictures import Picture, data_url
from hone.models.prompting.prompts import Content, Prompt, in_words, parts
from hone.models.prompting.usage import Usage

Api = Literal["chat", "completions", "decisions", "classify"]
Detail = Literal["auto", "low", "high"]
"""How closely a chat's model should look at a picture."""

Show = Callable[[Picture], str]
"""What stands for a picture in a body: its data URL, or its hash where none is sent."""

READ_PICTURES: frozenset[Api] = frozenset({"chat", "classify"})
"""The APIs that take pictures."""

PATHS: dict[Api, str] = {
    "chat": "/chat/completions",
    "completions": "/completions",
    "decisions": "/decisions",
    "classify": "/classify",
}
_LEAST_LOGPROB = -9000.0
"""The API says -9999 for a token that it gives no probability."""

_MOST_TOKENS = 2**40
"""More than any call has: what tells of more tells nothing."""


def by_hash(picture: Picture) -> str:
    """Return what stands for a picture in a body that is only compared."""
    return f"sha256:{picture.sha256}"


class Answerer(Protocol):
    """A model behind an API, and how it is to answer: an experiment's contender, or a bundle's arm.

    `parameters` go into the body as they are.
    """

    @property
    def api(self) -> Api: ...  # noqa: D102
    @property
    def model(self) -> str: ...  # noqa: D102
    @property
    def temperature(self) -> float | Literal["default"]: ...  # noqa: D102
    @property
    def max_answer_tokens(self) -> int: ...  # noqa: D102
    @property
    def max_tokens_field(self) -> str: ...  # noqa: D102
    @property
    def stop(self) -> list[str] | None: ...  # noqa: D102
    @property
    def logprobs(self) -> bool: ...  # noqa: D102
    @property
    def parameters(self) -> dict[str, Any]: ...  # noqa: D102
    @property
    def detail(self) -> Detail | None: ...  # noqa: D102


class MalformedAnswer(ValueError):
    """A body that is no answer of its API; `usage` is what it told of its tokens, if it did."""

    def __init__(self, reason: str, usage: Usage | None = None) -> None:
        super().__init__(reason)
        self.usage = usage


@dataclass(frozen=True, slots=True)
class Reply:
    """What an answer says: its text, or the label itself where the API has a place for it.

    `confidence` is the probability of the whole text (or of the label); `refused` says that the
    API itself calls it a refusal.
    """

    text: str
    label: str | None = None
    confidence: float | None = None
    refused: bool = False
    usage: Usage | None = None


def request_body(
    answerer: Answerer,
    prompt: Prompt,
    labels: Sequence[str],
    descriptions: Mapping[str, str],
    show: Show = data_url,
) -> dict[str, Any]:
    """Return the body to send; the answerer's `parameters` with it.

    `show` gives what stands for a picture. InvalidInput for a picture that is not there any more.
    """
    body: dict[str, Any] = {"model": answerer.model}
    if answerer.api == "classify":
        body |= {"input": _classified_input(prompt, show), "top_k": 1}
    elif answerer.api == "decisions":
        choices = [_choice(label, descriptions) for label in labels]
        instructions = prompt.system or "Which of the choices does the text belong to?"
        question = {"type": "choice", "instructions": instructions, "choices": choices}
        body |= {"input": in_words(prompt.turns[-1].content), "questions": [question]}
    else:
        body |= _generating(answerer, prompt, show)
    return body | answerer.parameters


def _classified_input(prompt: Prompt, show: Show) -> str | dict[str, str]:
    """Return the text, or the one picture, to classify."""
    pictures = prompt.pictures
    return {"image": show(pictures[-1])} if pictures else in_words(prompt.turns[-1].content)


def _choice(label: str, descriptions: Mapping[str, str]) -> dict[str, str]:
    described = {"description": descriptions[label]} if label in descriptions else {}
    return {"value": label, **described}


def _generating(answerer: Answerer, prompt: Prompt, show: Show) -> dict[str, Any]:
    body: dict[str, Any] = {answerer.max_tokens_field: answerer.max_answer_tokens}
    if answerer.temperature != "default":
        body["temperature"] = answerer.temperature
    stop = answerer.stop
    if answerer.api == "chat":
        body["messages"] = [
            {"role": role, "content": _shown(content, show, answerer.detail)}
            for role, content in prompt.messages
        ]
        body |= {"logprobs": True} if answerer.logprobs else {}
    else:
        body["prompt"] = prompt.text
        body |= {"logprobs": 1} if answerer.logprobs else {}
        stop = ["\n"] if stop is None else stop
    return body | ({"stop": stop} if stop else {})


def _shown(content: Content, show: Show, detail: Detail | None) -> str | list[dict[str, Any]]:
    """Return a message's content: a string, or the parts of one with pictures."""
    if isinstance(content, str):
        return content
    asked = {} if detail is None else {"detail": detail}
    return [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image_url", "image_url": {"url": show(part), **asked}}
        for part in parts(content)
    ]


def read_reply(api: Api, body: bytes) -> Reply:
    """Read an answer's body; MalformedAnswer if it is none."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise MalformedAnswer("the body is not JSON") from None
    if not isinstance(content, dict):
        raise MalformedAnswer("the body is not a JSON object")
    usage = read_usage(content.get("usage"))
    try:
        return _READERS[api](content, usage)
    except (KeyError, IndexError, TypeError, AttributeError):
        raise MalformedAnswer(f"the body is no answer of the {api} API", usage) from None


def _chat(content: dict[str, Any], usage: Usage | None) -> Reply:
    choice = content["choices"][0]
    message = choice["message"]
    refusal = message.get("refusal")
    refused = bool(refusal) or choice.get("finish_reason") == "content_filter"
    text = message.get("content")
    if isinstance(text, list):  # parts, as some servers send them
        text = "".join(part["text"] for part in text if part.get("type") == "text")
    if not isinstance(text, str | None):
        raise TypeError("content")
    entries = (choice.get("logprobs") or {}).get("content") or []
    confidence = _probability([entry["logprob"] for entry in entries])
    shown = refusal if isinstance(refusal, str) and refusal else text or ""
    return Reply(shown, confidence=confidence, refused=refused, usage=usage)


def _completion(content: dict[str, Any], usage: Usage | None) -> Reply:
    choice = content["choices"][0]
    text = choice["text"]
    if not isinstance(text, str):
        raise TypeError("text")
    logprobs = (choice.get("logprobs") or {}).get("token_logprobs") or []
    refused = choice.get("finish_reason") == "content_filter"
    return Reply(text, confidence=_probability(logprobs), refused=refused, usage=usage)


def _decision(content: dict[str, Any], usage: Usage | None) -> Reply:
    answer = content["answers"][0]
    if answer["type"] == "refusal":
        return Reply("", refused=True, usage=usage)
    label = answer["choice"]
    label = str(label).lower() if isinstance(label, bool) else label
    if not isinstance(label, str):
        raise TypeError("choice")
    return Reply(label, label, _share(answer.get("confidence")), usage=usage)


def _classified(content: dict[str, Any], usage: Usage | None) -> Reply:
    entry = content["data"][0]
    label = entry["label"]
    if not isinstance(label, str):
        raise TypeError("label")
    return Reply(label, label, _share(entry.get("confidence")), usage=usage)


_READERS = {
    "chat": _chat,
    "completions": _completion,
    "decisions": _decision,
    "classify": _classified,
}


def read_usage(usage: object) -> Usage | None:
    """Return the tokens that an answer tells of, in either of the API's spellings, else None.

    Cached tokens are never more than the prompt's.
    """
    if not isinstance(usage, dict):
        return None
    prompt = _count(usage, "prompt_tokens", "input_tokens")
    if prompt is None:
        return None
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    details = details if isinstance(details, dict) else {}
    cached = min(_count(details, "cached_tokens") or 0, prompt)
    written = min(_count(details, "cache_write_tokens") or 0, prompt - cached)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=_count(usage, "completion_tokens", "output_tokens") or 0,
        cached_tokens=cached,
        cache_write_tokens=written,
        counting="measured",
    )


def _count(table: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = table.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS:
            return value
    return None


def _probability(logprobs: Sequence[object]) -> float | None:
    """Return the probability of tokens together: the product of their own."""
    known = [float(value) for value in logprobs if isinstance(value, int | float)]
    if not known or len(known) < len(logprobs) or min(known) < _LEAST_LOGPROB:
        return None
    return math.exp(min(0.0, math.fsum(known)))


def _share(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if 0 <= value <= 1 else None
