"""Temperature scaling (Guo et al. 2017, "On calibration of modern neural networks")."""

import numpy as np
import numpy.typing as npt
from scipy import optimize
from scipy.special import log_softmax

from hone.models.manifest import Calibration
from hone.models.predictor import softmax
from hone.models.scoring import Labels, expected_calibration_error

_BOUNDS = (-3.0, 3.0)
"""Of the temperature's natural logarithm: 0.05 to 20."""


def calibrated_loss(logits: npt.NDArray[np.float32], truth: Labels) -> float:
    """Return the negative log-likelihood at the best temperature.

    A steadier measure of a checkpoint than accuracy, which moves by whole rows, and fairer than
    the plain loss, which punishes a confidence that calibration takes away afterwards.
    """
    return _loss(logits, truth, np.log(_best_temperature(logits, truth)))


def fit_temperature(logits: npt.NDArray[np.float32], truth: Labels) -> Calibration:
    """Find the temperature with the smallest negative log-likelihood on held-out rows.

    `logits` is float32 (rows, labels), `truth` int64 (rows,). One number for all labels, so no
    prediction changes.
    """
    temperature = _best_temperature(logits, truth)
    return Calibration(
        temperature=temperature,
        ece_before=expected_calibration_error(truth, softmax(logits)),
        ece_after=expected_calibration_error(truth, softmax(logits, temperature)),
        n=len(truth),
    )


def _best_temperature(logits: npt.NDArray[np.float32], truth: Labels) -> float:
    found = optimize.minimize_scalar(
        lambda log_temperature: _loss(logits, truth, log_temperature),
        bounds=_BOUNDS,
        method="bounded",
    )
    return float(np.exp(found.x))


def _loss(logits: npt.NDArray[np.float32], truth: Labels, log_temperature: float) -> float:
    scaled = logits.astype(np.float64) / np.exp(log_temperature)
    return float(-log_softmax(scaled, axis=1)[np.arange(len(truth)), truth].mean())
