"""A scheduler over a fake decoder whose tokens are characters, and what it told."""

import queue
import threading
from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from hone.models.decoding.detokenizing import CausalTokenizer
from hone.models.decoding.fake import FakeDecoder
from hone.models.decoding.generations import Generation, GenerationRequest, Update
from hone.models.decoding.sampling import SamplingParameters
from hone.models.decoding.scheduler import Scheduler

CHARACTERS = [chr(code) for code in range(32, 127)]
GREEDY = SamplingParameters(temperature=0)


def character_tokenizer(eos_ids: Iterable[int] = ()) -> CausalTokenizer:
    """Return a tokenizer whose ids are places in `CHARACTERS`."""
    vocabulary = {character: place for place, character in enumerate(CHARACTERS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=" "))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return CausalTokenizer(tokenizer, eos_ids=eos_ids)


def request(prompt: Sequence[int], max_tokens: int = 8, **more: Any) -> GenerationRequest:
    sampling = more.pop("sampling", GREEDY)
    return GenerationRequest(tuple(prompt), sampling, max_tokens, **more)


def expected_ids(engine: FakeDecoder, prompt: Sequence[int], count: int) -> list[int]:
    """Return what the fake decoder says after a prompt, worked out without it."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(engine.favoured(ids))
    return ids[len(prompt) :]


class Gate:
    """Stands before an engine's runs: open at first, and once held it lets them through singly."""

    def __init__(self) -> None:
        self._held = False
        self._permits = threading.Semaphore(0)
        self._arrivals = threading.Semaphore(0)

    def __call__(self) -> None:
        if self._held:
            self._arrivals.release()
            assert self._permits.acquire(timeout=60)

    def hold(self) -> None:
        """Stop the next run that comes; one that was on its way may still pass."""
        self._held = True

    def wait(self) -> None:
        """Wait until a run stands here that was not waited for before."""
        assert self._arrivals.acquire(timeout=60), "no run came"

    def allow(self) -> None:
        """Let one run through, the one that stands here or the next."""
        self._permits.release()

    def open(self) -> None:
        """Let all through from now on."""
        self._held = False
        self._permits.release(10_000)


class Listener:
    """Collects what a scheduler tells; `scheduler` is made by `over`."""

    def __init__(self) -> None:
        self.updates: list[Update] = []
        self.ended: dict[Generation, Update] = {}
        self._news: queue.Queue[None] = queue.Queue()
        self._lock = threading.Lock()

    def hear(self, updates: list[Update]) -> None:
        with self._lock:
            self.updates += updates
            self.ended.update((u.generation, u) for u in updates if u.last)
        self._news.put(None)

    def wait_for(self, generations: Iterable[Generation], timeout: float = 60) -> list[Update]:
        """Return the last update of each generation, when all have ended."""
        wanted = list(generations)
        while not all(generation in self.ended for generation in wanted):
            self._news.get(timeout=timeout)
        return [self.ended[generation] for generation in wanted]

    def wait_until_told(self, generation: Generation, tokens: int, timeout: float = 60) -> None:
        """Wait until so many tokens of a generation were told."""
        while len(self.ids(generation)) < tokens:
            self._news.get(timeout=timeout)

    def ids(self, generation: Generation) -> list[int]:
        return [u.token.id for u in self.updates if u.generation is generation and u.token]

    def text(self, generation: Generation) -> str:
        return "".join(u.text for u in self.updates if u.generation is generation)


def scheduler_over(engine: FakeDecoder, listener: Listener, **options: Any) -> Scheduler:
    return Scheduler(engine, character_tokenizer(), deliver=listener.hear, **options)
