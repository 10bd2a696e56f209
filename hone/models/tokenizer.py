"""Text to token ids, the same in training, in the parity gate and in serving.

One implementation over the `tokenizers` library, so that a served text gives the very ids that
the model was trained on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from hone.models.errors import InvalidInput

LongTexts = Literal["head", "head_tail", "reject"]
"""What is done with a text of more than `max_tokens` tokens: keep its beginning; keep the first
quarter and the rest from its end (Sun et al. 2019, "How to fine-tune BERT for text
classification", found the two ends to carry most); or refuse it."""

IntArray = npt.NDArray[np.int64]


class TextTooLong(InvalidInput):
    """A text has more tokens than the model takes, and the bundle says to refuse those."""

    code = "text_too_long"


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """The ids the model reads, special tokens included, and how many there were before cutting."""

    ids: list[int]
    full_length: int

    @property
    def length(self) -> int:
        """What the text costs in a batch: its tokens."""
        return len(self.ids)

    @property
    def tokens(self) -> int:
        """What the model reads of it, as `usage` counts."""
        return len(self.ids)


class TextTokenizer:
    """A tokenizer with a length limit and a policy for what is longer. Thread-safe."""

    def __init__(
        self, tokenizer: Tokenizer, *, max_tokens: int, long_texts: LongTexts = "head"
    ) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._prefix, self._suffix = _special_ids(tokenizer)
        self._room = max_tokens - len(self._prefix) - len(self._suffix)
        if self._room < 1:
            raise InvalidInput(f"max_tokens={max_tokens} leaves no room for any text")
        self.max_tokens = max_tokens
        self.long_texts = long_texts
        self.pad_id = _first_id(tokenizer, _PAD_TOKENS) or 0
        self.mask_id = _first_id(tokenizer, _MASK_TOKENS)

    @classmethod
    def from_file(
        cls, path: Path, *, max_tokens: int, long_texts: LongTexts = "head"
    ) -> "TextTokenizer":
        """Read a `tokenizer.json`; raise InvalidInput when it is none."""
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise InvalidInput(f"{path.name} is not a tokenizer file") from error
        return cls(tokenizer, max_tokens=max_tokens, long_texts=long_texts)

    @property
    def vocabulary_size(self) -> int:
        """How many ids there are, added tokens included."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def encode(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Tokenize each text; TextTooLong if the policy is to refuse and one is too long.

        InvalidInput for a text with half a surrogate pair, which no tokenizer can read.
        """
        return [self._cut(ids) for ids in self._bare_ids(texts)]

    def count(self, text: str) -> int:
        """Return the number of tokens of `text` without special ones."""
        return len(self._bare_ids([text])[0])

    def _bare_ids(self, texts: Sequence[str]) -> list[list[int]]:
        try:
            encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        except TypeError:  # what the library says of a str that has no UTF-8 form
            raise InvalidInput("a text is not valid Unicode") from None
        return [encoding.ids for encoding in encodings]

    def _cut(self, ids: list[int]) -> TokenizedText:
        full_length = len(ids) + len(self._prefix) + len(self._suffix)
        if len(ids) > self._room:
            if self.long_texts == "reject":
                raise TextTooLong(
                    f"the text has {full_length} tokens; this model takes {self.max_tokens}"
                )
            head = self._room // 4 if self.long_texts == "head_tail" else self._room
            tail = self._room - head
            ids = ids[:head] + (ids[-tail:] if tail else [])
        return TokenizedText([*self._prefix, *ids, *self._suffix], full_length)

    def pad(self, texts: Sequence[TokenizedText]) -> tuple[IntArray, IntArray]:
        """Return (input_ids, attention_mask), both int64 of shape (texts, longest)."""
        return pad([text.ids for text in texts], self.pad_id)


def pad(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[IntArray, IntArray]:
    """Right-pad id rows: (input_ids, attention_mask), both int64 of shape (rows, longest)."""
    longest = max(map(len, rows))
    input_ids = np.full((len(rows), longest), pad_id, dtype=np.int64)
    attention_mask = np.zeros((len(rows), longest), dtype=np.int64)
    for index, ids in enumerate(rows):
        input_ids[index, : len(ids)] = ids
        attention_mask[index, : len(ids)] = 1
    return input_ids, attention_mask


def _special_ids(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the ids that the tokenizer puts before and after a text."""
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    full = tokenizer.encode("a", add_special_tokens=True).ids
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return full[:start], full[start + len(bare) :]
    raise InvalidInput("the tokenizer changes the text's own tokens when it adds special ones")


_PAD_TOKENS = ("[PAD]", "<pad>", "<|pad|>", "<|endoftext|>", "</s>")
_MASK_TOKENS = ("[MASK]", "<mask>", "[UNK]", "<unk>")


def _first_id(tokenizer: Tokenizer, names: Sequence[str]) -> int | None:
    """Return the id of the first of these tokens that the tokenizer has, None if it has none."""
    found = (tokenizer.token_to_id(name) for name in names)
    return next((int(token) for token in found if token is not None), None)
