"""The tools of a chat: which there are, and which of them the answer may or must call."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hone.models.decoding.chat_messages import (
    MOST_NESTED,
    TOOL_NAME,
    nested_too_deep,
    shown_tool,
)
from hone.models.decoding.constraints import ConstraintFactory, UnsupportedSchema, UnsupportedTool
from hone.models.decoding.tool_calls import Tool, ToolForm
from hone.service.errors import InvalidRequest
from hone.service.openai.fields import Fields

MOST_TOOLS = 128

_LONGEST_DESCRIPTION = 16_384
_CHOICES = ("none", "auto", "required")


@dataclass(frozen=True, slots=True)
class ToolUse:
    """`shown` is what the template is given; `tools` may be called, with their `places`.

    `needed`: one at least must be; `several`: more than one call may be made.
    """

    shown: tuple[dict[str, Any], ...]
    tools: tuple[Tool, ...]
    places: tuple[str, ...]
    needed: bool
    several: bool

    def grammar(self, form: ToolForm, constraints: ConstraintFactory | None) -> str | None:
        """Return what holds the answer to what was asked, None where nothing has to.

        InvalidRequest for a strict tool whose schema cannot be followed. Compiles: not for the
        event loop.
        """
        if not (self.needed or not self.several or any(tool.strict for tool in self.tools)):
            return None
        if constraints is None:
            raise InvalidRequest(
                "'tools' of which one has to be called, of which only one may be, or that are "
                "strict, are not supported by this model: its tokenizer is unknown to the library "
                "that follows schemas.",
                param="tools",
                code="unsupported_parameter",
            )
        try:
            return constraints.tool_grammar(
                form, self.tools, needed=self.needed, several=self.several
            )
        except UnsupportedTool as error:
            place = f"{self.places[error.number]}.function.parameters"
            raise InvalidRequest(f"'{place}': {error}.", param=place, code=error.code) from None
        except UnsupportedSchema as error:
            raise InvalidRequest(f"'tools': {error}.", param="tools", code=error.code) from None


def read_tools(fields: Fields, reader: str) -> ToolUse | None:
    """Take the tools and what may be done with them; None where none may be called."""
    value = fields.take("tools")
    choice = fields.take("tool_choice")
    several = fields.take("parallel_tool_calls")
    if several is not None and type(several) is not bool:
        raise fields.wrong("parallel_tool_calls", "must be true or false")
    tools = _Tools()
    if value is not None:
        if type(value) is not list or len(value) > MOST_TOOLS:
            raise fields.wrong("tools", f"must be a list of at most {MOST_TOOLS} tools")
        for number, tool in enumerate(value):
            tools.add(tool, f"tools[{number}]", reader)
    named = _named(choice, fields, reader)
    wanted = choice if named is None else "required"
    if not tools.known and wanted not in (None, "none"):
        raise fields.wrong("tool_choice", "needs 'tools'")
    if not tools.known and several is not None:
        raise fields.wrong("parallel_tool_calls", "needs 'tools'")
    if named is not None and named not in tools.known:
        raise fields.wrong("tool_choice", "names a function that is not among the 'tools'")
    if not tools.known or wanted == "none":
        return None
    callable_ = [name for name in tools.known if named in (None, name)]
    return ToolUse(
        tuple(tools.shown),
        tuple(tools.known[name] for name in callable_),
        tuple(tools.places[name] for name in callable_),
        needed=wanted == "required",
        several=several is not False and named is None,
    )


class _Tools:
    def __init__(self) -> None:
        self.known: dict[str, Tool] = {}
        self.places: dict[str, str] = {}
        self.shown: list[dict[str, Any]] = []

    def add(self, value: Any, place: str, reader: str) -> None:  # noqa: ANN401 - any JSON
        """Take one tool; InvalidRequest for a bad one."""
        outer = _fields(value, place, "a tool", reader)
        if outer.take("type") != "function":
            raise outer.unsupported("type")
        inner = _fields(outer.take("function"), f"{place}.function", "a function", reader)
        outer.end()
        name = tool_name(inner)
        if name in self.known:
            raise inner.wrong("name", "is the name of another tool, too")
        description = inner.take("description")
        if description is not None and (
            type(description) is not str or len(description) > _LONGEST_DESCRIPTION
        ):
            what = f"must be a string of at most {_LONGEST_DESCRIPTION:,} characters"
            raise inner.wrong("description", what)
        parameters: Mapping[str, Any] | None = inner.take("parameters")
        if parameters is not None and (
            type(parameters) is not dict or parameters.get("type", "object") != "object"
        ):
            raise inner.wrong("parameters", "must be a JSON schema of an object")
        if nested_too_deep(parameters):
            what = f"is nested more than {MOST_NESTED} deep"
            raise inner.wrong("parameters", what, UnsupportedSchema.code)
        strict = inner.flag("strict")
        inner.end()
        self.known[name] = Tool(name, parameters, strict)
        self.places[name] = place
        self.shown.append(shown_tool(name, description, parameters))


def tool_name(fields: Fields) -> str:
    """Take the name of a function."""
    name = fields.take("name")
    if type(name) is not str or not TOOL_NAME.fullmatch(name):
        raise fields.wrong("name", "must have 1 to 64 letters, digits, underscores and dashes")
    return name


def _named(choice: Any, fields: Fields, reader: str) -> str | None:  # noqa: ANN401 - any JSON
    """Return the function that `tool_choice` names; None where it is a word."""
    if choice is None or (type(choice) is str and choice in _CHOICES):
        return None
    if type(choice) is not dict:
        listed = ", ".join(f"'{word}'" for word in _CHOICES)
        raise fields.wrong("tool_choice", f"must be one of {listed}, or name a function")
    outer = _fields(choice, "tool_choice", "an object", reader)
    if outer.take("type") != "function":
        raise outer.unsupported("type")
    inner = _fields(outer.take("function"), "tool_choice.function", "a function", reader)
    outer.end()
    name = tool_name(inner)
    inner.end()
    return name


def _fields(value: Any, place: str, what: str, reader: str) -> Fields:  # noqa: ANN401 - any JSON
    if type(value) is not dict:
        raise InvalidRequest(f"'{place}' must be {what}.", param=place)
    return Fields(value, f"{place}.", reader=reader)
