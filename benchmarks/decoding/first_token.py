"""How many decode steps a short request waits for its first token while 15 long streams run.

    python -m benchmarks.decoding.first_token [--requests 50] [--variant fp32]

Steps are counted, not seconds: those that began after the request was submitted and before its
first token was told. Its own prefill comes on top.
"""

import argparse
import queue
import time
from collections import Counter

from benchmarks.decoding.model import hone_model, random_llama
from benchmarks.decoding.prompts import prompts
from hone.models.decoding.detokenizing import CausalTokenizer
from hone.models.decoding.engine import OnnxDecoder
from hone.models.decoding.generations import Generation, GenerationRequest, Update
from hone.models.decoding.sampling import SamplingParameters
from hone.models.decoding.scheduler import Scheduler

GREEDY = SamplingParameters(temperature=0)
STREAMS, LONG = 15, 1900


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=50)
    parser.add_argument("--variant", default="fp32")
    asked = parser.parse_args()
    told: queue.Queue[tuple[Generation, int, float]] = queue.Queue()
    seen: set[Generation] = set()

    def hear(updates: list[Update]) -> None:
        for update in updates:
            if update.generation not in seen:
                seen.add(update.generation)
                told.put((update.generation, scheduler.steps, time.perf_counter()))

    engine = OnnxDecoder(hone_model(asked.variant), slots=16, longest=2048)
    tokenizer = CausalTokenizer.from_file(random_llama() / "tokenizer.json")
    scheduler = Scheduler(engine, tokenizer, deliver=hear, most_waiting_tokens=10**9)
    long = [
        scheduler.submit(GenerationRequest(tuple(prompt), GREEDY, LONG))[0]
        for prompt in prompts(STREAMS)
    ]
    for _ in long:
        told.get()
    waited: Counter[int] = Counter()
    seconds = []
    for _ in range(asked.requests):
        before, started = scheduler.steps, time.perf_counter()
        scheduler.submit(GenerationRequest(tuple(prompts(1)[0]), GREEDY, 1))
        _, steps, at = told.get()
        waited[steps - before] += 1
        seconds.append(at - started)
        time.sleep(0.013)
    still = scheduler.running()
    for generation in long:
        scheduler.cancel(generation)
    scheduler.close()
    print(f"steps until the first token was told: {dict(sorted(waited.items()))}")
    print(f"median {sorted(seconds)[len(seconds) // 2] * 1e3:.0f} ms, {still} streams ran on")


if __name__ == "__main__":
    main()
