"""transformers: `generate` over a static batch, fp32."""

import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks.decoding.model import random_llama
from benchmarks.decoding.prompts import Run, groups, prompts


def make(variant: str, threads: int) -> Run:
    if variant != "fp32":
        raise SystemExit("transformers takes part in fp32 alone")
    torch.set_num_threads(threads)
    model: Any = AutoModelForCausalLM.from_pretrained(random_llama(), dtype=torch.float32).eval()

    def decode(streams: int, tokens: int) -> float:
        ids = torch.tensor(prompts(streams))
        started = time.perf_counter()
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            pad_token_id=0,
        )
        return time.perf_counter() - started

    return lambda streams, wanted: sum(
        decode(len(group), max(group)) for group in groups(streams, wanted)
    )
