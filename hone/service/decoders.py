"""Decoders in memory, and which models speak through each.

A model of its own has a decoder to itself. Models whose bundles are adapters on the same base, and
the base where it is served by name, share one: the base's weights, slots and steps. It comes into
memory with the first of them and goes with the last.
"""

import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

from hone.models.decoding.constraints import ConstraintFactory
from hone.models.decoding.detokenizing import CausalTokenizer
from hone.models.decoding.engine import DecoderEngine
from hone.models.decoding.prefixes import PrefixStore
from hone.models.decoding.scheduler import Deliver, Scheduler
from hone.models.decoding.voices import Voice
from hone.models.errors import BundleCorrupt, InvalidInput
from hone.models.examples import sha256_of_file
from hone.service.settings import Settings

logger = logging.getLogger(__name__)


class Language:
    """A tokenizer, and how its tokens follow schemas: what models of one base have in common."""

    def __init__(self, tokenizer: CausalTokenizer, vocabulary_size: int) -> None:
        if tokenizer.vocabulary_size > vocabulary_size:
            raise BundleCorrupt("there are more tokens than logits")
        self.tokenizer = tokenizer
        self.constraints = _constraints(tokenizer, vocabulary_size)


class Decoder:
    """An engine with its scheduler, and those who speak through it."""

    def __init__(
        self, engine: DecoderEngine, settings: Settings, deliver: Deliver, name: str
    ) -> None:
        self.engine = engine
        prefixes = PrefixStore(settings.prefix_cache_bytes) if settings.prefix_cache_bytes else None
        self.scheduler = Scheduler(
            engine,
            deliver=deliver,
            prefixes=prefixes,
            most_waiting_tokens=settings.max_waiting_tokens,
            name=name,
        )
        self._languages: weakref.WeakValueDictionary[
            tuple[str, tuple[int, ...], tuple[str, ...]], Language
        ] = weakref.WeakValueDictionary()

    def language(self, file: Path, eos_ids: Sequence[int], shown: Sequence[str] = ()) -> Language:
        """Return the language of a `tokenizer.json`, the same object for the same content.

        `shown` are special tokens that are text in it.

        InvalidInput when it is none, BundleCorrupt when it has more tokens than there are logits.
        """
        key = sha256_of_file(file), tuple(eos_ids), tuple(shown)
        known = self._languages.get(key)
        if known is None:
            tokenizer = CausalTokenizer.from_file(file, eos_ids=eos_ids, shown=shown)
            known = Language(tokenizer, self.engine.vocabulary_size)
            self._languages[key] = known
        return known


class SharedDecoders:
    """Which decoder is in memory for which base, and how many models use it. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        """Held for moments only; loading has locks of its own, one for each base."""
        self._loading: dict[str, threading.Lock] = {}
        self._by_file: dict[str, Decoder] = {}
        self._users: dict[Decoder, int] = {}

    def borrow(self, sha256: str | None, load: Callable[[], Decoder]) -> Decoder:
        """Return the decoder of a base's ONNX file, by its SHA-256; `load` it if there is none.

        Without a hash nobody shares it. Each borrower gives it back once.
        """
        if not sha256:
            decoder = load()
            with self._lock:
                self._users[decoder] = 1
            return decoder
        with self._lock:
            one_load = self._loading.setdefault(sha256, threading.Lock())
        with one_load:
            return self._in_memory(sha256) or self._keep(sha256, load())

    def _in_memory(self, sha256: str) -> Decoder | None:
        with self._lock:
            decoder = self._by_file.get(sha256)
            if decoder is not None:
                self._users[decoder] += 1
            return decoder

    def _keep(self, sha256: str, decoder: Decoder) -> Decoder:
        with self._lock:
            self._by_file[sha256] = decoder
            self._users[decoder] = 1
        return decoder

    def give_back(
        self, decoder: Decoder, voice: Voice | None = None, timeout_s: float | None = None
    ) -> None:
        """Finish what `voice` has begun and let it go; the last one takes the decoder along.

        What is not finished after `timeout_s` is told that the model is leaving. Blocks.
        """
        with self._lock:
            self._users[decoder] -= 1
            last = not self._users[decoder]
            if last:
                del self._users[decoder]
                self._by_file = {k: d for k, d in self._by_file.items() if d is not decoder}
        if last:
            decoder.scheduler.close(timeout_s=timeout_s)
        elif voice is not None:
            decoder.scheduler.leave(voice, timeout_s=timeout_s)


def _constraints(tokenizer: CausalTokenizer, vocabulary_size: int) -> ConstraintFactory | None:
    try:
        return ConstraintFactory(tokenizer, vocabulary_size)
    except InvalidInput as error:
        logger.warning("no constrained decoding", extra={"reason": str(error)})
        return None
