"""From a run folder to a judgement: what is read, set aside, aggregated, and refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.comparison import made_up_run
from benchmarks.comparison.made_up_run import write_run
from hone.comparison.judgement import Judgement
from hone.comparison.judging import judge
from hone.comparison.outcomes import Item, Kind, Outcome
from hone.comparison.question import Arm, ArmCosts, Question
from hone.models.errors import InvalidInput, NotFound
from hone.models.prompting.usage import Usage

ASKED = Question(
    baseline="prompt",
    candidate="model",
    arms={
        "prompt": Arm(role="prompt", costs=ArmCosts(price_name="gpt-9")),
        "model": Arm(role="fine-tuned", costs=ArmCosts(free=True)),
    },
    margin=0.05,
)


def items(n: int) -> list[Item]:
    return [Item(id=f"i{k}", text=f"text {k}", label="ab"[k % 2]) for k in range(n)]


def answered(name: str, item: Item, *, right: bool = True, repeat: int = 0) -> Outcome:
    label = item.label if right else "ab"[item.label == "a"]
    return Outcome(contender=name, item=item.id, repeat=repeat, kind="answered", label=label)


def unanswered(name: str, item: Item, kind: Kind) -> Outcome:
    return Outcome(contender=name, item=item.id, kind=kind)


def everyone(asked: list[Item], wrong: dict[str, set[int]] | None = None) -> list[Outcome]:
    wrong = wrong or {}
    return [
        answered(name, item, right=k not in wrong.get(name, set()))
        for name in ("prompt", "model")
        for k, item in enumerate(asked)
    ]


def judged(
    folder: Path,
    asked: list[Item],
    outcomes: list[Outcome],
    *,
    question: Question = ASKED,
    **record: object,
) -> Judgement:
    write_run(folder, asked, outcomes, record=record)
    return judge(folder, question)


def test_shares_are_those_of_the_answers_and_of_all(tmp_path: Path) -> None:
    asked = items(100)
    outcomes = everyone(asked, {"prompt": set(range(10))})
    kinds: list[Kind] = ["failed", "refused", "unparsable"]
    for place, kind in enumerate(kinds):
        outcomes[20 + place] = unanswered("prompt", asked[20 + place], kind)
    prompt = judged(tmp_path, asked, outcomes).baseline
    assert prompt.kinds == {"answered": 97, "failed": 1, "refused": 1, "unparsable": 1}
    assert prompt.accuracy.value == pytest.approx(87 / 97)
    assert prompt.right_of_all.value == pytest.approx(87 / 100)
    assert prompt.answered.value == pytest.approx(97 / 100)


def test_a_call_without_an_answer_is_in_one_reading_and_not_in_the_other(tmp_path: Path) -> None:
    asked = items(100)
    outcomes = everyone(asked, {"prompt": {0, 1}, "model": {2}})
    outcomes[5] = unanswered("prompt", asked[5], "failed")
    pair = judged(tmp_path, asked, outcomes).pair
    assert pair.answered is not None
    assert (pair.answered.counts.n, pair.answered.counts.gained, pair.answered.counts.lost) == (
        99,
        2,
        1,
    )
    assert (pair.strict.counts.n, pair.strict.counts.gained, pair.strict.counts.lost) == (100, 3, 1)


def test_repeats_are_one_item_and_their_flips_are_shown(tmp_path: Path) -> None:
    asked = items(100)
    outcomes = [answered("model", item) for item in asked]
    for k, item in enumerate(asked):
        outcomes += [answered("prompt", item, right=k >= 20 or r == 0, repeat=r) for r in range(2)]
    found = judged(tmp_path, asked, outcomes)
    assert found.baseline.accuracy.n == 100
    assert found.baseline.accuracy.value == pytest.approx(0.9)
    assert found.baseline.flip_rate == pytest.approx(0.2)
    assert found.candidate.flip_rate is None
    assert found.pair.answered is not None
    assert found.pair.answered.counts.gained == 10


def test_leaked_items_are_left_out_of_every_figure_and_reported(tmp_path: Path) -> None:
    asked = items(100)
    outcomes = everyone(asked, {"prompt": {0, 1, 2}, "model": {50}})
    found = judged(
        tmp_path, asked, outcomes, contamination={"training data": ["i0", "i1"], "prompt": ["i2"]}
    )
    assert found.items == 97
    assert found.baseline.accuracy.value == 1
    assert found.set_aside == {"training data": ["i0", "i1"], "prompt": ["i2"]}
    assert found.with_set_aside is not None
    assert found.with_set_aside.value == pytest.approx(0.02)
    assert "2 items stand in the training data too" in (tmp_path / "report.md").read_text()


def test_flips_name_who_mended_and_who_broke(tmp_path: Path) -> None:
    asked = items(60)
    found = judged(tmp_path, asked, everyone(asked, {"prompt": {3}, "model": {4, 5}}))
    assert [flip.item for flip in found.mended] == ["i3"]
    assert [flip.item for flip in found.broken] == ["i4", "i5"]
    assert (found.mended[0].candidate, found.mended[0].baseline) == ("b", "a")


def test_groups_widen_what_is_said_of_copies(tmp_path: Path) -> None:
    asked = [
        item.model_copy(update={"group": f"g{k // 4}", "label": "ab"[k // 4 % 2]})
        for k, item in enumerate(items(400))
    ]
    wrong = {k for k in range(400) if k // 4 % 7 == 0}
    grouped = judged(tmp_path / "a", asked, everyone(asked, {"prompt": wrong}))
    alone = [item.model_copy(update={"group": None}) for item in asked]
    single = judged(tmp_path / "b", alone, everyone(alone, {"prompt": wrong}))
    assert grouped.groups == 100
    widths = [
        (found.baseline.accuracy.high or 0) - (found.baseline.accuracy.low or 0)
        for found in (grouped, single)
    ]
    assert widths[0] > 1.7 * widths[1]


def test_a_contender_that_the_question_leaves_out_is_not_judged(tmp_path: Path) -> None:
    asked = items(60)
    outcomes = [*everyone(asked), *(answered("other", item) for item in asked)]
    assert [arm.name for arm in judged(tmp_path, asked, outcomes).arms] == ["prompt", "model"]


def test_a_contender_that_was_never_asked_is_named(tmp_path: Path) -> None:
    asked = items(60)
    more = ASKED.model_copy(update={"arms": {**ASKED.arms, "third": Arm()}})
    found = judged(tmp_path, asked, everyone(asked), question=more)
    assert found.absent == ["third"]
    assert "Without any outcome: third" in (tmp_path / "report.md").read_text()


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    asked = items(60)
    outcomes = everyone(asked)[:100]
    judged(tmp_path, asked, outcomes, complete=False)
    said = (tmp_path / "report.md").read_text()
    assert "model was asked 40 of the 60 items" in said
    assert "ended before every contender" in said


def test_labels_of_a_model_turn_accuracy_into_agreement(tmp_path: Path) -> None:
    asked = items(60)
    changed = ASKED.model_copy(update={"labels_from": "model"})
    judged(tmp_path, asked, everyone(asked, {"prompt": {1}}), question=changed)
    said = (tmp_path / "report.html").read_text()
    assert "Agreement" in said
    assert "Accuracy" not in said


def test_an_unknown_price_is_shown_as_unknown(tmp_path: Path) -> None:
    asked = items(60)
    usage = Usage(prompt_tokens=10, completion_tokens=1, counting="measured")
    outcomes = [o.model_copy(update={"usage": usage, "spent": usage}) for o in everyone(asked)]
    judged(tmp_path, asked, outcomes)
    assert "the price of gpt-9 is unknown" in (tmp_path / "report.html").read_text()
    written = json.loads((tmp_path / "report.json").read_bytes())
    assert written["arms"][0]["request_usd"] is None


def _broken_line(folder: Path) -> None:
    (folder / "outcomes.jsonl").write_text('{"contender": 1}\n')


def _no_record(folder: Path) -> None:
    (folder / "run.json").unlink()


def _doubled(name: str) -> Callable[[Path], None]:
    def doubled(folder: Path) -> None:
        lines = (folder / name).read_text().splitlines()
        (folder / name).write_text("\n".join([*lines, lines[0]]))

    return doubled


def _unknown_item(folder: Path) -> None:
    with (folder / "outcomes.jsonl").open("a") as file:
        file.write('{"contender": "model", "item": "nowhere", "kind": "failed"}\n')


def _label_of_a_failure(folder: Path) -> None:
    (folder / "outcomes.jsonl").write_text(
        '{"contender": "model", "item": "i0", "kind": "failed", "label": "a"}\n'
    )


def _nobody(folder: Path) -> None:
    (folder / "outcomes.jsonl").write_text("")


@pytest.mark.parametrize(
    ("harm", "error", "said"),
    [
        (_broken_line, InvalidInput, r"outcomes.jsonl, line 1: contender"),
        (_no_record, NotFound, "run.json"),
        (_doubled("items.jsonl"), InvalidInput, "'i0' is there twice"),
        (_doubled("outcomes.jsonl"), InvalidInput, "twice as repeat 0"),
        (_unknown_item, InvalidInput, "'nowhere'"),
        (_label_of_a_failure, InvalidInput, "is failed"),
        (_nobody, InvalidInput, "no outcome of 'prompt'"),
    ],
)
def test_a_harmed_folder_is_refused_and_no_report_is_written(
    tmp_path: Path, harm: Callable[[Path], None], error: type[Exception], said: str
) -> None:
    asked = items(3)
    write_run(tmp_path, asked, everyone(asked), record={})
    harm(tmp_path)
    with pytest.raises(error, match=said):
        judge(tmp_path, ASKED)
    assert not list(tmp_path.glob("report.*"))


def test_a_run_of_leaked_items_alone_is_refused(tmp_path: Path) -> None:
    asked = items(3)
    record: dict[str, Any] = {"contamination": {"prompt": ["i0", "i1", "i2"]}}
    write_run(tmp_path, asked, everyone(asked), record=record)
    with pytest.raises(InvalidInput, match="every item"):
        judge(tmp_path, ASKED)


def test_the_same_folder_and_question_give_the_same_report(tmp_path: Path) -> None:
    made_up_run.make_run(tmp_path, 400)
    first = judge(tmp_path, made_up_run.question())
    written = (tmp_path / "report.json").read_bytes()
    judge(tmp_path, made_up_run.question())
    assert (tmp_path / "report.json").read_bytes() == written
    assert first.fallback is not None


def test_the_reports_sums_equal_a_recount_of_the_folder(tmp_path: Path) -> None:
    made_up_run.make_run(tmp_path, 400)
    found = judge(tmp_path, made_up_run.question())
    leaked = {"item-3", "item-17", "item-5"}
    lines, items = (
        [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        for name in ("outcomes.jsonl", "items.jsonl")
    )
    gold = {item["id"]: item["label"] for item in items}
    for arm in found.arms:
        own = [o for o in lines if o["contender"] == arm.name]
        right: dict[str, list[float]] = {}
        for one in own:
            if one["item"] in leaked:
                continue
            right.setdefault(one["item"], []).append(float(one["label"] == gold[one["item"]]))
        assert arm.right_of_all.value == pytest.approx(
            np.mean([np.mean(r) for r in right.values()])
        )
        assert arm.cost.tokens.prompt == sum(o["spent"]["prompt_tokens"] for o in own)
        assert arm.cost.tokens.completion == sum(o["spent"]["completion_tokens"] for o in own)
        if arm.arm.costs.price is not None:
            price = arm.arm.costs.price
            dollars = sum(
                o["spent"]["prompt_tokens"] * price.input_cost_per_token
                + o["spent"]["completion_tokens"] * price.output_cost_per_token
                for o in own
            )
            assert arm.cost.run_usd == pytest.approx(dollars, abs=1e-9)
