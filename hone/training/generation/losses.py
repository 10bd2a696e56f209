"""What is learned from a batch: completions by their tokens, or preferences by DPO."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hone.training.dataset import length_sorted_batches
from hone.training.generation.causal_model import token_ids
from hone.training.generation.encoding import TrainedText
from hone.training.progress import Judged

Weights = npt.NDArray[np.float32]


class Objective(Protocol):
    """What the loop asks of a way to learn. Rows are places in the training examples."""

    lengths: npt.NDArray[np.int64]
    """Tokens of each training row, int64 (rows,)."""
    weights: Weights
    """What each training row weighs in the loss, float32 (rows,)."""

    def loss(self, model: nn.Module, rows: Sequence[int]) -> tuple[Tensor, float]:
        """Return the sum of the rows' weighted losses, and their part of the accuracy's sum."""

    def judge(self, model: nn.Module) -> Judged:
        """Return the validation loss and accuracy."""


@dataclass(frozen=True, slots=True)
class TokenLosses:
    """Of some texts, for the tokens after the first: loss, weight, and whether it was likeliest.

    Shapes (texts, tokens - 1); padding weighs 0.
    """

    losses: Tensor
    weights: Tensor
    right: Tensor


def token_losses(
    model: nn.Module,
    texts: Sequence[TrainedText],
    *,
    pad_id: int,
    label_smoothing: float = 0.0,
    multiple: int = 1,
) -> TokenLosses:
    """Run the model over texts and compare each token with what was predicted before it.

    Texts are padded to a `multiple` of tokens.

    Losses are computed, in fp32, only where a token weighs something.
    """
    device = next(model.parameters()).device
    ids = token_ids([text.ids for text in texts], pad_id=pad_id, multiple=multiple).to(device)
    weights = torch.zeros(ids.shape, dtype=torch.float32)
    mask = torch.zeros(ids.shape, dtype=torch.int64)
    for row, text in enumerate(texts):
        weights[row, : len(text.ids)] = torch.tensor(text.weights)
        mask[row, : len(text.ids)] = 1
    weights, mask = weights[:, 1:].to(device), mask.to(device)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
    places = weights > 0
    targets = ids[:, 1:][places]
    chosen = logits[places].float()
    found = nn.functional.cross_entropy(
        chosen, targets, reduction="none", label_smoothing=label_smoothing
    )
    losses = torch.zeros_like(weights).masked_scatter(places, found)
    right = torch.zeros_like(places).masked_scatter(places, chosen.argmax(dim=-1) == targets)
    return TokenLosses(losses, weights, right)


@dataclass(slots=True)
class Supervised:
    """The mean of the tokens' losses, each by its weight. Texts are padded to a `multiple`."""

    train: Sequence[TrainedText]
    validation: Sequence[TrainedText]
    pad_id: int
    batch_size: int
    label_smoothing: float = 0.0
    multiple: int = 1

    def __post_init__(self) -> None:
        self.lengths = _lengths(self.train)
        self.weights = np.array([sum(t.weights[1:]) for t in self.train], dtype=np.float32)

    lengths: npt.NDArray[np.int64] = None  # type: ignore[assignment]
    weights: Weights = None  # type: ignore[assignment]

    def loss(self, model: nn.Module, rows: Sequence[int]) -> tuple[Tensor, float]:
        """Return the sum of the losses by weight, and of the weights that were predicted right."""
        texts = [self.train[row] for row in rows]
        found = token_losses(
            model,
            texts,
            pad_id=self.pad_id,
            label_smoothing=self.label_smoothing,
            multiple=self.multiple,
        )
        right = float((found.weights * found.right).sum())
        return (found.losses * found.weights).sum(), right

    def judge(self, model: nn.Module) -> Judged:
        """Return the mean loss of the validation tokens, and the share that was predicted right.

        `scores` also has the perplexity, and the share of texts whose trained tokens were all
        the likeliest ones: those that greedy decoding repeats to the letter.
        """
        return judge_texts(
            model,
            self.validation,
            pad_id=self.pad_id,
            batch_size=self.batch_size,
            multiple=self.multiple,
        )


def judge_texts(
    model: nn.Module,
    texts: Sequence[TrainedText],
    *,
    pad_id: int,
    batch_size: int,
    multiple: int = 1,
) -> Judged:
    """Return mean token loss, token accuracy, perplexity and exactly predicted texts."""
    lost = weighed = hit = 0.0
    exact = 0
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for rows in length_sorted_batches(_lengths(texts), batch_size):
            some = [texts[row] for row in rows]
            found = token_losses(model, some, pad_id=pad_id, multiple=multiple)
            lost += float((found.losses * found.weights).sum())
            hit += float((found.right * found.weights).sum())
            weighed += float(found.weights.sum())
            exact += int((found.right | (found.weights == 0)).all(dim=1).sum())
    model.train(was_training)
    loss, accuracy = lost / weighed, hit / weighed
    perplexity = float(np.exp(min(loss, 700.0)))
    scores = {
        "token_accuracy": accuracy,
        "perplexity": perplexity,
        "exact_match": exact / len(texts),
    }
    return Judged(loss, accuracy, scores)


@dataclass(slots=True)
class Pairs:
    """Preferences as texts, and the log-probabilities that the base gives the answers."""

    chosen: Sequence[TrainedText]
    rejected: Sequence[TrainedText]
    reference: npt.NDArray[np.float32]
    """float32 (pairs, 2): of the better answer and of the worse."""

    def __len__(self) -> int:
        return len(self.chosen)


def refer_to(
    model: nn.Module,
    chosen: Sequence[TrainedText],
    rejected: Sequence[TrainedText],
    *,
    pad_id: int,
    batch_size: int,
) -> Pairs:
    """Measure how likely the model, before it is trained, takes the answers to be."""
    reference = np.empty((len(chosen), 2), dtype=np.float32)
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for rows in length_sorted_batches(_lengths(chosen), batch_size):
            for side, texts in enumerate((chosen, rejected)):
                found = _log_probabilities(model, [texts[row] for row in rows], pad_id)
                reference[rows, side] = found.cpu().numpy()
    model.train(was_training)
    return Pairs(chosen, rejected, reference)


def _log_probabilities(
    model: nn.Module, texts: Sequence[TrainedText], pad_id: int, multiple: int = 1
) -> Tensor:
    """Return the log-probability of each text's trained tokens, (texts,)."""
    found = token_losses(model, texts, pad_id=pad_id, multiple=multiple)
    return -(found.losses * found.weights).sum(dim=1)


@dataclass(slots=True)
class DirectPreference:
    """DPO (Rafailov et al. 2023): -log sigmoid(beta * how much more the better answer gained)."""

    train: Pairs
    validation: Pairs
    pad_id: int
    batch_size: int
    beta: float
    multiple: int = 1
    test: Pairs | None = None

    def __post_init__(self) -> None:
        self.lengths = np.maximum(_lengths(self.train.chosen), _lengths(self.train.rejected))
        self.weights = np.ones(len(self.train), dtype=np.float32)

    lengths: npt.NDArray[np.int64] = None  # type: ignore[assignment]
    weights: Weights = None  # type: ignore[assignment]

    def loss(self, model: nn.Module, rows: Sequence[int]) -> tuple[Tensor, float]:
        """Return the sum of the pairs' losses, and how many were ranked right."""
        margins = self._margins(model, self.train, rows)
        return -nn.functional.logsigmoid(margins).sum(), float((margins > 0).sum())

    def judge(self, model: nn.Module) -> Judged:
        """Return the mean loss of the validation pairs, the share ranked right, and the margin."""
        margins = self.all_margins(model, self.validation)
        accuracy = float((margins > 0).float().mean())
        scores = {"reward_accuracy": accuracy, "reward_margin": float(margins.mean())}
        return Judged(float(-nn.functional.logsigmoid(margins).mean()), accuracy, scores)

    def referring_to(self, model: nn.Module) -> "DirectPreference":
        """Return the same with `model`, untrained, as the base that the pairs which are only
        judged are measured against; training pairs keep theirs.
        """

        def anew(pairs: Pairs) -> Pairs:
            sides = pairs.chosen, pairs.rejected
            return refer_to(model, *sides, pad_id=self.pad_id, batch_size=self.batch_size)

        test = None if self.test is None else anew(self.test)
        return replace(self, validation=anew(self.validation), test=test)

    def all_margins(self, model: nn.Module, pairs: Pairs) -> Tensor:
        """Return the margins of all pairs, in no order, (pairs,)."""
        lengths = np.maximum(_lengths(pairs.chosen), _lengths(pairs.rejected))
        was_training = model.training
        model.eval()
        with torch.inference_mode():
            parts = [
                self._margins(model, pairs, rows.tolist())
                for rows in length_sorted_batches(lengths, self.batch_size)
            ]
        model.train(was_training)
        return torch.cat(parts)

    def _margins(self, model: nn.Module, pairs: Pairs, rows: Sequence[int]) -> Tensor:
        """Return what the better answer gained over the base and the worse one, times beta."""
        texts = [pairs.chosen[row] for row in rows] + [pairs.rejected[row] for row in rows]
        chosen, rejected = _log_probabilities(model, texts, self.pad_id, self.multiple).chunk(2)
        reference = torch.from_numpy(pairs.reference[list(rows)]).to(chosen.device)
        gained = (chosen - reference[:, 0]) - (rejected - reference[:, 1])
        return torch.mul(gained, self.beta)


def _lengths(texts: Sequence[TrainedText]) -> npt.NDArray[np.int64]:
    return np.array([len(text.ids) for text in texts], dtype=np.int64)
