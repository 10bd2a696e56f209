"""The optimizer and the learning rate of each step."""

import math
from typing import Protocol

import torch
from torch import nn

from hone.training.recipe import OptimizerGroup


class Schedule(Protocol):
    """What of a recipe's optimizer group says how steps are taken, by whatever optimizer."""

    @property
    def warmup_share(self) -> float:
        """Share of the steps in which it rises from zero."""

    @property
    def schedule(self) -> str:
        """`linear`, `cosine` or `constant`."""

    @property
    def max_gradient_norm(self) -> float:
        """To which the gradient is clipped."""


def make_optimizer(model: nn.Module, peak: float, group: OptimizerGroup) -> torch.optim.Optimizer:
    """AdamW, without decay on biases and norms, which have one dimension; the head has its rate."""
    groups = []
    for is_head in (False, True):
        trained = [
            parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and name.startswith("head.") == is_head
        ]
        factor = group.head_rate_factor if is_head else 1.0
        for is_matrix in (True, False):
            groups.append(
                {
                    "params": [p for p in trained if (p.ndim > 1) == is_matrix],
                    "weight_decay": group.weight_decay if is_matrix else 0.0,
                    "rate_factor": factor,
                }
            )
    return torch.optim.AdamW(groups, lr=peak, fused=True)


def learning_rate_at(step: int, total: int, peak: float, group: Schedule) -> float:
    """Return the learning rate of a step: linear warm-up, then the recipe's schedule."""
    warmup = math.ceil(group.warmup_share * total)
    if step < warmup:
        return peak * (step + 1) / warmup
    left = (total - step) / max(total - warmup, 1)
    if group.schedule == "linear":
        return peak * left
    if group.schedule == "cosine":
        return peak * 0.5 * (1 - math.cos(math.pi * left))
    return peak
