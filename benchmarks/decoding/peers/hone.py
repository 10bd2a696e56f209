"""The scheduler as it serves: sampling, text, stop strings, updates."""

import threading
import time

from benchmarks.decoding.model import hone_model, random_llama
from benchmarks.decoding.prompts import Run, prompts
from hone.models.decoding.detokenizing import CausalTokenizer
from hone.models.decoding.engine import OnnxDecoder
from hone.models.decoding.generations import GenerationRequest, Update
from hone.models.decoding.sampling import SamplingParameters
from hone.models.decoding.scheduler import Scheduler

GREEDY = SamplingParameters(temperature=0)


def make(variant: str, threads: int) -> Run:
    engine = OnnxDecoder(hone_model(variant), slots=32, longest=512, intra_threads=threads)
    tokenizer = CausalTokenizer.from_file(random_llama() / "tokenizer.json")
    left = [0]
    ended = threading.Event()

    def hear(updates: list[Update]) -> None:
        left[0] -= sum(update.last for update in updates)
        if not left[0]:
            ended.set()

    scheduler = Scheduler(engine, tokenizer, deliver=hear)

    def run(streams: int, tokens: int) -> float:
        left[0] = streams
        ended.clear()
        started = time.perf_counter()
        for prompt in prompts(streams):
            scheduler.submit(GenerationRequest(tuple(prompt), GREEDY, tokens, stops=("\n\n",)))
        ended.wait()
        return time.perf_counter() - started

    return run
