"""Temperature scaling finds the temperature, changes no answer, and never makes it worse."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax, softmax

from hone.models.predictor import softmax as served_softmax
from hone.training.calibration import (
    _best_log_temperature,
    calibrated_loss,
    fit_temperature,
)

Logits = npt.NDArray[np.float32]
Truth = npt.NDArray[np.int64]


def honest(
    rows: int, labels: int = 5, *, spread: float = 2.0, seed: int = 0
) -> tuple[Logits, Truth]:
    """Return logits whose softmax is the very probability of each label, and truths drawn so."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(scale=spread, size=(rows, labels)).astype(np.float32)
    drawn = generator.random((rows, 1)) < softmax(logits, axis=1).cumsum(axis=1)
    return logits, drawn.argmax(axis=1)


def negative_log_likelihood(logits: Logits, truth: Truth) -> float:
    wide = log_softmax(logits.astype(np.float64), axis=1)
    return float(-wide[np.arange(len(truth)), truth].mean())


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 3.0, 10.0])
def test_the_temperature_of_overconfident_logits_is_found(temperature: float) -> None:
    logits, truth = honest(20_000)
    found = fit_temperature(logits * np.float32(temperature), truth)
    assert found.temperature == pytest.approx(temperature, rel=0.03)
    assert found.n == 20_000
    assert found.ece_after < 0.02
    if temperature not in {1.0}:
        assert found.ece_after < found.ece_before


def test_calibration_changes_confidence_and_no_answer() -> None:
    logits, truth = honest(500)
    temperature = fit_temperature(logits * 7, truth).temperature
    before, after = served_softmax(logits * 7), served_softmax(logits * 7, temperature)
    assert (before.argmax(axis=1) == after.argmax(axis=1)).all()
    assert after.max() < before.max()


ROWS = st.integers(1, 30).flatmap(
    lambda rows: st.tuples(
        arrays(np.float32, (rows, 3), elements=st.floats(-30, 30, width=32)),
        arrays(np.int64, rows, elements=st.integers(0, 2)),
    )
)


@given(rows=ROWS)
def test_the_calibrated_loss_is_never_above_the_plain_one(rows: tuple[Logits, Truth]) -> None:
    logits, truth = rows
    assert calibrated_loss(logits, truth) <= negative_log_likelihood(logits, truth) + 1e-4


@given(rows=ROWS)
def test_any_logits_get_a_finite_temperature_within_its_bounds(
    rows: tuple[Logits, Truth],
) -> None:
    found = fit_temperature(*rows)
    assert np.exp(-3) * 0.999 <= found.temperature <= np.exp(3) * 1.001
    assert 0 <= found.ece_before <= 1
    assert 0 <= found.ece_after <= 1


@given(rows=ROWS, scale=st.floats(0.25, 4))
def test_the_calibrated_loss_does_not_depend_on_how_confident_the_model_is(
    rows: tuple[Logits, Truth], scale: float
) -> None:
    logits, truth = rows
    found = [
        _best_log_temperature(logits * np.float32(f), truth, rows_of_prior=0.0)
        for f in (1.0, scale)
    ]
    if all(np.log(0.06) < temperature < np.log(16.0) for temperature in found):
        losses = [calibrated_loss(logits * np.float32(f), truth) for f in (1.0, scale)]
        assert losses[0] == pytest.approx(losses[1], abs=1e-3)


def test_a_few_rows_all_right_do_not_make_a_model_certain() -> None:
    logits = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]] * 3
    found = fit_temperature(logits, np.array([0, 1, 2, 0, 1, 2]))
    assert 0.4 < found.temperature < 1
    many = np.tile(logits, (500, 1))
    assert fit_temperature(many, np.tile(np.array([0, 1, 2, 0, 1, 2]), 500)).temperature < 0.35


def test_some_hundred_rows_decide_for_themselves() -> None:
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 5, 500)
    logits = generator.normal(size=(500, 5)).astype(np.float32)
    logits[np.arange(500), truth] += 2
    logits *= 4  # far too certain
    alone = np.exp(_best_log_temperature(logits, truth, rows_of_prior=0.0))
    assert fit_temperature(logits, truth).temperature == pytest.approx(alone, rel=0.03)
