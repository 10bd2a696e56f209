"""Whatever a run holds and whatever is asked of it, it is judged, and its report is whole."""

import json
import re
import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.comparison.made_up_run import write_run
from hone.comparison.gate import REPLACEMENTS, exit_code, junit
from hone.comparison.judging import judge
from hone.comparison.outcomes import Item, Kind, Outcome
from hone.comparison.prices import Price
from hone.comparison.question import Arm, ArmCosts, Question, Serving
from hone.comparison.verdict import Word
from hone.models.prompting.usage import Usage

COSTS = [
    ArmCosts(),
    ArmCosts(free=True, training_usd=5),
    ArmCosts(price_name="m", price=Price(1e-6, 2e-6)),
    ArmCosts(price_name="m", price=Price(1e-6, 2e-6, 1e-7), static_prompt_tokens=50),
    ArmCosts(serving=Serving(usd_per_hour=1)),
    ArmCosts(serving=Serving(usd_per_hour=0.1, requests_per_second=3, billing="per_use")),
    ArmCosts(price=Price(1e-6, 2e-6), serving=Serving(usd_per_hour=0, requests_per_second=1e-3)),
]
KINDS: list[Kind] = ["unparsable", "refused", "failed"]
COUNTED = [Usage(), *(Usage(prompt_tokens=90, counting=way) for way in ("measured", "estimated"))]

questions = st.fixed_dictionaries(
    {
        "margin": st.sampled_from([0.01, 0.05, 0.3]),
        "max_error": st.sampled_from([None, 0.01, 0.1, 0.4]),
        "labels_from": st.sampled_from(["people", "model"]),
        "must_save": st.booleans(),
        "requests_per_month": st.sampled_from([None, 1, 1e5, 1e9]),
        "shadow_share": st.sampled_from([0, 0.1, 1]),
        "most_failed": st.sampled_from([0, 0.5, 1]),
    }
)
shapes = st.fixed_dictionaries(
    {
        "items": st.integers(1, 160),
        "labels": st.integers(1, 5),
        "group_size": st.sampled_from([0, 1, 5, 1000]),
        "repeats": st.integers(1, 3),
        "skill": st.sampled_from([0.0, 0.5, 0.9, 1.0]),
        "unanswered": st.sampled_from([0.0, 0.1, 1.0]),
        "unasked": st.sampled_from([0.0, 0.1]),
        "confident": st.booleans(),
        "timed": st.booleans(),
        "leaked": st.sampled_from([0, 1]),
        "seed": st.integers(0, 99),
    }
)


def outcomes(shape: dict[str, Any], items: list[Item], name: str) -> list[Outcome]:
    draw = np.random.default_rng([shape["seed"], *name.encode()])
    found = []
    for item in items[1:] if shape["unasked"] else items:
        for repeat in range(shape["repeats"] if name == "a" else 1):
            answers = draw.random() >= shape["unanswered"]
            right = draw.random() < shape["skill"]
            found.append(
                Outcome(
                    contender=name,
                    item=item.id,
                    repeat=repeat,
                    kind="answered" if answers else KINDS[draw.integers(3)],
                    label=(item.label if right else "wrong") if answers else None,
                    confidence=round(draw.random(), 1) if shape["confident"] else None,
                    seconds=float(draw.random()) if shape["timed"] else None,
                    usage=COUNTED[draw.integers(len(COUNTED))],
                )
            )
    return found


@pytest.mark.slow
@settings(max_examples=25)
@given(shapes, questions, st.sampled_from(COSTS), st.sampled_from(COSTS))
def test_any_run_is_judged(
    shape: dict[str, Any], asked: dict[str, Any], old: ArmCosts, new: ArmCosts
) -> None:
    size = shape["group_size"]
    items = [
        Item(
            id=str(k),
            text="t",
            label=f"l{k % shape['labels']}",
            group=f"g{k // size}" if size and k % 7 else None,
        )
        for k in range(shape["items"] + 2)
    ]
    question = Question(
        baseline="a",
        candidate="b",
        arms={"a": Arm(costs=old), "b": Arm(costs=new), "c": Arm()},
        **asked,
    )
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        leaked = [items[-1].id][: shape["leaked"]]
        every = [outcome for name in "abc" for outcome in outcomes(shape, items, name)]
        write_run(folder, items, every, record={"contamination": {"prompt": leaked}})
        found = judge(folder, question)
        page, written = ((folder / f"report.{end}").read_text() for end in ("html", "json"))
    assert found.verdict.word in get_args(Word)
    assert found.verdict.sentence.endswith(".")
    assert found.verdict.word in page
    assert json.loads(written)["verdict"]["word"] == found.verdict.word
    for accepted in (REPLACEMENTS, (), get_args(Word)):
        failed = b"<failure" in junit(found, accepted=accepted)
        assert failed == (exit_code(found, accepted=accepted) != 0)
    assert exit_code(found) in {0, 3, 4}
    text = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert not re.search(r"\b(nan|inf)\b|>None<", text)
