"""A tokenizer with a token for each byte, so that a person can say which tokens are trained on."""

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from hone.models.catalogue import Base
from hone.training.generation.causal_bases import CausalBase, open_causal_base
from hone.training.generation.conversations import (
    Completion,
    Example,
)
from hone.training.generation.scratch import make_base, train_tokenizer

BYTES_ALONE = 260
"""Every byte and the four special tokens."""

COLOURS = ("red", "green", "blue", "black")


@cache
def byte_tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(["a"], vocabulary=BYTES_ALONE, positions=128)


def colour_rows(count: int, first: int = 0) -> list[Example]:
    """Return prompts whose completions repeat two words of theirs."""
    pairs = [(a, b) for a in COLOURS for b in COLOURS]
    return [
        Completion(f"{n} {a} {b} ->", f" {a} {b}")
        for n in range(first, first + count)
        for a, b in [pairs[n % len(pairs)]]
    ]


def tiny_base(folder: Path, *, seed: int = 0) -> CausalBase:
    """Make the smallest scratch base."""
    make_base(folder, "scratch:llama-1m", colour_rows(32), vocabulary=300, positions=64, seed=seed)
    return open_causal_base(Base("tiny", folder, "none", "text-generation", 64))


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def train_with_template(template: str | None) -> Any:
    tokenizer: Any = type(byte_tokenizer())(
        tokenizer_object=byte_tokenizer().backend_tokenizer, eos_token="</s>"
    )
    tokenizer.chat_template = template
    return tokenizer
