"""Tools and their calls in training chats, in the hosted fine-tuning API's form.

{"tools": [{"type": "function", "function": {"name": "f", "parameters": {…}}}], "messages": […,
{"role": "assistant", "tool_calls": [{"id": "a", "type": "function",
"function": {"name": "f", "arguments": "{\\"x\\": 1}"}}]},
{"role": "tool", "tool_call_id": "a", "content": "…"}, …]}
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from hone.models.decoding.chat_messages import TOOL_NAME, Call, shown_tool

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


def answered_call(value: Mapping[str, Any], made: Mapping[str, Call]) -> Call:
    """Return the call that a tool's message answers; ValueError where there is none before it."""
    found = value.get("tool_call_id")
    if not isinstance(found, str) or found not in made:
        raise ValueError("has a tool's message whose 'tool_call_id' is that of no call before it")
    return made[found]


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
    return Call(number, function["name"], arguments)
