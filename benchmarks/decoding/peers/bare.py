"""Our engine's steps, with nothing around them but the choice of the best token."""

import time

import numpy as np

from benchmarks.decoding.model import hone_model
from benchmarks.decoding.prompts import PROMPT_TOKENS, Run, groups, prompts
from hone.models.decoding.engine import OnnxDecoder


def make(variant: str, threads: int) -> Run:
    engine = OnnxDecoder(hone_model(variant), slots=32, longest=512, intra_threads=threads)

    def decode(streams: int, tokens: int) -> float:
        started = time.perf_counter()
        firsts = [
            engine.prefill(slot, prompt, 0, every=False).argmax()
            for slot, prompt in enumerate(prompts(streams))
        ]
        ids = np.array(firsts, dtype=np.int64)
        lengths = np.full(streams, PROMPT_TOKENS)
        for _ in range(tokens - 1):
            ids = engine.step(0, ids, lengths).argmax(axis=1)
            lengths += 1
        return time.perf_counter() - started

    return lambda streams, wanted: sum(
        decode(len(group), max(group)) for group in groups(streams, wanted)
    )
