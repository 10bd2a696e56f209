"""Files of other tools become items, recorded answers, and an experiment that can be read."""

import json
from pathlib import Path
from typing import Any

import pytest

from hone.comparison.experiment import PromptContender, RecordedContender
from hone.comparison.experiment_file import load_experiment
from hone.comparison.items import read_items
from hone.comparison.taking_over import read_fine_tuning, read_promptfoo, take_over
from hone.models.errors import Conflict, InvalidExamples
from hone.models.prompting.prompts import fill
from tests.comparison.experiments import run, write_lines

SHARED = (
    Path(__file__).resolve().parents[3]
    / "shared"
    / "data"
    / "openai_cookbook"
    / "examples"
    / "data"
)

CHATS: list[dict[str, Any]] = [
    {"messages": [{"role": "system", "content": "Say which {x}."},
                  {"role": "user", "content": "where is it?"},
                  {"role": "assistant", "content": " card"}]},
    {"messages": [{"role": "system", "content": "Say which {x}."},
                  {"role": "user", "content": "hello"},
                  {"role": "assistant", "content": "yes?"},
                  {"role": "user", "content": "money back"},
                  {"role": "assistant", "content": "refund"}]},
    {"prompt": "my card ->", "completion": " card"},
    {"messages": [{"role": "user", "content": "no answer"}]},
    {"text": "other"},
]  # fmt: skip


@pytest.mark.parametrize(("chats", "said"), [(CHATS[:1], "1 item in "), (CHATS[:2], "2 items in ")])
def test_the_items_taken_over_are_counted_in_words(
    tmp_path: Path, chats: list[dict[str, Any]], said: str
) -> None:
    source = write_lines(tmp_path / "chats.jsonl", chats)
    assert take_over(source, "fine-tuning", tmp_path / "out")[0].startswith(said)


def test_fine_tuning_lines_give_items_and_the_system_message_they_share(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "chats.jsonl", CHATS[:2] + CHATS[3:])
    said = take_over(source, "fine-tuning", tmp_path / "out")
    items = read_items(tmp_path / "out" / "items.jsonl", "text")
    assert [(item.text, item.label) for item in items] == [
        ("where is it?", "card"),
        ("user: hello\nassistant: yes?\nuser: money back", "refund"),
    ]
    assert sum(line.startswith("left out: line ") for line in said) == 2
    experiment = load_experiment(tmp_path / "out" / "experiment.toml").experiment
    contender = experiment.contenders[1]
    assert isinstance(contender, PromptContender)
    assert fill(contender.system or "", {}) == "Say which {x}."
    with pytest.raises(Conflict):
        take_over(source, "fine-tuning", tmp_path / "out")


def test_prompts_with_completions_are_items_too() -> None:
    taken = read_fine_tuning(json.dumps(CHATS[2]).encode())
    assert [(item.text, item.label) for item in taken.items] == [("my card ->", "card")]
    assert taken.system is None


def test_a_file_of_nothing_is_refused_with_the_reasons(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "x.jsonl", CHATS[3:])
    with pytest.raises(InvalidExamples, match="line 1: does not end with the assistant"):
        take_over(source, "fine-tuning", tmp_path / "out")
    with pytest.raises(InvalidExamples, match="there is no file"):
        take_over(tmp_path / "none", "promptfoo", tmp_path / "out")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the fixtures of the hosted API are not here")
def test_the_hosted_apis_own_fixture_is_read() -> None:
    taken = read_fine_tuning((SHARED / "toy_chat_fine_tuning.jsonl").read_bytes())
    assert taken.items
    assert len(taken.items) + sum(p.startswith("line ") for p in taken.left_out) == 5


CONFIG = """
prompts: ['Classify: {{text}}']
providers: [openai:gpt-4o-mini]
defaultTest:
  vars: {tone: ''}
tests:
  - vars: {text: where is my card}
    assert: [{type: equals, value: card}, {type: latency, threshold: 5000}]
  - vars: {message: money back, expected: 'equals: refund'}
  - vars: {body: hi}
    assert: [{type: icontains, value: greeting}]
  - vars: {text: a, other: b}
    assert: [{type: equals, value: x}, {type: equals, value: y}]
  - vars: {first: a, second: b}
    assert: [{type: equals, value: x}]
  - file://more.yaml
  - vars: {text: file://long.txt}
    assert: [{type: equals, value: x}]
"""


def test_tests_of_promptfoo_are_items(tmp_path: Path) -> None:
    source = tmp_path / "promptfooconfig.yaml"
    source.write_text(CONFIG)
    said = take_over(source, "promptfoo", tmp_path / "out")
    items = read_items(tmp_path / "out" / "items.jsonl", "text")
    assert [(item.text, item.label) for item in items] == [
        ("where is my card", "card"),
        ("money back", "refund"),
        ("hi", "greeting"),
    ]
    assert any(line.startswith("left out: 1 prompt of the configuration: ") for line in said), said
    left_out = [line for line in said if line.startswith("left out: test ")]
    assert [line.split(":")[1].strip() for line in left_out] == [
        "test 4",
        "test 5",
        "test 6",
        "test 7",
    ]


def result(text: str, label: str, provider: str, **response: Any) -> dict[str, Any]:
    return {
        "vars": {"text": text},
        "testCase": {"vars": {"text": text}, "assert": [{"type": "equals", "value": label}]},
        "provider": {"id": provider, "label": ""},
        "prompt": {"label": "short", "raw": "Classify"},
        "latencyMs": 500,
        "response": response,
    }


def test_results_of_promptfoo_are_recorded_contenders_that_can_be_judged(tmp_path: Path) -> None:
    tokens = {"prompt": 20, "completion": 2, "total": 22}
    results = [
        result("where", "card", "openai:big", output="card", tokenUsage=tokens),
        result("back", "refund", "openai:big", output="I'm sorry, no"),
        result("where", "card", "openai:small", output={"label": "refund"}),
        result("back", "refund", "openai:small", error="timeout\nsecret trace"),
        {"nonsense": 1},
    ]
    for shape in ({"results": {"version": 3, "results": results}}, {"results": results}):
        taken = read_promptfoo(json.dumps(shape).encode(), "r.json")
        assert [item.id for item in taken.items] == ["test-1", "test-2"]
        assert list(taken.answers) == ["openai:big short", "openai:small short"]
    source = tmp_path / "results.json"
    source.write_text(json.dumps({"results": {"results": results}}))
    take_over(source, "promptfoo", tmp_path / "out")
    path = tmp_path / "out" / "experiment.toml"
    experiment = load_experiment(path).experiment
    recorded = [one for one in experiment.contenders if isinstance(one, RecordedContender)]
    assert [one.name for one in recorded] == ["openai-big short", "openai-small short"]
    # Without the model that is still to be trained, it runs as it stands.
    text = path.read_text().replace('candidate = "fine-tuned"', f'candidate = "{recorded[1].name}"')
    text = text.replace('name = "fine-tuned"\nkind = "bundle"\nmodel = "my-model"\n',
                        'name = "same"\nkind = "recorded"\npath = "'
                        f'{recorded[0].path}"\n')  # fmt: skip
    finished = run(text, tmp_path / "run")
    found = {(o.contender, o.item): o for o in finished.outcomes}
    first = found["openai-big short", "test-1"]
    assert (first.label, first.usage.prompt_tokens, first.seconds) == ("card", 20, 0.5)
    assert found["openai-big short", "test-2"].kind == "refused"
    assert found["openai-small short", "test-1"].label == "refund"
    assert found["openai-small short", "test-2"].error == "timeout"


def test_prompts_without_a_name_are_told_apart_by_their_number() -> None:
    rows = [
        result("where", "card", "openai:big", output="card")
        | {"prompt": {"label": f"Classify this text, please: {number} " * 3}, "promptIdx": number}
        for number in range(2)
    ]
    taken = read_promptfoo(json.dumps({"results": {"results": rows}}).encode(), "r.json")
    assert list(taken.answers) == ["openai:big prompt 1", "openai:big prompt 2"]


@pytest.mark.parametrize(
    "content", [b"a: [", b"7", b"\xff\xfe", b"tests: x", b"!!python/object:os.x"]
)
def test_what_is_no_file_of_promptfoo_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidExamples):
        read_promptfoo(content, "x.yaml")
