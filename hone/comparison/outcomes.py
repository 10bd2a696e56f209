"""What a comparison asks and what it is answered: the records between asking and judging.

The runner writes one `Outcome` for each contender, item and repeat; statistics, costs and the
report read them, and nothing else. A call that failed, a refusal and an answer that names no label
are outcomes of their own: they are never a wrong answer that nobody saw.
"""

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hone.models.imaging.pictures import PictureFile
from hone.models.prompting.inputs import Input
from hone.models.prompting.usage import Usage

Kind = Literal["answered", "unparsable", "refused", "failed"]


class Item(BaseModel):
    """One test item: the input, the gold label, and the group it belongs to, if any.

    The input is a `text` or an `image`, and only one of them is there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str
    text: str | None = None
    image: PictureFile | None = None
    label: str
    group: str | None = None

    @model_validator(mode="after")
    def _has_one_input(self) -> Self:
        if (self.text is None) == (self.image is None):
            raise ValueError(f"the item {self.id!r} has not one input: a text or an image")
        return self

    @property
    def input(self) -> Input:
        """What is asked about."""
        return self.image or self.text or ""


class Outcome(BaseModel):
    """What one contender did with one item, once.

    `label` is set exactly if `kind` is "answered". `raw` is the answer as it came, and `error`
    says why a call failed. `seconds` is the time of the call that answered, retries excluded;
    `calls` counts every call made and `spent` their tokens together, failed attempts that reported
    usage included. `confidence` is the probability of `label`, where the contender gives one.
    `request` is the hash by which answers.db knows what was asked: outcomes with the same one share
    one answer, which was paid once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    contender: str
    item: str
    repeat: Annotated[int, Field(ge=0)] = 0
    kind: Kind
    label: str | None = None
    confidence: Annotated[float, Field(ge=0, le=1)] | None = None
    raw: str = ""
    error: str | None = None
    seconds: Annotated[float, Field(ge=0)] | None = None
    calls: Annotated[int, Field(ge=0)] = 1
    usage: Usage = Usage()
    spent: Usage = Usage()
    request: str | None = None

    @model_validator(mode="after")
    def _a_label_is_an_answer(self) -> Self:
        if (self.kind == "answered") != (self.label is not None):
            raise ValueError(f"the outcome of {self.item!r} is {self.kind} by {self.label!r}")
        return self


def asked_once(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return the first outcome of each request: those that were paid for."""
    found: dict[object, Outcome] = {}
    for number, outcome in enumerate(outcomes):
        found.setdefault(outcome.request or number, outcome)
    return list(found.values())
