"""Each rule of the verdict, by evidence that only it decides."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hone.comparison.economics import Saving
from hone.comparison.fallback import Cascade, Choice, Fallback, least_items
from hone.comparison.figures import Reading
from hone.comparison.question import Arm, Question
from hone.comparison.resampling import LEAST_DIFFERENT, LEAST_OF_CLASS, LEAST_WRONG, RESAMPLES
from hone.comparison.statistics import (
    Estimate,
    PairedCounts,
    mcnemar,
    noninferiority,
    paired_difference,
)
from hone.comparison.verdict import (
    LEAST_GROUPS,
    LEAST_ITEMS,
    Evidence,
    Rule,
    Verdict,
    Word,
    decide,
    more_items,
)

QUESTION = Question(
    baseline="prompt",
    candidate="model",
    arms={"prompt": Arm(), "model": Arm()},
    margin=0.02,
    requests_per_month=1000,
)
SAVES = Saving("as measured", 30.0, 40.0, 10.0, 30.0, 100.0, 200.0, 3.0, "", 40.0, 10.0)
LOSES = replace(
    SAVES, per_1000=-5.0, replacement_month=45.0, saved_month=-5.0, replacement_1000=45.0
)
UNKNOWN = Saving("as measured", None, None, None, None, None, None, None, "no price was given")


def reading(n: int, gained: float, lost: float, *, groups: int | None = None) -> Reading:
    counts = PairedCounts(n, gained, lost, 1.0, None if groups is None else groups - 1)
    return Reading(
        counts,
        paired_difference(counts),
        noninferiority(counts, margin=QUESTION.margin, alpha=QUESTION.alpha),
        mcnemar(counts),
    )


AS_GOOD, UNDECIDED, WORSE = reading(3000, 100, 90), reading(300, 15, 16), reading(3000, 20, 200)


def evidence(
    answered: Reading | None,
    strict: Reading | None = None,
    *,
    saving: Saving = SAVES,
    failed: tuple[float, float] = (0, 0),
    fallback: Fallback | None = None,
    fallback_saving: Saving | None = SAVES,
) -> Evidence:
    strict = answered if strict is None else strict
    assert strict is not None
    return Evidence(answered, strict, failed, saving, fallback, fallback_saving)


def cascade(found: Reading, *, kept: float = 0.8) -> Fallback:
    share = Estimate(kept, kept - 0.02, kept + 0.02, 1500, "Wilson")
    counts, test = found.counts, found.noninferior
    result = Cascade(share, share, share, counts, counts, test, test)
    return Fallback(Choice(0.9, "", 1500, 1200, 12, 0.019, 30), result, [])


def said(verdict: Verdict) -> str:
    return " ".join(sentence for reasons in verdict.reasons for sentence in reasons.said)


def test_as_good_and_cheaper_replaces() -> None:
    found = decide(evidence(AS_GOOD), QUESTION)
    assert (found.word, found.rule) == ("REPLACE", "as-good")
    assert "$30.00" in found.sentence


def test_better_is_said_to_be_better() -> None:
    found = decide(evidence(reading(3000, 150, 50)), QUESTION)
    assert "is better than" in found.sentence


def test_both_readings_have_to_pass() -> None:
    assert decide(evidence(AS_GOOD, UNDECIDED), QUESTION).word == "NOT ENOUGH DATA"
    assert decide(evidence(UNDECIDED, AS_GOOD), QUESTION).word == "NOT ENOUGH DATA"
    assert decide(evidence(AS_GOOD, WORSE), QUESTION).word == "KEEP THE PROMPT"


def test_as_good_but_dearer_keeps_the_prompt() -> None:
    found = decide(evidence(AS_GOOD, saving=LOSES), QUESTION)
    assert (found.word, found.rule) == ("KEEP THE PROMPT", "dearer")
    assert "good enough" in found.sentence
    assert "$5.00 more" in found.sentence
    better = decide(evidence(reading(3000, 150, 50), saving=LOSES), QUESTION)
    assert better.rule == "dearer"
    assert "is better, but" in better.sentence


def test_as_good_but_dearer_replaces_where_no_saving_is_asked_for() -> None:
    asked = QUESTION.model_copy(update={"must_save": False})
    found = decide(evidence(AS_GOOD, saving=LOSES), asked)
    assert found.word == "REPLACE"
    assert "but it costs $5.00 more a month" in found.sentence
    assert "costs $5.00 more a month" in said(found)
    assert "saves" not in f"{found.sentence} {said(found)}"
    both = evidence(WORSE, saving=LOSES, fallback=cascade(AS_GOOD), fallback_saving=LOSES)
    with_fallback = decide(both, asked)
    assert with_fallback.word == "REPLACE WITH FALLBACK"
    assert "that costs $5.00 more a month" in with_fallback.sentence
    assert "saves" not in f"{with_fallback.sentence} {said(with_fallback)}"


@pytest.mark.parametrize(
    ("found", "deciding", "titles"),
    [
        (evidence(AS_GOOD), "shown", []),
        (evidence(AS_GOOD, saving=LOSES), "$5.00 more", ["What model answers"]),
        (
            evidence(WORSE, fallback=cascade(AS_GOOD)),
            "are kept",
            ["model alone, which is not enough", "What model alone costs"],
        ),
        (
            evidence(AS_GOOD, WORSE, fallback=cascade(UNDECIDED)),
            "refuted",
            ["The other reading", "With a fallback, which does not change it",
             "What model alone costs"],
        ),
        (
            evidence(UNDECIDED, AS_GOOD),
            "not shown",
            ["The other reading", "What model alone costs"],
        ),
        (evidence(AS_GOOD, failed=(0.2, 0)), "20.0%", ["What was seen, and is not judged"]),
        (evidence(reading(49, 40, 0)), "49 items", ["What was seen, and is not judged"]),
    ],
)  # fmt: skip
def test_the_reason_that_decides_comes_first_and_the_others_are_named(
    found: Evidence, deciding: str, titles: list[str]
) -> None:
    verdict = decide(found, QUESTION)
    first, *others = verdict.reasons
    assert first.title == "What decides"
    assert deciding in " ".join(first.said)
    assert [one.title for one in others] == titles
    if verdict.word in {"REPLACE", "REPLACE WITH FALLBACK"}:
        assert "refuted" not in " ".join(first.said)
        assert "not shown" not in " ".join(first.said)


@pytest.mark.parametrize(
    ("volume", "pays"),
    [(math.inf, "though it pays at no volume"), (0.0, "and pays at any volume")],
)
def test_a_replacement_without_a_volume_says_where_it_pays(volume: float, pays: str) -> None:
    asked = QUESTION.model_copy(update={"must_save": False})
    saving = replace(SAVES, saved_month=None, break_even=volume)
    found = decide(evidence(AS_GOOD, saving=saving), asked)
    assert found.word == "REPLACE"
    assert pays in found.sentence


def test_what_pays_up_to_a_volume_only_is_not_said_to_pay_at_any() -> None:
    ends = replace(SAVES, saved_month=None, break_even=0.0, pays_until=24_333.3)
    found = decide(evidence(AS_GOOD, saving=ends), QUESTION)
    assert found.word == "REPLACE"
    assert "and pays up to 24,333 requests a month" in found.sentence
    assert "It costs no more up to 24,333 requests a month, and more beyond" in said(found)
    between = replace(ends, break_even=999.5)
    assert "from 1,000 to 24,333 requests" in said(
        decide(evidence(AS_GOOD, saving=between), QUESTION)
    )


def test_unknown_costs_do_not_speak_against_and_are_named() -> None:
    found = decide(evidence(AS_GOOD, saving=UNKNOWN), QUESTION)
    assert found.word == "REPLACE"
    assert "unknown" in found.sentence
    assert "no price was given" in said(found)


def test_without_a_volume_a_replacement_that_never_pays_keeps_the_prompt() -> None:
    never = replace(SAVES, saved_month=None, break_even=math.inf)
    assert decide(evidence(AS_GOOD, saving=never), QUESTION).rule == "dearer"
    someday = replace(never, break_even=5000.0)
    found = decide(evidence(AS_GOOD, saving=someday), QUESTION)
    assert found.word == "REPLACE"
    assert "5,000 requests a month" in found.sentence


def test_a_fallback_replaces_where_the_candidate_alone_does_not() -> None:
    for alone in (UNDECIDED, WORSE):
        found = decide(evidence(alone, fallback=cascade(AS_GOOD)), QUESTION)
        assert (found.word, found.rule) == ("REPLACE WITH FALLBACK", "fallback")
        assert "0.900" in found.sentence


def test_a_fallback_is_not_needed_where_the_candidate_alone_will_do() -> None:
    assert decide(evidence(AS_GOOD, fallback=cascade(AS_GOOD)), QUESTION).word == "REPLACE"


@pytest.mark.parametrize(
    ("fallback", "saving"),
    [
        (cascade(UNDECIDED), SAVES),
        (cascade(AS_GOOD, kept=0.05), SAVES),
        (cascade(AS_GOOD), LOSES),
        (Fallback(Choice(None, "too few", 10, 0, 0, None, 0), None, []), None),
    ],
)
def test_a_fallback_that_is_unsure_small_dear_or_infeasible_does_not_replace(
    fallback: Fallback, saving: Saving | None
) -> None:
    found = decide(evidence(WORSE, fallback=fallback, fallback_saving=saving), QUESTION)
    assert (found.word, found.rule) == ("KEEP THE PROMPT", "worse")
    assert "fallback" in said(found)


def test_shown_to_be_worse_keeps_the_prompt() -> None:
    found = decide(evidence(WORSE), QUESTION)
    assert (found.word, found.rule) == ("KEEP THE PROMPT", "worse")


def test_undecided_says_how_many_more_items_would_do() -> None:
    found = decide(evidence(UNDECIDED), QUESTION)
    assert (found.word, found.rule) == ("NOT ENOUGH DATA", "undecided")
    assert found.more_items is not None
    assert f"{found.more_items:,}" in found.sentence
    assert "decide for model" in found.sentence
    scaled = (300 + found.more_items) / 300
    assert reading(300 + found.more_items, 15 * scaled, 16 * scaled).noninferior.shown


def test_more_items_may_decide_against() -> None:
    found = decide(evidence(reading(300, 8, 17)), QUESTION)
    assert found.word == "NOT ENOUGH DATA"
    assert "decide against model" in found.sentence


def test_one_reading_that_is_to_fail_is_enough_to_decide_against() -> None:
    towards, against = reading(300, 15, 16), reading(320, 15, 25)
    assert not against.noninferior.refuted
    for pair in ((towards, against), (against, towards)):
        found = decide(evidence(*pair), QUESTION)
        assert found.rule == "undecided"
        assert "decide against model" in found.sentence
        assert found.more_items is not None
    alone = more_items(evidence(against), QUESTION)
    assert more_items(evidence(against, towards), QUESTION) <= (alone or 0)  # type: ignore[operator]
    needed = more_items(evidence(towards, against), QUESTION)
    assert needed == alone


def test_too_few_groups_of_enough_items_do_not_ask_for_no_items() -> None:
    found = decide(evidence(reading(300, 12, 18, groups=10)), QUESTION)
    assert found.rule == "too-few-items"
    assert found.more_items is None  # more groups are what is missing


counts_ = st.tuples(st.integers(45, 3000), st.floats(0, 0.2), st.floats(0, 0.2))
savings_ = st.sampled_from(
    [SAVES, LOSES, UNKNOWN]
    + [replace(SAVES, saved_month=None, break_even=at) for at in (0.0, 9e3, math.inf)]
)


@given(
    data=st.tuples(counts_, counts_, counts_),
    money=st.tuples(savings_, savings_),
    failed=st.tuples(st.sampled_from([0, 0.1, 0.11]), st.sampled_from([0, 0.1, 0.11])),
    kept=st.sampled_from([None, 0.05, 0.1, 1.0]),
    must_save=st.booleans(),
)
def test_no_verdict_is_another_than_the_documented_rules_give(
    data: tuple[tuple[int, float, float], ...],
    money: tuple[Saving, Saving],
    failed: tuple[float, float],
    kept: float | None,
    must_save: bool,
) -> None:
    """The table of docs/verdict.md, written down a second time."""
    answered, strict, together = (
        reading(n, round(n * gained), round(n * lost)) for n, gained, lost in data
    )
    asked = QUESTION.model_copy(update={"must_save": must_save})
    fallback = None if kept is None else cascade(together, kept=kept)
    found = decide(
        evidence(
            answered,
            strict,
            saving=money[0],
            failed=failed,
            fallback=fallback,
            fallback_saving=None if fallback is None else money[1],
        ),
        asked,
    )

    def dear(saving: Saving) -> bool:
        if saving.saved_month is not None:
            return saving.saved_month < 0
        return saving.break_even == math.inf

    both = [answered.noninferior, strict.noninferior]
    lower = [test.lower > -0.02 for test in both]
    if max(failed) > 0.1:
        expected = "calls-failed"
    elif answered.counts.n < 50:
        expected = "too-few-items"
    elif all(lower) and not (must_save and dear(money[0])):
        expected = "as-good"
    elif all(lower):
        expected = "dearer"
    elif (
        kept is not None
        and kept >= 0.1
        and together.noninferior.lower > -0.02
        and not (must_save and dear(money[1]))
    ):
        expected = "fallback"
    elif any(test.upper < -0.02 for test in both):
        expected = "worse"
    else:
        expected = "undecided"
    assert found.rule == expected


def test_a_difference_of_just_the_margin_is_never_decided() -> None:
    found = decide(evidence(reading(300, 12, 18)), QUESTION)
    assert found.more_items is None
    assert "no number of items" in found.sentence


def test_groups_ask_for_more_items() -> None:
    counts = replace(UNDECIDED.counts, design_effect=3.0, degrees=99)
    grouped = replace(UNDECIDED, counts=counts)
    alone, together = (more_items(evidence(one), QUESTION) for one in (UNDECIDED, grouped))
    assert alone is not None
    assert together is not None
    assert together > 2 * alone


@pytest.mark.parametrize("failed", [(0.2, 0), (0, 0.2)])
def test_failed_calls_leave_it_unjudged(failed: tuple[float, float]) -> None:
    found = decide(evidence(AS_GOOD, failed=failed), QUESTION)
    assert (found.word, found.rule) == ("NOT ENOUGH DATA", "calls-failed")
    assert "20.0%" in found.sentence


def test_few_items_or_few_groups_are_not_judged() -> None:
    few = decide(evidence(reading(49, 40, 0)), QUESTION)
    assert (few.word, few.rule) == ("NOT ENOUGH DATA", "too-few-items")
    assert few.more_items is not None
    assert few.more_items >= 1
    grouped = decide(evidence(reading(3000, 100, 90, groups=19)), QUESTION)
    assert grouped.rule == "too-few-items"
    assert "19 groups" in grouped.sentence
    nobody = decide(evidence(None, AS_GOOD), QUESTION)
    assert nobody.rule == "too-few-items"


def test_labels_of_a_model_are_agreed_with_and_never_accurate() -> None:
    asked = QUESTION.model_copy(update={"labels_from": "model"})
    for found in (AS_GOOD, UNDECIDED, WORSE, reading(3000, 150, 50)):
        verdict = decide(evidence(found, fallback=cascade(found)), asked)
        written = f"{verdict.sentence} {said(verdict)}"
        assert "agree" in written
        assert "accura" not in written
        assert "right" not in written


def test_the_documentation_has_every_rule_in_the_order_in_which_it_is_tried() -> None:
    text = (Path(__file__).parents[2] / "docs" / "verdict.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `([a-z-]+)` \|.*\| ([A-Z ]+)", text, flags=re.MULTILINE)
    assert [rule for rule, _ in table] == list(get_args(Rule))
    assert {word.strip() for _, word in table} == set(get_args(Word))
    few = f"fewer than {LEAST_ITEMS} items that both answered, or fewer than {LEAST_GROUPS} groups"
    assert few in text
    assert f"{LEAST_OF_CLASS} items, with fewer than {LEAST_WRONG} errors" in text
    assert f"fewer than {LEAST_DIFFERENT} items on which the answers differ" in text
    assert f"{least_items(0.01, 0.95)} kept answers" in text
    assert f"{RESAMPLES:,} resamples" in text
