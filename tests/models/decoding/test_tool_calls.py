"""Tool calls read back from what a model writes: whole, in pieces, broken, and none at all."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import _compile_jinja_template

from hone.models.decoding.templates import ChatTemplate
from hone.models.decoding.tool_calls import CallPiece, Said, ToolCallReader, ToolForm
from hone.models.decoding.tool_forms import find_tool_form
from tests.models.decoding.chat_templates import HERMES, LLAMA, MISTRAL

NAMES = {"f", "look_up"}
FORMS: tuple[ToolForm, ...] = ("hermes", "llama", "mistral")


def call(name: str, arguments: object, key: str = "arguments") -> str:
    return json.dumps({"name": name, key: arguments})


def hermes(*calls: str) -> str:
    return "\n".join(f"<tool_call>\n{one}\n</tool_call>" for one in calls)


def read(
    form: ToolForm, pieces: Sequence[str], *, sure: bool = False
) -> tuple[str, list[tuple[str, str]]]:
    """Return the words and the calls of a text that comes in pieces."""
    reader = ToolCallReader(form, NAMES, sure=sure)
    found = [part for piece in pieces for part in reader.push(piece)] + reader.finish()
    calls: list[list[str]] = []
    for part in found:
        if isinstance(part, CallPiece):
            if part.name is not None:
                assert part.number == len(calls)
                assert not part.arguments
                calls.append([part.name, ""])
            calls[part.number][1] += part.arguments
    assert reader.calls == len(calls)
    words = "".join(part.text for part in found if isinstance(part, Said))
    return words, [(name, arguments) for name, arguments in calls]


A, B = call("f", {"a": 1}), call("look_up", {"q": 'x "{[\\ </tool_call> y'})
CALLS = [("f", '{"a":1}'), ("look_up", '{"q":"x \\"{[\\\\ </tool_call> y"}')]


@pytest.mark.parametrize(
    ("form", "text", "words"),
    [
        ("hermes", hermes(A, B), ""),
        ("hermes", f"Let me see.\n\n{hermes(A, B)}\n", "Let me see."),
        ("hermes", f"<think>\n\n</think>\n\n{hermes(A)} {hermes(B)}", "<think>\n\n</think>"),
        ("hermes", f"{hermes(A)}\n<tool_call>{B}", ""),
        ("mistral", f"[TOOL_CALLS] [{A}, {B}]", ""),
        ("mistral", f"Well [TOOL_CALLS][{A},{B}] ", "Well"),
        ("llama", f"{call('f', {'a': 1}, 'parameters')}; {B}", ""),
        ("llama", f"\n<|python_tag|>{A}\n{B}", ""),
    ],
)
def test_calls_are_read_whole_and_letter_by_letter(form: ToolForm, text: str, words: str) -> None:
    assert read(form, [text]) == (words, CALLS)
    assert read(form, list(text)) == (words, CALLS)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("hermes", "<tool_call>\n{nonsense}\n</tool_call>"),
        ("hermes", f"<tool_call>\n{A[:-1]}"),
        ("hermes", "<tool_call>"),
        ("hermes", "  <tool_call>soon</tool_call> a < b "),
        ("hermes", hermes(call("unknown", {}))),
        ("hermes", hermes(call("f", [1]))),
        ("hermes", hermes(call("f", "not json"))),
        ("hermes", hermes('{"name": "f"}')),
        ("hermes", hermes('{"name": ["f"], "arguments": {}}')),
        ("hermes", hermes('{"name": "f", "arguments": {"a": NaN}}')),
        ("hermes", hermes('{"name": "f", "arguments": ' + '{"a":' * 2000 + "1" + "}" * 2001)),
        ("llama", "{not a call}"),
        ("llama", '{"answer": 42}'),
        ("llama", f"I would call {A}"),
        ("llama", "  "),
        ("llama", "<|python"),
        ("mistral", f"[TOOL_CALLS] {A[:-4]}"),
        ("mistral", "[TOOL_CALLS"),
    ],
)
def test_what_is_no_call_stays_text_to_the_letter(form: ToolForm, text: str) -> None:
    assert read(form, [text]) == (text, [])
    assert read(form, list(text)) == (text, [])


def test_a_call_before_and_after_a_broken_one_counts() -> None:
    broken = '<tool_call>\n{"name": "f", "arguments": oh}\n</tool_call>'
    words, calls = read("hermes", list(f"{hermes(A)}\n{broken}\n{hermes(B)}"))
    assert calls == CALLS
    assert words.strip() == broken


def test_quoted_arguments_are_arguments() -> None:
    assert read("hermes", [hermes(call("f", '{"a": 1}'))]) == ("", CALLS[:1])


SIGNS = ["<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "<", "\\", "\n", "é😀"]
MARKS = st.sampled_from([*SIGNS, *'[]{}" ;,x', A, B, call("f", {}, "parameters")])


@given(form=st.sampled_from(FORMS), parts=st.lists(MARKS, max_size=12), data=st.data())
def test_the_pieces_in_which_a_text_comes_do_not_matter(
    form: ToolForm, parts: list[str], data: st.DataObject
) -> None:
    text = "".join(parts)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = read(form, [text])
    assert read(form, pieces) == whole
    assert read(form, list(text)) == whole
    words, calls = whole
    if not calls:
        assert words == text
    for _, arguments in calls:
        assert isinstance(json.loads(arguments), dict)


@given(arguments=st.dictionaries(st.text(), st.none() | st.text() | st.lists(st.integers())))
@pytest.mark.parametrize("form", FORMS)
def test_a_call_that_is_sure_is_told_as_it_comes(
    form: ToolForm, arguments: dict[str, object]
) -> None:
    key = "parameters" if form == "llama" else "arguments"
    written = json.dumps(arguments, ensure_ascii=False)
    one = f'{{"name": "f", "{key}": {written}}}'
    text = {"hermes": hermes(one), "llama": one, "mistral": f"[TOOL_CALLS] [{one}]"}[form]
    assert read(form, list(text), sure=True) == ("", [("f", written)])
    begun = text[: text.index(written) + max(1, len(written) // 2)]
    words, calls = read(form, list(begun), sure=True)
    assert words == ""
    assert calls[0][0] == "f"
    assert calls[0][1]
    assert written.startswith(calls[0][1])


@pytest.mark.parametrize(
    ("source", "form"), [(HERMES, "hermes"), (LLAMA, "llama"), (MISTRAL, "mistral")]
)
def test_the_form_is_found_by_the_template_alone(source: str, form: ToolForm) -> None:
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    assert find_tool_form(ChatTemplate(source, special)) == form


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}{{ m.content }}{% endfor %}",
        HERMES.replace("tools", "gadgets"),
        HERMES.replace("tool_calls", "errands"),
        HERMES.replace('"arguments": ', '"with": '),
        "{% if messages[-1].role == 'tool' %}{{ raise_exception('no') }}{% endif %}{{ tools }}",
        "{{ tools | tojson }}{{ 1 / 0 }}",
    ],
)
def test_a_template_that_does_not_know_all_of_it_knows_no_tools(source: str) -> None:
    assert find_tool_form(ChatTemplate(source)) is None


@pytest.mark.parametrize("source", [HERMES, LLAMA, MISTRAL])
@pytest.mark.parametrize("follows", [True, False])
def test_the_text_is_the_one_that_training_writes(source: str, *, follows: bool) -> None:
    tool = {
        "type": "function",
        "function": {
            "name": "f",
            "description": "Größe & <b>",
            "parameters": {"type": "object", "properties": {"é": {"type": "string"}}},
        },
    }
    asked = {"role": "user", "content": "quoi?"}
    called = {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "id": "123456789",
                "type": "function",
                "function": {"name": "f", "arguments": {"é": "ü", "n": [1, 2.5, None]}},
            }
        ],
    }
    told = {"role": "tool", "content": '{"a": "b"}', "tool_call_id": "123456789", "name": "f"}
    messages: list[dict[str, Any]] = [asked, called, told]
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    expected = _compile_jinja_template(source).render(
        messages=messages, tools=[tool], documents=None, add_generation_prompt=follows, **special
    )
    ours = ChatTemplate(source, special).render(messages, tools=[tool], answer_follows=follows)
    assert ours == expected
    assert '"é": "ü"' in ours
