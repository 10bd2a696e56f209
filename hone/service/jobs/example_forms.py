"""One line of a training file: which form it has, what is wrong with it, and what it teaches.

    {"prompt": ..., "completion": ...}
    {"messages": [...], "tools": [...], "functions": [...], "parallel_tool_calls": ...}
    {"input": {"messages": [...]}, "preferred_output": [...], "non_preferred_output": [...]}
    {"prompt": ..., "chosen": ..., "rejected": ...}
    {"image": "data:image/jpeg;base64,...", "label": ...}
    {"messages": [... {"type": "image_url", "image_url": {"url": "data:..."}} ...]}

An earlier name of the hosted preferences is accepted: `preferred_completion`,
`non_preferred_completion`.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from hone.models.decoding.tool_examples import Turns, parse_tools, uses_tools
from hone.models.errors import InvalidInput
from hone.models.imaging.embedded import holds_picture, picture_example

ExampleForm = Literal[
    "prompt/completion", "chat", "preference", "picture", "chat with picture", "archive of pictures"
]
PICTURE_FORMS: frozenset[ExampleForm] = frozenset(
    {"picture", "chat with picture", "archive of pictures"}
)
"""The last one is no form of a line: a whole file has it."""

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_WANTED = (
    "is none of the known forms: it needs 'prompt' and 'completion', or 'messages', or 'input', "
    "'preferred_output' and 'non_preferred_output', or 'image' and 'label'"
)

_PREFERRED = ("preferred", "non_preferred")
_NO_PREFERENCE = "prefers an answer to itself"


def form_of(line: Mapping[str, Any]) -> ExampleForm | None:
    """Return the form that a line's keys mean."""
    if "messages" in line:
        return "chat with picture" if holds_picture(line["messages"]) else "chat"
    if "chosen" in line or "rejected" in line:
        return "preference"
    if "image" in line:
        return "picture"
    if "prompt" in line or "completion" in line:
        return "prompt/completion"
    return "preference" if "input" in line else None


def problem_of(line: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a line, as the end of a sentence, or None."""
    match form_of(line):
        case "chat":
            return next(_chat_problems(line), None)
        case "prompt/completion":
            return next(_pair_problems(line), None)
        case "preference":
            plain = "chosen" in line or "rejected" in line
            found = _plain_preference_problems(line) if plain else _preference_problems(line)
            return next(found, None)
        case "picture" | "chat with picture":
            return _picture_problem(line)
    return _WANTED


def tool_problem_of(line: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the tools, calls and tools' answers of a good line, or None.

    It is only a problem for those who train on them: a classifier's labels are the last answers.
    """
    if form_of(line) == "preference" and _prefers_with_tools(line):
        return "has tools in a preference, which is not trained on"
    if form_of(line) != "chat":
        return None
    try:
        turns = Turns(parse_tools(line))
        for message in line["messages"]:
            turns.read(message)
    except ValueError as error:
        return str(error)
    return None


def needs_tools(line: Mapping[str, Any]) -> bool:
    """Whether a good line is for bases alone whose chat template knows tools."""
    return form_of(line) == "chat" and uses_tools(line)


def taught_by(line: Mapping[str, Any]) -> str | None:
    """Return the text that a good line teaches to answer; None where it is not one text."""
    match form_of(line):
        case "prompt/completion":
            return str(line["completion"])
        case "chat":
            answer = _last_answer(line["messages"])
            return None if _calls(answer) else text_of(answer.get("content"))
        case "picture" | "chat with picture":
            return picture_example(line).label
    return None


def text_of(content: object) -> str | None:
    """Return a message's text, from one string or from a list of text parts; None for neither."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        return None
    parts = [part.get("text") if isinstance(part, dict) else None for part in content]
    texts = [part for part in parts if isinstance(part, str)]
    return "".join(texts) if len(texts) == len(parts) else None


def _pair_problems(line: Mapping[str, Any]) -> Iterator[str]:
    for key in ("prompt", "completion"):
        if key not in line:
            yield f"has no '{key}'"
        elif not isinstance(line[key], str):
            yield f"has a '{key}' that is not a string"
    if not str(line.get("completion", "")).strip():
        yield "has an empty 'completion'"


def _chat_problems(line: Mapping[str, Any]) -> Iterator[str]:
    messages = line["messages"]
    yield from _message_problems(messages)
    yield from _tool_problems(line)
    roles = [message["role"] for message in messages]
    if "assistant" not in roles:
        yield "has no message of the assistant to learn from"
    learned = [i for i, message in enumerate(messages) if _is_learned(message)]
    if not learned:
        yield "has weight 0 on every message of the assistant"
    elif not any(_says_something(messages[place]) for place in learned):
        yield "has only empty messages of the assistant"
    elif "user" not in roles[: learned[-1]]:
        yield "has no message of the user before the assistant's"


def _message_problems(messages: object) -> Iterator[str]:
    if not isinstance(messages, list) or not messages:
        yield "has 'messages' that are not a list with messages"
        return
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict):
            yield f"has a message {number} that is not a dictionary"
            return
        yield from (f"has a message {number} {wrong}" for wrong in _one_message(message))


def _one_message(message: Mapping[str, Any]) -> Iterator[str]:
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        yield "without one of the roles " + ", ".join(sorted(_ROLES))
    if text_of(message.get("content")) is None and not (role == "assistant" and _calls(message)):
        yield "whose 'content' is not text"
    if message.get("weight") is None:
        return
    weight = message["weight"]
    if role != "assistant":
        yield "with a 'weight', which only the assistant's may have"
    elif isinstance(weight, bool) or weight not in (0, 1):
        yield "with a 'weight' that is neither 0 nor 1"


def _tool_problems(line: Mapping[str, Any]) -> Iterator[str]:
    for key in ("tools", "functions"):
        if line.get(key) is not None and not isinstance(line[key], list):
            yield f"has '{key}' that are not a list"
    if not isinstance(line.get("parallel_tool_calls", True), bool | None):
        yield "has 'parallel_tool_calls' that is neither true nor false"


def _plain_preference_problems(line: Mapping[str, Any]) -> Iterator[str]:
    for key in ("prompt", "chosen", "rejected"):
        if not isinstance(line.get(key), str):
            yield f"has a '{key}' that is not a string" if key in line else f"has no '{key}'"
    for key in ("chosen", "rejected"):
        if not str(line.get(key, "")).strip():
            yield f"has an empty '{key}'"
    if line.get("chosen") == line.get("rejected"):
        yield _NO_PREFERENCE


def _preference_problems(line: Mapping[str, Any]) -> Iterator[str]:
    given = line["input"]
    if not isinstance(given, dict):
        yield "has an 'input' that is not a dictionary"
        return
    yield from _message_problems(given.get("messages"))
    yield from _tool_problems(given)
    said: list[str | None] = []
    for name in _PREFERRED:
        answer = line.get(f"{name}_output", line.get(f"{name}_completion"))
        if not isinstance(answer, list) or len(answer) != 1:
            yield f"has no '{name}_output' of exactly one message"
            return
        if not isinstance(answer[0], dict) or answer[0].get("role") != "assistant":
            yield f"has a '{name}_output' that is not the assistant's"
            return
        yield from (f"has a '{name}_output' {wrong}" for wrong in _one_message(answer[0]))
        said.append(text_of(answer[0].get("content")))
        if not (said[-1] or "").strip():
            yield f"has an empty '{name}_output'"
    if said[0] == said[1]:
        yield _NO_PREFERENCE


def _picture_problem(line: Mapping[str, Any]) -> str | None:
    try:
        picture_example(line).check()
    except InvalidInput as error:
        return str(error)
    return None


def _is_learned(message: Mapping[str, Any]) -> bool:
    return message["role"] == "assistant" and message.get("weight") != 0


def _says_something(message: Mapping[str, Any]) -> bool:
    return bool(_calls(message) or (text_of(message.get("content")) or "").strip())


def _prefers_with_tools(line: Mapping[str, Any]) -> bool:
    if "chosen" in line or "rejected" in line:
        return False
    given = line["input"]
    answers = (line.get(f"{name}_output", line.get(f"{name}_completion")) for name in _PREFERRED)
    messages = itertools.chain(given["messages"], *(answer or () for answer in answers))
    return bool(given.get("tools") or given.get("functions")) or any(
        _calls(message) or message["role"] in {"tool", "function"} for message in messages
    )


def _calls(message: Mapping[str, Any]) -> bool:
    return bool(message.get("tool_calls") or message.get("function_call"))


def _last_answer(messages: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return next(message for message in reversed(messages) if _is_learned(message))
