"""Tools in training chats: what is trained on, what is refused, and what is published of it.

The tokenizer has one token for each byte; what a person would mark stands in brackets.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from hone.models.decoding.templates import ChatTemplate
from hone.models.decoding.tool_forms import find_tool_form
from hone.models.errors import ToolsUnknown
from hone.models.names import ModelReference
from hone.models.registry import Registry
from hone.training.generation.causal_data import refuse_unknown_tools
from hone.training.generation.conversations import (
    Conversation,
    as_json,
    parse_example,
    read_conversations,
)
from hone.training.generation.encoding import ConversationEncoder
from hone.training.generation.showing import marked
from tests.models.decoding.chat_templates import HERMES, LLAMA
from tests.service.generation.conftest import client_of
from tests.service.running import serving
from tests.training.generation.running import recipe_for, train
from tests.training.generation.tiny import COLOURS, byte_tokenizer, train_with_template, write_rows

PAINT: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "paint",
        "parameters": {"type": "object", "properties": {"colour": {"type": "string"}}},
    },
}
TOOLS_LINE = (
    '{"type": "function", "function": {"name": "paint", "parameters": {"type": "object", '
    '"properties": {"colour": {"type": "string"}}}}}'
)


def called(arguments: str = '{"colour":"red"}', number: str = "c1", name: str = "paint") -> Any:
    call = {"id": number, "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


USER = {"role": "user", "content": "q"}
ANSWER = {"role": "tool", "content": "wet", "tool_call_id": "c1"}
LAST = {"role": "assistant", "content": "done"}
CHAT: dict[str, Any] = {"messages": [USER, called(), ANSWER, LAST], "tools": [PAINT]}


def shown(example: dict[str, Any], template: str | None = None) -> str:
    """Return an example with what is trained on in brackets, its tokens put together."""
    tokenizer = byte_tokenizer() if template is None else train_with_template(template)
    encoder = ConversationEncoder(tokenizer, template="chat")
    parsed = parse_example(example)
    assert isinstance(parsed, Conversation)
    text = marked(encoder.encode(parsed), tokenizer)
    for special in ("turn", "im_start", "im_end", "eot_id", "start_header_id", "end_header_id"):
        text = text.replace(f"<|{special}|>", f"<{special}>")
    return text.replace("|", "")


def test_calls_and_the_last_answer_are_trained_and_what_a_tool_said_is_read() -> None:
    assert shown(CHAT) == (
        f"<s><turn>tools⏎{TOOLS_LINE}⏎</s><turn>user⏎q</s><turn>assistant⏎ "
        '[<tool_call>⏎{"name": "paint", "arguments": {"colour": "red"}}⏎</tool_call></s>] '
        "<turn>tool⏎wet</s><turn>assistant⏎ [done</s>]"
    )


def test_a_call_of_weight_0_is_read_alone() -> None:
    messages = [USER, {**called(), "weight": 0}, ANSWER, LAST]
    assert shown({"messages": messages, "tools": [PAINT]}) == (
        f"<s><turn>tools⏎{TOOLS_LINE}⏎</s><turn>user⏎q</s><turn>assistant⏎"
        '<tool_call>⏎{"name": "paint", "arguments": {"colour": "red"}}⏎</tool_call></s>'
        "<turn>tool⏎wet</s><turn>assistant⏎ [done</s>]"
    )


def test_words_and_several_calls_stand_in_one_answer() -> None:
    both = {**called(), "content": "ok"}
    both["tool_calls"] = [*both["tool_calls"], called("{}", "c2")["tool_calls"][0]]
    found = shown({"messages": [USER, both], "tools": [PAINT]})
    assert found.endswith(
        'assistant⏎ [ok⏎<tool_call>⏎{"name": "paint", "arguments": {"colour": "red"}}⏎</tool_call>'
        '⏎<tool_call>⏎{"name": "paint", "arguments": {}}⏎</tool_call></s>]'
    )


def test_other_templates_write_calls_in_their_own_form() -> None:
    found = shown({"messages": [USER, called()], "tools": [PAINT]}, LLAMA)
    answer = '[{"name": "paint", "parameters": {"colour": "red"}}<eot_id>]'
    assert found.endswith(f"assistant<end_header_id>⏎⏎ {answer}")
    found = shown({"messages": [USER, called()], "tools": [PAINT]}, HERMES)
    call = '<tool_call>⏎{"name": "paint", "arguments": {"colour": "red"}}⏎</tool_call>'
    assert found.endswith(f"<im_start>assistant⏎ [{call}<im_end>⏎]")


def test_a_scratch_bases_template_knows_tools() -> None:
    assert find_tool_form(ChatTemplate(str(byte_tokenizer().chat_template))) == "hermes"


def test_lines_are_read_back_as_they_were_written() -> None:
    assert as_json(parse_example(CHAT)) == CHAT
    assert as_json(parse_example(CHAT | {"parallel_tool_calls": False})) == CHAT


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (CHAT | {"tools": None}, "calls 'paint', which is not among its 'tools'"),
        (CHAT | {"tools": {}}, "'tools' that are not a list"),
        (CHAT | {"tools": [PAINT, PAINT]}, "two tools of one name"),
        (CHAT | {"tools": [{"type": "custom"}]}, "tool that is not of the type 'function'"),
        (CHAT | {"tools": [{"type": "function", "function": {"name": "a b"}}]}, "without a name"),
        (CHAT | {"functions": [{}]}, "'functions': write them as 'tools'"),
        (CHAT | {"parallel_tool_calls": 1}, "neither true nor false"),
        ({**CHAT, "messages": [USER, called("[1]")]}, "arguments are no JSON object"),
        ({**CHAT, "messages": [USER, called({})]}, "arguments are no JSON object"),  # type: ignore[arg-type]
        ({**CHAT, "messages": [USER, called(number="")]}, "without an id"),
        ({**CHAT, "messages": [USER, {**USER, "tool_calls": [1]}]}, "not an assistant's"),
        ({**CHAT, "messages": [USER, {**LAST, "tool_calls": [1]}]}, "not of the type 'function'"),
        ({**CHAT, "messages": [USER, {**LAST, "tool_calls": 1}]}, "not a list"),
        ({**CHAT, "messages": [USER, {**LAST, "function_call": {}}]}, None),
        ({**CHAT, "messages": [USER, {**LAST, "function_call": {"name": "f"}}]}, "function_call"),
        ({**CHAT, "messages": [USER, ANSWER, LAST]}, "no call before it"),
        ({**CHAT, "messages": [USER, called('{"a":' * 65 + "1" + "}" * 65)]}, "64 deep"),
        ({**CHAT, "messages": [USER, {**LAST, "role": "function"}, LAST]}, "role is none of"),
        ({**CHAT, "messages": [USER, {**LAST, "role": ["user"]}, LAST]}, "role is none of"),
        ({"input": CHAT, "preferred_output": [LAST], "non_preferred_output": [USER]}, "preference"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(row: dict[str, Any], reason: str | None) -> None:
    if reason is None:
        assert parse_example(row)
        return
    with pytest.raises(ValueError, match=reason):
        parse_example(row)


def test_a_template_that_knows_no_tools_refuses_them_with_their_lines(tmp_path: Path) -> None:
    plain = {"messages": [USER, LAST]}
    path = write_rows(tmp_path / "rows.jsonl", [plain, CHAT, plain, CHAT])
    path.write_text("\n" + path.read_text())
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    encoder = ConversationEncoder(train_with_template(template), template="chat")
    rows = read_conversations(path)
    with pytest.raises(ToolsUnknown, match="the train file's line 3, 5 has some"):
        refuse_unknown_tools(rows, encoder, "the train file's line")
    refuse_unknown_tools(rows, ConversationEncoder(byte_tokenizer(), template="chat"), "")


def tool_rows(split: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number in range(16 if split == "train" else 4):
        colour = COLOURS[number % len(COLOURS)]
        asked = {"role": "user", "content": f"paint it {colour}"}
        rows.append({"messages": [asked, called(json.dumps({"colour": colour}))], "tools": [PAINT]})
        rows.append(
            {"messages": [{"role": "user", "content": f"is it {colour}"}, LAST], "tools": [PAINT]}
        )
    return rows


@pytest.mark.slow
def test_a_model_that_was_trained_on_calls_is_published_and_served_with_tools(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "validation", "test"):
        write_rows(data / f"{split}.jsonl", tool_rows(split))
    model = {"vocabulary": 400, "positions": 256}
    training = {"epochs": 12.0, "evaluate_every_epochs": 6}
    train(
        recipe_for(tmp_path, data, model=model, training=training, sample_prompts={"prompts": []})
    )
    manifest = Registry(tmp_path / "store").open(ModelReference("colours")).manifest
    assert manifest.generation is not None
    assert manifest.generation.tool_form == "hermes"
    with (
        serving(tmp_path / "store", log_folder=tmp_path, threads=1, run_jobs=False) as service,
        client_of(service) as client,
    ):

        def ask(content: str, **more: Any) -> Any:
            given: dict[str, Any] = {
                "model": "colours",
                "messages": [{"role": "user", "content": content}],
                "tools": [PAINT],
                "temperature": 0,
                "max_tokens": 100,
            }
            return client.chat.completions.create(**(given | more))

        named = {"type": "function", "function": {"name": "paint"}}
        choice = ask("paint it red", tool_choice=named).choices[0]
        assert choice.message.tool_calls[0].function.name == "paint"
