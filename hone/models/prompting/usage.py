"""The tokens of one call, and how they were counted."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Counting = Literal["measured", "exact", "estimated", "none"]
"""How tokens were counted: by the answerer's own `usage`, by the baseline's tokenizer, by a rule,
or not at all (a contender that costs no tokens)."""


class Usage(BaseModel):
    """The tokens of one call. Cached and cache-write tokens are parts of the prompt's."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    prompt_tokens: Annotated[int, Field(ge=0)] = 0
    completion_tokens: Annotated[int, Field(ge=0)] = 0
    cached_tokens: Annotated[int, Field(ge=0)] = 0
    cache_write_tokens: Annotated[int, Field(ge=0)] = 0
    counting: Counting = "none"
