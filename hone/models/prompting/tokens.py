"""Counting the tokens of a call whose answer told of none."""

from dataclasses import dataclass
from pathlib import Path

from hone.models.errors import InvalidInput
from hone.models.prompting.prompts import Prompt
from hone.models.prompting.usage import Usage
from hone.models.savings import estimate_tokens
from hone.models.tokenizer import TextTokenizer

_PER_MESSAGE, _PER_REPLY = 3, 3
"""What the chat format adds, by OpenAI's rule for its models."""


@dataclass(frozen=True, slots=True)
class TokenRule:
    """Counts by the answerer's tokenizer, or estimates by characters without one."""

    tokenizer: TextTokenizer | None

    @classmethod
    def of(cls, path: str | None) -> "TokenRule":
        """Read a tokenizer.json, if one is named; InvalidInput if it cannot be read."""
        if path is None:
            return cls(None)
        if not Path(path).is_file():
            raise InvalidInput(f"there is no tokenizer file {Path(path).absolute()}")
        return cls(TextTokenizer.from_file(Path(path), max_tokens=1 << 20))

    def count(self, text: str) -> int:
        """Return the tokens of a text."""
        return estimate_tokens(text) if self.tokenizer is None else self.tokenizer.count(text)

    def prompt_tokens(self, prompt: Prompt, *, chat: bool) -> int:
        """Return the tokens of a prompt, with what the chat format adds to it."""
        messages = prompt.messages
        if not chat:
            return self.count(prompt.text)
        return sum(self.count(m.content) + _PER_MESSAGE for m in messages) + _PER_REPLY

    def usage(self, prompt: Prompt, answer: str, *, chat: bool) -> Usage:
        """Return the tokens of a call, labelled by how they were counted."""
        return self.total(self.prompt_tokens(prompt, chat=chat), self.count(answer))

    def total(self, prompt_tokens: int, completion_tokens: int) -> Usage:
        """Return tokens that were counted by this rule, labelled so."""
        return Usage(
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            counting="estimated" if self.tokenizer is None else "exact",
        )
