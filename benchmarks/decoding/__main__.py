"""Tokens a second of everybody, measured in turns.

    python -m benchmarks.decoding [--rounds 3] [--tokens 96] [--streams 1,4,16] [NAME:VARIANT ...]
    python -m benchmarks.decoding --mixed 64 --streams 4,16 ...

First every stream is as long as every other, which is what static batches like best. With `--mixed`
so many requests want 8 to 192 tokens each, and a stream asks for the next as soon as it has its
answer; a static batch takes the next ones when its last has ended. Only wanted tokens count.

Each contestant is a process of its own that waits while another decodes; a round asks all of them
for each number of streams, and the best round counts. Before it is measured, a contestant decodes a
little that does not count: on a processor that has just rested, or has just done other work, the
first steps take up to twice as long. Rounds begin with another contestant each. llama-cpp-python is
left out: PyPI has no wheel of it, and its models need a converter that is not in the package.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

from benchmarks.decoding.model import FOLDER, ctranslate2_library
from benchmarks.decoding.prompts import mixed_lengths
from benchmarks.machine import describe_machine, describe_software, load_average, versions

EVERYBODY = (
    "bare:fp32", "hone:fp32", "generate:fp32", "genai:fp32", "ctranslate2_batch:fp32",
    "bare:int4", "hone:int4", "genai:int4", "bare:int8", "hone:int8", "genai:int8",
    "ctranslate2_batch:int8",
)  # fmt: skip

_WARMING_TOKENS = 24

Rates = dict[str, dict[int, list[float]]]
"""Tokens a second: of each contestant, for each number of streams, in each round."""


class Contestant:
    """A process that decodes when it is asked."""

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        who, variant = name.split(":")
        switches = {"ORT_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": str(threads)}
        path = [os.environ.get("PYTHONPATH", ""), str(FOLDER / "ctranslate2-library")]
        switches["PYTHONPATH"] = os.pathsep.join(part for part in path if part)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.decoding.contestant", who, variant, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | switches,
        )
        self.ready = self._line("ready") == "ready"

    def tokens_per_s(self, streams: int, wanted: list[int]) -> float:
        """Answer requests for so many tokens each, and return the pace."""
        self._seconds(streams, [_WARMING_TOKENS] * streams)
        return sum(wanted) / self._seconds(streams, wanted)

    def end(self) -> None:
        """End the process."""
        self._process.communicate()

    def _seconds(self, streams: int, wanted: list[int]) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"streams": streams, "wanted": wanted}) + "\n")
        self._process.stdin.flush()
        return float(self._line("seconds"))

    def _line(self, what: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() == what or (what != "ready" and line[0].isdigit()):
                return line.strip()
        return ""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=list(EVERYBODY))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--mixed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--streams", default="1,4,16")
    asked = parser.parse_args()
    if any(name.startswith("ctranslate2") for name in asked.names):
        ctranslate2_library()
    contestants = [Contestant(name, asked.threads) for name in asked.names]
    for contestant in contestants:
        if not contestant.ready:
            print(f"{contestant.name} does not run here")
    contestants = [contestant for contestant in contestants if contestant.ready]
    streams = [int(number) for number in asked.streams.split(",")]
    found: dict[str, dict[int, list[float]]] = {
        c.name: {n: [] for n in streams} for c in contestants
    }
    loads = [load_average()]
    for turn in range(asked.rounds):
        first = turn * len(contestants) // asked.rounds
        for number in streams:
            for contestant in contestants[first:] + contestants[:first]:
                wanted = mixed_lengths(asked.mixed) if asked.mixed else [asked.tokens] * number
                found[contestant.name][number].append(contestant.tokens_per_s(number, wanted))
        loads.append(load_average())
    for contestant in contestants:
        contestant.end()
    report(found, streams)
    software = describe_software() | versions(["onnxruntime-genai"])
    print(json.dumps({"machine": describe_machine(), "software": software, "loads": loads}))
    print(json.dumps(found))


def report(found: Rates, streams: list[int]) -> None:
    """Print the table: the best round, and the median in brackets."""
    print("| tokens/s, best (median) | " + " | ".join(f"{n} streams" for n in streams) + " |")
    print("|---" * (len(streams) + 1) + "|")
    for name, rates in found.items():
        cells = [f"{max(rates[n]):.0f} ({statistics.median(rates[n]):.0f})" for n in streams]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
