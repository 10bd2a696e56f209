"""`hone prepare --task text-generation`: completions survive, and splits share no prompt."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from hone.models.errors import HoneError, InvalidExamples
from hone.models.examples import SPLITS
from hone.training.generation.conversations import as_json, parse_example, read_conversations
from hone.training.preparation.command import prepare_command
from hone.training.preparation.conversational import ConversationReport, prepare_conversations
from hone.training.preparation.prepare import PrepareOptions
from hone.training.preparation.problems import Answer
from tests.preparation.running import write_lines
from tests.training.generation.tiny import tiny_base

app = typer.Typer()
app.command()(prepare_command)


def run(file: Path, answer: Answer = True, **options: Any) -> ConversationReport:
    out = options.pop("out", file.parent / "out")
    return prepare_conversations(PrepareOptions(file=file, out=out, **options), lambda _: answer)


def written(folder: Path) -> list[dict[str, Any]]:
    rows = [row for split in SPLITS for row in read_conversations(folder / f"{split}.jsonl")]
    return [as_json(row) for row in rows]


def prompts(count: int, same: int = 1) -> list[dict[str, str]]:
    return [
        {"prompt": f"question {n} ->", "completion": f"  An answer,\nnumber {n}.{m} END"}
        for n in range(count)
        for m in range(same)
    ]


def test_open_ended_completions_are_written_to_the_letter(tmp_path: Path) -> None:
    rows = prompts(40)
    report = run(write_lines(tmp_path / "rows.jsonl", rows))
    assert report.form == "prompt/completion"
    assert (report.read, report.kept, dict(report.dropped)) == (40, 40, {})
    assert sorted(written(report.folder), key=str) == sorted(rows, key=str)


def test_chats_keep_system_messages_and_weights(tmp_path: Path) -> None:
    chat: list[dict[str, Any]] = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "hello {}"},
        {"role": "assistant", "content": "hi", "weight": 0},
        {"role": "user", "content": "and?"},
        {"role": "assistant", "content": "well"},
    ]
    rows = [
        {"messages": [{**m, "content": m["content"].format(n)} for m in chat]} for n in range(30)
    ]
    report = run(write_lines(tmp_path / "chats.jsonl", rows))
    assert report.form == "chat"
    found = written(report.folder)
    assert len(found) == 30
    assert found[0]["messages"][0] == chat[0]
    assert found[0]["messages"][2]["weight"] == 0


def tool_chats(count: int) -> list[dict[str, Any]]:
    call = {"id": "a", "type": "function", "function": {"name": "look", "arguments": '{"at":1}'}}
    return [
        {
            "messages": [
                {"role": "user", "content": f"what is {n}"},
                {"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "content": "4", "tool_call_id": "a"},
                {"role": "assistant", "content": "four"},
            ],
            "tools": [{"type": "function", "function": {"name": "look"}}],
        }
        for n in range(count)
    ]


def test_tools_and_their_calls_are_written_as_they_were_read(tmp_path: Path) -> None:
    rows = tool_chats(30)
    bad = [{**rows[0], "tools": []}, {**rows[1], "functions": [{"name": "f"}]}]
    report = run(write_lines(tmp_path / "rows.jsonl", [*rows, *bad]))
    assert sorted(written(report.folder), key=str) == sorted(rows, key=str)
    (problem,) = [p for p in report.problems if p.code == "unreadable"]
    reasons = [(example["line"], str(example["reason"])) for example in problem.examples]
    assert [line for line, _ in reasons] == [31, 32]
    assert "calls 'look', which is not among its 'tools'" in reasons[0][1]
    assert "'functions'" in reasons[1][1]


def test_an_instruction_that_all_share_is_kept_and_told(tmp_path: Path) -> None:
    system = {"role": "system", "content": "Answer every question about sums in a single word."}
    rows = [{**row, "messages": [system, *row["messages"]]} for row in tool_chats(30)]
    chats = run(write_lines(tmp_path / "chats.jsonl", rows))
    assert all(row["messages"][0] == system for row in written(chats.folder))
    begun = "Answer the question that follows in a single word.\n"
    asked = [{**row, "prompt": begun + row["prompt"]} for row in prompts(30)]
    told = run(write_lines(tmp_path / "prompts.jsonl", asked), out=tmp_path / "prompted")
    for report in (chats, told):
        (advice,) = [p for p in report.problems if p.code == "shared_instruction"]
        assert advice.severity == "advice"
        assert "baseline.instruction" in advice.message
    assert all(row["prompt"].startswith(begun) for row in written(told.folder))
    plain = run(write_lines(tmp_path / "plain.jsonl", prompts(30)), out=tmp_path / "plain")
    assert "shared_instruction" not in {p.code for p in plain.problems}


def test_two_columns_of_a_table_are_prompt_and_completion(tmp_path: Path) -> None:
    lines = "".join(f"mr{n},say {n}\n" for n in range(30))
    (tmp_path / "rows.csv").write_text("mr,ref\n" + lines, encoding="utf-8")
    report = run(tmp_path / "rows.csv", text_column="mr", label_column="ref")
    assert {"prompt": "mr3", "completion": "say 3"} in written(report.folder)


def test_rows_that_cannot_be_used_are_counted_with_their_place_and_reason(tmp_path: Path) -> None:
    rows: list[object] = [*prompts(30), {"prompt": "x", "completion": ""}, 3]
    report = run(write_lines(tmp_path / "rows.jsonl", rows))
    (problem,) = [p for p in report.problems if p.code == "unreadable"]
    assert (problem.count, report.dropped["unreadable"]) == (2, 2)
    assert problem.examples[0]["line"] == 31
    assert "'completion' is missing" in str(problem.examples[0]["reason"])


def test_repeats_are_left_out_after_a_yes_and_kept_after_a_no(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", [*prompts(30), *prompts(5)])
    assert run(file, out=tmp_path / "yes").kept == 30
    assert run(file, answer=False, out=tmp_path / "no").kept == 35


def test_with_nobody_to_ask_nothing_is_written(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", [*prompts(30), *prompts(5)])
    report = run(file, answer=None)
    assert not report.written
    assert not report.folder.exists()


def test_what_file_asks_too_leaves_a_given_split(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", prompts(30))
    asked = [{"prompt": f"Question {n} ->", "completion": "x"} for n in (3, 77)]
    report = run(file, test=write_lines(tmp_path / "test.jsonl", asked))
    assert report.dropped["leaks"] == 1
    test = read_conversations(report.folder / "test.jsonl")
    assert [as_json(row)["prompt"] for row in test] == ["Question 77 ->"]
    assert report.splits["train"].rows + report.splits["validation"].rows == 30


def test_preferences_do_not_stand_beside_completions(tmp_path: Path) -> None:
    rows = [*prompts(20), {"prompt": "a", "chosen": "b", "rejected": "c"}]
    with pytest.raises(InvalidExamples, match="preferences stand beside"):
        run(write_lines(tmp_path / "rows.jsonl", rows))


@given(
    counts=st.lists(st.integers(1, 4), min_size=20, max_size=60),
    seed=st.integers(0, 5),
)
def test_no_prompt_is_in_two_splits_and_no_row_is_lost(
    counts: Sequence[int], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("splits")
    rows = [
        {"prompt": f"Question {n}?" if m % 2 else f"question {n}", "completion": f"{n} {m}"}
        for n, count in enumerate(counts)
        for m in range(count)
    ]
    report = run(write_lines(folder / "rows.jsonl", rows), seed=seed)
    places: dict[str, set[str]] = {}
    for split in SPLITS:
        for row in read_conversations(report.folder / f"{split}.jsonl"):
            number = str(as_json(row)["completion"]).split()[0]
            places.setdefault(number, set()).add(split)
    assert all(len(splits) == 1 for splits in places.values())
    assert report.kept == len(rows)


def test_every_form_is_read_back_as_it_was_written() -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "a", "completion": " b"},
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {
            "input": {"messages": [{"role": "user", "content": "q"}]},
            "preferred_output": [{"role": "assistant", "content": "a"}],
            "non_preferred_output": [{"role": "assistant", "content": "b"}],
        },
    ]
    assert [as_json(parse_example(row)) for row in rows] == rows


def test_the_command_shows_what_is_trained_on(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", prompts(30))
    words = [str(file), "--task", "text-generation", "--yes"]
    words += ["--out", str(tmp_path / "out"), "--show", "2", "--base", "scratch:llama-1m"]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    assert "30 rows read, 30 kept as prompt/completion: train 24" in found.output
    assert "example 2: " in found.output
    line = next(line for line in found.output.splitlines() if line.startswith("<s>"))
    prompt, answer = line.split("[", maxsplit=1)
    assert prompt.replace("|", "").startswith("<s>question ")
    assert answer.endswith("|</s>]")
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["task"] == "text-generation"
    assert report["splits"]["train"]["rows"] == 24


def prepared(tmp_path: Path, rows: Sequence[dict[str, Any]], base: str, *more: str) -> Any:
    file = write_lines(tmp_path / "rows.jsonl", rows)
    words = [str(file), "--task", "text-generation", "--yes", "--base", base]
    found = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out"), *more])
    assert not (tmp_path / "out").exists(), "nothing is written for a base that cannot be used"
    assert isinstance(found.exception, HoneError)
    return str(found.exception)


@pytest.mark.parametrize("more", [(), ("--show", "3")])
@pytest.mark.parametrize("base", ["/nonexistent", "minilm", "scratch:convnet", "scratch:llama-2m"])
def test_a_base_that_is_none_is_refused_before_anything_is_written(
    tmp_path: Path, base: str, more: Sequence[str]
) -> None:
    message = prepared(tmp_path, prompts(30), base, *more)
    assert f"there is no base {base!r}" in message
    assert "scratch:llama-1m" in message
    assert "ada" not in message


def test_examples_that_a_base_cannot_read_are_named_before_anything_is_written(
    tmp_path: Path,
) -> None:
    tiny_base(tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").unlink()
    chat = {
        "input": {"messages": [{"role": "user", "content": "q"}]},
        "preferred_output": [{"role": "assistant", "content": "a"}],
        "non_preferred_output": [{"role": "assistant", "content": "b"}],
    }
    plain = [{"prompt": f"Q{n} ->", "chosen": f"good {n}", "rejected": "bad"} for n in range(30)]
    shares = ("--show", "1", "--validation-share", "0.05", "--test-share", "0.05", "--seed", "1")
    message = prepared(tmp_path, [*plain[:7], chat, *plain[7:]], str(tmp_path / "base"), *shares)
    assert "no chat template, and line 8 has a chat" in message
