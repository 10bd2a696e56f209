"""Simulates what the comparison's statistics promise, from stated truths and fixed seeds.

    python -m benchmarks.comparison.simulations [--trials 2000] [--only macro-f1] [--seed 0]

Prints one line for each scene: how often a 95 % interval held the truth, how often the test of
non-inferiority rejected where it should not and where it should, and how often the error among
the answers that a fallback keeps was above its bound. Shares of single items are computed, not
simulated: their coverage is a finite sum.
"""

import argparse
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

from hone.comparison import statistics
from hone.comparison.fallback import choose, steps
from hone.comparison.resampling import class_counts, macro_f1, macro_f1_difference
from hone.comparison.statistics import Estimate, Floats, Groups

_RESAMPLES = 600


@dataclass(frozen=True, slots=True)
class Finding:
    """One scene's outcome: the share found, what it should be, and the trials behind it."""

    name: str
    found: float
    wanted: str
    trials: int


def share_coverage(n: int) -> tuple[float, float]:
    """Return the lowest and the mean coverage of a share's interval over true shares, exactly."""
    ends = [statistics.proportion(k, n) for k in range(n + 1)]
    low = np.array([found.low for found in ends], dtype=np.float64)
    high = np.array([found.high for found in ends], dtype=np.float64)
    shares = np.linspace(0.002, 0.998, 499)
    held = [
        float(stats.binom.pmf(np.arange(n + 1), n, p)[(low <= p) & (p <= high)].sum())
        for p in shares
    ]
    return min(held), float(np.mean(held))


def _holds(found: Estimate, truth: float) -> bool:
    return found.low is not None and found.high is not None and found.low <= truth <= found.high


def difference_coverage(
    n: int, *, discordance: float, difference: float, trials: int, seed: int = 0
) -> float:
    """Return how often Tango's interval holds the true difference."""
    gained, lost = (discordance + difference) / 2, (discordance - difference) / 2
    drawn = np.random.default_rng(seed).multinomial(n, [gained, lost, 1 - gained - lost], trials)

    @cache
    def holds(gains: int, losses: int) -> bool:
        counts = statistics.PairedCounts(n, gains, losses)
        return _holds(statistics.paired_difference(counts), difference)

    return float(np.mean([holds(int(a), int(b)) for a, b, _ in drawn]))


def grouped_coverage(
    groups: int, size: int, *, likeness: float, trials: int, seed: int = 0
) -> tuple[float, float]:
    """Return how often a share's and a difference's interval hold, with items in groups.

    Whether a system is right on an item is a threshold on a normal variable, of which a group
    shares the part `likeness`. The true shares are 0.90 and 0.88.
    """
    generator = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(groups), size)
    limits = stats.norm.ppf([0.90, 0.88])
    share = difference = 0
    for _ in range(trials):
        right = []
        common = generator.normal(size=groups * size)
        for limit in limits:
            shared = generator.normal(size=groups)[numbers] * math.sqrt(likeness)
            own = 0.6 * common + 0.8 * generator.normal(size=groups * size)
            right.append((shared + own * math.sqrt(1 - likeness) < limit).astype(np.float64))
        share += _holds(statistics.share(right[0], groups=numbers), 0.90)
        counts = statistics.pair(right[0], right[1], groups=numbers)
        difference += _holds(statistics.paired_difference(counts), 0.02)
    return share / trials, difference / trials


def repeated_coverage(n: int, repeats: int, *, trials: int, seed: int = 0) -> tuple[float, float]:
    """Return how often both intervals hold, where the baseline answers each item several times.

    An item's own chance to be answered rightly is drawn from a beta distribution of mean 0.88;
    the candidate answers once, rightly in 0.90 of the items, on the easier ones more often.
    """
    generator = np.random.default_rng(seed)
    share = difference = 0
    for _ in range(trials):
        chance = generator.beta(2.2, 0.3, size=n)
        theirs = generator.binomial(repeats, chance) / repeats
        ours = (generator.random(n) < 0.02 + chance).astype(np.float64)
        counts = statistics.pair(ours, theirs, repeats=repeats)
        share += _holds(statistics.share(theirs, repeats=repeats), 0.88)
        difference += _holds(statistics.paired_difference(counts), _EASIER)
    return share / trials, difference / trials


# The mean of min(chance + 0.02, 1) - chance, chance being beta(2.2, 0.3).
_EASIER = 0.02 - float(stats.beta(2.2, 0.3).expect(lambda x: x + 0.02 - 1, lb=0.98, ub=1))


@dataclass(frozen=True)
class Population:
    """Classes of uneven frequency, and how often each of two systems takes one for another."""

    classes: int
    accuracy: float
    skew: float

    @property
    def frequencies(self) -> Floats:
        """How often each class is the gold label, float64 (classes,)."""
        weights = 1 / np.arange(1, self.classes + 1) ** self.skew
        shares: Floats = weights / weights.sum()
        return shares

    def system(self, shift: float) -> Floats:
        """Return how often each class is answered as each, float64 (classes, classes)."""
        numbers = np.arange(self.classes)
        right = np.clip(self.accuracy + 0.08 * np.sin(numbers * 2.3 + shift), 0.3, 0.995)
        table = np.exp(-np.abs(numbers[:, None] - numbers))
        np.fill_diagonal(table, 0)
        table *= ((1 - right) / table.sum(axis=1))[:, None]
        np.fill_diagonal(table, right)
        found: Floats = table
        return found

    def macro_f1(self, shift: float) -> float:
        """Return a system's true macro F1."""
        joint = self.frequencies[:, None] * self.system(shift)
        either = joint.sum(axis=0) + joint.sum(axis=1)
        return float((2 * np.diag(joint) / either).mean())


def macro_f1_coverage(
    n: int, people: Population, *, trials: int, seed: int = 0
) -> tuple[float, float, float]:
    """Return how often macro F1's interval and that of a difference hold, and are given at all.

    Trials in which a class has too few items for an interval count for the last figure alone.
    """
    generator = np.random.default_rng(seed)
    truth = [people.macro_f1(shift) for shift in (0.0, 1.0)]
    steps = [people.system(shift).cumsum(axis=1) for shift in (0.0, 1.0)]
    single = both = given = 0
    for trial in range(trials):
        gold = generator.choice(people.classes, size=n, p=people.frequencies)
        ease = stats.norm.cdf(
            0.7 * generator.normal(size=n)[None] + _OWN * generator.normal(size=(2, n))
        )
        systems = [
            class_counts(gold, _one_hot(_answers(gold, step, draw), people.classes))
            for step, draw in zip(steps, ease, strict=True)
        ]
        found = macro_f1(systems[0], seed=trial, resamples=_RESAMPLES)
        if found.low is None:
            continue
        given += 1
        single += _holds(found, truth[0])
        change = macro_f1_difference(*systems, seed=trial, resamples=_RESAMPLES)
        both += _holds(change, truth[0] - truth[1])
    return single / max(given, 1), both / max(given, 1), given / trials


def percentile_coverage(n: int, people: Population, *, trials: int, seed: int = 0) -> float:
    """Return how often the plain percentile bootstrap of macro F1 holds: what is not used."""
    generator = np.random.default_rng(seed)
    truth, steps = people.macro_f1(0.0), people.system(0.0).cumsum(axis=1)
    held = 0
    for _ in range(trials):
        gold = generator.choice(people.classes, size=n, p=people.frequencies)
        counts = class_counts(
            gold, _one_hot(_answers(gold, steps, generator.random(n)), people.classes)
        )
        weights = generator.multinomial(n, np.full(n, 1 / n), size=_RESAMPLES // 2)
        low, high = np.quantile(counts.resampled(weights.astype(np.float64)), [0.025, 0.975])
        held += bool(low <= truth <= high)
    return held / trials


def wilson_coverage(n: int) -> float:
    """Return the lowest coverage of Wilson's interval alone over true shares: what is not used."""
    found = [stats.binomtest(k, n).proportion_ci(method="wilson") for k in range(n + 1)]
    low, high = np.array(found).T
    return min(
        float(stats.binom.pmf(np.arange(n + 1), n, p)[(low <= p) & (p <= high)].sum())
        for p in np.linspace(0.002, 0.998, 499)
    )


_OWN = math.sqrt(1 - 0.7**2)


def _answers(gold: Groups, steps: Floats, draw: Floats) -> Groups:
    """Return an answer for each item, a right one where the draw is small: ease is shared."""
    order = np.array([np.roll(np.arange(steps.shape[0]), -c) for c in range(steps.shape[0])])
    chances = np.diff(steps, axis=1, prepend=0)
    turned = np.take_along_axis(chances, order, axis=1).cumsum(axis=1)
    place = (draw[:, None] > turned[gold]).sum(axis=1).clip(max=steps.shape[0] - 1)
    answered: Groups = order[gold, place]
    return answered


def _one_hot(answers: Groups, classes: int) -> Floats:
    hot: Floats = np.eye(classes)[answers]
    return hot


def quantile_coverage(n: int, share: float, *, trials: int, seed: int = 0) -> float:
    """Return how often a delay's quantile lies in its interval; delays are log-normal."""
    generator = np.random.default_rng(seed)
    truth = float(stats.lognorm.ppf(share, 0.5))
    drawn = generator.lognormal(0, 0.5, (trials, n))
    return float(np.mean([_holds(statistics.quantile(row, share), truth) for row in drawn]))


def rejections(
    n: int, *, discordance: float, difference: float, margin: float, trials: int, seed: int = 0
) -> tuple[float, float]:
    """Return how often the test of non-inferiority rejects: simulated, and exactly.

    The exact share is the sum over all outcomes of the trinomial.
    """
    gained, lost = (discordance + difference) / 2, (discordance - difference) / 2

    @cache
    def rejects(gains: int, losses: int) -> bool:
        counts = statistics.PairedCounts(n, gains, losses)
        z = statistics.score_statistic(*counts.effective(0.95), -margin)
        return z >= statistics.normal_quantile(0.95)

    drawn = np.random.default_rng(seed).multinomial(n, [gained, lost, 1 - gained - lost], trials)
    simulated = float(np.mean([rejects(int(a), int(b)) for a, b, _ in drawn]))
    flips = np.arange(n + 1)
    of_flips = stats.binom.pmf(flips, n, discordance)
    exact = 0.0
    for count in flips[of_flips > 1e-9]:
        split = stats.binom.pmf(np.arange(count + 1), count, gained / discordance)
        exact += of_flips[count] * sum(
            p for a, p in enumerate(split) if p > 1e-9 and rejects(a, int(count) - a)
        )
    return simulated, float(exact)


def broken_bounds(
    n: int, *, accuracy: float, max_error: float, trials: int, seed: int = 0
) -> tuple[float, float]:
    """Return how often the true error among kept answers is above the bound, and infeasible.

    Confidence is a score from 0 to 1, and an answer's chance to be right rises with it, but is
    not it: the fallback's promise must not rest on calibration. The true error above a threshold
    is an integral.
    """
    generator = np.random.default_rng(seed)
    grid = np.linspace(0, 1, 20_001)
    sharp = (1 - accuracy) * 3
    wrong_at = np.clip(sharp * (1 - grid) ** 2 + 0.004, 0, 1)
    above = wrong_at[::-1].cumsum()[::-1] / np.arange(len(grid), 0, -1)
    broken = infeasible = 0
    for _ in range(trials):
        confidence = np.round(generator.random(2 * n), 4)
        wrong = (generator.random(n) < np.interp(confidence[:n], grid, wrong_at)).astype(np.float64)
        tried = steps(confidence[n:], n, max_error=max_error, level=0.95)
        choice = choose(confidence[:n], wrong, tried, max_error=max_error, level=0.95)
        if choice.threshold is None:
            infeasible += 1
        elif float(np.interp(choice.threshold, grid, above)) > max_error:
            broken += 1
    return broken / trials, infeasible / trials


def _share_scenes(trials: int, seed: int) -> Iterator[Finding]:
    for n in (30, 100, 200, 300, 1000, 3000):
        lowest, mean = share_coverage(n)
        name = f"share, n = {n}: lowest over 499 true shares (mean {mean:.4f})"
        yield Finding(name, lowest, ">= 0.94", 0)
    for groups, size, likeness in ((30, 10, 0.3), (100, 5, 0.3), (300, 10, 0.1)):
        found = grouped_coverage(groups, size, likeness=likeness, trials=trials, seed=seed)
        scene = f"{groups} groups of {size}, likeness {likeness}"
        for name, held in zip(("share", "difference"), found, strict=True):
            yield Finding(f"{name}, {scene}", held, ">= 0.94", trials)
    for n, repeats in ((300, 3), (1000, 5)):
        found = repeated_coverage(n, repeats, trials=trials, seed=seed)
        for name, held in zip(("share", "difference"), found, strict=True):
            yield Finding(f"{name}, {n} items asked {repeats} times", held, ">= 0.94", trials)


def _difference_scenes(trials: int, seed: int) -> Iterator[Finding]:
    for n, d, change in (
        (100, 0.1, 0.0),
        (300, 0.1, -0.02),
        (1000, 0.08, 0.01),
        (3000, 0.15, 0.03),
    ):
        held = difference_coverage(n, discordance=d, difference=change, trials=trials, seed=seed)
        name = f"difference, n = {n}, discordance {d}, true {change:+}"
        yield Finding(name, held, ">= 0.94", trials)


def _delay_scenes(trials: int, seed: int) -> Iterator[Finding]:
    for n, q in ((100, 0.5), (200, 0.95), (1000, 0.99)):
        held = quantile_coverage(n, q, trials=trials, seed=seed)
        yield Finding(f"p{100 * q:g} of {n} delays", held, ">= 0.94", trials)


def _fallback_scenes(trials: int, seed: int) -> Iterator[Finding]:
    del trials  # the promise is stated for a thousand
    for n, accuracy, bound in (
        (200, 0.9, 0.1),
        (500, 0.9, 0.05),
        (1500, 0.9, 0.03),
        (1500, 0.8, 0.05),
        (3000, 0.93, 0.01),
    ):
        broken, infeasible = broken_bounds(
            n, accuracy=accuracy, max_error=bound, trials=1000, seed=seed
        )
        name = f"fallback, {n} items to choose, error <= {bound}, accuracy {accuracy} "
        yield Finding(f"{name}(infeasible {infeasible:.3f})", broken, "<= 0.05", 1000)


def _dropped(trials: int, seed: int) -> Iterator[Finding]:
    trials //= 8  # each is slow
    yield Finding("not used: Wilson alone, n = 100, lowest", wilson_coverage(100), "0.95", 0)
    people = Population(77, 0.9, 0.0)
    held = percentile_coverage(1000, people, trials=trials, seed=seed)
    yield Finding("not used: percentile bootstrap, 77 classes, n = 1000", held, "0.95", trials)


def _few_classes(trials: int, seed: int) -> Iterator[Finding]:
    scenes = (500, Population(2, 0.9, 1.0)), (300, Population(5, 0.85, 0.5))
    yield from _resampled_scenes(scenes, trials // 2, seed)


def _many_classes(trials: int, seed: int) -> Iterator[Finding]:
    scenes = (1000, Population(20, 0.88, 0.5)), (1500, Population(50, 0.9, 0.2))
    yield from _resampled_scenes(scenes, trials // 2, seed)


def _resampled_scenes(
    scenes: Iterable[tuple[int, Population]], trials: int, seed: int
) -> Iterator[Finding]:
    for n, people in scenes:
        single, both, given = macro_f1_coverage(n, people, trials=trials, seed=seed)
        scene = f"{people.classes} classes, n = {n} (given in {given:.2f})"
        yield Finding(f"macro F1, {scene}", single, ">= 0.94", trials)
        yield Finding(f"difference in macro F1, {scene}", both, ">= 0.94", trials)


def _test_scenes(trials: int, seed: int) -> Iterator[Finding]:
    trials *= 10  # each is quick
    for n, discordance, margin in (
        (300, 0.1, 0.05),
        (1500, 0.1, 0.02),
        (500, 0.2, 0.05),
        (3000, 0.05, 0.01),
    ):
        scene = f"n = {n}, discordance {discordance}, margin {margin}"
        for name, change in (("size", -margin), ("power", 0.0)):
            simulated, exact = rejections(
                n,
                discordance=discordance,
                difference=change,
                margin=margin,
                trials=trials,
                seed=seed,
            )
            wanted = "0.05" if name == "size" else f"{exact:.4f}"
            yield Finding(
                f"non-inferiority, {name}, {scene} (exact {exact:.4f})", simulated, wanted, trials
            )
    for discordance, margin in ((0.1, 0.02), (0.2, 0.03), (0.15, 0.05)):
        planned = statistics.sample_size(
            discordance=discordance, difference=0.0, margin=margin, alpha=0.05, power=0.8
        )
        reached, _ = rejections(
            planned or 1,
            discordance=discordance,
            difference=0.0,
            margin=margin,
            trials=trials,
            seed=seed,
        )
        name = f"power at the planned n = {planned}, discordance {discordance}, margin {margin}"
        yield Finding(name, reached, "0.80", trials)


_PARTS: dict[str, Callable[[int, int], Iterator[Finding]]] = {
    "shares": _share_scenes,
    "differences": _difference_scenes,
    "macro-f1": _few_classes,
    "macro-f1-many": _many_classes,
    "delays": _delay_scenes,
    "tests": _test_scenes,
    "fallback": _fallback_scenes,
    "not-used": _dropped,
}


def main() -> None:
    """Run every scene and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=sorted(_PARTS), action="append")
    options = parser.parse_args()
    print("| scene | found | wanted | trials |\n|---|---|---|---|")
    parts = [_PARTS[name] for name in options.only or _PARTS]
    for scene in (scene for part in parts for scene in part(options.trials, options.seed)):
        trials = scene.trials or "exact"
        print(f"| {scene.name} | {scene.found:.4f} | {scene.wanted} | {trials} |", flush=True)


if __name__ == "__main__":
    main()
