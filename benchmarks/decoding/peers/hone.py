"""The scheduler as it serves: sampling, text, stop strings, updates."""

import itertools
import queue
import time
from collections.abc import Sequence

from benchmarks.decoding.model import hone_model, random_llama
from benchmarks.decoding.prompts import Run, prompts
from hone.models.decoding.detokenizing import CausalTokenizer
from hone.models.decoding.engine import OnnxDecoder
from hone.models.decoding.generations import Generation, GenerationRequest, Update
from hone.models.decoding.sampling import SamplingParameters
from hone.models.decoding.scheduler import Scheduler

GREEDY = SamplingParameters(temperature=0)


def make(variant: str, threads: int) -> Run:
    engine = OnnxDecoder(hone_model(variant), slots=32, longest=512, intra_threads=threads)
    tokenizer = CausalTokenizer.from_file(random_llama() / "tokenizer.json")
    ended: queue.Queue[Generation] = queue.Queue()

    def hear(updates: list[Update]) -> None:
        for update in updates:
            if update.last:
                ended.put(update.generation)

    scheduler = Scheduler(engine, tokenizer, deliver=hear)

    def run(streams: int, wanted: Sequence[int]) -> float:
        started = time.perf_counter()
        asked = iter(zip(itertools.cycle(prompts(streams)), wanted, strict=False))

        def ask() -> None:
            for prompt, tokens in itertools.islice(asked, 1):
                scheduler.submit(GenerationRequest(tuple(prompt), GREEDY, tokens, ("\n\n",)))

        for _ in range(streams):
            ask()
        for _ in wanted:
            ended.get()
            ask()
        return time.perf_counter() - started

    return run
