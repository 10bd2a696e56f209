"""Counting the tokens of a call whose answer told of none.

Those of pictures are always estimated, by the rule in `imaging/tokens.py`.
"""

from dataclasses import dataclass
from pathlib import Path

from hone.models.errors import InvalidInput
from hone.models.imaging.pictures import Picture
from hone.models.imaging.tokens import LOW_DETAIL_TOKENS
from hone.models.prompting.prompts import Message, Prompt, parts
from hone.models.prompting.usage import Usage
from hone.models.prompting.wire import Detail
from hone.models.savings import estimate_tokens
from hone.models.tokenizer import TextTokenizer

_PER_MESSAGE, _PER_REPLY = 3, 3
"""What the chat format adds, by OpenAI's rule for its models."""


@dataclass(frozen=True, slots=True)
class TokenRule:
    """Counts by the answerer's tokenizer, or estimates by characters without one.

    `detail` is how closely pictures are looked at: at a low one all cost the same.
    """

    tokenizer: TextTokenizer | None
    detail: Detail | None = None

    @classmethod
    def of(cls, path: str | None, detail: Detail | None = None) -> "TokenRule":
        """Read a tokenizer.json, if one is named; InvalidInput if it cannot be read."""
        if path is None:
            return cls(None, detail)
        if not Path(path).is_file():
            raise InvalidInput(f"there is no tokenizer file {Path(path).absolute()}")
        return cls(TextTokenizer.from_file(Path(path), max_tokens=1 << 20), detail)

    def count(self, text: str) -> int:
        """Return the tokens of a text."""
        return estimate_tokens(text) if self.tokenizer is None else self.tokenizer.count(text)

    def prompt_tokens(self, prompt: Prompt, *, chat: bool) -> int:
        """Return the tokens of a prompt, with what the chat format adds to it."""
        if not chat:
            pictures = sum(self.picture(picture) for picture in prompt.pictures)
            return pictures or self.count(prompt.text)
        return sum(self._message(m) + _PER_MESSAGE for m in prompt.messages) + _PER_REPLY

    def usage(self, prompt: Prompt, answer: str, *, chat: bool) -> Usage:
        """Return the tokens of a call, labelled by how they were counted."""
        tokens = self.prompt_tokens(prompt, chat=chat), self.count(answer)
        return self.total(*tokens, pictures=bool(prompt.pictures))

    def total(self, prompt_tokens: int, completion_tokens: int, *, pictures: bool = False) -> Usage:
        """Return tokens that were counted by this rule, labelled so."""
        return Usage(
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            counting="estimated" if self.tokenizer is None or pictures else "exact",
        )

    def _message(self, message: Message) -> int:
        return sum(
            self.count(part) if isinstance(part, str) else self.picture(part)
            for part in parts(message.content)
        )

    def picture(self, picture: Picture) -> int:
        """Return the tokens of a picture: an estimate."""
        return LOW_DETAIL_TOKENS if self.detail == "low" else picture.tokens
