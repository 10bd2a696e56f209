"""Messages and tools of a chat, in the one form in which templates are given them.

Training and serving both write them so: what a model reads when it is asked has the keys, and
their order, of what it was trained on, however a client writes them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
MOST_NESTED = 64
"""How deep arguments and schemas may be nested: all that write them as JSON can go so far."""


class Call(NamedTuple):
    """A tool that an assistant called. Templates take the arguments as an object, not as text."""

    id: str
    name: str
    arguments: Mapping[str, Any]

    def shown(self) -> dict[str, Any]:
        """Return it for a template."""
        function = {"name": self.name, "arguments": dict(self.arguments)}
        return {"id": self.id, "type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """A message; `calls` are an assistant's, `answers` is the call that a tool's message is of."""

    role: str
    content: str
    calls: tuple[Call, ...] = ()
    answers: Call | None = None

    def shown(self) -> dict[str, Any]:
        """Return it for a template, without the keys that are for other messages."""
        found: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.calls:
            found["tool_calls"] = [call.shown() for call in self.calls]
        if self.answers is not None:
            found |= {"tool_call_id": self.answers.id, "name": self.answers.name}
        return found


def nested_too_deep(value: object) -> bool:
    """Tell whether objects and lists lie in one another more than `MOST_NESTED` deep."""
    inner: list[object] = [value]
    for _ in range(MOST_NESTED):
        inner = [one for outer in inner for one in _within(outer)]
        if not inner:
            return False
    return True


def _within(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def shown_messages(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """Return messages for a template."""
    return [message.shown() for message in messages]


def shown_tool(
    name: str, description: str | None, parameters: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return a tool for a template."""
    function: dict[str, Any] = {"name": name}
    if description is not None:
        function["description"] = description
    if parameters is not None:
        function["parameters"] = dict(parameters)
    return {"type": "function", "function": function}
