"""Comparisons about pictures: who is asked, what is sent, what it costs, and what is refused."""

import asyncio
import base64
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from openai.types.chat import ChatCompletionMessageParam
from pydantic import TypeAdapter

from hone.comparison import asking
from hone.comparison.budget import BudgetSpent
from hone.comparison.experiment_file import InvalidExperiment
from hone.comparison.outcomes import Item
from hone.comparison.plan import estimates
from hone.comparison.readiness import make_ready
from hone.comparison.run import Finished
from hone.models.errors import InvalidInput
from hone.models.imaging.pictures import data_url
from hone.models.imaging.tokens import PICTURE_TOKENS
from hone.models.registry import Registry
from tests.comparison.experiments import experiment_text, plan_of, prompt, run, write_lines
from tests.comparison.picture_prompts import pictures_in
from tests.comparison.picture_runs import (
    as_url,
    colour_file,
    labels_of,
    write_picture_data,
    write_pictures,
)
from tests.comparison.upstream import Behaviour, upstream
from tests.tiny_bundle import publish_tiny
from tests.tiny_picture_bundle import publish_tiny_pictures

NOWHERE = "http://127.0.0.1:9/v1"


def served(address: str, **changes: Any) -> dict[str, Any]:
    return {"name": "served", "kind": "served", "model": "s", "address": address, **changes}


def right(finished: Finished, name: str) -> int:
    gold = {
        item.id: item.label
        for item in map(
            Item.model_validate_json, (finished.folder / "items.jsonl").read_bytes().splitlines()
        )
    }
    own = [outcome for outcome in finished.outcomes if outcome.contender == name]
    return sum(outcome.label == gold[outcome.item] for outcome in own)


def problems(text: str) -> str:
    with pytest.raises(InvalidInput) as caught:
        make_ready(plan_of(text), needs_keys=False)
    return str(caught.value)


def test_every_contender_that_reads_pictures_is_asked_about_each(tmp_path: Path) -> None:
    data = write_picture_data(tmp_path / "data")
    publish_tiny_pictures(Registry(tmp_path / "store"))
    write_lines(tmp_path / "old.jsonl", [{"id": f"line-{n}", "label": "red"} for n in range(1, 10)])
    with upstream() as server:
        text = experiment_text(
            data,
            {
                "name": "tuned",
                "kind": "bundle",
                "model": "colours",
                "store": str(tmp_path / "store"),
            },
            prompt(server.address, "zero", prompt="zero-shot", k=None),
            prompt(server.address, "few", k=6),
            prompt(server.address, "turns", k=6, examples_as="turns"),
            served(server.address),
            served(server.address, name="served chat", api="chat"),
            {"name": "old", "kind": "recorded", "path": str(tmp_path / "old.jsonl")},
        )
        finished = run(text, tmp_path / "out")
        bodies = [(one.path, one.body) for one in server.served]
    for name in ("tuned", "zero", "few", "turns"):
        assert right(finished, name) == 9, name
    assert right(finished, "majority") == right(finished, "old") == 3
    content = (data / "pictures/1000.jpg").read_bytes()
    assert {"model": "s", "input": {"image": as_url(content)}, "top_k": 1} in [
        body for path, body in bodies if path.endswith("/classify")
    ]
    assert finished.outcomes[0].seconds is not None


def test_examples_teach_what_the_labels_names_do_not(tmp_path: Path) -> None:
    data = write_picture_data(tmp_path / "data", named=True)
    with upstream() as server:
        text = experiment_text(
            data,
            prompt(server.address, "few", k=6),
            prompt(server.address, "turns", k=6, examples_as="turns"),
            prompt(server.address, "zero", prompt="zero-shot", k=None),
        )
        finished = run(text, tmp_path / "out")
    assert right(finished, "few") == right(finished, "turns") == 9
    assert right(finished, "zero") == 3


def test_a_chat_gets_parts_as_the_api_has_them(tmp_path: Path) -> None:
    data = write_picture_data(tmp_path / "data")
    with upstream() as server:
        text = experiment_text(
            data,
            prompt(server.address, "few", k=2, detail="low"),
            prompt(server.address, "turns", k=2, examples_as="turns"),
            prompt(
                server.address,
                "own",
                prompt="zero-shot",
                k=None,
                template="One of {labels}\n\n{image}\n\nWhich? {{image}} {not a name}",
            ),
        )
        run(text, tmp_path / "out")
        bodies = [one.body for one in server.served]
    messages = TypeAdapter(list[ChatCompletionMessageParam])
    for body in bodies:
        messages.validate_python(body["messages"])
    few, turns, own = bodies[0], bodies[9], bodies[18]
    assert few["messages"][0]["role"] == "system"
    assert isinstance(few["messages"][0]["content"], str)
    kinds = [part["type"] for part in few["messages"][1]["content"]]
    assert kinds == ["text", "image_url", "text", "image_url", "text", "image_url", "text"]
    assert all(shown["detail"] == "low" for shown in pictures_in(few))
    assert [message["role"] for message in turns["messages"]] == [
        "system", "user", "assistant", "user", "assistant", "user"
    ]  # fmt: skip
    assert all(set(shown) == {"url"} for shown in pictures_in(turns))
    asked = {base64.b64decode(pictures_in(b)[-1]["url"].partition(",")[2]) for b in bodies}
    assert asked == {(data / f"pictures/{n}.jpg").read_bytes() for n in range(1000, 1009)}
    [message] = own["messages"]
    assert [part.get("text") for part in message["content"]] == [
        "One of - blue\n- green\n- red", None, "Which? {image} {not a name}"
    ]  # fmt: skip


def test_the_record_shows_a_prompt_with_names_and_keeps_no_bytes(tmp_path: Path) -> None:
    data = write_picture_data(tmp_path / "data")
    with upstream() as server:
        run(experiment_text(data, prompt(server.address, k=2)), tmp_path / "out")
    record = json.loads((tmp_path / "out/run.json").read_bytes())
    shown = record["prompts"]["few"][-1]["content"]
    assert "[green/1000.jpg]" in shown
    items = (tmp_path / "out/items.jsonl").read_text()
    assert "base64" not in items + json.dumps(record)
    assert Item.model_validate_json(items.splitlines()[0]).input.name == "green/1000.jpg"  # type: ignore[union-attr]


def test_a_place_on_somebodys_machine_is_no_name(tmp_path: Path) -> None:
    data = write_picture_data(tmp_path / "data", test=3)
    rows = [json.loads(line) for line in (data / "test.jsonl").read_text().splitlines()]
    rows[0]["name"], rows[1]["name"] = "/home/somebody/photos/a.jpg", None
    write_lines(data / "test.jsonl", rows)
    items = plan_of(experiment_text(data, prompt(NOWHERE))).material.items
    names = [item.image.name for item in items if item.image is not None]
    assert names == ["pictures/1000.jpg", "pictures/1001.jpg", "blue/1002.jpg"]
    assert [item.image.line for item in items if item.image is not None] == [1, 2, 3]


def test_embedded_pictures_are_those_of_files(tmp_path: Path) -> None:
    data = write_picture_data(tmp_path / "data")
    rows = [json.loads(line) for line in (data / "test.jsonl").read_text().splitlines()]
    with upstream() as server:
        run(experiment_text(data, prompt(server.address)), tmp_path / "out")
        asked = len(server.served)
        for row in rows:
            row["image"] = as_url((data / row["image"]).read_bytes())
        (data / "test.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
        run(experiment_text(data, prompt(server.address)), tmp_path / "out")
        assert len(server.served) == asked  # the same bytes are the same question
        (data / "pictures/0.jpg").write_bytes(colour_file("blue", 77))
        run(experiment_text(data, prompt(server.address, k=12)), tmp_path / "out")
        again = len(server.served)
        (data / "pictures/0.jpg").write_bytes(colour_file("blue", 78))
        run(experiment_text(data, prompt(server.address, k=12)), tmp_path / "out")
        assert len(server.served) == again + 9  # another picture in the same file is another one


def _folder_of_odd_files(outside: Path) -> Path:
    """Return a folder with links that lead out of it, and with a pipe that nobody writes to."""
    (outside / "a.jpg").write_bytes(colour_file("red", 2))
    inside = outside / "inside"
    inside.mkdir()
    (inside / "out.jpg").symlink_to(outside / "a.jpg")
    (inside / "away").symlink_to(outside)
    (inside / "circle").symlink_to("circle")
    os.mkfifo(inside / "pipe.jpg")
    return inside


def test_a_path_that_goes_round_within_the_folder_is_taken(tmp_path: Path) -> None:
    data = write_picture_data(tmp_path / "real")
    rows = [json.loads(line) for line in (data / "test.jsonl").read_text().splitlines()]
    rows = [row | {"image": f"pictures/../{row['image']}"} for row in rows]
    write_lines(data / "test.jsonl", rows)
    (data / "pictures/link.jpg").symlink_to("1000.jpg")
    (tmp_path / "data").symlink_to(data)  # what the folder itself is called does not matter
    assert len(plan_of(experiment_text(tmp_path / "data", prompt(NOWHERE))).material.items) == 9


@pytest.mark.parametrize(
    ("rows", "task", "words"),
    [
        ([{"image": "a.jpg"}, {"text": "a"}], None, "line 2: is a text where line 1 is a picture"),
        ([{"text": "a"}, {"image": "a.jpg"}], None, "line 2: is a picture where line 1 is a text"),
        ([{"text": "a", "image": "a.jpg"}], None, "say which in experiment.task"),
        ([{"image": "a.jpg"}], "text-classification", "is a picture where the items are a text"),
        ([{"text": "a"}], "image-classification", "is a text where the items are a picture"),
        ([{"image": 3}], None, "'image' is missing, empty or not a string"),
        ([{"image": "https://x.test/a.jpg"}], None, "addresses are not fetched"),
        ([{"image": "b.jpg"}], None, "b.jpg: there is no such file"),
        ([{"image": "a\0.jpg"}], None, "there is no such file"),
        ([{"image": "."}], None, "line 1: .: it is a folder"),
        ([{"image": "../a.jpg"}], None, "line 1: ../a.jpg: it leads out of the folder"),
        ([{"image": "a.jpg"}, {"image": "/etc/passwd"}], None, "line 2: /etc/passwd: it is an abs"),
        ([{"image": "out.jpg"}], None, "line 1: out.jpg: it leads out of the folder"),
        ([{"image": "away/a.jpg"}], None, "line 1: away/a.jpg: it leads out of the folder"),
        ([{"image": "circle"}], None, "line 1: circle: there is no such file"),
        ([{"image": "pipe.jpg"}], None, "line 1: pipe.jpg: it is a pipe, and no file"),
        ([{"image": "cut.jpg"}], None, "cut.jpg: it is a JPEG picture that was cut off"),
        ([{"image": "data:image/png;base64,####"}], None, "line 1: 'image' is not valid base64"),
        ([{"image": as_url(colour_file("red", 1), "png")}], None, "it is called image/png"),
        ([{"image": "no.jpg"}, {"image": "cut.jpg"}], None, "2 unusable lines"),
    ],
)
def test_unusable_items_are_named_by_their_lines(
    tmp_path: Path, rows: list[Mapping[str, Any]], task: str | None, words: str
) -> None:
    tmp_path = _folder_of_odd_files(tmp_path)
    (tmp_path / "a.jpg").write_bytes(colour_file("red", 1))
    (tmp_path / "cut.jpg").write_bytes(colour_file("red", 1)[:-40])
    write_lines(tmp_path / "test.jsonl", [{"label": "red", **row} for row in rows])
    write_lines(tmp_path / "prices.json", [{}])
    text = experiment_text(
        tmp_path,
        prompt(NOWHERE, prompt="zero-shot", k=None),
        experiment={"path": None, "test": str(tmp_path / "test.jsonl"), "task": task},
    )
    said = problems(text.replace('kind = "majority"', 'kind = "recorded"\npath = "x"'))
    assert words in said
    assert "base64,/9j" not in said


def test_with_a_task_a_row_may_have_both(tmp_path: Path) -> None:
    data = write_picture_data(tmp_path / "data")
    for split in ("train", "test"):
        rows = [json.loads(line) for line in (data / f"{split}.jsonl").read_text().splitlines()]
        write_lines(data / f"{split}.jsonl", [{"text": "about it", **row} for row in rows])
    for task, kind in (("image-classification", "image"), ("text-classification", "text")):
        plan = plan_of(experiment_text(data, prompt(NOWHERE), experiment={"task": task}))
        assert plan.material.kind == kind


def test_what_reads_no_pictures_is_refused_by_name_and_all_at_once(tmp_path: Path) -> None:
    data = write_picture_data(tmp_path / "data")
    publish_tiny(Registry(tmp_path / "store"))
    text = experiment_text(
        data,
        prompt(NOWHERE, "by completion", api="completions"),
        prompt(NOWHERE, "by decision", api="decisions"),
        served(NOWHERE, detail="low", template="It is {image}"),
        {"name": "near", "kind": "embedded"},
        {"name": "writer", "kind": "generating", "model": "w", "prompt": "zero-shot"},
        {"name": "texts", "kind": "bundle", "model": "support", "store": str(tmp_path / "store")},
    )
    with pytest.raises(InvalidExperiment) as caught:
        make_ready(plan_of(text))
    said = "\n".join(caught.value.problems)
    for name, words in (
        ("by completion", "the API completions takes no pictures"),
        ("by decision", "the API decisions takes no pictures"),
        ("served", "detail: /classify has no such field"),
        ("served", "template: /classify takes the picture alone"),
        ("near", "no encoder here that reads pictures"),
        ("writer", "causal bundles read no pictures"),
        ("texts", "support is for texts, and the items are pictures"),
    ):
        found = [line for line in caught.value.problems if line.startswith(f"contender {name!r}")]
        assert any(words in line for line in found), said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"template": "Is it? {text}"}, "template: {text} is for texts"),
        ({"template": "Is it {image} {examples}?", "system": "{examples}"}, "{examples} are pict"),
        ({"template": "Is it {image}?"}, "a few-shot prompt needs the placeholder {examples}"),
        ({"example": "{image} is it"}, "example: the placeholder {label} is missing"),
        ({"example": "{text}: {label}"}, "example: {text} is for texts"),
        ({"system": "See {image}", "examples_as": "turns"}, "system: {image} is for pictures"),
        (
            {"template": "{labels} {examples}"},
            "placeholder {text}, or {image} for pictures, is missing",
        ),
        ({"template": "{image} {imagee} {examples}"}, "unknown placeholder {imagee}"),
    ],
)
def test_templates_that_fit_no_pictures_are_refused(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    data = write_picture_data(tmp_path / "data")
    text = experiment_text(data, prompt(NOWHERE, **changes))
    if "system" in changes and "image" in changes["system"]:
        words = "system: "
    assert words in problems(text)


@pytest.mark.parametrize(
    "changes", [{"system": "You know colours: {labels}"}, {"template": "{examples}\n{image}"}, {}]
)
def test_templates_that_leave_the_rest_to_the_defaults_are_taken(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    data = write_picture_data(tmp_path / "data")
    ready = make_ready(plan_of(experiment_text(data, prompt(NOWHERE, k=2, **changes))))
    shown = ready.forms["few"].prompt(0, ready.plan.material.items[0])
    assert len(shown.pictures) == 3
    assert shown.pictures[-1] == ready.plan.material.items[0].image


def test_templates_of_pictures_are_refused_for_texts(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", [{"text": w, "label": w} for w in "ab"])
    write_lines(tmp_path / "test.jsonl", [{"text": w, "label": w} for w in "cdab"])
    write_lines(tmp_path / "prices.json", [{}])
    own = {"template": "{examples} {image}", "example": "{image}: {label}"}
    said = problems(experiment_text(tmp_path, prompt(NOWHERE, detail="high", **own)))
    assert "template: {image} is for pictures, and the inputs are texts: {text}" in said
    assert "detail: is for pictures" in said


def test_contamination_and_repeats_are_told_by_the_bytes(tmp_path: Path) -> None:
    data = write_picture_data(tmp_path / "data")
    rows = [json.loads(line) for line in (data / "test.jsonl").read_text().splitlines()]
    (data / "pictures/copy.jpg").write_bytes((data / "pictures/3.jpg").read_bytes())
    rows[0]["image"] = "pictures/copy.jpg"  # stands in the training data
    rows[2]["image"] = rows[1]["image"]  # repeats
    write_lines(data / "test.jsonl", rows)
    with upstream() as server:
        run(experiment_text(data, prompt(server.address, k=12)), tmp_path / "out")
    record = json.loads((tmp_path / "out/run.json").read_bytes())
    assert record["contamination"] == {"training data": ["line-1"], "prompt": ["line-1"]}
    assert record["items_repeated"] == 1


def test_tokens_are_measured_or_else_estimated_by_the_tiles(tmp_path: Path) -> None:
    data = write_picture_data(tmp_path / "data", test=3)
    found = {}
    for usage in (True, False):
        with upstream(Behaviour(usage=usage)) as server:
            text = experiment_text(
                data,
                prompt(server.address, "high", k=2),
                prompt(server.address, "low", k=2, detail="low"),
                served(server.address),
            )
            finished = run(text, tmp_path / str(usage))
            found[usage] = {
                name: [o.usage for o in finished.outcomes if o.contender == name]
                for name in ("high", "low", "served")
            }
    assert {u.counting for u in found[True]["high"]} == {"measured"}
    assert {u.counting for u in found[False]["high"]} == {"estimated"}
    high, low = (found[False][name][0].prompt_tokens for name in ("high", "low"))
    assert high - low == 3 * (255 - 85)  # 48 x 40 pixels are one tile
    assert found[False]["served"][0].prompt_tokens == 255
    plan = plan_of(text)
    rehearsed = {one.contender: one for one in estimates(plan)}
    assert rehearsed["high"].prompt_tokens == sum(u.prompt_tokens for u in found[False]["high"])
    assert {one.counting for one in rehearsed.values()} == {"estimated"}
    record = json.loads((tmp_path / "False/run.json").read_bytes())
    assert any(PICTURE_TOKENS in note for note in record["notes"])


def test_the_budget_sets_the_dearest_rule_aside_and_not_the_bytes(tmp_path: Path) -> None:
    data = write_picture_data(tmp_path / "data", test=3)
    large = colour_file("red", 5, quality=100)
    rows = [{"image": as_url(large), "label": "red"}, {"image": as_url(large), "label": "red"}]
    write_lines(data / "test.jsonl", rows)
    one = prompt("{address}", prompt="zero-shot", k=None)
    with upstream() as server:
        one["address"] = server.address
        most = (34 * 255 + 1000) * 1e-5 + 32 * 5e-5
        run(experiment_text(data, one, limits={"dollars": most}), tmp_path / "enough")
        assert len(server.served) == 1
        with pytest.raises(BudgetSpent):
            run(experiment_text(data, one, limits={"dollars": 34 * 255e-5}), tmp_path / "less")
        assert len(server.served) == 1


def test_a_picture_that_changes_after_the_check_is_not_asked_about(tmp_path: Path) -> None:
    data = write_picture_data(tmp_path / "data")
    publish_tiny_pictures(Registry(tmp_path / "store"))
    store = str(tmp_path / "store")
    tuned = {"name": "tuned", "kind": "bundle", "model": "colours", "store": store}
    plan = plan_of(experiment_text(data, tuned))
    ready = make_ready(plan)
    (data / "pictures/1003.jpg").write_bytes(colour_file("red", 99))
    (data / "pictures/1004.jpg").unlink()
    outcomes = [ready.local["tuned"].answer(item, 0) for item in plan.material.items]
    failed = {outcome.item: outcome.error or "" for outcome in outcomes if outcome.kind == "failed"}
    assert set(failed) == {"line-4", "line-5"}
    assert failed["line-4"].endswith("1003.jpg (pictures/1003.jpg): it is not what it was")
    assert failed["line-5"].endswith("(pictures/1004.jpg): there is no such file")


def test_the_recorded_answer_to_an_empty_text_is_no_pictures(tmp_path: Path) -> None:
    data = write_picture_data(tmp_path / "data", test=3)
    rows = [{"id": "line-1", "answer": ""}, {"text": "", "answer": "red"}]
    write_lines(tmp_path / "old.jsonl", rows)
    old = {"name": "old", "kind": "recorded", "path": str(tmp_path / "old.jsonl")}
    finished = run(experiment_text(data, old), tmp_path / "out")
    own = [outcome for outcome in finished.outcomes if outcome.contender == "old"]
    assert [outcome.kind for outcome in own] == ["unparsable", "failed", "failed"]


def test_bodies_with_pictures_are_made_off_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_picture_data(tmp_path / "data", test=3)
    made: list[tuple[str, bool]] = []

    def noted(what: str, make: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def note(given: Any) -> Any:
            made.append((what, on_a_loop()))
            return make(given)

        return note

    monkeypatch.setattr(asking, "data_url", noted("data URL", data_url))
    written = noted("JSON", orjson.dumps)
    monkeypatch.setattr(asking, "orjson", SimpleNamespace(dumps=written))
    with upstream() as server:
        few = prompt(server.address, prompt="zero-shot", k=None)
        run(experiment_text(data, few, served(server.address)), tmp_path / "out")
        assert len(server.served) == 6
    assert Counter(made)["data URL", False] == Counter(made)["JSON", False] == 6
    assert ("data URL", True) not in made
    # What a call may cost, of those with a price, is reckoned with the pictures' hashes instead.
    assert Counter(made)["JSON", True] == 3


def on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def test_labels_follow_from_a_prepared_folder(tmp_path: Path) -> None:
    rows = write_pictures(tmp_path, "test", 6, start=0)
    write_pictures(tmp_path, "train", 6, start=100)
    write_lines(tmp_path / "prices.json", [{}])
    plan = plan_of(experiment_text(tmp_path, prompt(NOWHERE)))
    assert [item.label for item in plan.material.items] == labels_of(rows)
    assert set(plan.material.sha256) == {"test", "train", "pictures"}
