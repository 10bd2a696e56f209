"""Completions by the model in training: for people to watch, and for scores."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import torch

from hone.models import durable
from hone.training.events import Events
from hone.training.generation.causal_model import token_ids

_PROMPTS_TOGETHER = 32
SAMPLES_FILE = "samples.jsonl"


@torch.inference_mode()
def complete(
    model: Any,  # noqa: ANN401 - transformers has no types
    tokenizer: Any,  # noqa: ANN401
    prompts: Sequence[list[int]],
    *,
    pad_id: int,
    max_tokens: int,
    temperature: float = 0.0,
    beams: int = 1,
) -> list[str]:
    """Return what the model writes after prompts of token ids, up to its end-of-text token.

    Greedy at temperature 0. Prompts of similar length run together, padded on the left.
    """
    was_training = model.training
    model.eval()
    answers = [""] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    for start in range(0, len(order), _PROMPTS_TOGETHER):
        rows = order[start : start + _PROMPTS_TOGETHER]
        texts = [tuple(prompts[row]) for row in rows]
        found = _continued(
            model, tokenizer, texts, pad_id, max_tokens, temperature=temperature, beams=beams
        )
        for row, ids in zip(rows, found, strict=True):
            answers[row] = continuation(tokenizer, prompts[row], ids)
    model.train(was_training)
    return answers


def _continued(
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    texts: list[tuple[int, ...]],
    pad_id: int,
    max_tokens: int,
    *,
    temperature: float,
    beams: int,
) -> list[list[int]]:
    """Return the new tokens of each text, its end-of-text token left out."""
    device = next(model.parameters()).device
    ids = token_ids(texts, pad_id=pad_id, left=True).to(device)
    lengths = torch.tensor([len(text) for text in texts], device=device)
    places = torch.arange(ids.shape[1], device=device)
    mask = (places >= ids.shape[1] - lengths.unsqueeze(1)).long()
    drawing = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    written = model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=max_tokens,
        num_beams=beams,
        pad_token_id=pad_id,
        eos_token_id=tokenizer.eos_token_id,
        use_cache=True,
        **(drawing if temperature else {"do_sample": False}),
    )
    return [_until_end(row, tokenizer.eos_token_id) for row in written[:, ids.shape[1] :].tolist()]


def _until_end(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end)] if end in ids else ids


def continuation(tokenizer: Any, prompt: list[int], ids: list[int]) -> str:  # noqa: ANN401
    """Return new tokens as the text that they add: some tokenizers drop a space at the beginning
    of what is decoded alone.
    """
    before = tokenizer.decode(prompt, skip_special_tokens=True)
    whole: str = tokenizer.decode([*prompt, *ids], skip_special_tokens=True)
    return whole[len(before) :] if whole.startswith(before) else tokenizer.decode(ids)


@dataclass(frozen=True, slots=True)
class SamplePrompts:
    """Completes the recipe's prompts at every evaluation, and keeps the answers with the run."""

    names: Sequence[str]
    prompts: Sequence[list[int]]
    tokenizer: Any
    pad_id: int
    max_tokens: int
    temperature: float
    folder: Path
    events: Events

    def __call__(self, step: int, model: Any) -> None:  # noqa: ANN401
        """Write what the model answers after so many steps, in place of what a broken-off run
        wrote of the same step.
        """
        if not self.prompts:
            return
        state = torch.get_rng_state()  # drawing must not change what the training draws
        answers = complete(
            model,
            self.tokenizer,
            self.prompts,
            pad_id=self.pad_id,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
        )
        torch.set_rng_state(state)
        rows = [
            {"step": step, "prompt": prompt, "completion": answer}
            for prompt, answer in zip(self.names, answers, strict=True)
        ]
        earlier = [row for row in read_samples(self.folder) if row["step"] < step]
        content = b"".join(orjson.dumps(row) + b"\n" for row in [*earlier, *rows])
        # A kill leaves what was there: half a line could not be read when the run goes on.
        durable.write_atomically(self.folder / SAMPLES_FILE, content)
        self.events.emit("sampled", step=step, samples=rows)


def read_samples(run: Path) -> Iterator[dict[str, Any]]:
    """Yield the samples that a run has kept, the oldest first."""
    path = run / SAMPLES_FILE
    if path.is_file():
        yield from (orjson.loads(line) for line in path.read_bytes().splitlines())
