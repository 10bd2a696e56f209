"""How the process that computes features of pictures tells how far it is, and why it ended.

It writes JSON lines on its standard output, one object a message:

    {"pictures": 32}                             so many more are done
    {"base": "hub:owner/name@COMMIT"}            what the base's name stands for now
    {"error": "the picture …"}                   why it ends

Anything else there was written by a library, and is passed over. The exit status is `DONE`,
`REFUSED` after an error of the caller's data or words, or `BROKE` after any other, whose traceback
stands on the standard error.
"""

from typing import Annotated, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

DONE, REFUSED, BROKE = 0, 65, 70
"""Exit statuses; the last two are sysexits' EX_DATAERR and EX_SOFTWARE, which Python never uses."""


class FeatureMessage(BaseModel):
    """One message; just one of `pictures`, `base` and `error` is there, else ValidationError."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    pictures: Annotated[int, Field(ge=0)] | None = None
    base: str | None = None
    error: str | None = None

    @model_validator(mode="after")
    def _just_one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("should have one field")
        return self

    def line(self) -> bytes:
        """Return the message as it is written."""
        return orjson.dumps(self.model_dump(exclude_none=True), option=orjson.OPT_APPEND_NEWLINE)


def read_message(line: bytes) -> FeatureMessage | None:
    """Return the message of a line; None for a line that is none."""
    try:
        return FeatureMessage.model_validate_json(line)
    except ValidationError:
        return None
