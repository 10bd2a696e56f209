"""Tool calls of an answer, as the chat API writes them: whole, or piece by piece in a stream."""

import secrets
import string
from typing import Any

from hone.models.decoding.tool_calls import CallPiece, Said, ToolCallReader, ToolForm
from hone.service.openai.tools import ToolUse

Json = dict[str, Any]

_LETTERS = string.ascii_letters + string.digits
_MISTRAL_ID_LETTERS = 9
"""Mistral's templates take ids of this length only, when they are sent back."""


class ToolAnswer:
    """Reads one choice as its text comes: `content` and `calls` are what was found so far."""

    def __init__(self, form: ToolForm, use: ToolUse) -> None:
        names = {tool.name for tool in use.tools}
        self._form = form
        self._reader = ToolCallReader(form, names, sure=use.needed)
        self.content = ""
        self.calls: list[Json] = []

    @property
    def complete(self) -> bool:
        """Whether there are calls, and the last one is whole."""
        return bool(self.calls) and not self._reader.cut

    def take(self, text: str, *, last: bool) -> list[Json]:
        """Take the next piece of text; return the deltas of a stream."""
        found = self._reader.push(text)
        if last:
            found += self._reader.finish()
        return [self._delta(piece) for piece in found]

    def _delta(self, piece: Said | CallPiece) -> Json:
        if isinstance(piece, Said):
            self.content += piece.text
            return {"content": piece.text}
        if piece.name is not None:
            function = {"name": piece.name, "arguments": piece.arguments}
            call = {"id": _new_id(self._form), "type": "function", "function": function}
            self.calls.append(call)
            return {"tool_calls": [{"index": piece.number, **call, "function": dict(function)}]}
        self.calls[piece.number]["function"]["arguments"] += piece.arguments
        told = {"index": piece.number, "function": {"arguments": piece.arguments}}
        return {"tool_calls": [told]}


def _new_id(form: ToolForm) -> str:
    if form == "mistral":
        return "".join(secrets.choice(_LETTERS) for _ in range(_MISTRAL_ID_LETTERS))
    return f"call_{secrets.token_hex(12)}"
