"""The beta distribution without SciPy, compared with SciPy's."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hone.comparison.beta_distribution import at_most, beta_cdf, beta_quantile, student_quantile

sizes = st.floats(0.5, 20_000)


# Nearer to 1 SciPy itself is off: at 1 - 1e-16 and (0.5, 0.5) by 3e-9 from the closed form.
@given(st.floats(0, 1 - 1e-9), sizes, sizes)
def test_the_integral_is_scipys(x: float, a: float, b: float) -> None:
    assert beta_cdf(x, a, b) == pytest.approx(stats.beta.cdf(x, a, b), abs=1e-10)


@pytest.mark.parametrize("away", [1e-3, 1e-9, 1e-15])
def test_near_one_it_is_the_closed_form(away: float) -> None:
    """The arcsine distribution: I_x(1/2, 1/2) = 1 - (2 / pi) asin(sqrt(1 - x))."""
    x = 1 - away
    expected = 1 - 2 / math.pi * math.asin(math.sqrt(1 - x))
    assert beta_cdf(x, 0.5, 0.5) == pytest.approx(expected, abs=1e-12)


@given(st.floats(0.001, 0.999), st.floats(0.5, 2000), st.floats(0.5, 2000))
def test_a_quantile_has_the_share_below_it(share: float, a: float, b: float) -> None:
    assert stats.beta.cdf(beta_quantile(share, a, b), a, b) == pytest.approx(share, abs=1e-8)


@given(st.integers(0, 3000), st.integers(0, 3000), st.floats(0.001, 0.999))
def test_the_binomial_tail_is_scipys(k: int, more: int, p: float) -> None:
    assert at_most(k, k + more, p) == pytest.approx(stats.binom.cdf(k, k + more, p), abs=1e-10)


def test_fewer_than_none_never_happens() -> None:
    assert at_most(-1, 10, 0.5) == 0


@pytest.mark.parametrize("degrees", [1, 5, 29, 300])
def test_students_quantile_is_scipys(degrees: int) -> None:
    assert student_quantile(0.975, degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-9)
