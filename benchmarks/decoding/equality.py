"""Greedy output beside transformers' `generate`, on the same weights, for many prompts.

    python -m benchmarks.decoding.equality FOLDER [--prompts 200] [--tokens 64] [--variant fp32]

Each prompt is completed alone and among 16 streams, and both are compared token by token with what
`generate` says. Also: how far a row's logits move with the number of rows beside it.
"""

import argparse
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from hone.models.decoding.detokenizing import CausalTokenizer
from hone.models.decoding.engine import OnnxDecoder, prefill_in_pieces
from hone.models.decoding.generations import Generation, GenerationRequest, Update
from hone.models.decoding.prefixes import PrefixStore
from hone.models.decoding.sampling import SamplingParameters
from hone.models.decoding.scheduler import Scheduler
from hone.training.causal.export import export_decoder

EOS = 2
GREEDY = SamplingParameters(temperature=0)
LONGEST = 400


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--variant", default="fp32")
    asked = parser.parse_args()
    model: Any = AutoModelForCausalLM.from_pretrained(asked.folder, dtype=torch.float32).eval()
    prompts = said_prompts(model, asked.prompts)
    truth = [greedy(model, prompt, asked.tokens) for prompt in prompts]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        export_decoder(asked.folder, asked.variant, path)
        for slots in (1, 16):
            found = decode(path, asked.folder, prompts, asked.tokens, slots)
            equal = sum(a == b for a, b in zip(found, truth, strict=True))
            print(f"{slots} at once: {equal} of {len(prompts)} equal to generate")
        report_invariance(path, prompts[:32])


def said_prompts(model: Any, count: int) -> list[list[int]]:  # noqa: ANN401 - it has no type
    """Return prompts of mixed lengths in the model's own words: sampled from it."""
    torch.manual_seed(0)
    lengths = np.random.default_rng(0).integers(2, 300, count)
    said = model.generate(
        torch.ones((count, 1), dtype=torch.long),
        attention_mask=torch.ones((count, 1), dtype=torch.long),
        max_new_tokens=300,
        do_sample=True,
        eos_token_id=None,
        pad_token_id=0,
    ).tolist()
    return [row[:length] for row, length in zip(said, lengths.tolist(), strict=True)]


def greedy(model: Any, prompt: list[int], tokens: int) -> list[int]:  # noqa: ANN401
    ids = torch.tensor([prompt])
    said = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=EOS,
        pad_token_id=0,
    )[0].tolist()
    return [int(token) for token in said[len(prompt) :]]


def decode(
    path: Path, folder: Path, prompts: list[list[int]], tokens: int, slots: int
) -> list[list[int]]:
    """Complete all prompts by the scheduler; return ids with the end of sequence."""
    ends: dict[Generation, Update] = {}
    done = threading.Event()

    def hear(updates: list[Update]) -> None:
        ends.update((update.generation, update) for update in updates if update.last)
        if len(ends) == len(prompts):
            done.set()

    scheduler = Scheduler(
        OnnxDecoder(path, slots=slots, longest=LONGEST),
        CausalTokenizer.from_file(folder / "tokenizer.json", eos_ids=[EOS]),
        deliver=hear,
        prefixes=PrefixStore(64 * 2**20),
        most_waiting_tokens=10**9,
    )
    begun = [
        scheduler.submit(GenerationRequest(tuple(prompt), GREEDY, tokens))[0] for prompt in prompts
    ]
    done.wait()
    scheduler.close()
    return [generation.ids[len(generation.request.prompt) :] for generation in begun]


def report_invariance(path: Path, prompts: list[list[int]]) -> None:
    """Print how much the logits of a step differ by how many rows it has."""
    engine = OnnxDecoder(path, slots=len(prompts), longest=LONGEST)
    for slot, prompt in enumerate(prompts):
        prefill_in_pieces(engine, slot, prompt, piece=64)
    ids = np.array([prompt[-1] for prompt in prompts])
    lengths = np.array([len(prompt) for prompt in prompts])
    together = engine.step(0, ids, lengths).copy()
    differences = {}
    for rows in range(1, len(prompts)):
        part = engine.step(0, ids[:rows], lengths[:rows])
        differences[rows] = float(np.abs(part - together[:rows]).max())
    worst = max(differences, key=differences.__getitem__)
    exact = sum(difference == 0 for difference in differences.values())
    print(
        f"logits of 1 to {len(prompts) - 1} rows against {len(prompts)}: bit for bit the same in "
        f"{exact} cases, at most {differences[worst]:.2g} apart (with {worst} rows)"
    )


if __name__ == "__main__":
    main()
