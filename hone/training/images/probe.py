"""A linear head on frozen features: logistic regression, its strength chosen on validation rows."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from hone.models.scoring import point_scores
from hone.training.calibration import calibrated_loss
from hone.training.dataset import class_weights
from hone.training.finetune import Run
from hone.training.images.backbones import ImageClassifier
from hone.training.images.feeding import PictureFeed
from hone.training.images.loading import PictureSplit
from hone.training.progress import Progress

PENALTIES = tuple(10.0**power for power in range(-5, 1))
"""Of the squared weights, per row."""

_BATCH = 32
_MOST_STEPS = 200


@dataclass(frozen=True, slots=True)
class _Fit:
    weight: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        return features @ self.weight.T + self.bias


def fit_probe(
    model: ImageClassifier,
    train: PictureSplit,
    validation: PictureSplit,
    run: Run,
    feed: PictureFeed,
    *,
    check: Callable[[], None] = lambda: None,
) -> Progress:
    """Fit the head of `model` in place, and return what happened.

    Features are computed once, of training pictures also mirrored if the recipe says so. `check`
    is called before each batch and may raise: computing them is short, and begins anew.
    """
    started = time.monotonic()
    progress = Progress()
    device = torch.device(run.settled.device)
    model.to(device).eval()
    seen = [features_of(model, train, feed, mirror=False, check=check)]
    if feed.augmentation.mirror:
        seen.append(features_of(model, train, feed, mirror=True, check=check))
    held_out = features_of(model, validation, feed, mirror=False, check=check)
    run.events.emit("features_computed", rows=len(train) * len(seen), features=held_out.shape[1])
    features, classes = torch.cat(seen), np.tile(train.classes, len(seen))
    weights = _weights(classes, run)
    fits: list[tuple[float, float, _Fit]] = []
    for penalty in PENALTIES:
        check()
        fit = _fit(
            features, classes, weights, penalty, smoothing=run.recipe.training.label_smoothing
        )
        logits = fit.logits(held_out).numpy()
        loss = calibrated_loss(logits, validation.classes)
        dataset = run.recipe.dataset
        scores = point_scores(
            validation.classes,
            logits,
            run.labels,
            positive_label=dataset.positive_label,
            betas=dataset.betas,
        )
        run.events.emit("probed", penalty=penalty, loss=loss, scores=scores)
        fits.append((loss, penalty, fit))
    _, progress.penalty, best = min(fits, key=lambda found: found[0])
    with torch.no_grad():
        model.head.weight.copy_(best.weight)
        model.head.bias.copy_(best.bias)
    progress.examples = len(features)
    progress.seconds = time.monotonic() - started
    return progress


def features_of(
    model: ImageClassifier,
    split: PictureSplit,
    feed: PictureFeed,
    *,
    mirror: bool,
    check: Callable[[], None],
) -> Tensor:
    """Return what the head reads of every row, float32 (rows, features), on the CPU."""
    device = next(model.parameters()).device
    parts = []
    with torch.inference_mode():
        for rows in _batches(len(split)):
            check()
            (pictures,) = feed(split, rows, device, training=False)
            found = model.features(pictures.flip(3) if mirror else pictures)
            parts.append(found.float().cpu())
    return torch.cat(parts).clone()


def _batches(rows: int) -> Iterator[list[int]]:
    for start in range(0, rows, _BATCH):
        yield list(range(start, min(start + _BATCH, rows)))


def _weights(classes: npt.NDArray[np.int64], run: Run) -> Tensor | None:
    if run.recipe.dataset.class_weights != "balanced":
        return None
    return torch.from_numpy(class_weights(classes, len(run.labels)))


def _fit(
    features: Tensor,
    classes: npt.NDArray[np.int64],
    class_weight: Tensor | None,
    penalty: float,
    *,
    smoothing: float,
) -> _Fit:
    """Minimise cross-entropy and a penalty by L-BFGS, on standardised features.

    The standardisation is folded into the weights that are returned.
    """
    mean, deviation = features.mean(dim=0), features.std(dim=0).clamp(min=1e-6)
    rows, truth = (features - mean) / deviation, torch.from_numpy(classes)
    labels = int(truth.max()) + 1
    weight = torch.zeros(labels, features.shape[1], requires_grad=True)
    bias = torch.zeros(labels, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=_MOST_STEPS, line_search_fn="strong_wolfe", tolerance_change=1e-7
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(
            rows @ weight.T + bias, truth, weight=class_weight, label_smoothing=smoothing
        )
        loss = loss + penalty * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        folded = weight / deviation
        return _Fit(folded.detach(), (bias - folded @ mean).detach())
