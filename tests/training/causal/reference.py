"""What transformers says: greedy continuations and logits, the truth of all comparisons."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from hone.models.decoding.detokenizing import CausalTokenizer

STORY = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "
    "One day, she saw a big red ball. She wanted to play with it, but it was too high up in the "
    "tree. Her friend Tim came and helped her. They were very happy and played all day long."
)


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def prompts(folder: Path, count: int, seed: int = 0) -> list[list[int]]:
    """Return ids of pieces of a story, of mixed lengths, each beginning with the first token."""
    ids = CausalTokenizer.from_file(folder / "tokenizer.json").encode(STORY * 3)
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        length = int(random.integers(1, 120))
        start = int(random.integers(1, len(ids) - length))
        found.append([ids[0], *ids[start : start + length]])
    return found


def greedy(model: Any, prompt: list[int], count: int) -> list[int]:
    """Return the ids that `generate` says after a prompt, up to the end of sequence."""
    ids = torch.tensor([prompt])
    found = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=count,
        do_sample=False,
        pad_token_id=EOS,
    )
    return [int(token) for token in found[0, len(prompt) :]]


def logits(model: Any, ids: list[int]) -> np.ndarray:
    """Return float32 logits (ids, vocabulary)."""
    with torch.no_grad():
        found: np.ndarray = model(torch.tensor([ids])).logits[0].numpy()
    return found


EOS = 2


def said(generated: list[int], finish: str | None) -> list[int]:
    """Return ids as `generate` has them: with the end of sequence where that ended it."""
    return [*generated, EOS] if finish == "stop" else generated
