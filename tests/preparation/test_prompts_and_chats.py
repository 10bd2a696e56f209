"""Prompts with completions, and chats, as text and label."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hone.models.errors import InvalidExamples
from hone.models.prompt_form import PromptForm, Turn
from hone.training.loading import read_prompt_form
from tests.preparation.running import Outcome, run, write_lines

INSTRUCTION = "Classify the customer's message as bug or praise.\nMessage:\n"
SYSTEM = "You sort messages into bug and praise."


def run_prompts(
    tmp_path: Path,
    prompt: str,
    completion: str,
    labels: Sequence[str] = ("bug", "praise"),
    **options: Any,
) -> Outcome:
    rows = [
        {
            "prompt": prompt.format(f"words of text {n}"),
            "completion": completion.format(labels[n % len(labels)]),
        }
        for n in range(40)
    ]
    return run(write_lines(tmp_path / "rows.jsonl", rows), **options)


@pytest.mark.parametrize(
    "separator",
    ["\n\n###\n\n", " ->", "->", " =>", "\n\n===>\n\n", "\n\n### =>\n\n", "\n\n---\n\n", " <<>>"],
)
@pytest.mark.parametrize("completion", [" {}", " {}\n", " {} END", " {}###", "{}."])
def test_separators_and_stops_are_taken_off(
    tmp_path: Path, separator: str, completion: str
) -> None:
    outcome = run_prompts(tmp_path, "{}" + separator, completion)
    assert {row.label for row in outcome.rows} == {"bug", "praise"}
    assert all(row.text.startswith("words of text ") for row in outcome.rows)
    assert all(row.text[-1].isdigit() for row in outcome.rows)
    assert "separators" in outcome.codes
    assert outcome.report.form == "prompt/completion"


@pytest.mark.parametrize("ending", ["?", ".", "!", " :)", "。", '"'])
def test_the_ends_of_sentences_are_no_separators(tmp_path: Path, ending: str) -> None:
    outcome = run_prompts(tmp_path, "{}" + ending, " {}")
    assert all(row.text.endswith(ending) for row in outcome.rows)


@pytest.mark.parametrize("separator", [" ->", " <<>>"])
def test_a_separator_after_a_question_leaves_the_question_mark(
    tmp_path: Path, separator: str
) -> None:
    outcome = run_prompts(tmp_path, "{}?" + separator, " {}")
    assert all(row.text.endswith("?") for row in outcome.rows)


def test_one_prompt_without_the_separator_does_not_hide_it(tmp_path: Path) -> None:
    rows = [{"prompt": f"text {n} ->", "completion": f" {'ab'[n % 2]} END"} for n in range(30)]
    rows[5] = {"prompt": "text 5", "completion": " b"}
    outcome = run(write_lines(tmp_path / "rows.jsonl", rows))
    assert {row.label for row in outcome.rows} == {"a", "b"}
    assert not any("->" in row.text for row in outcome.rows)
    assert outcome.problem("no_separator").count == 1


@pytest.mark.parametrize(
    "labels", [("[yes]", "[no]"), ("10%", "20%"), ("(a)", "(b)"), ("C+", "A+")]
)
def test_signs_that_belong_to_labels_stay(tmp_path: Path, labels: Sequence[str]) -> None:
    outcome = run_prompts(tmp_path, "{}\n\n###\n\n", " {}\n", labels)
    assert {row.label for row in outcome.rows} == set(labels)


def test_an_instruction_before_every_prompt_is_recorded(tmp_path: Path) -> None:
    outcome = run_prompts(tmp_path, INSTRUCTION + "{}\n\n###\n\n", " {}")
    shared = outcome.report.shared_instruction
    assert shared is not None
    assert shared.text == INSTRUCTION.strip()
    assert outcome.report.shared_instruction_tokens == 9
    assert all(row.text.startswith("words of text") for row in outcome.rows)
    report = json.loads((outcome.report.folder / "report.json").read_text())
    assert report["shared_instruction"]["tokens"] == 9


def test_an_instruction_that_one_prompt_lacks_is_no_instruction(tmp_path: Path) -> None:
    rows = [{"prompt": f"{INSTRUCTION}{n} x", "completion": "ab"[n % 2]} for n in range(30)]
    rows[3]["prompt"] = "quite different"
    outcome = run(write_lines(tmp_path / "rows.jsonl", rows))
    assert outcome.report.shared_instruction is None
    assert sum(row.text.startswith(INSTRUCTION) for row in outcome.rows) == 29


def test_numbers_may_be_completions(tmp_path: Path) -> None:
    rows = [{"prompt": f"text {n}", "completion": n % 2 + 0.0} for n in range(20)]
    outcome = run(write_lines(tmp_path / "rows.jsonl", rows))
    assert {row.label for row in outcome.rows} == {"0", "1"}


def test_prompts_in_a_table_and_named_columns(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    lines = [f"text {n} ->, {'ab'[n % 2]} END,note {n % 3}" for n in range(30)]
    path.write_text("\n".join(["Prompt,Completion,Note", *lines]))
    assert run(path).report.form == "prompt/completion"
    named = run(path, label_column="note", text_column="prompt")
    assert named.report.form == "text/label"
    assert {row.label for row in named.rows} == {"note 0", "note 1", "note 2"}
    assert all(row.text.endswith("->") for row in named.rows)


def message(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def chat(n: int, *before: dict[str, Any]) -> list[dict[str, Any]]:
    return [*before, message("user", f"text {n}"), message("assistant", f" {'ab'[n % 2]}\n")]


def run_chats(tmp_path: Path, chats: Sequence[object]) -> Outcome:
    return run(write_lines(tmp_path / "chats.jsonl", [{"messages": one} for one in chats]))


def test_a_chat_of_one_turn_is_its_content(tmp_path: Path) -> None:
    outcome = run_chats(tmp_path, [chat(n, message("system", SYSTEM)) for n in range(20)])
    assert outcome.pairs == sorted((f"text {n}", "ab"[n % 2]) for n in range(20))
    assert outcome.report.form == "chat"
    shared = outcome.report.shared_instruction
    assert shared is not None
    assert shared.text == SYSTEM
    assert outcome.report.shared_instruction_tokens == 7
    assert shared.messages == ({"role": "system", "content": SYSTEM},)


def test_examples_in_the_prompt_belong_to_the_instruction(tmp_path: Path) -> None:
    shots = [message("user", "it broke"), message("assistant", "a")]
    chats = [chat(n, message("system", SYSTEM), *shots) for n in range(20)]
    outcome = run_chats(tmp_path, chats)
    assert outcome.pairs == sorted((f"text {n}", "ab"[n % 2]) for n in range(20))
    shared = outcome.report.shared_instruction
    assert shared is not None
    assert [m["role"] for m in shared.messages] == ["system", "user", "assistant"]
    assert "user: it broke\nassistant: a" in shared.text


def test_several_turns_are_joined_with_their_roles(tmp_path: Path) -> None:
    chats = [
        chat(n, message("user", f"first {n}"), message("assistant", "I see")) for n in range(20)
    ]
    outcome = run_chats(tmp_path, chats)
    assert outcome.rows[0].text.startswith("user: first ")
    assert outcome.rows[0].text.count("\n") == 2
    assert "\nassistant: I see\nuser: text " in outcome.rows[0].text
    assert outcome.report.shared_instruction is None


def test_a_greeting_that_all_chats_begin_with_is_no_instruction(tmp_path: Path) -> None:
    chats = [
        chat(n, message("user", "hello"), message("assistant", f"hello, caller {n}"))
        for n in range(20)
    ]
    outcome = run_chats(tmp_path, chats)
    assert outcome.report.shared_instruction is None
    assert all(row.text.startswith("user: hello\n") for row in outcome.rows)


def test_content_in_parts_weights_and_tables_of_chats(tmp_path: Path) -> None:
    chats = [
        [
            message("user", [{"type": "text", "text": "te"}, {"type": "text", "text": f"xt {n}"}]),
            message("assistant", "ab"[n % 2]),
            message("user", "thanks"),
            message("assistant", "not to be learned", weight=0),
        ]
        for n in range(20)
    ]
    assert run_chats(tmp_path, chats).pairs == sorted((f"text {n}", "ab"[n % 2]) for n in range(20))
    table = [{"messages": json.dumps(one)} for one in chats]
    assert run(write_lines(tmp_path / "table.jsonl", table)).report.kept == 20


def test_unusable_chats_are_reported_each_with_its_reason(tmp_path: Path) -> None:
    user, answer = message("user", "hello"), message("assistant", "a")
    bad: list[Any] = [
        [message("system", SYSTEM), answer],
        [message("system", SYSTEM), user],
        [],
        "no list",
        [{"content": "no role"}, answer],
        [user, message("assistant", None, tool_calls=[{"id": 1}])],
        [message("user", [{"type": "image_url", "image_url": "x"}]), answer],
        [message("user", 3), answer],
        [user, message("assistant", "a", weight=0)],
        [message("user", " "), answer],
    ]
    outcome = run_chats(tmp_path, [*bad, *(chat(n) for n in range(20))])
    problem = outcome.problem("unreadable")
    assert problem.count == len(bad)
    assert [example["line"] for example in problem.examples] == list(range(1, 11))
    reasons = [str(example["reason"]) for example in problem.examples]
    assert "no user turn" in reasons[0]
    assert "no assistant turn" in reasons[1]
    assert "no list of messages" in reasons[3]
    assert "tool call" in reasons[5]
    assert "image" in reasons[6]


def test_system_messages_that_differ_are_told(tmp_path: Path) -> None:
    outcome = run_chats(tmp_path, [chat(n, message("system", f"Task {n}")) for n in range(20)])
    assert outcome.problem("differing_system_messages").count == 20
    assert outcome.report.shared_instruction is None


def test_generation_is_refused_with_counts(tmp_path: Path) -> None:
    chats = [[message("user", f"q {n}"), message("assistant", f"reply {n}")] for n in range(20)]
    with pytest.raises(InvalidExamples, match=r"20 different texts in 20 rows.*generation"):
        run_chats(tmp_path, chats)
    long = [[message("user", f"q {n}"), message("assistant", "ab"[n % 2] * 120)] for n in range(20)]
    with pytest.raises(InvalidExamples, match="generation"):
        run_chats(tmp_path, long)


def test_one_overlong_label_does_not_make_it_generation(tmp_path: Path) -> None:
    rows: list[object] = [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(30)]
    rows.append({"text": "odd", "label": "one\ntwo"})
    outcome = run(write_lines(tmp_path / "rows.jsonl", rows))
    assert outcome.problem("unfit_label").count == 1
    assert outcome.report.dropped == {"unfit_label": 1}


def test_a_given_test_split_is_read_like_the_file(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"text {n}\n\n###\n\n", "completion": f" {'ab'[n % 2]} END"} for n in range(30)
    ]
    test = [
        {"prompt": f"new {n}\n\n###\n\n", "completion": f" {'ab'[n % 2]} END"} for n in range(2)
    ]
    write_lines(tmp_path / "test.jsonl", test)
    outcome = run(write_lines(tmp_path / "rows.jsonl", rows), test=tmp_path / "test.jsonl")
    assert [(row.text, row.label) for row in outcome.splits["test"]] == [
        ("new 0", "a"),
        ("new 1", "b"),
    ]


def prepared_form(outcome: Outcome) -> PromptForm | None:
    """Return the form in the report, after seeing that its texts are bare to serving as well."""
    form = read_prompt_form(outcome.report.folder)
    assert form == outcome.report.prompt_form
    assert all(outcome.report.prompt_form.bare_text(row.text) == row.text for row in outcome.rows)
    return form


def test_what_prompts_share_is_told_to_serving(tmp_path: Path) -> None:
    outcome = run_prompts(tmp_path, INSTRUCTION + "{}\n\n###\n\n", " {} END")
    assert prepared_form(outcome) == PromptForm(
        kind="prompt/completion",
        instruction=INSTRUCTION,
        separator="\n\n###",
        leading_space=True,
        stop=" END",
    )


def test_completions_without_a_space_are_told_to_serving(tmp_path: Path) -> None:
    form = prepared_form(run_prompts(tmp_path, "{} ->", "{}"))
    assert form == PromptForm(kind="prompt/completion", separator=" ->")


def test_what_chats_share_is_told_to_serving(tmp_path: Path) -> None:
    shots = [message("user", "it broke"), message("assistant", "a")]
    chats = [chat(n, message("system", SYSTEM), *shots) for n in range(20)]
    opening = (Turn("user", "it broke"), Turn("assistant", "a"))
    form = prepared_form(run_chats(tmp_path, chats))
    assert form == PromptForm(kind="chat", system=SYSTEM, opening=opening)


def test_texts_and_labels_share_nothing(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(20)]
    assert prepared_form(run(write_lines(tmp_path / "rows.jsonl", rows))) == PromptForm()


def test_a_folder_without_a_form_has_none_and_a_broken_report_is_refused(tmp_path: Path) -> None:
    assert read_prompt_form(tmp_path) is None
    report = tmp_path / "report.json"
    report.write_text('{"kind": "hone-preparation"}')
    assert read_prompt_form(tmp_path) is None
    for content in ("", "[]", '{"prompt_form": {"kind": "poem"}}', '{"prompt_form": 3}'):
        report.write_text(content)
        with pytest.raises(InvalidExamples, match="prepare again"):
            read_prompt_form(tmp_path)
