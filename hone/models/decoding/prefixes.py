"""Keys and values of prompts that were read before, so that they are not computed again.

Kept in blocks of a few tokens. A block's key is a hash over its own tokens and all before them,
so a block is only ever used after the very prefix that it was computed with; and over the adapter,
as the same tokens have other keys and values there.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import numpy as np

from hone.models.decoding.adapters import BARE
from hone.models.decoding.engine import DecoderEngine
from hone.models.engines import FloatArray

BLOCK_TOKENS = 16


class PrefixStore:
    """Blocks of keys and values, at most `most_bytes` of them; those not used longest go first."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._blocks: OrderedDict[bytes, FloatArray] = OrderedDict()
        self._bytes = 0
        self.hits = 0
        """Prompts of which a part was found."""
        self.misses = 0
        self.reused_tokens = 0

    @property
    def bytes(self) -> int:
        """How much memory the blocks take."""
        return self._bytes

    def restore(
        self, engine: DecoderEngine, slot: int, ids: Sequence[int], *, adapter: int = BARE
    ) -> int:
        """Fill a slot with what is known of a prompt; return how many of its places are filled.

        The last token is never among them: its logits are wanted.
        """
        found: list[bytes] = []
        for key in _keys(ids[:-1], adapter):
            block = self._blocks.get(key)
            if block is None:
                break
            engine.write(slot, len(found) * BLOCK_TOKENS, block)
            found.append(key)
        # Later blocks are of no use without the earlier ones, which therefore count as newer.
        for key in reversed(found):
            self._blocks.move_to_end(key)
        filled = len(found) * BLOCK_TOKENS
        self.hits += bool(found)
        self.misses += not found
        self.reused_tokens += filled
        return filled

    def keep(
        self, engine: DecoderEngine, slot: int, ids: Sequence[int], *, adapter: int = BARE
    ) -> None:
        """Keep what a slot holds of `ids`, all of whose places are filled."""
        size = BLOCK_TOKENS * engine.bytes_per_token
        for number, key in enumerate(_keys(ids, adapter)):
            if key in self._blocks:
                continue
            if size > self._most_bytes:
                return
            start = number * BLOCK_TOKENS
            self._blocks[key] = engine.read(slot, start, start + BLOCK_TOKENS)
            self._bytes += self._blocks[key].nbytes
            while self._bytes > self._most_bytes:
                self._bytes -= self._blocks.popitem(last=False)[1].nbytes


def _keys(ids: Sequence[int], adapter: int) -> Iterator[bytes]:
    """Yield the key of each whole block."""
    digest = hashlib.blake2b(b"%d:" % adapter, digest_size=16)
    for end in range(BLOCK_TOKENS, len(ids) + 1, BLOCK_TOKENS):
        digest.update(np.array(ids[end - BLOCK_TOKENS : end], dtype=np.int64).tobytes())
        yield digest.digest()
