"""How rows of a split become tensors, in training and outside of it: the seam between tasks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hone.training.classifier import collate
from hone.training.dataset import EncodedSplit, length_sorted_batches
from hone.training.dropout import hide_tokens

_ROWS_WITHOUT_GRADIENTS = 64


class LabelledSplit(Protocol):
    """The rows of a split: int64 class indices (rows,), and what each costs in a batch."""

    @property
    def classes(self) -> npt.NDArray[np.int64]:
        """The class of each row, int64 (rows,)."""

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """What each row costs in a batch, int64 (rows,): rows of one batch should be alike."""

    def __len__(self) -> int: ...


class Feed(Protocol):
    """Makes the model's inputs of some rows; in training with whatever is drawn anew each time."""

    def __call__(
        self,
        split: Any,  # noqa: ANN401 - the split of its own task
        rows: Sequence[int],
        device: torch.device,
        *,
        training: bool,
    ) -> tuple[Tensor, ...]:
        """Return the tensors that the model is called with."""


@dataclass(frozen=True, slots=True)
class TextFeed:
    """Padded ids and mask, int64 (texts, tokens); in training a share of the tokens is hidden.

    `mask_id` is the token that hides another; without one, none is hidden.
    """

    pad_id: int
    mask_id: int | None = None
    token_dropout: float = 0.0

    def __call__(
        self, split: EncodedSplit, rows: Sequence[int], device: torch.device, *, training: bool
    ) -> tuple[Tensor, ...]:
        """Return ids and mask."""
        ids, mask = collate([split.texts[i] for i in rows], self.pad_id, device)
        if training and self.mask_id is not None:
            ids = hide_tokens(ids, mask, share=self.token_dropout, mask_id=self.mask_id)
        return ids, mask


def run_over(
    model: nn.Module,
    split: LabelledSplit,
    function: Callable[..., Tensor],
    *,
    feed: Feed,
) -> Tensor:
    """Apply `function` (logits or embeddings) to every row without gradients, rows in order."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    parts, order = [], []
    with torch.inference_mode():
        for rows in length_sorted_batches(split.lengths, _ROWS_WITHOUT_GRADIENTS):
            inputs = feed(split, rows.tolist(), device, training=False)
            parts.append(function(*inputs).cpu())
            order.append(rows)
    model.train(was_training)
    joined = torch.cat(parts).float()
    result = torch.empty_like(joined)
    result[torch.from_numpy(np.concatenate(order))] = joined
    return result
