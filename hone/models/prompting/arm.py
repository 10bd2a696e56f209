"""A prompt arm as a bundle keeps it: everything that a request is made of, but address and key."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hone.models.prompting.inputs import InputKind
from hone.models.prompting.prompts import Templates
from hone.models.prompting.wire import Detail

FILE_PREFIX = "fallback."
"""With which the files of an arm begin in a bundle."""

BundleFile = Annotated[str, Field(pattern=r"^fallback\.[a-z.]+$")]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class EncoderForm(_Record):
    """What a BERT encoder's weights do not say; `max_tokens` is where a text is cut."""

    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    epsilon: float = Field(gt=0)
    max_tokens: int = Field(ge=3)


class Retrieval(_Record):
    """How the `k` nearest examples of a text are found.

    `embeddings` has a vector of length 1 for each example, `encoder` and `tokenizer` are the
    base's own.
    """

    k: int = Field(ge=1)
    base: str
    form: EncoderForm
    encoder: BundleFile
    tokenizer: BundleFile
    embeddings: BundleFile


class PromptArm(_Record):
    """A prompt, the model it is for, and how its answer is read.

    `model` is the large model's name at its address; which address, and the key, the service's
    settings say. `inputs` are what it is asked about, and `detail` how closely pictures are looked
    at. `labels` are in the prompt's order. `examples` is a file of the bundle, None for a
    zero-shot prompt; all of them stand in each prompt, or the nearest ones, with `retrieval`, of
    texts alone.
    """

    api: Literal["chat", "completions", "decisions"]
    model: str = Field(min_length=1)
    inputs: InputKind = "text"
    detail: Detail | None = None
    system: str
    user: str
    example: str
    examples_as: Literal["text", "turns"] = "text"
    labels: list[str] = Field(min_length=2)
    descriptions: dict[str, str] = {}
    examples: BundleFile | None = None
    retrieval: Retrieval | None = None
    temperature: float | Literal["default"] = 0.0
    max_answer_tokens: int = Field(ge=1)
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    stop: list[str] | None = None
    logprobs: bool = False
    parameters: dict[str, Any] = {}
    reading: Literal["lenient", "strict"] = "lenient"
    billing: Literal["tokens", "hosting"] = "tokens"
    price_model: str

    @model_validator(mode="after")
    def _asks_what_can_be_asked(self) -> Self:
        if self.inputs == "image" and (self.api != "chat" or self.retrieval is not None):
            raise ValueError("an arm for pictures is a chat, without retrieval")
        return self

    @property
    def templates(self) -> Templates:
        """Return its templates."""
        return Templates(self.system, self.user, self.example, self.examples_as == "turns")
