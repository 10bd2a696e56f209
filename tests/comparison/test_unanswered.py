"""What is told of calls without an answer: why they failed, and what came instead of a label."""

from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.comparison.made_up_run import write_run
from hone.comparison.cache import Sums
from hone.comparison.judging import weigh
from hone.comparison.outcomes import Item, Outcome
from hone.comparison.prices import Price
from hone.comparison.question import Arm, ArmCosts, Question
from hone.comparison.report import report
from hone.comparison.run_folder import read_run
from hone.comparison.screen import show_outcomes
from hone.comparison.unanswered import MOST_KEPT


def test_what_came_in_the_place_of_answers_is_told(tmp_path: Path) -> None:
    """Why calls failed, and what was said that names no label: of each kind the most frequent."""
    items = [Item(id=str(k), text="t", label="x" if k else "y") for k in range(80)]

    def outcome(name: str, k: int) -> Outcome:
        told: dict[str, Any] = {"kind": "answered", "label": "x"}
        if name == "b" and k < 8:
            told = {"kind": "failed", "error": "status 500" if k else "no answer in time"}
        elif name == "b" and k < 40:
            told = {"kind": "unparsable", "raw": f"perhaps\n {k} " + "x" * 500 if k > 9 else ""}
        return Outcome(contender=name, item=str(k), **told)

    outcomes = [outcome(name, k) for name in ("a", "b") for k in range(80)]
    asked = Question(baseline="a", candidate="b", arms={"a": Arm(), "b": Arm()}, margin=0.05)
    write_run(tmp_path, items, outcomes, record={})
    judgement = weigh(read_run(tmp_path, asked), asked)
    found = judgement.candidate.unanswered
    assert [(one.kind, one.said, one.calls) for one in found[:3]] == [
        ("failed", "status 500", 7),
        ("failed", "no answer in time", 1),
        ("unparsable", "", 2),
    ]
    assert len(found) == 2 + MOST_KEPT
    assert all(len(one.said) <= 161 and "\n" not in one.said for one in found)
    text = report(judgement).markdown()
    assert "| b | status 500 | 7 |" in text
    assert "| b | (nothing) | 2 |" in text
    assert "What is said that refuses" not in text
    console = Console(record=True, width=60)
    show_outcomes(console, outcomes, items, Sums(0.0, 0.0, 0, 0))
    assert "b failed: status 500 (7); no answer in time (1)\n" in console.export_text()


def test_no_tokenizer_is_named_to_who_was_never_answered(tmp_path: Path) -> None:
    items = [Item(id=str(k), text="t", label="x" if k else "y") for k in range(60)]
    outcomes = [Outcome(contender="a", item=item.id, kind="answered", label="x") for item in items]
    outcomes += [
        Outcome(contender="b", item=i.id, kind="failed", error="status 500") for i in items
    ]
    costs = ArmCosts(price_name="p", price=Price(1e-5, 1e-5))
    arms = {name: Arm(costs=costs) for name in ("a", "b")}
    asked = Question(baseline="a", candidate="b", arms=arms, margin=0.05)
    write_run(tmp_path, items, outcomes, record={})
    text = report(weigh(read_run(tmp_path, asked), asked)).markdown()
    assert "- b: none of its calls was answered.\n" in text
    assert "- a: its tokens were not counted. tokenizer names" in text
