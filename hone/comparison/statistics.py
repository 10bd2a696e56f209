"""The statistics of a comparison: intervals, paired tests, families of tests, sample sizes.

Plain arithmetic on counts, with no library but numpy, so that serving may use it. Every interval
is two-sided and at 95 % unless another level is named; `benchmarks/comparison` measures how often
each holds the truth.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from hone.comparison.beta_distribution import at_most, beta_quantile, student_quantile
from hone.models.errors import InvalidInput

Floats = npt.NDArray[np.float64]
Groups = npt.NDArray[np.int64]

LEVEL = 0.95
_WILSON_LEAST = 200
_WILSON_LEAST_OF_EITHER = 20
_BISECTIONS = 60
MOST_ITEMS = 10_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, its interval, and the number of items behind it.

    `low` and `high` are None where there is too little to give an interval; `method` says why,
    or how it was made.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    method: str


@dataclass(frozen=True, slots=True)
class PairedCounts:
    """What a paired comparison of two systems rests on.

    Of n items the candidate alone was right on `gained`, the baseline alone on `lost`; with
    repeats these are the expected counts of one answer each. `design_effect` is the variance of
    the difference over that of n independent single answers: above 1 with groups, below with
    repeats. `degrees` is the number of groups less one, None without groups.
    """

    n: int
    gained: float
    lost: float
    design_effect: float = 1.0
    degrees: int | None = None

    @property
    def difference(self) -> float:
        """The candidate's share of right answers less the baseline's."""
        return (self.gained - self.lost) / self.n

    @property
    def discordance(self) -> float:
        """The share of items on which exactly one of the two was right."""
        return (self.gained + self.lost) / self.n

    def effective(self, share: float) -> tuple[float, float, float]:
        """Return n, gained and lost as if items were independent, for a quantile's `share`."""
        scale = 1 / (self.design_effect * _small_groups(self.degrees, share))
        return self.n * scale, self.gained * scale, self.lost * scale


@dataclass(frozen=True, slots=True)
class NonInferiority:
    """The outcome of a one-sided test at level alpha that the loss is less than the margin.

    `lower` and `upper` are one-sided bounds on the difference, each at 1 - alpha. The test is
    passed exactly if `lower` is above -margin.
    """

    p_value: float
    lower: float
    upper: float
    margin: float
    alpha: float

    @property
    def shown(self) -> bool:
        """Whether the candidate was shown to be less than the margin worse."""
        return self.p_value <= self.alpha

    @property
    def refuted(self) -> bool:
        """Whether the candidate was shown to be worse by more than the margin."""
        return self.upper < -self.margin


def nothing() -> Estimate:
    """Return the estimate of what has no items: NaN, without an interval."""
    return Estimate(math.nan, None, None, 0, "no items")


def normal_quantile(share: float) -> float:
    """Return the standard normal's quantile."""
    return NormalDist().inv_cdf(share)


def normal_cdf(z: float) -> float:
    """Return the standard normal's distribution function."""
    return NormalDist().cdf(z)


def proportion(
    successes: float, n: float, *, design: tuple[float, int | None] = (1, None)
) -> Estimate:
    """Return a share with its interval; an n of 0 has no share, which reads NaN.

    Wilson's score interval (1927), and Clopper and Pearson's exact one (1934) for fewer than 200
    items or fewer than 20 of either outcome, where Wilson's holds the truth too seldom. `design`
    is a design effect and degrees of freedom as in `PairedCounts`; the interval is then made with
    the effective sample size (Korn and Graubard 1998).
    """
    if n == 0:
        return nothing()
    share, counted = successes / n, round(n)
    effect, degrees = design
    n = n / (effect * _small_groups(degrees, (1 + LEVEL) / 2))
    successes = share * n
    if n < _WILSON_LEAST or min(successes, n - successes) < _WILSON_LEAST_OF_EITHER:
        low, high = clopper_pearson(successes, n)
        return Estimate(share, low, high, counted, "Clopper-Pearson")
    z = normal_quantile((1 + LEVEL) / 2)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Estimate(share, max(middle - half, 0.0), min(middle + half, 1.0), counted, "Wilson")


def clopper_pearson(successes: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Return the exact two-sided interval of a share; fractional counts are interpolated."""
    tail = (1 - level) / 2
    low = 0.0 if successes <= 0 else beta_quantile(tail, successes, n - successes + 1)
    high = 1.0 if successes >= n else beta_quantile(1 - tail, successes + 1, n - successes)
    return low, high


def design_effect(
    values: Floats, single_variance: float, *, groups: Groups | None, repeats: int = 1
) -> tuple[float, int | None]:
    """Return the design effect of a mean of `values` (one an item), and its degrees of freedom.

    The variance between groups (or between items) of the mean, over that of as many independent
    single answers, `single_variance` being one answer's (Rao and Scott 1992). Never below
    1 / repeats: a smaller one is luck.
    """
    if groups is None and repeats <= 1:
        return 1.0, None
    n, least = len(values), 1 / max(repeats, 1)
    away = values - values.mean()
    if groups is None:
        variance, degrees, unseen = float(away @ away) / n, None, 1.0
    else:
        totals = np.bincount(groups, weights=away)
        count = int(np.count_nonzero(np.bincount(groups)))
        degrees, unseen = count - 1, n / count
        variance = float(totals @ totals) / n * count / max(count - 1, 1)
    if single_variance <= 0:
        return unseen, degrees
    return max(variance / single_variance, least), degrees


def share(values: Floats, *, groups: Groups | None = None, repeats: int = 1) -> Estimate:
    """Return the mean of items' shares of right answers, float64 (items,), with its interval."""
    n, total = len(values), float(values.sum())
    if n == 0 or (groups is None and repeats == 1):
        return proportion(total, n)
    single = total / n * (1 - total / n)
    return proportion(
        total, n, design=design_effect(values, single, groups=groups, repeats=repeats)
    )


def _small_groups(degrees: int | None, share: float) -> float:
    """Return by how much Student's t is wider than the normal, squared; few groups know little."""
    if degrees is None:
        return 1.0
    ratio = student_quantile(share, max(degrees, 1)) / normal_quantile(share)
    return ratio * ratio


def pair(
    candidate: Floats, baseline: Floats, *, groups: Groups | None = None, repeats: int = 1
) -> PairedCounts:
    """Count the pairs of two systems' shares of right answers, each float64 of shape (items,).

    `groups` (int64, from 0) says which items belong together; `repeats` is the larger number of
    answers an item has. With one answer each the counts are whole numbers. InvalidInput when
    there are no items.
    """
    if not len(candidate):
        raise InvalidInput("there are no items that both systems were asked")
    gained, lost = candidate * (1 - baseline), baseline * (1 - candidate)
    change, n = candidate - baseline, len(candidate)
    single = float((gained + lost).sum()) / n - float(change.mean()) ** 2
    effect, degrees = design_effect(change, single, groups=groups, repeats=repeats)
    return PairedCounts(n, float(gained.sum()), float(lost.sum()), effect, degrees)


def score_statistic(n: float, gained: float, lost: float, difference: float) -> float:
    """Return Tango's score statistic (1998) against a true difference, standard normal there.

    The nuisance probability is the maximum-likelihood one under that difference.
    """
    a = 2 * n
    b = -gained - lost + (2 * n - gained + lost) * difference
    c = -lost * difference * (1 - difference)
    losing = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = n * (2 * losing + difference * (1 - difference))
    distance = gained - lost - n * difference
    if variance <= 1e-12 * n:
        return 0.0 if abs(distance) < 1e-9 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def _bound(counts: PairedCounts, share: float, *, upper: bool) -> float:
    """Return the one-sided bound on the difference that holds the truth with that share."""
    n, gained, lost = counts.effective(share)
    z = normal_quantile(share) * (-1 if upper else 1)
    low, high = -1.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if score_statistic(n, gained, lost, middle) > z:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def paired_difference(counts: PairedCounts) -> Estimate:
    """Return the difference of two shares of right answers, with Tango's score interval."""
    share = (1 + LEVEL) / 2
    low, high = _bound(counts, share, upper=False), _bound(counts, share, upper=True)
    return Estimate(counts.difference, low, high, counts.n, "Tango")


def noninferiority(counts: PairedCounts, *, margin: float, alpha: float) -> NonInferiority:
    """Test that the candidate's share of right answers is less than `margin` below the baseline's.

    The score test that belongs to Tango's interval (T. Tango, Statistics in Medicine 17, 1998),
    the same as Nam's (Biometrics 53, 1997).
    """
    z = score_statistic(*counts.effective(1 - alpha), -margin)
    lower = _bound(counts, 1 - alpha, upper=False)
    upper = _bound(counts, 1 - alpha, upper=True)
    return NonInferiority(1 - normal_cdf(z), lower, upper, margin, alpha)


def mcnemar(counts: PairedCounts) -> float:
    """Return the two-sided p-value of "both are right equally often".

    McNemar's test in its exact form for single answers of independent items, or repeats that never
    differ; with groups or other repeats the score test on the effective counts, which are no whole
    numbers.
    """
    as_single = math.isclose(counts.design_effect, 1) and counts.degrees is None
    whole = float(counts.gained).is_integer() and float(counts.lost).is_integer()
    if as_single and whole:
        flips = round(counts.gained + counts.lost)
        return min(1.0, 2 * at_most(round(min(counts.gained, counts.lost)), flips, 0.5))
    z = score_statistic(*counts.effective((1 + LEVEL) / 2), 0.0)
    return 2 * (1 - normal_cdf(abs(z)))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values adjusted for a family of tests by Holm's step-down method (1979)."""
    adjusted, largest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = largest
    return adjusted


def noninferiority_power(
    n: float, *, discordance: float, difference: float, margin: float, alpha: float
) -> float:
    """Return how often the test finds that the loss is less than the margin, if that is so.

    The normal approximation to the score test's power (Nam 1997). With a true difference below
    -margin it is the power of the opposite finding.
    """
    spread = discordance - difference * difference
    away = abs(difference + margin) * math.sqrt(n)
    at_null = _null_deviation(discordance, difference, -margin)
    if spread <= 0:
        return 1.0 if away > normal_quantile(1 - alpha) * at_null else 0.0
    return normal_cdf((away - normal_quantile(1 - alpha) * at_null) / math.sqrt(spread))


def _null_deviation(discordance: float, difference: float, null: float) -> float:
    """Return one item's standard deviation as the score test at `null` would estimate it."""
    gained, lost = (discordance + difference) / 2, (discordance - difference) / 2
    z = score_statistic(1.0, gained, lost, null)
    return abs((difference - null) / z) if z else math.sqrt(discordance - null * null)


def sample_size(
    *, discordance: float, difference: float, margin: float, alpha: float, power: float
) -> int | None:
    """Return how many items decide the test with this power; None if ten million do not.

    The true difference and discordance are taken as given: with those that were observed, the
    answer is as uncertain as they are.
    """
    low, high = 1, MOST_ITEMS

    def enough(n: int) -> bool:
        reached = noninferiority_power(
            n, discordance=discordance, difference=difference, margin=margin, alpha=alpha
        )
        return reached >= power

    if not enough(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def quantile(values: Sequence[float] | Floats, share: float) -> Estimate:
    """Return a quantile with its distribution-free interval between two order statistics.

    For independent values (Conover, Practical Nonparametric Statistics, 3.2). Too few values have
    no order statistic beyond the quantile, and then there is no interval: p50 needs 6 of them,
    p95 needs 72 and p99 needs 368.
    """
    ordered, n = np.sort(np.asarray(values, dtype=np.float64)), len(values)
    if n == 0:
        return nothing()
    value, tail = float(np.quantile(ordered, share)), (1 - LEVEL) / 2
    below, above = _rank(n, share, tail), _rank(n, 1 - share, tail)
    if below < 1 or above < 1:
        return Estimate(value, None, None, n, "too few for an interval")
    return Estimate(
        value, float(ordered[below - 1]), float(ordered[n - above]), n, "order statistics"
    )


def _rank(n: int, share: float, tail: float) -> int:
    """Return the largest r with P(Binomial(n, share) < r) <= tail, 0 if there is none."""
    low, high = 0, n
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if at_most(middle - 1, n, share) <= tail else (low, middle - 1)
    return low
