"""Scores of a trained causal model, each with its interval."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from hone.models.manifest import Score
from hone.models.scoring import proportion
from hone.training.dataset import length_sorted_batches
from hone.training.generation.causal_bases import CausalBase
from hone.training.generation.causal_data import CausalData
from hone.training.generation.encoding import TrainedText
from hone.training.generation.losses import DirectPreference, Objective, token_losses

_NORMAL_95 = 1.959964

Scores = dict[str, dict[str, Score]]


def score_splits(
    model: Any,  # noqa: ANN401 - transformers has no types
    data: CausalData,
    base: CausalBase,
    objective: Objective,
    *,
    batch_size: int,
) -> Scores:
    """Score validation, and test where there is one.

    `loss` is in nats a trained token, its interval from the spread over texts; `exact_match` is
    the share of texts of which greedy decoding repeats every trained token. Of preferences, the
    answers that are wanted are scored so, and `reward_accuracy` is the share of pairs that are
    ranked right: the wanted answer has gained more over the base than the other.
    """
    splits = [split for split in ("validation", "test") if len(data.encoded.get(split, ()))]
    ranked = _score_ranking(model, objective)
    return {
        split: {
            **ranked.get(split, {}),
            **score_texts(model, data.encoded[split].texts, base.pad_id, batch_size=batch_size),
        }
        for split in splits
    }


def _score_ranking(model: nn.Module, objective: Objective) -> Scores:
    """Return of preferences the share of pairs that are ranked right; nothing of completions."""
    if not isinstance(objective, DirectPreference):
        return {}
    splits = {"validation": objective.validation, "test": objective.test}
    margins = {
        split: objective.all_margins(model, pairs) for split, pairs in splits.items() if pairs
    }
    return {
        split: {"reward_accuracy": proportion(int((found > 0).sum()), len(found))}
        for split, found in margins.items()
    }


def score_texts(
    model: Any,  # noqa: ANN401
    texts: Sequence[TrainedText],
    pad_id: int,
    *,
    batch_size: int,
) -> dict[str, Score]:
    """Return loss, token accuracy and exact matches of some texts."""
    sums = np.zeros((len(texts), 3))
    exact = 0
    lengths = np.array([len(text.ids) for text in texts], dtype=np.int64)
    model.eval()
    with torch.inference_mode():
        for rows in length_sorted_batches(lengths, batch_size):
            found = token_losses(model, [texts[row] for row in rows], pad_id=pad_id)
            sums[rows, 0] = (found.losses * found.weights).sum(dim=1).cpu()
            sums[rows, 1] = (found.right * found.weights).sum(dim=1).cpu()
            sums[rows, 2] = found.weights.sum(dim=1).cpu()
            exact += int((found.right | (found.weights == 0)).all(dim=1).sum())
    return {
        "loss": _ratio(sums[:, 0], sums[:, 2]),
        "token_accuracy": _ratio(sums[:, 1], sums[:, 2]),
        "exact_match": proportion(exact, len(texts)),
    }


def _ratio(values: Any, weights: Any) -> Score:  # noqa: ANN401
    """Return sum(values) / sum(weights) over texts with its interval by the delta method: tokens of
    one text hang together, so texts are what is counted.
    """
    count = len(values)
    ratio = float(values.sum() / weights.sum())
    spread = (values - ratio * weights) / weights.mean()
    error = float(spread.std(ddof=1) / np.sqrt(count)) if count > 1 else 0.0
    low, high = ratio - _NORMAL_95 * error, ratio + _NORMAL_95 * error
    return Score(value=ratio, low=max(0.0, low), high=high, n=count, interval="delta")
