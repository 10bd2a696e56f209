"""Tools and their calls in training chats, in the hosted fine-tuning API's form.

{"tools": [{"type": "function", "function": {"name": "f", "parameters": {…}}}], "messages": […,
{"role": "assistant", "tool_calls": [{"id": "a", "type": "function",
"function": {"name": "f", "arguments": "{\\"x\\": 1}"}}]},
{"role": "tool", "tool_call_id": "a", "content": "…"}, …]}

The service looks a job's lines through with what the training reads them by, so that a file which
was admitted can be trained on.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from hone.models.decoding.chat_messages import (
    MOST_NESTED,
    TOOL_NAME,
    Call,
    nested_too_deep,
    shown_tool,
)

Tools = tuple[Mapping[str, Any], ...]


def parse_tools(row: Mapping[str, Any]) -> Tools:
    """Return the tools of a line, as templates are given them; ValueError says what is wrong."""
    if row.get("functions"):
        raise ValueError("has 'functions': write them as 'tools'")
    if not isinstance(row.get("parallel_tool_calls", True), bool | None):
        raise ValueError("has 'parallel_tool_calls' that is neither true nor false")  # noqa: TRY004
    given = row.get("tools")
    if given is None:
        return ()
    if not isinstance(given, list):
        raise ValueError("has 'tools' that are not a list")  # noqa: TRY004
    tools = tuple(_tool(tool) for tool in given)
    if len(set(tool_names(tools))) < len(tools):
        raise ValueError("has two tools of one name")
    return tools


def tool_names(tools: Tools) -> list[str]:
    """Return what the tools are called."""
    return [str(tool["function"]["name"]) for tool in tools]


def parse_calls(value: object, tools: Tools) -> tuple[Call, ...]:
    """Return the calls of an assistant's message; ValueError says what is wrong."""
    if value is None or value == []:
        return ()
    if not isinstance(value, list):
        raise ValueError("has 'tool_calls' that are not a list")  # noqa: TRY004
    return tuple(_call(call, tools) for call in value)


class Turns:
    """Reads a chat's messages for their calls, one after the other: later ones answer earlier."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._made: dict[str, Call] = {}

    def read(self, message: Mapping[str, Any]) -> tuple[tuple[Call, ...], Call | None]:
        """Return what a message calls, and the call that it answers.

        `message` has a role. ValueError says what is wrong.
        """
        role = message["role"]
        if message.get("function_call"):
            raise ValueError("has a 'function_call': write it as 'tool_calls'")
        if role == "function":
            raise ValueError("has a message of the role 'function': write it as a tool's")
        if message.get("tool_calls") and role != "assistant":
            raise ValueError("has a tool call in a message that is not an assistant's")
        answers = self._answered(message) if role == "tool" else None
        calls = parse_calls(message.get("tool_calls"), self._tools)
        self._made |= {call.id: call for call in calls}
        return calls, answers

    def _answered(self, message: Mapping[str, Any]) -> Call:
        found = message.get("tool_call_id")
        if not isinstance(found, str) or found not in self._made:
            raise ValueError(
                "has a tool's message whose 'tool_call_id' is that of no call before it"
            )
        return self._made[found]


def uses_tools(chat: Mapping[str, Any]) -> bool:
    """Whether a chat's template must know tools; its messages are dictionaries with roles."""
    return bool(chat.get("tools")) or any(
        message.get("tool_calls") or message["role"] == "tool" for message in chat["messages"]
    )


def calls_json(calls: Sequence[Call]) -> list[dict[str, Any]]:
    """Return calls as a line has them: arguments are JSON within a string."""
    return [
        {
            "id": call.id,
            "type": "function",
            "function": {
                "name": call.name,
                "arguments": orjson.dumps(dict(call.arguments)).decode(),
            },
        }
        for call in calls
    ]


def _function(value: object, what: str) -> Mapping[str, Any]:
    function = value.get("function") if isinstance(value, dict) else None
    if not isinstance(value, dict) or value.get("type") != "function":
        raise ValueError(f"has a {what} that is not of the type 'function'")
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str) or not TOOL_NAME.fullmatch(name):
        raise ValueError(f"has a {what} without a name of 1 to 64 letters, digits, _ and -")
    return function


def _tool(value: object) -> dict[str, Any]:
    function = _function(value, "tool")
    description, parameters = function.get("description"), function.get("parameters")
    if not isinstance(description, str | None) or not isinstance(parameters, dict | None):
        raise ValueError("has a tool whose description is no text, or its parameters no schema")  # noqa: TRY004
    _refuse_nested(parameters, "a tool whose parameters")
    return shown_tool(function["name"], description, parameters)


def _call(value: object, tools: Tools) -> Call:
    function = _function(value, "tool call")
    number = value.get("id") if isinstance(value, dict) else None
    if not isinstance(number, str) or not number:
        raise ValueError("has a tool call without an id")
    if function["name"] not in tool_names(tools):
        raise ValueError(f"calls {function['name']!r}, which is not among its 'tools'")
    try:
        arguments = orjson.loads(function.get("arguments", ""))
    except (orjson.JSONDecodeError, TypeError):
        arguments = None
    if not isinstance(arguments, dict):
        raise ValueError("has a tool call whose arguments are no JSON object in a string")  # noqa: TRY004
    _refuse_nested(arguments, "a tool call whose arguments")
    return Call(number, function["name"], arguments)


def _refuse_nested(value: object, what: str) -> None:
    if nested_too_deep(value):
        raise ValueError(f"has {what} are nested more than {MOST_NESTED} deep")
