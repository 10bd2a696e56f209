"""A contender that is a causal model of one's own: a bundle of a store that is asked a prompt.

It decodes in this process, one text at a time and greedily. What prompts begin with in common is
read once, as a service does it. Answers are kept on disk as those of other contenders are.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from hone.comparison.cache import AnswerCache, key_of
from hone.comparison.experiment import GeneratingContender
from hone.comparison.outcomes import Item, Outcome
from hone.models.decoding.adapters import BARE
from hone.models.decoding.engine import DecoderEngine
from hone.models.decoding.generations import Generation, GenerationRequest
from hone.models.decoding.loading import Decoder, causal_parts, load_decoder
from hone.models.decoding.sampling import SamplingParameters
from hone.models.decoding.voices import Voice
from hone.models.engines import FloatArray
from hone.models.errors import InvalidInput
from hone.models.manifest import Manifest, Variant
from hone.models.names import parse_reference
from hone.models.prompting.answers import LabelReader
from hone.models.prompting.prompts import Prompt, in_words
from hone.models.prompting.reading import read_label
from hone.models.prompting.usage import Usage
from hone.models.prompting.wire import Reply
from hone.models.registry import Registry

_PIECE = 256
_MOST_TOKENS = 1 << 15
_MOST_RAW = 20_000


class Slot:
    """The one slot of a decoder, which remembers what it has read."""

    def __init__(self, engine: DecoderEngine, adapter: int = BARE) -> None:
        self._engine, self._adapter = engine, adapter
        self._held: list[int] = []

    def read(self, ids: Sequence[int]) -> FloatArray:
        """Read what the slot does not hold of a prompt; return the last logits (vocabulary,)."""
        known = _shared(self._held, ids[:-1])
        del self._held[known:]
        for start in range(known, len(ids), _PIECE):
            piece = ids[start : start + _PIECE]
            logits = self._engine.prefill(0, piece, start, every=False, adapter=self._adapter)
            self._held += piece
        last: FloatArray = logits[-1]
        return last

    def step(self, token: int) -> FloatArray:
        """Read one more token; return the logits (vocabulary,)."""
        ids, filled = np.array([token], dtype=np.int64), np.array([len(self._held)], dtype=np.int64)
        self._held.append(token)
        last: FloatArray = self._engine.step(0, ids, filled, [self._adapter])[0]
        return last


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))


@dataclass(frozen=True)
class GeneratingAnswerer:
    """Asks a decoder. For one thread; `prompt` gives an item's prompt."""

    contender: GeneratingContender
    manifest: Manifest
    variant: Variant
    decoder: Decoder
    prompt: Callable[[Item], Prompt]
    reader: LabelReader
    labels: Sequence[str]
    cache: AnswerCache | None = None
    _slots: list[Slot] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._slots[:] = self._slots or [Slot(self.decoder.engine, self.decoder.adapter)]

    def answer(self, item: Item, repeat: int) -> Outcome:
        """Return what it says of an item; a prompt that does not fit is a failed call."""
        name = self.contender.name
        try:
            ids = self._ids(self.prompt(item))
            key, found = self._known(ids, item, repeat)
        except InvalidInput as error:
            return Outcome(
                contender=name,
                item=item.id,
                repeat=repeat,
                kind="failed",
                error=str(error),
                calls=0,
            )
        said = read_label(Reply(found["text"], confidence=found["p"]), self.labels, self.reader)
        usage = Usage(prompt_tokens=len(ids), completion_tokens=found["tokens"], counting="exact")
        return Outcome(
            contender=name,
            item=item.id,
            repeat=repeat,
            kind=said.kind,
            label=said.label,
            confidence=said.confidence,
            raw=found["text"][:_MOST_RAW],
            seconds=found["seconds"],
            calls=1,
            usage=usage,
            spent=usage,
            request=key,
        )

    def _ids(self, prompt: Prompt) -> list[int]:
        """Return the tokens of a prompt, through the bundle's own template for a chat."""
        if self.contender.api == "completions" or self.decoder.template is None:
            return self.decoder.tokenizer.encode(prompt.text)
        messages = [
            {"role": role, "content": in_words(content)} for role, content in prompt.messages
        ]
        text = self.decoder.template.render(messages)
        return self.decoder.tokenizer.encode(text, special=False)

    def _known(self, ids: list[int], item: Item, repeat: int) -> tuple[str, dict[str, Any]]:
        """Return an answer from disk, or decode it and keep it there."""
        asked = self._request(ids)
        body = {"prompt": ids, "max_tokens": asked.max_tokens, "stop": list(asked.stops)}
        key = key_of(
            address=f"bundle:{self.manifest.digest}", path=self.variant, body=body, repeat=repeat
        )
        known = None if self.cache is None else self.cache.known(key)
        if known is not None and known.body is not None:
            kept: dict[str, Any] = orjson.loads(known.body)
            return key, kept
        found = self._decode(asked)
        if self.cache is not None:
            name = self.contender.name
            call = self.cache.begin(key, contender=name, item=item.id, repeat=repeat, most_usd=0.0)
            usage = Usage(
                prompt_tokens=len(ids), completion_tokens=found["tokens"], counting="exact"
            )
            content = orjson.dumps(found)
            self.cache.answered(
                call.result(), content, seconds=found["seconds"], usage=usage, usd=0.0
            ).result()
        return key, found

    def _request(self, ids: list[int]) -> GenerationRequest:
        contender, longest = self.contender, self.decoder.engine.longest
        most = contender.max_answer_tokens
        if not ids or len(ids) + most > longest:
            raise InvalidInput(
                f"the prompt's {len(ids)} tokens and {most} more are not from 1 to the model's "
                f"{longest}"
            )
        stop = contender.stop
        if stop is None:
            stop = ["\n"] if contender.api == "completions" else []
        sampling = SamplingParameters(temperature=0, logprobs=0)
        return GenerationRequest(tuple(ids), sampling, most, tuple(stop))

    def _decode(self, asked: GenerationRequest) -> dict[str, Any]:
        """Return text, probability, tokens and seconds of a completion."""
        started = time.perf_counter()
        generation, slot = Generation(asked, Voice(self.decoder.tokenizer)), self._slots[0]
        logits, said, logprobs = slot.read(asked.prompt), "", 0.0
        while True:
            update = generation.advance(logits)
            said += update.text
            if update.token is not None and update.token.logprob is not None:
                logprobs += update.token.logprob.logprob
            if update.last:
                break
            logits = slot.step(generation.ids[-1])
        return {
            "text": said,
            "p": math.exp(min(0.0, logprobs)),
            "tokens": generation.generated,
            "seconds": time.perf_counter() - started,
        }


def load_generating(
    contender: GeneratingContender,
    prompt: Callable[[Item], Prompt],
    reader: LabelReader,
    labels: Sequence[str],
) -> GeneratingAnswerer:
    """Open and verify a bundle, and load it on this machine's CPU, with one thread.

    An adapter is asked on its base, which is taken from the same store as a service does.
    The bundle is one that generates. InvalidInput for one that does not chat and should; NotFound
    for an adapter whose base is not in the store.
    """
    registry = Registry(Path(contender.store))
    bundle = registry.open(parse_reference(contender.model))
    parts = causal_parts(bundle, registry, contender.variant)
    decoder = load_decoder(parts, registry, slots=1, most_tokens=_MOST_TOKENS, intra_threads=1)
    if contender.api == "chat" and decoder.template is None:
        raise InvalidInput(f'{contender.model} does not chat: api = "completions"')
    return GeneratingAnswerer(
        contender, bundle.manifest, parts.variant, decoder, prompt, reader, labels
    )
