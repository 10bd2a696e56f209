"""A training file is judged line by line, and every problem of it is told."""

import json
import os
import resource
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hone.service.jobs import checking
from hone.service.jobs.checking import SMALL_BYTES
from hone.service.jobs.checking import check as check_elsewhere
from hone.service.jobs.errors import StoreFailed
from hone.service.jobs.validation import FileReport, check_file, check_start
from hone.training.generation.conversations import Conversation, parse_example


def pair(number: int, completion: str = "") -> dict[str, Any]:
    label = completion or ("yes" if number % 2 else "no")
    return {"prompt": f"text {number} ->", "completion": f" {label}"}


def chat(*messages: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": said} for role, said in messages], **more}


QUESTION = chat(("system", "be brief"), ("user", "hello?"), ("assistant", "yes"))
PREFERENCE = {
    "input": {"messages": [{"role": "user", "content": "hello?"}], "tools": []},
    "preferred_output": [{"role": "assistant", "content": "good"}],
    "non_preferred_output": [{"role": "assistant", "content": "bad"}],
}


def check(folder: Path, *lines: Any) -> FileReport:
    path = folder / "file"
    raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"\n".join(raw) + b"\n")
    return check_file(path)


def problems(folder: Path, *lines: Any) -> list[str]:
    return [str(problem) for problem in check(folder, *lines).problems]


def test_prompts_with_few_labels_are_for_a_classifier(tmp_path: Path) -> None:
    report = check(tmp_path, *(pair(i) for i in range(20)))
    assert (report.examples, report.form) == (20, "prompt/completion")
    assert report.is_classification
    assert report.labels == {"yes": 10, "no": 10}
    assert report.details is None
    assert report.failure("training_file") is None


def test_chats_with_few_labels_are_for_a_classifier_whatever_the_case(tmp_path: Path) -> None:
    lines = [chat(("user", f"{i}"), ("assistant", "Yes" if i % 2 else "yes ")) for i in range(9)]
    report = check(tmp_path, *lines, chat(("user", "x"), ("assistant", "no")))
    assert report.form == "chat"
    assert report.labels == {"yes": 9, "no": 1}


@pytest.mark.parametrize(
    "lines",
    [
        [pair(i, f"answer {i}") for i in range(30)],
        [pair(i, f"answer {i // 2}") for i in range(30)],
        [pair(i, "a long answer " * 10) for i in range(30)],
        [pair(i, f"two\nlines {i % 2}") for i in range(30)],
        [PREFERENCE] * 30,
        [chat(("user", "a"), ("assistant", "x"), tools=[])] * 29
        + [{"messages": [{"role": "user", "content": "a"},
                         {"role": "assistant", "tool_calls": [{"id": "1"}]}]}],
    ],
)  # fmt: skip
def test_open_ended_files_are_not(tmp_path: Path, lines: list[Any]) -> None:
    report = check(tmp_path, *lines)
    assert report.problem_count == 0
    assert not report.is_classification


def test_a_third_of_the_examples_is_the_most_that_can_be_labels(tmp_path: Path) -> None:
    assert check(tmp_path, *(pair(i, f"label {i % 10}") for i in range(30))).is_classification
    assert not check(tmp_path, *(pair(i, f"label {i % 11}") for i in range(30))).is_classification


def test_too_few_examples_are_refused_in_the_hosted_words(tmp_path: Path) -> None:
    report = check(tmp_path, *(pair(i) for i in range(3)))
    failure = report.failure("training_file")
    assert failure is not None
    assert failure.code == "invalid_n_examples"
    assert failure.message == ("Training file has 3 example(s), but must have at least 10 examples")
    assert failure.param == "training_file"
    assert report.failure("validation_file") is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"prompt": "a", ', "cannot be parsed. Error: line contains invalid json: it is"),
        (b'{"prompt": "\xff"}', "cannot be parsed. Error: line is not UTF-8"),
        (b'{"prompt": NaN}', "cannot be parsed"),
        (b'{"prompt": "\\ud800", "completion": "x"}', "cannot be parsed"),
        ([1, 2], "is not a JSON dictionary"),
        ({"text": "a", "label": "b"}, "is none of the known forms"),
        ({"prompt": "a"}, "has no 'completion'"),
        ({"completion": "a"}, "has no 'prompt'"),
        ({"prompt": "a", "completion": 1}, "has a 'completion' that is not a string"),
        ({"prompt": "a", "completion": " \n"}, "has an empty 'completion'"),
        ({"messages": []}, "has 'messages' that are not a list with messages"),
        ({"messages": "hello"}, "has 'messages' that are not a list with messages"),
        ({"messages": ["hello"]}, "has a message 1 that is not a dictionary"),
        (chat(("user", "a"), ("robot", "b")), "has a message 2 without one of the roles"),
        (chat(("user", "a")), "has no message of the assistant"),
        (chat(("assistant", "a")), "has no message of the user before"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
         "has no message of the assistant with the label"),
        (chat(("user", "a"), ("assistant", " ")), "has only empty messages of the assistant"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "prefers an answer to itself"),
        ({"prompt": "a", "chosen": "b"}, "has no 'rejected'"),
        ({"image": "https://a/b.jpg", "label": "cat"},
         "has a picture that is an address, and addresses are not fetched: a picture is sent as"),
        ({"image": None, "label": "cat"}, "has a picture that is null: a picture is sent as"),
        ({"image": "a/b.jpg", "label": "cat"}, "is no data URL, and paths are not read"),
        ({"image": "data:image/png;base64,!", "label": "cat"}, "is not valid base64"),
        ({"image": "data:image/png;base64,AAAA", "label": "cat"}, "no JPEG, PNG or WebP"),
        ({"image": "data:image/png;base64,AAAA"}, "has no 'label' with text"),
        ({"messages": [{"role": "assistant", "content": None}]}, "is not text"),
        ({"messages": [{"role": "user", "content": "a", "weight": 1}]}, "only the assistant's"),
        ({"messages": [{"role": "user", "content": "a"},
                       {"role": "assistant", "content": "a", "weight": 0.5}]}, "neither 0 nor 1"),
        ({"messages": [{"role": "user", "content": "a"},
                       {"role": "assistant", "content": "a", "weight": 0}]}, "has weight 0 on"),
        ({**QUESTION, "tools": {}}, "has 'tools' that are not a list"),
        ({**QUESTION, "parallel_tool_calls": 1}, "neither true nor false"),
        ({**PREFERENCE, "input": []}, "has an 'input' that is not a dictionary"),
        ({**PREFERENCE, "preferred_output": []}, "has no 'preferred_output' of exactly one"),
        ({**PREFERENCE, "preferred_output": [{"role": "user", "content": "a"}]}, "assistant's"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, line: Any, message: str) -> None:
    (found,) = problems(tmp_path, *[pair(1)] * 3, b"", line)
    assert found.startswith("Line 5 ")
    assert message in found


def test_good_lines_of_every_form_have_no_problem(tmp_path: Path) -> None:
    weighted = {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]},
                             {"role": "assistant", "content": "b", "weight": 0},
                             {"role": "user", "content": "c"},
                             {"role": "assistant", "content": "d", "weight": 1}]}  # fmt: skip
    assert problems(tmp_path, QUESTION, weighted) == []
    older = {"input": PREFERENCE["input"], "preferred_completion": PREFERENCE["preferred_output"],
             "non_preferred_completion": PREFERENCE["non_preferred_output"]}  # fmt: skip
    assert problems(tmp_path, PREFERENCE, older) == []
    assert check(tmp_path, b"\xef\xbb\xbf" + json.dumps(pair(1)).encode()).examples == 1


def test_forms_must_not_be_mixed(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, pair(1), QUESTION, pair(2))
    assert found == (
        "Line 2 is of the form chat, and the lines before it are of the form prompt/completion"
    )


def test_the_first_hundred_problems_are_listed_and_all_are_counted(tmp_path: Path) -> None:
    report = check(tmp_path, *[pair(1)] * 50, *[[]] * 250)
    assert [problem.line for problem in report.problems] == list(range(51, 151))
    assert report.problem_count == 250
    failure = report.failure("validation_file")
    assert failure is not None
    assert (failure.code, failure.param) == ("invalid_validation_file", "validation_file")
    assert "due to an invalid validation file. Invalid file format. 250 lines" in failure.message
    assert "Line 150 is not" in failure.message
    assert failure.message.endswith("… and 150 more.")


def test_an_empty_file_and_one_that_is_gone(tmp_path: Path) -> None:
    assert check(tmp_path, b"").details == "Invalid file format. The file has no examples."
    with pytest.raises(StoreFailed):
        check_file(tmp_path / "nowhere")


def test_what_is_no_json_lines_is_refused_at_once_in_the_hosted_words(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text('\n[{"prompt": "a"}]\n')
    assert check_start(path) == (
        "Expected file to have JSONL format, where every line is a JSON dictionary. Line 2 is not "
        'a dictionary (HINT: line starts with: "[{"prompt": "a"}]\n...").'
    )
    path.write_text('{"prompt": "a"}\nrubbish')
    assert check_start(path) is None


KEYS = st.sampled_from(
    ["messages", "prompt", "completion", "input", "preferred_output", "non_preferred_output",
     "role", "content", "weight", "tools", "text", "tool_calls"]
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["user", "assistant", ""])
VALUES = st.recursive(
    LEAVES, lambda v: st.lists(v, max_size=3) | st.dictionaries(KEYS, v, max_size=4), max_leaves=12
)


@given(line=st.dictionaries(KEYS, VALUES, max_size=5))
def test_no_shape_breaks_it(tmp_path_factory: pytest.TempPathFactory, line: Any) -> None:
    report = check(tmp_path_factory.getbasetemp(), line)
    assert report.examples + report.problem_count == 1


@given(content=st.binary(max_size=300))
def test_no_content_breaks_it(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content)
    report = check_file(path)
    assert report.examples + report.problem_count <= content.count(b"\n") + 1


MEASURE = """
import resource, sys
from pathlib import Path
from hone.service.jobs.validation import check_file
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
report = check_file(Path(sys.argv[1]))
print(report.examples, report.problem_count, report.is_classification)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_stays_flat(tmp_path: Path) -> None:
    assert resource.RUSAGE_SELF == 0
    path = tmp_path / "file"
    with path.open("w") as file:
        for number in range(150_000):
            file.write(json.dumps(pair(number, f"answer {number} " + "x" * 40)) + "\n")
        file.write('{"prompt": "' + "x" * 30_000_000 + "\n")
    said = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], capture_output=True, check=True, text=True
    ).stdout.split()
    assert said[:3] == ["150000", "1", "False"]
    assert int(said[3]) < 40 * 1024, "KiB"


def test_a_large_file_is_read_elsewhere_with_the_same_result(tmp_path: Path) -> None:
    path = tmp_path / "large.jsonl"
    good = [pair(i, f"label {i % 7}") for i in range(20_000)]
    lines = [*good, {"prompt": 1}, {"completion": "x"}]
    path.write_bytes(
        b"\xef\xbb\xbf" + b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    )
    assert path.stat().st_size > SMALL_BYTES
    report = check_elsewhere(path)
    assert report == check_file(path)
    assert report.problem_count == 2
    path.write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in good))
    assert check_elsewhere(path).labels == check_file(path).labels != {}


def test_a_file_that_is_not_there_is_told_alike(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed):
        check_elsewhere(tmp_path / "nowhere")


def killed_by(name: str, folder: Path) -> str:
    """Return a program that is killed at once."""
    program = folder / f"killed-by-{name}"
    program.write_text(f"#!/bin/sh\nkill -{name} $$\n")
    program.chmod(0o755)
    return str(program)


def test_a_file_whose_reading_is_killed_is_refused_and_not_read_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "small"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("cat/1.png", b"")
    monkeypatch.setattr(sys, "executable", killed_by("KILL", tmp_path))
    failure = check_elsewhere(archive).failure("training_file")
    assert failure is not None
    assert failure.code == "invalid_training_file"
    assert "takes more memory to look through than there is" in failure.message
    monkeypatch.setattr(sys, "executable", killed_by("TERM", tmp_path))
    with pytest.raises(StoreFailed):  # the service is stopped: the next one reads the file
        check_elsewhere(archive)


def test_a_reading_without_memory_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> FileReport:
        raise MemoryError

    monkeypatch.setattr(checking, "check_file", no_memory)
    monkeypatch.setattr(os, "nice", lambda _: 0)
    monkeypatch.setattr(sys, "argv", ["checking", str(tmp_path / "file"), "{}"])
    with pytest.raises(SystemExit, match="71"):
        checking.main()


def tool(name: object, kind: str = "function") -> dict[str, Any]:
    return {"type": kind, "function": {"name": name}}


def messages(*turns: Any) -> dict[str, Any]:
    last = {"role": "assistant", "content": "b"}
    return {"messages": [{"role": "user", "content": "a"}, *turns, last]}


def calling(name: str = "f", arguments: Any = "{}", **more: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    call = {"id": "c", "type": "function", "function": function} | more
    told = {"role": "tool", "content": "x", "tool_call_id": call["id"]}
    return {"tools": [tool("f")], **messages({"role": "assistant", "tool_calls": [call]}, told)}


@pytest.mark.parametrize(
    ("more", "said"),
    [({"functions": [{"name": "f"}]}, "has 'functions'"),
     ({"tools": [tool("f", "retrieval")]}, "not of the type 'function'"),
     ({"tools": ["f"]}, "not of the type 'function'"),
     ({"tools": [tool("a name")]}, "without a name"), ({"tools": [tool(3.5)]}, "without a name"),
     ({"tools": [tool("f"), tool("f")]}, "two tools of one name"),
     (calling(name="g"), "calls 'g', which is not among its 'tools'"),
     (calling(arguments="[]"), "arguments are no JSON object"),
     (calling(arguments={}), "arguments are no JSON object"),
     (calling(arguments='{"a":' * 65 + "1" + "}" * 65), "more than 64 deep"),
     (calling(id=""), "without an id"), (calling(id=7), "without an id"),
     (calling(type="custom"), "not of the type 'function'"),
     (messages({"role": "user", "content": "a", "tool_calls": [1]}), "not an assistant's"),
     (messages({"role": "assistant", "tool_calls": 3}), "'tool_calls' that are not a list"),
     (messages({"role": "assistant", "function_call": {"name": "f"}}), "has a 'function_call'"),
     (messages({"role": "tool", "content": "a", "tool_call_id": "c"}), "no call before it"),
     (messages({"role": "tool", "content": "a", "tool_call_id": [1]}), "no call before it")],
)  # fmt: skip
def test_tools_that_the_preparation_refuses_are_refused_by_line(
    tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    line = {**QUESTION, **more}
    failure = check(tmp_path, line).tool_problem("training_file")
    assert failure is not None
    assert "Line 1 " in failure.message
    assert said in failure.message
    with pytest.raises(ValueError, match=said):
        parse_example(line)


def test_tools_that_are_only_named_are_no_problem(tmp_path: Path) -> None:
    line = {**QUESTION, "tools": [tool("f"), tool("g")]}
    assert check(tmp_path, line).tool_problem("training_file") is None
    assert parse_example(line)


def test_calls_and_what_tools_answered_are_no_problem(tmp_path: Path) -> None:
    weighted = calling()
    weighted["messages"][1]["weight"] = 0
    lines = [calling(), weighted, {**calling(), "parallel_tool_calls": False}]
    report = check(tmp_path, *lines, QUESTION)
    assert (report.details, report.tool_problem("training_file")) == (None, None)
    assert (report.tool_lines, report.tool_line_count) == ((1, 2, 3), 3)
    for line in lines:
        assert parse_example(line)


def test_a_call_is_no_label(tmp_path: Path) -> None:
    line = calling()
    del line["messages"][2:]
    line["messages"][1]["content"] = "yes"
    assert not check(tmp_path, *[line] * 12).is_classification


@pytest.mark.parametrize(
    "place",
    ["tools", "functions", "call", "older call", "answer", "wanted", "unwanted"],
)
def test_tools_in_a_preference_are_refused_by_line(tmp_path: Path, place: str) -> None:
    line: dict[str, Any] = json.loads(json.dumps(PREFERENCE))
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    match place:
        case "tools" | "functions":
            line["input"][place] = [tool("f")]
        case "call":
            line["input"]["messages"].append({"role": "assistant", "tool_calls": calls})
        case "older call":
            line["input"]["messages"].append({"role": "assistant", "function_call": {"name": "f"}})
        case "answer":
            line["input"]["messages"].append({"role": "tool", "content": "x"})
        case "wanted":
            line["preferred_output"][0]["tool_calls"] = calls
        case _:
            line["non_preferred_output"][0]["tool_calls"] = calls
    failure = check(tmp_path, PREFERENCE, line).tool_problem("training_file")
    assert failure is not None
    assert "Line 2 has tools in a preference" in failure.message
    with pytest.raises(ValueError, match=r"has|calls"):
        parse_example(line)


def test_a_plain_preference_has_no_tools_whatever_else_it_has(tmp_path: Path) -> None:
    line = {"prompt": "a", "chosen": "b", "rejected": "c", "input": "d"}
    assert check(tmp_path, line).tool_problem("training_file") is None


TOOL_VALUES = st.recursive(
    LEAVES | st.sampled_from(["f", "c", "function", "{}", "tool"]),
    lambda v: (
        st.lists(v, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "type", "function", "name", "arguments", "parameters"]),
            v,
            max_size=4,
        )
    ),
    max_leaves=10,
)
TURNS = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool"]), "content": st.just("a")},
    optional={"tool_calls": TOOL_VALUES, "tool_call_id": TOOL_VALUES, "weight": LEAVES},
)


@given(turns=st.lists(TURNS, max_size=4), tools=TOOL_VALUES)
def test_what_is_admitted_with_tools_can_be_trained_on(
    tmp_path_factory: pytest.TempPathFactory, turns: list[Any], tools: Any
) -> None:
    line = {**messages(*turns), "tools": tools}
    report = check(tmp_path_factory.getbasetemp(), line)
    if report.problem_count or report.tool_problem("training_file"):
        return
    assert isinstance(parse_example(line), Conversation)
