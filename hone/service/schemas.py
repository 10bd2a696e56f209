"""The bodies of requests and answers as /openapi.json describes them.

Requests are read by hand (`reading`); tests hold real answers against these descriptions.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hone.service.tickets import FallbackOutcome

DEFAULT_TOP_K = 3
LONGEST_REFERENCE = 128


class Body(BaseModel):
    """A JSON object that has these fields and no others."""

    model_config = ConfigDict(extra="forbid")


class PictureBody(Body):
    """A picture: JPEG, PNG or WebP, still, at most 25 megapixels."""

    image: str = Field(
        description="The file in base64, as a data URL. Addresses are not fetched.",
        examples=["data:image/jpeg;base64,/9j/4AAQ..."],
    )


class ClassifyRequest(Body):
    """Texts or pictures to classify. Each gets the labels with the highest scores, best first."""

    model: str = Field(
        description="A model (`support`), a version of it (`support@3`), or an alias "
        "(`support@production`).",
        examples=["support"],
        max_length=LONGEST_REFERENCE,
    )
    input: str | PictureBody | list[str | PictureBody] = Field(
        description="One text or picture, or a list of them: what the model classifies.",
        examples=["Where is my card?"],
    )
    top_k: int = Field(
        DEFAULT_TOP_K,
        ge=1,
        description="How many labels to return for each text; never more than there are.",
    )


CLASSIFY_FORM: dict[str, Any] = {
    "type": "object",
    "title": "ClassifyForm",
    "required": ["model", "image"],
    "properties": {
        "model": {"type": "string", "description": "As in JSON."},
        "top_k": {"type": "integer", "minimum": 1, "default": DEFAULT_TOP_K},
        "image": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "minItems": 1,
            "description": "JPEG, PNG or WebP files, one part for each.",
        },
    },
}
"""A form with pictures, to the same address."""


class LabelScore(Body):
    """A label and its calibrated probability."""

    label: str
    score: float = Field(ge=0, le=1)


class ClassifiedText(Body):
    """The answer for the text at `index`.

    `scores` are always the model's, and `confidence` is what the model gives `label`. `label` is
    the best one, unless a prompt answered in the model's place.
    """

    index: int
    label: str
    confidence: float = Field(ge=0, le=1)
    scores: list[LabelScore]
    answered_by: Literal["model", "prompt"]
    fallback: FallbackOutcome | None = Field(
        description="What became of asking the prompt; null where the model was sure enough."
    )


class Usage(Body):
    """Tokens that the model read, special ones included, after cutting long texts.

    Of pictures: what they would cost in the prompt of a multimodal model, an estimate.
    """

    prompt_tokens: int
    total_tokens: int


class SavingsBody(Body):
    """What the baseline prompt would have read for the same texts, and how it was counted."""

    baseline_prompt_tokens: int
    tokens_saved: int = Field(
        description="Net of `prompt_tokens` and `fallback_tokens`; negative if there is a loss."
    )
    fallback_tokens: int = Field(description="Of prompts that were asked all the same.")
    baseline_completion_tokens: int = Field(
        0, description="Of a causal model: its answers in the baseline's tokens."
    )
    method: str = Field(examples=["exact:gpt-4o-mini", "estimated:characters"])


class ClassifyResponse(Body):
    """One entry in `data` for each text, in the order of the input."""

    id: str
    object: str = "list"
    created: int = Field(description="Unix time in seconds.")
    model: str = Field(description="The version that answered.", examples=["support@3"])
    data: list[ClassifiedText]
    usage: Usage
    savings: SavingsBody | None


class ModelBody(Body):
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


class ModelList(Body):
    """All models."""

    object: str = "list"
    data: list[ModelBody]


class Health(Body):
    """A healthy answer; an unhealthy one is an error body with status 503."""

    status: str
    models: list[str]
    missing: list[str] = Field(description="Models of the store that could not be loaded.")


class ErrorFields(Body):
    """What went wrong, in the OpenAI shape."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Body):
    """The body of every error."""

    error: ErrorFields
