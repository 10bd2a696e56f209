"""What adapters cost: memory of one and of ten on a base, and tokens a second with and without.

    python -m benchmarks.decoding.adapters [--rounds 3] [--tokens 64] [--streams 1,16] [--rank 16]

Of each variant, each in a process of its own: the export without room for adapters (which a merged
model is), and the base with none, with one and with ten. The ten are spread over the streams. All
matrices are random, as the model is. Memory is what the process holds, with and without the pages
that it shares with others (the libraries), once all are loaded, and after the streams have run.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import cast

import numpy as np
from safetensors.numpy import save_file

from benchmarks.decoding.model import FOLDER, hone_model, random_llama
from benchmarks.machine import describe_machine, describe_software, load_average
from hone.training.causal.export import DecoderVariant, export_decoder

ARMS = ("merged", "0", "1", "10")
"""The merged export, or how many adapters there are on the base."""
HIDDEN, INNER, SHARED, LAYERS = 768, 2048, 256, 12
_WIDTHS = {
    "attn.q_proj": (HIDDEN, HIDDEN), "attn.k_proj": (HIDDEN, SHARED),
    "attn.v_proj": (HIDDEN, SHARED), "attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (HIDDEN, INNER), "mlp.up_proj": (HIDDEN, INNER),
    "mlp.down_proj": (INNER, HIDDEN),
}  # fmt: skip


def base_model(variant: str) -> Path:
    """Return the export of the random model that takes adapters."""
    path = FOLDER / f"base.{variant}.onnx"
    if not path.is_file():
        export_decoder(random_llama(), cast("DecoderVariant", variant), path, adapters=True)
    return path


def adapter_file(number: int, rank: int) -> Path:
    """Return the file of a random adapter on every linear layer."""
    path = FOLDER / f"adapter-{rank}-{number}.safetensors"
    if not path.is_file():
        random = np.random.default_rng(number)
        matrices = {}
        for layer in range(LAYERS):
            for name, (width, out) in _WIDTHS.items():
                for part, size in (("A", width), ("B", out)):
                    matrix = 0.02 * random.standard_normal((rank, size), dtype=np.float32)
                    matrices[f"layers.{layer}.{name}.{part}"] = matrix
        save_file(matrices, path)
    return path


class Process:
    """One arm, in a process of its own that waits while others decode."""

    def __init__(self, arm: str, variant: str, rank: int) -> None:
        model = hone_model(variant) if arm == "merged" else base_model(variant)
        count = 0 if arm == "merged" else int(arm)
        files = [model, random_llama() / "tokenizer.json"]
        files += [adapter_file(number, rank) for number in range(count)]
        command = [sys.executable, "-m", "benchmarks.decoding.adapter_arm", *map(str, files)]
        switches = {"ORT_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "2"}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | switches,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", f"{arm}:{variant} does not run"

    def ask(self, line: str) -> float | dict[str, float]:
        """Return the answer to a line."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(line, file=self._process.stdin, flush=True)
        answer: float | dict[str, float] = json.loads(self._process.stdout.readline())
        return answer

    def end(self) -> None:
        """End the process."""
        self._process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--variants", default="fp32,int8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--streams", default="1,16")
    parser.add_argument("--rank", type=int, default=16)
    asked = parser.parse_args()
    streams = [int(number) for number in asked.streams.split(",")]
    loads = [load_average()]
    found: dict[str, object] = {}
    for variant in asked.variants.split(","):
        (hone_model(variant), base_model(variant))
        _ = [adapter_file(number, asked.rank) for number in range(10)]
        arms = {arm: Process(arm, variant, asked.rank) for arm in ARMS}
        loaded = {arm: process.ask("memory") for arm, process in arms.items()}
        print(json.dumps({variant: loaded}), flush=True)  # a run that is cut has told this much
        rates: dict[str, dict[int, list[float]]] = {a: {n: [] for n in streams} for a in ARMS}
        for _ in range(asked.rounds):
            for number in streams:
                for arm, process in arms.items():
                    rate = process.ask(f"{number} {asked.tokens}")
                    rates[arm][number].append(cast("float", rate))
        ran = {arm: process.ask("memory") for arm, process in arms.items()}
        for process in arms.values():
            process.end()
        loads.append(load_average())
        found[variant] = {"loaded": loaded, "ran": ran, "tokens_per_s": rates}
        report(variant, cast("Memory", loaded), cast("Memory", ran), rates)
    print(json.dumps({"machine": describe_machine(), "software": describe_software()}))
    print(json.dumps({"loads": loads, "found": found}))


Memory = dict[str, dict[str, float]]


def report(
    variant: str, loaded: Memory, ran: Memory, rates: dict[str, dict[int, list[float]]]
) -> None:
    """Print a table: memory, and the best round."""
    streams = list(next(iter(rates.values())))
    heads = ["MB resident", "private", "of adapters", "resident after the runs", "private"]
    heads += [f"{n} streams" for n in streams]
    print(f"| {variant} | " + " | ".join(heads) + " |")
    print("|---" * (len(heads) + 1) + "|")
    for arm, rate in rates.items():
        before, after = loaded[arm], ran[arm]
        cells = [before["resident"], before["private"], before["adapters"]]
        cells += [after["resident"], after["private"], *(max(rate[n]) for n in streams)]
        name = "merged" if arm == "merged" else f"base, {arm} adapters"
        print(f"| {name} | " + " | ".join(f"{cell:.0f}" for cell in cells) + " |")
    for kind in ("resident", "private"):
        ratios = [held["10"][kind] / held["1"][kind] for held in (loaded, ran)]
        print(f"ten adapters, {kind}: {ratios[0]:.3f} times one, {ratios[1]:.3f} after the runs")


if __name__ == "__main__":
    main()
