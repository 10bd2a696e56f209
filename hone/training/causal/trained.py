"""The trained model as torch left it, for the parity gate."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from hone.models.engines import FloatArray


class TorchModel:
    """A Hugging Face causal language model, in fp32 on the CPU."""

    def __init__(self, folder: Path) -> None:
        # Local files alone: the gate must not judge another model than the one beside it.
        self._model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True
        ).eval()

    def logits(self, ids: Sequence[int]) -> FloatArray:
        """Return float32 logits (ids, vocabulary), those after each id."""
        with torch.no_grad():
            found: FloatArray = self._model(torch.tensor([list(ids)])).logits[0].numpy()
        return found.astype(np.float32, copy=False)

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        """Return `count` ids that are each the most probable next one, whatever they are."""
        ids = torch.tensor([list(prompt)])
        said = self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=count,
            do_sample=False,
            num_beams=1,
            eos_token_id=None,
            pad_token_id=0,
            repetition_penalty=1.0,
            suppress_tokens=None,
        )
        return [int(token) for token in said[0, len(prompt) :]]
