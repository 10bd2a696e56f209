"""Examples for generation: prompts with completions, chats, and pairs of a better and worse answer.

One JSON object a line, in one of four forms:

    {"prompt": "…", "completion": "…"}
    {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}
    {"prompt": "…", "chosen": "…", "rejected": "…"}
    {"input": {"messages": […]}, "preferred_output": [{…}], "non_preferred_output": [{…}]}

An assistant's message may have a `weight` from 0 (context alone) to 1, as the hosted API has it. A
chat may have tools and calls of them (`tool_examples`).
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import orjson

from hone.models.decoding.chat_messages import ChatMessage
from hone.models.decoding.tool_examples import (
    Tools,
    Turns,
    calls_json,
    parse_tools,
)
from hone.models.errors import InvalidExamples
from hone.models.examples import unusable_lines

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
_PREFERRED = ("preferred_output", "preferred_completion")
_REJECTED = ("non_preferred_output", "non_preferred_completion")


@dataclass(frozen=True, slots=True)
class Message(ChatMessage):
    """One turn of a chat; `weight` says how much an assistant's is trained on."""

    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Completion:
    """A prompt as plain text, and what is to follow it."""

    prompt: str
    completion: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """A chat with at least one assistant's message to learn; `line` is where it was read, if any.

    `tools` may be called, and are as templates are given them.
    """

    messages: tuple[Message, ...]
    tools: Tools = ()
    line: int = field(default=0, compare=False)

    def until(self, end: int) -> "Conversation":
        """Return the first `end` messages of it."""
        return replace(self, messages=self.messages[:end])

    @property
    def uses_tools(self) -> bool:
        """Whether a template must know tools to write it."""
        return bool(self.tools) or any(m.calls or m.answers for m in self.messages)


@dataclass(frozen=True, slots=True)
class Preference:
    """One prompt, plain or a chat, with an answer that is wanted and one that is not.

    `line` is where it was read, if anywhere.
    """

    prompt: str | tuple[Message, ...]
    chosen: str
    rejected: str
    line: int = field(default=0, compare=False)


Example = Completion | Conversation | Preference


def parse_example(row: Mapping[str, Any]) -> Example:
    """Return the example of one JSON object; ValueError says what is wrong with it."""
    if "messages" in row:
        tools = parse_tools(row)
        return Conversation(_conversation(row["messages"], tools), tools)
    if "input" in row:
        return _chat_preference(row)
    if "chosen" in row or "rejected" in row:
        if isinstance(row.get("prompt"), list) or isinstance(row.get("chosen"), list):
            raise ValueError(
                "has messages in 'prompt', 'chosen' or 'rejected', which are texts: preferences "
                "between chats are written with 'input', 'preferred_output' and "
                "'non_preferred_output'"
            )
        chosen, rejected = _text(row, "chosen"), _text(row, "rejected")
        return _unlike(Preference(_text(row, "prompt", blank=True), chosen, rejected))
    if "completion" in row:
        return Completion(_text(row, "prompt", blank=True), _text(row, "completion"))
    raise ValueError("has neither 'messages', nor 'prompt' and 'completion', nor a preference")


def as_json(example: Example) -> dict[str, Any]:
    """Return the JSON object of an example."""
    if isinstance(example, Completion):
        return {"prompt": example.prompt, "completion": example.completion}
    if isinstance(example, Conversation):
        chat = {"messages": [_message_json(message) for message in example.messages]}
        return chat | ({"tools": list(example.tools)} if example.tools else {})
    if isinstance(example.prompt, str):
        return {"prompt": example.prompt, "chosen": example.chosen, "rejected": example.rejected}
    return {
        "input": {"messages": [_message_json(message) for message in example.prompt]},
        "preferred_output": [{"role": "assistant", "content": example.chosen}],
        "non_preferred_output": [{"role": "assistant", "content": example.rejected}],
    }


def read_conversations(path: Path) -> list[Example]:
    """Read a prepared JSONL file; InvalidExamples naming every bad line (the first 100).

    All examples of a file have one kind: completions or chats to learn, or preferences.
    """
    examples: list[Example] = []
    problems: list[str] = []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            example = parse_example(_json_object(line))
        except ValueError as error:
            problems.append(f"line {number}: {error}")
        else:
            examples.append(placed(example, number))
    if problems:
        raise InvalidExamples(unusable_lines(path, problems))
    if not examples:
        raise InvalidExamples(f"{path} has no examples")
    if len({isinstance(example, Preference) for example in examples}) > 1:
        raise InvalidExamples(f"{path} has preferences beside other examples: part them")
    return examples


def placed(example: Example, line: int) -> Example:
    """Return an example that knows where it was read, for problems that show later."""
    return example if isinstance(example, Completion) else replace(example, line=line)


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\n")
    except (FileNotFoundError, IsADirectoryError):
        raise InvalidExamples(f"there is no file {path}") from None


def _json_object(line: bytes) -> Mapping[str, Any]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise ValueError("is not JSON in UTF-8") from None
    if not isinstance(row, dict):
        raise ValueError("is not a JSON object")  # noqa: TRY004 - one kind of problem for the caller
    return row


def _text(row: Mapping[str, Any], name: str, *, blank: bool = False) -> str:
    """Return a field that is text; a prompt may be empty, as open-ended examples have it."""
    value = row.get(name, "" if blank else None)
    if not isinstance(value, str) or not (blank or value.strip()):
        raise ValueError(f"{name!r} is missing, empty or not a string")
    return value


def _unlike(example: Preference) -> Preference:
    if example.chosen == example.rejected:
        raise ValueError("prefers an answer to itself")
    return example


def _chat_preference(row: Mapping[str, Any]) -> Preference:
    given = row["input"]
    if not isinstance(given, dict) or not isinstance(given.get("messages"), list):
        raise ValueError("has an 'input' without a list of messages")  # noqa: TRY004
    answers = [row.get(name) for name in (*_PREFERRED, *_REJECTED)]
    said = chain(given["messages"], *(answer for answer in answers if isinstance(answer, list)))
    named = given.get("tools") or given.get("functions")
    if named or any(isinstance(m, dict) and m.get("tool_calls") for m in said):
        raise ValueError("has tools in a preference, which is not trained on")
    messages = _messages(given["messages"], ())
    if not messages:
        raise ValueError("has an 'input' without messages")
    return _unlike(Preference(messages, _answer(row, _PREFERRED), _answer(row, _REJECTED)))


def _answer(row: Mapping[str, Any], names: Sequence[str]) -> str:
    found = next((row[name] for name in names if name in row), None)
    if not isinstance(found, list) or len(found) != 1:
        raise ValueError(f"{names[0]!r} is not a list of one assistant's message")
    (message,) = _messages(found, ())
    if message.role != "assistant" or not message.content.strip():
        raise ValueError(f"{names[0]!r} is not an assistant's message with text")
    return message.content


def _conversation(value: object, tools: Tools) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError("has no list of messages")
    messages = _messages(value, tools)
    said = (m for m in messages if m.role == "assistant" and (m.content.strip() or m.calls))
    if not any(message.weight > 0 for message in said):
        raise ValueError("has no assistant's message to learn from")
    return messages


def _messages(values: Sequence[object], tools: Tools) -> tuple[Message, ...]:
    turns = Turns(tools)
    return tuple(_message(value, turns) for value in values)


def _message(value: object, turns: Turns) -> Message:
    """Return one message; `turns` knows the calls before it."""
    role = value.get("role") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(role, str) or role not in _ROLES:
        raise ValueError(f"has a message whose role is none of {', '.join(sorted(_ROLES))}")
    calls, answers = turns.read(value)
    weight = value.get("weight")
    if weight is None:
        weight = 1
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
        raise ValueError("has a message whose weight is not between 0 and 1")
    return Message(role, _content(value.get("content")), calls, answers, float(weight))


def _content(content: object) -> str:
    """Return a message's text, whether it is one string or a list of parts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValueError("has a message whose content is not text")  # noqa: TRY004
    texts = [part.get("text") if isinstance(part, dict) else None for part in content]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("has a message with a part that is not text, such as an image")
    return "".join(str(text) for text in texts)


def _message_json(message: Message) -> dict[str, Any]:
    content: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.calls:
        content["tool_calls"] = calls_json(message.calls)
    if message.answers is not None:
        content["tool_call_id"] = message.answers.id
    if message.role == "assistant" and message.weight != 1:
        content["weight"] = message.weight
    return content


def tool_counts(examples: Iterable[Example]) -> dict[str, int]:
    """Count the chats that have tools, and their calls: those trained on, and those only read."""
    chats = [one for one in examples if isinstance(one, Conversation) and one.uses_tools]
    calls = Counter(m.weight > 0 for chat in chats for m in chat.messages for _ in m.calls)
    return {"examples": len(chats), "calls_trained": calls[True], "calls_read": calls[False]}


def texts_of(example: Example) -> Iterator[str]:
    """Yield every text of an example: what is asked, answered, called and may be called."""
    if isinstance(example, Completion):
        yield from (example.prompt, example.completion)
        return
    if isinstance(example, Preference):
        prompt = example.prompt
        yield from [prompt] if isinstance(prompt, str) else (m.content for m in prompt)
        yield from (example.chosen, example.rejected)
        return
    for message in example.messages:
        yield message.content
        yield from (json.dumps(call.shown(), ensure_ascii=False) for call in message.calls)
    yield from (json.dumps(tool, ensure_ascii=False) for tool in example.tools)
