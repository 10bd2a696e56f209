"""The bodies of requests and answers: read from hostile bytes, and described for OpenAPI.

A request is read by hand, because each of its refusals needs a sentence, a field and a code of
its own, and because the general validators of this field echo what they were sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from hone.service.errors import InvalidRequest
from hone.service.settings import Settings

DEFAULT_TOP_K = 3
_FIELDS = frozenset({"model", "input", "top_k"})
_LONGEST_REFERENCE = 128


@dataclass(frozen=True, slots=True)
class Classification:
    """A request to classify, as it was understood."""

    model: str
    texts: Sequence[str]
    top_k: int


def read_classification(body: bytes, settings: Settings) -> Classification:
    """Read the body of `POST /v1/classify`; InvalidRequest with the field that is wrong."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        message = f"The body is not valid JSON ({place})."
        raise InvalidRequest(message, code="invalid_json") from None
    if type(content) is not dict:
        raise InvalidRequest("The body is not a JSON object.", code="invalid_json")
    for name in content:
        if name not in _FIELDS:
            raise InvalidRequest(
                f"There is no field {name[:80]!r}; there are model, input and top_k.",
                param=name[:80],
                code="unknown_field",
            )
    model = content.get("model")
    if type(model) is not str or not 0 < len(model) <= _LONGEST_REFERENCE:
        raise InvalidRequest("'model' must be a string such as 'support'.", param="model")
    top_k = content.get("top_k", DEFAULT_TOP_K)
    if type(top_k) is not int or top_k < 1:
        raise InvalidRequest("'top_k' must be a whole number from 1 up.", param="top_k")
    return Classification(model, _texts(content.get("input"), settings), top_k)


def _texts(value: Any, settings: Settings) -> list[str]:  # noqa: ANN401 - any JSON
    if type(value) is str:
        _check_text(value, "input", settings.max_characters)
        return [value]
    if type(value) is not list or not value:
        raise InvalidRequest("'input' must be a string or a list of strings.", param="input")
    if len(value) > settings.max_items:
        raise InvalidRequest(
            f"'input' has {len(value)} texts; at most {settings.max_items} go into one request.",
            param="input",
            code="too_many_items",
        )
    for index, text in enumerate(value):
        _check_text(text, f"input[{index}]", settings.max_characters)
    return value


def _check_text(text: Any, name: str, max_characters: int) -> None:  # noqa: ANN401 - any JSON
    if type(text) is not str:
        raise InvalidRequest(f"'{name}' must be a string.", param=name)
    if not text or text.isspace():
        raise InvalidRequest(f"'{name}' is empty.", param=name, code="empty_text")
    if len(text) > max_characters:
        raise InvalidRequest(
            f"'{name}' has {len(text)} characters; at most {max_characters} are taken.",
            param=name,
            code="text_too_long",
        )


# What follows describes the bodies in /openapi.json; tests hold real answers against it.


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ClassifyRequest(_Body):
    """Texts to classify. Each gets the labels with the highest scores, best first."""

    model: str = Field(
        description="A model (`support`), a version of it (`support@3`), or an alias "
        "(`support@production`).",
        examples=["support"],
        max_length=_LONGEST_REFERENCE,
    )
    input: str | list[str] = Field(
        description="One text, or a list of texts.", examples=["Where is my card?"]
    )
    top_k: int = Field(
        DEFAULT_TOP_K,
        ge=1,
        description="How many labels to return for each text; never more than there are.",
    )


class LabelScore(_Body):
    """A label and its calibrated probability."""

    label: str
    score: float = Field(ge=0, le=1)


class ClassifiedText(_Body):
    """The answer for the text at `index`; `label` and `confidence` repeat the first score."""

    index: int
    label: str
    confidence: float = Field(ge=0, le=1)
    scores: list[LabelScore]


class Usage(_Body):
    """Tokens that the model read, special ones included, after cutting long texts."""

    prompt_tokens: int
    total_tokens: int


class SavingsBody(_Body):
    """What the baseline prompt would have read for the same texts, and how it was counted."""

    baseline_prompt_tokens: int
    tokens_saved: int = Field(description="Net of `prompt_tokens`; negative if there is a loss.")
    method: str = Field(examples=["exact:gpt-4o-mini", "estimated:characters"])


class ClassifyResponse(_Body):
    """One entry in `data` for each text, in the order of the input."""

    id: str
    object: str = "list"
    created: int = Field(description="Unix time in seconds.")
    model: str = Field(description="The version that answered.", examples=["support@3"])
    data: list[ClassifiedText]
    usage: Usage
    savings: SavingsBody | None


class ModelBody(_Body):
    """A model in the OpenAI shape, with what only this service knows."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "hone"
    version: int = Field(description="The version that a request without one gets.")
    versions: list[int]
    aliases: dict[str, int]
    labels: list[str]
    loaded: bool
    variant: str | None
    device: str | None
    layout: str | None
    digest: str


class ModelList(_Body):
    """All models."""

    object: str = "list"
    data: list[ModelBody]


class Health(_Body):
    """A healthy answer; an unhealthy one is an error body with status 503."""

    status: str
    models: list[str]
    missing: list[str] = Field(description="Models of the store that could not be loaded.")


class ErrorFields(_Body):
    """What went wrong, in the OpenAI shape."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(_Body):
    """The body of every error."""

    error: ErrorFields
