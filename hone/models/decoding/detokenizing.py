"""A causal model's tokenizer: text to ids, ids to text, and the bytes of each token."""

import itertools
import json
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer

from hone.models.errors import InvalidInput

_CONTEXT = 6
"""How many of the prompt's last tokens the first new one is decoded with."""
_BROKEN = "\N{REPLACEMENT CHARACTER}"
_LATER_BYTES = frozenset(bytes([byte]) for byte in range(0x80, 0xC0))
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


class CausalTokenizer:
    """The `tokenizers` library over a `tokenizer.json`. Thread-safe."""

    def __init__(self, tokenizer: Tokenizer, *, eos_ids: Iterable[int] = ()) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self.eos_ids = frozenset(eos_ids)

    @classmethod
    def from_file(
        cls, path: Path, *, eos_ids: Iterable[int] = (), shown: Collection[str] = ()
    ) -> "CausalTokenizer":
        """Read a `tokenizer.json`; InvalidInput when it is none.

        `shown` are special tokens that are text here: the marks of tool calls.
        """
        try:
            tokenizer = Tokenizer.from_str(_with_shown(path.read_text(encoding="utf-8"), shown))
        except Exception as error:  # the library raises plain Exception
            raise InvalidInput(f"{path.name} is not a tokenizer file") from error
        return cls(tokenizer, eos_ids=eos_ids)

    @property
    def vocabulary_size(self) -> int:
        """How many ids there are, added tokens included."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    @property
    def special_ids(self) -> list[int]:
        """The ids of tokens that are no text."""
        added = self._tokenizer.get_added_tokens_decoder()
        return sorted(token for token, content in added.items() if content.special)

    @property
    def added_tokens(self) -> dict[str, int]:
        """The texts that are one token each, wherever they stand, and their ids."""
        added = self._tokenizer.get_added_tokens_decoder()
        return {content.content: token for token, content in added.items()}

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Return the ids of `text`, with those that begin a sequence if `special`.

        InvalidInput for a text with half a surrogate pair, which no tokenizer can read.
        """
        try:
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=special).ids
        except TypeError:  # what the library says of a str that has no UTF-8 form
            raise InvalidInput("a text is not valid Unicode") from None
        # Some tokenizers also end each text; a prompt goes on.
        while special and ids and ids[-1] in self.eos_ids and len(ids) > 1:
            ids.pop()
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens left out."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def places(self, text: str) -> list[int]:
        """Return where in `text` each of its tokens begins, in characters; never falling.

        What is not in the text has no length: tokens that begin a sequence, and a blank that the
        tokenizer adds.
        """
        ids = self.encode(text)
        if self.decode(ids) == text:
            return places(self, ids)
        # It rewrites texts, or something in this one is a special token to it.
        begins = (begin for begin, _ in self._tokenizer.encode(text).offsets[: len(ids)])
        return list(itertools.accumulate(begins, max))

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that a token stands for; of a special one, its name's."""
        return self._bytes_of_all[token] if 0 <= token < len(self._bytes_of_all) else b""

    def begins_within(self, token: int) -> bool:
        """Tell whether a token begins with a later byte of a character."""
        return self.token_bytes(token)[:1] in _LATER_BYTES

    def to_json(self) -> str:
        """Return the `tokenizer.json`."""
        return str(self._tokenizer.to_str())

    @cached_property
    def _bytes_of_all(self) -> list[bytes]:
        byte_level = '"ByteLevel"' in json.dumps(json.loads(self.to_json()).get("decoder"))
        added = self._tokenizer.get_added_tokens_decoder()
        return [
            added[token].content.encode()
            if token in added
            else piece_bytes(self._tokenizer.id_to_token(token) or "", byte_level=byte_level)
            for token in range(self.vocabulary_size)
        ]


def _with_shown(content: str, shown: Collection[str]) -> str:
    """Return a `tokenizer.json` in which some added tokens are not special."""
    if not shown:
        return content
    stated = json.loads(content)
    for token in stated.get("added_tokens") or []:
        token["special"] = token["special"] and token["content"] not in shown
    return json.dumps(stated)


def piece_bytes(piece: str, *, byte_level: bool) -> bytes:
    """Return the bytes that a token of a vocabulary, as it stands there, is of a text."""
    if byte_level:
        try:
            return bytes(_BYTE_OF[character] for character in piece)
        except KeyError:
            return piece.encode()
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return bytes.fromhex(piece[3:5])
    return piece.replace(_SPACE, " ").encode()


def _byte_characters() -> dict[str, int]:
    """Return the byte that each character of a byte-level vocabulary stands for (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(256 + number): byte for number, byte in enumerate(others)}


_BYTE_OF = _byte_characters()


def places(tokenizer: CausalTokenizer, ids: Sequence[int]) -> list[int]:
    """Return where in the text of `ids` each of them begins, in characters; never falling."""
    detokenizer = Detokenizer(tokenizer)
    lengths = (len(detokenizer.push(token)) for token in ids[:-1])
    return list(itertools.accumulate(lengths, initial=0)) if ids else []


class Detokenizer:
    """The text of one sequence, as its tokens come.

    What is given out is never taken back and never ends within a character. Decoded is always a
    little window, beginning where a piece was given out before, so that whatever a tokenizer does
    at the beginning of a text (such as dropping a space) happens on both sides of a difference.
    """

    def __init__(self, tokenizer: CausalTokenizer, prompt: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._window = list(prompt[-_CONTEXT:])
        while self._window and tokenizer.begins_within(self._window[0]):
            del self._window[0]
        self._told = self._tokenizer.decode(self._window)
        self._fresh = 0

    def push(self, token: int) -> str:
        """Take the next token; return the text that it completes, maybe none."""
        self._window.append(token)
        self._fresh += 1
        text = self._tokenizer.decode(self._window)
        if len(text) <= len(self._told) or text.endswith(_BROKEN):
            return ""
        return self._give(text)

    def finish(self) -> str:
        """Return what is left, with a replacement character for half a character."""
        text = self._tokenizer.decode(self._window)
        return self._give(text) if len(text) > len(self._told) else ""

    def _give(self, text: str) -> str:
        piece = text[len(self._told) :]
        self._window = self._window[-self._fresh :] if self._fresh else self._window
        self._told = self._tokenizer.decode(self._window)
        self._fresh = 0
        return piece
