"""One arm of `benchmarks.decoding.adapters`, in a process of its own that imports no torch.

    python -m benchmarks.decoding.adapter_arm MODEL TOKENIZER [ADAPTER ...]

answers lines `memory` and `STREAMS TOKENS`, each with a line of JSON.
"""

import json
import queue
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.decoding.prompts import prompts
from hone.models.decoding.adapters import read_adapter
from hone.models.decoding.detokenizing import CausalTokenizer
from hone.models.decoding.engine import OnnxDecoder
from hone.models.decoding.generations import Generation, GenerationRequest, Update
from hone.models.decoding.sampling import SamplingParameters
from hone.models.decoding.scheduler import Scheduler

GREEDY = SamplingParameters(temperature=0)
SLOTS, LONGEST = 16, 512


class Arm:
    """One arm, in this process."""

    def __init__(self, model: Path, tokenizer_file: Path, adapters: Sequence[Path]) -> None:
        self._engine = OnnxDecoder(model, slots=SLOTS, longest=LONGEST, intra_threads=2)
        tokenizer = CausalTokenizer.from_file(tokenizer_file)
        self._ended: queue.Queue[Generation] = queue.Queue()
        self._scheduler = Scheduler(self._engine, deliver=self._hear)
        self._voices = [
            self._scheduler.enter(tokenizer, None, read_adapter(file)) for file in adapters
        ] or [self._scheduler.enter(tokenizer)]

    def tokens_per_s(self, streams: int, tokens: int) -> float:
        """Decode so many streams of so many tokens."""
        started = time.perf_counter()
        for number, prompt in enumerate(prompts(streams)):
            asked = GenerationRequest(tuple(prompt), GREEDY, tokens)
            self._scheduler.submit(asked, self._voices[number % len(self._voices)])
        for _ in range(streams):
            self._ended.get()
        return streams * tokens / (time.perf_counter() - started)

    def memory(self) -> dict[str, float]:
        """Return what the process holds, what of it nobody shares, and its adapters, in MB."""
        rollup = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
        kb = {line.split(":")[0]: int(line.split()[1]) for line in rollup[1:]}
        private = kb["Private_Clean"] + kb["Private_Dirty"]
        adapters = self._engine.adapter_bytes / 2**20
        return {"resident": kb["Rss"] / 1024, "private": private / 1024, "adapters": adapters}

    def _hear(self, updates: list[Update]) -> None:
        for update in updates:
            if update.last:
                self._ended.put(update.generation)


def main(model: Path, tokenizer: Path, adapters: Sequence[Path]) -> None:
    arm = Arm(model, tokenizer, adapters)
    arm.tokens_per_s(1, 2)
    print("ready", flush=True)
    for line in sys.stdin:
        words = line.split()
        told = arm.memory() if words == ["memory"] else arm.tokens_per_s(*map(int, words))
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
