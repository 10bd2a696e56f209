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
_DEVIATION = 0.5
"""The standard deviation of the logarithm's prior, a normal one around a temperature of 1: two of
three networks lie between 0.6 and 1.6. It decides where a few rows, all answered rightly, would
call for a temperature of nothing, and hardly counts from some hundred rows on."""


def calibrated_loss(logits: npt.NDArray[np.float32], truth: Labels) -> float:
    """Return the negative log-likelihood at the best temperature.

    A steadier measure of a checkpoint than accuracy, which moves by whole rows, and fairer than
    the plain loss, which punishes a confidence that calibration takes away afterwards.
    """
    return max(0.0, _loss(logits, truth, _best_log_temperature(logits, truth, rows_of_prior=0.0)))


def fit_temperature(logits: npt.NDArray[np.float32], truth: Labels) -> Calibration:
    """Find the most probable temperature, given held-out rows.

    `logits` is float32 (rows, labels), `truth` int64 (rows,). One number for all labels, so no
    prediction changes.
    """
    temperature = float(np.exp(_best_log_temperature(logits, truth, rows_of_prior=1.0)))
    return Calibration(
        temperature=temperature,
        ece_before=expected_calibration_error(truth, softmax(logits)),
        ece_after=expected_calibration_error(truth, softmax(logits, temperature)),
        n=len(truth),
    )


def _best_log_temperature(
    logits: npt.NDArray[np.float32], truth: Labels, *, rows_of_prior: float
) -> float:
    """Return the logarithm of the best temperature; the prior weighs as much as so many rows."""

    def surprise(log_temperature: float) -> float:
        prior = (log_temperature / _DEVIATION) ** 2 / 2
        return _loss(logits, truth, log_temperature) + rows_of_prior * prior / len(truth)

    found = optimize.minimize_scalar(surprise, bounds=_BOUNDS, method="bounded")
    return float(found.x)


def _loss(logits: npt.NDArray[np.float32], truth: Labels, log_temperature: float) -> float:
    scaled = logits.astype(np.float64) / np.exp(log_temperature)
    return float(-log_softmax(scaled, axis=1)[np.arange(len(truth)), truth].mean())
