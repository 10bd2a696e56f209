"""The fallback's threshold: against MAPIE, its promise, and where there is none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapie.risk_control.fwer_control import control_fwer
from scipy import stats

from benchmarks.comparison.simulations import broken_bounds
from hone.comparison.fallback import Steps, choose, halves, least_items, seek, steps
from hone.comparison.outcomes import Item, Outcome
from hone.comparison.question import Arm, Question
from hone.comparison.sheets import lay_out, lay_out_exam
from hone.comparison.statistics import Floats


def answers(n: int, *, seed: int, sharp: float = 0.3) -> tuple[Floats, Floats]:
    generator = np.random.default_rng(seed)
    confidence = generator.random(n)
    wrong = (generator.random(n) < sharp * (1 - confidence) ** 2 + 0.003).astype(np.float64)
    return confidence, wrong


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from([0.02, 0.05, 0.1]), st.integers(100, 1500))
def test_with_one_start_the_choice_is_mapies_fixed_sequence(
    seed: int, max_error: float, n: int
) -> None:
    confidence, wrong = answers(n, seed=seed)
    tried = steps(answers(n, seed=seed + 1)[0], n, max_error=max_error, level=0.95).thresholds
    alone = np.zeros(len(tried))
    alone[:1] = 0.05
    found = choose(confidence, wrong, Steps(tried, alone), max_error=max_error, level=0.95)
    assert found.threshold == by_mapie(confidence, wrong, tried, max_error, 0.05)
    if found.threshold is not None:
        assert found.upper is not None
        assert found.upper <= max_error


def by_mapie(
    confidence: Floats, wrong: Floats, tried: Floats, max_error: float, risk: float
) -> float | None:
    """Return what MAPIE's fixed sequence rejects last."""
    kept = [(confidence >= threshold).sum() for threshold in tried]
    errors = [wrong[confidence >= threshold].sum() for threshold in tried]
    p_values = np.asarray(stats.binom.cdf(errors, kept, max_error))
    rejected = control_fwer(p_values, risk, "fixed_sequence") if len(tried) else []
    return float(tried[max(rejected)]) if len(rejected) else None


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from([0.02, 0.05, 0.1]), st.integers(100, 1500))
def test_two_starts_find_all_that_each_finds_with_its_share(
    seed: int, max_error: float, n: int
) -> None:
    confidence, wrong = answers(n, seed=seed)
    tried = steps(answers(n, seed=seed + 1)[0], n, max_error=max_error, level=0.95)
    assert tried.risks.sum() == pytest.approx(0.05 if len(tried.risks) else 0)
    found = choose(confidence, wrong, tried, max_error=max_error, level=0.95).threshold
    for start in np.flatnonzero(tried.risks):
        share = float(tried.risks[start])
        alone = by_mapie(confidence, wrong, tried.thresholds[start:], max_error, share)
        assert alone is None or (found is not None and found <= alone)


def test_a_strict_start_finds_what_few_items_show() -> None:
    generator = np.random.default_rng(5)
    confidence = generator.random(400)
    wrong = (confidence < 0.5).astype(np.float64)  # half of them right, and known to be
    tried = steps(confidence[200:], 200, max_error=0.1, level=0.95)
    found = choose(confidence[:200], wrong[:200], tried, max_error=0.1, level=0.95)
    assert found.threshold is not None
    assert found.threshold >= 0.45


def test_the_bound_is_broken_in_at_most_its_share_of_trials() -> None:
    broken, infeasible = broken_bounds(600, accuracy=0.9, max_error=0.05, trials=300, seed=7)
    assert broken <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
    assert infeasible < 0.5


def test_a_bound_that_every_answer_holds_keeps_every_answer() -> None:
    confidence, _ = answers(500, seed=0)
    tried = steps(confidence, 500, max_error=0.05, level=0.95)
    found = choose(confidence, np.zeros(500), tried, max_error=0.05, level=0.95)
    assert found.kept == 500
    assert found.wrong == 0


def test_too_few_items_for_the_bound_are_infeasible_with_their_number() -> None:
    confidence, wrong = answers(200, seed=0)
    tried = steps(confidence, 200, max_error=0.01, level=0.95)
    found = choose(confidence, wrong, tried, max_error=0.01, level=0.95)
    assert least_items(0.01, 0.95) == 299
    assert found.threshold is None
    assert "299" in found.reason


def test_errors_among_the_most_confident_answers_are_infeasible() -> None:
    confidence, _ = answers(500, seed=0)
    tried = steps(confidence, 500, max_error=0.05, level=0.95)
    found = choose(confidence, np.ones(500), tried, max_error=0.05, level=0.95)
    assert found.threshold is None
    assert "most confident" in found.reason


def test_a_candidate_without_confidence_is_infeasible() -> None:
    nothing = np.full(500, np.nan)
    tried = steps(nothing, 500, max_error=0.05, level=0.95)
    found = choose(nothing, np.zeros(500), tried, max_error=0.05, level=0.95)
    assert found.threshold is None
    assert "no confidence" in found.reason


def test_copies_of_an_item_do_not_make_a_bound_easier_to_show() -> None:
    confidence, wrong = answers(60, seed=3)
    copied, errors = np.repeat(confidence, 20), np.repeat(wrong, 20)
    tried = steps(copied, 1200, max_error=0.05, level=0.95)
    groups = np.repeat(np.arange(60), 20)
    unaware = choose(copied, errors, tried, max_error=0.05, level=0.95)
    aware = choose(copied, errors, tried, max_error=0.05, level=0.95, groups=groups)
    assert unaware.threshold is not None
    assert aware.threshold is None


@given(st.integers(2, 500), st.integers(0, 99))
def test_halves_are_halves_and_the_seeds(n: int, seed: int) -> None:
    flags = halves(n, seed=seed)
    assert flags.sum() == (n + 1) // 2
    assert (flags == halves(n, seed=seed)).all()


def test_groups_stay_whole_in_a_half() -> None:
    groups = np.arange(300) // 7
    flags = halves(300, seed=1, groups=groups)
    for group in range(groups.max() + 1):
        assert len(set(flags[groups == group])) == 1


def outcomes(name: str, right: list[bool], confidence: list[float] | None = None) -> list[Outcome]:
    return [
        Outcome(
            contender=name,
            item=str(number),
            kind="answered",
            label="x" if is_right else "y",
            confidence=None if confidence is None else confidence[number],
            seconds=0.01 if confidence else 1.0,
        )
        for number, is_right in enumerate(right)
    ]


def test_the_cascade_answers_as_the_baseline_below_the_threshold() -> None:
    n = 2000
    generator = np.random.default_rng(4)
    confidence = generator.random(n).round(3)
    sure = generator.random(n) < np.where(confidence > 0.4, 0.995, 0.5)
    theirs = generator.random(n) < 0.9
    items = [Item(id=str(number), text="t", label="x") for number in range(n)]
    found = {
        "model": outcomes("model", sure.tolist(), confidence.tolist()),
        "prompt": outcomes("prompt", theirs.tolist()),
    }
    exam = lay_out_exam(items, found)
    asked = Question(
        baseline="prompt", candidate="model", arms={"model": Arm(), "prompt": Arm()}, margin=0.02
    )
    model, prompt = (lay_out(name, calls, exam) for name, calls in found.items())
    result = seek(model, prompt, exam, asked, max_error=0.03)
    threshold, cascade = result.choice.threshold, result.cascade
    assert threshold is not None
    assert cascade is not None
    judges = ~halves(n, seed=0)
    kept = confidence[judges] >= threshold
    expected = np.where(kept, sure[judges], theirs[judges]).mean()
    assert cascade.right.value == pytest.approx(expected)
    assert cascade.kept.value == pytest.approx(kept.mean())
    assert cascade.noninferior.shown
    everything = result.frontier[-1]
    assert everything.kept == 1
    assert everything.right == pytest.approx(sure[judges].mean())
    strict = result.frontier[0]
    assert strict.p95 == pytest.approx(1.01)
