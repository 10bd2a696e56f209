"""Hyperparameters as clients give them, and as the API's objects show them once they are settled.

What the hosted API calls `learning_rate_multiplier` multiplies the rate that the recipe settles by
itself. Its legacy kind is a share of another model's rate, of which 0.05, 0.1 or 0.2 (by batch
size) is the usual one: there it counts in units of the usual one.
"""

import math
from collections.abc import Mapping
from typing import Any

from hone.service.jobs.records import Job

LEGACY_EPOCHS = 4
LEGACY_MOST_BATCH = 256
LEGACY_BATCH_SHARE = 0.002
LEGACY_PROMPT_LOSS_WEIGHT = 0.01
DEFAULT_BETA = 0.1
"""Of DPO; what the recipe has, too."""

_LARGEST_AUTO_BATCH = 32
"""What the recipe's own rule takes for large files. Smaller shares than that are left to it."""

_USUAL_MULTIPLIERS = ((32, 0.05), (128, 0.1))
_USUAL_FOR_LARGE = 0.2


def usual_multiplier(batch_size: int) -> float:
    """Return the legacy multiplier that means the usual learning rate."""
    for most, multiplier in _USUAL_MULTIPLIERS:
        if batch_size <= most:
            return multiplier
    return _USUAL_FOR_LARGE


def batch_size(job: Job, examples: int) -> int | None:
    """Return the batch size to train with; None leaves it to the recipe.

    Legacy's share of the examples is one or two for a small file, where small models learn badly:
    it is followed from where it is more than the recipe would take.
    """
    given = number(job.given, "batch_size")
    if given is not None:
        return int(given)
    if job.flavour == "modern":
        return None
    share = min(LEGACY_MOST_BATCH, round(examples * LEGACY_BATCH_SHARE))
    return share if share > _LARGEST_AUTO_BATCH else None


def rate_factor(job: Job, examples: int) -> float:
    """Return what the recipe's own learning rate is multiplied by."""
    given = number(job.given, "learning_rate_multiplier")
    if given is None:
        return 1.0
    if job.flavour == "modern":
        return float(given)
    return given / usual_multiplier(batch_size(job, examples) or _LARGEST_AUTO_BATCH)


def prompt_loss_weight(job: Job) -> float:
    """Return what a prompt's tokens weigh: the legacy API had a weight of its own, the modern 0."""
    given = number(job.given, "prompt_loss_weight")
    usual = LEGACY_PROMPT_LOSS_WEIGHT if job.flavour == "legacy" else 0.0
    return usual if given is None else given


def number(given: Mapping[str, Any], name: str) -> float | None:
    """Return a hyperparameter that was given as a number; None for "auto", null and nothing."""
    value = given.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def betas(job: Job) -> list[float]:
    """Return the F-betas that the client wants to see."""
    found = job.given.get("classification_betas") or []
    return [float(beta) for beta in found]


def settled_hyperparameters(job: Job, *, epochs: float, batch: int) -> dict[str, Any]:
    """Return the hyperparameters in place of "auto", as the API's objects show them."""
    multiplier = number(job.given, "learning_rate_multiplier")
    shown: dict[str, Any] = {
        "n_epochs": math.ceil(epochs) if not float(epochs).is_integer() else int(epochs),
        "batch_size": batch,
        "learning_rate_multiplier": multiplier,
    }
    if multiplier is None:
        shown["learning_rate_multiplier"] = (
            usual_multiplier(batch) if job.flavour == "legacy" else 1.0
        )
    if job.method == "dpo":
        beta = number(job.given, "beta")
        shown["beta"] = DEFAULT_BETA if beta is None else beta
    if job.flavour == "legacy":
        shown["prompt_loss_weight"] = prompt_loss_weight(job)
    return shown
