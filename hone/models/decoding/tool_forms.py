"""Whether a chat template knows tools, and how it writes their calls: found by trying it out."""

import itertools
from typing import Any

import orjson

from hone.models.decoding.templates import ChatTemplate
from hone.models.decoding.tool_calls import TOOL_FORMS, CallPiece, ToolCallReader, ToolForm
from hone.models.errors import InvalidInput

_NAME, _RESULT = "look_up_the_tide", "high at seven"
_ARGUMENTS: dict[str, Any] = {"harbour": "Ostend", "days": 2}
_ASKED = {"role": "user", "content": "When is high tide?"}
_CALLED: dict[str, Any] = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        # Some templates insist on ids of nine letters or digits.
        {
            "id": "tide00001",
            "type": "function",
            "function": {"name": _NAME, "arguments": _ARGUMENTS},
        }
    ],
}
_TOLD = {"role": "tool", "content": _RESULT, "tool_call_id": "tide00001", "name": _NAME}
_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": _NAME,
        "description": "Tell the tide.",
        "parameters": {
            "type": "object",
            "properties": {"harbour": {"type": "string"}, "days": {"type": "integer"}},
        },
    },
}


def find_tool_form(template: ChatTemplate) -> ToolForm | None:
    """Return the form in which a template writes tool calls; None unless we can read it back.

    The template must show the model the tools, an assistant's call, and the tool's answer.
    """
    try:
        asked = template.render([_ASKED], tools=[_TOOL])
        called = template.render([_ASKED, _CALLED], tools=[_TOOL], answer_follows=False)
        told = template.render([_ASKED, _CALLED, _TOLD], tools=[_TOOL])
    except InvalidInput:
        return None
    if _NAME not in asked or _RESULT not in told:
        return None
    alike = (one == other for one, other in zip(asked, called, strict=False))
    written = called[sum(1 for _ in itertools.takewhile(bool, alike)) :]
    return next((form for form in TOOL_FORMS if _reads(form, written)), None)


def _reads(form: ToolForm, written: str) -> bool:
    reader = ToolCallReader(form, {_NAME})
    pieces = [p for p in (*reader.push(written), *reader.finish()) if isinstance(p, CallPiece)]
    arguments = "".join(piece.arguments for piece in pieces)
    return reader.calls == 1 and orjson.loads(arguments) == _ARGUMENTS
