"""Optimizers by name, each with its own arguments."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from prodigyopt import Prodigy
from torch import Tensor, nn

from hone.models.errors import MissingDependency
from hone.training.generation.generation_recipe import CausalOptimizerGroup

ParameterGroups = list[dict[str, Any]]


class Lion(torch.optim.Optimizer):
    """Steps of the sign of a momentum (Chen et al. 2023, algorithm 2), with decoupled decay."""

    def __init__(
        self, groups: ParameterGroups, *, lr: float, betas: tuple[float, float] = (0.9, 0.99)
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step; a closure is not used."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                state = self.state[parameter]
                momentum: Tensor = state.setdefault("momentum", torch.zeros_like(parameter))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                direction = momentum.lerp(gradient, 1 - beta1).sign_()
                parameter.add_(direction, alpha=-group["lr"])
                momentum.lerp_(gradient, 1 - beta2)


def make_causal_optimizer(
    model: nn.Module, peak: float, group: CausalOptimizerGroup
) -> torch.optim.Optimizer:
    """Return the optimizer of a recipe; MissingDependency where its library is not installed."""
    groups = _groups(model, group.weight_decay)
    own = group.arguments()
    if group.name == "sgd":
        return torch.optim.SGD(groups, lr=peak, momentum=own["momentum"])
    if group.name == "adafactor":
        return torch.optim.Adafactor(
            groups, lr=peak, beta2_decay=own["decay_rate"], d=own["clip_threshold"]
        )
    betas = (own["beta1"], own["beta2"])
    if group.name == "lion":
        return Lion(groups, lr=peak, betas=betas)
    if group.name == "prodigy":
        return Prodigy(  # type: ignore[no-any-return]
            groups,
            lr=peak,
            betas=betas,
            eps=own["epsilon"],
            d_coef=own["d_coefficient"],
            use_bias_correction=True,
            safeguard_warmup=True,
        )
    if group.name == "adamw":
        return torch.optim.AdamW(groups, lr=peak, betas=betas, eps=own["epsilon"], fused=True)
    return _of_bitsandbytes(group.name, groups, lr=peak, betas=betas, eps=own["epsilon"])


def _of_bitsandbytes(name: str, groups: ParameterGroups, **arguments: Any) -> torch.optim.Optimizer:  # noqa: ANN401
    """Return an optimizer of a library that is only there, and only needed, where a GPU is."""
    try:
        import bitsandbytes  # noqa: PLC0415 - of an extra
    except ImportError:
        raise MissingDependency(f"optimizer.name={name}", "gpu") from None
    kind = bitsandbytes.optim.AdamW8bit if name == "adamw_8bit" else bitsandbytes.optim.PagedAdamW
    made: torch.optim.Optimizer = kind(groups, **arguments)
    return made


def _groups(model: nn.Module, weight_decay: float) -> ParameterGroups:
    """Part what decays, matrices, from what does not: norms and biases, of one dimension."""
    trained = [p for p in model.parameters() if p.requires_grad]
    parts: Iterable[tuple[bool, float]] = ((True, weight_decay), (False, 0.0))
    groups = [
        {"params": [p for p in trained if (p.ndim > 1) == is_matrix], "weight_decay": decay}
        for is_matrix, decay in parts
    ]
    return [group for group in groups if group["params"]]


STATE_BYTES = {
    "adamw": 8.0,
    "adamw_8bit": 2.0,
    "paged_adamw": 0.0,
    "lion": 4.0,
    "adafactor": 0.1,
    "sgd": 4.0,
    "prodigy": 16.0,
}
"""Bytes of an optimizer's state for each trained parameter on the training device."""
