"""Grammars of tool calls, in llguidance's dialect of Lark, for each form of `tool_calls`."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hone.models.decoding.tool_calls import BEGINNINGS, Tool, ToolForm

MOST_CALLS = 128
"""In one answer: a small model would go on for ever."""

ANY_OBJECT: Mapping[str, Any] = {"type": "object"}
NO_ARGUMENTS: Mapping[str, Any] = {
    "type": "object", "properties": {}, "additionalProperties": False,
}  # fmt: skip

_AS_TEMPLATES_WRITE = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}
"""The white space of JSON as templates write it, so that a model writes what it has read."""


def calls_grammar(
    form: ToolForm,
    tools: Sequence[tuple[Tool, Mapping[str, Any]]],
    *,
    tokens: Mapping[str, int],
    needed: bool,
    several: bool,
) -> str:
    """Return the grammar of an answer that calls these tools, each with its arguments' schema.

    `tokens` are the texts that are one token each; `needed` forbids an answer in words, which
    otherwise may also stand before the calls; `several` allows more than one call.
    """
    arguments = "parameters" if form == "llama" else "arguments"
    rules = ["call: " + " | ".join(f"call{number}" for number in range(len(tools)))]
    for number, (tool, schema) in enumerate(tools):
        head = json.dumps(f'{{"name": "{tool.name}", "{arguments}": ')
        rules.append(f'call{number}: {head} args{number} "}}"')
        stated = {**schema, "x-guidance": _AS_TEMPLATES_WRITE}
        rules.append(f"args{number}: %json {json.dumps(stated)}")
    return "\n".join([*_start(form, tokens, needed=needed, several=several), *rules])


def _start(form: ToolForm, tokens: Mapping[str, int], *, needed: bool, several: bool) -> list[str]:
    beginning = BEGINNINGS[form]

    def literal(text: str) -> str:
        return _literal(text, tokens)

    if form == "llama":  # its templates write one call, and nothing beside it
        return ["start: call"] if needed else ["start: WORDS | call", r"WORDS: /([^{\s](.|\n)*)?/"]
    if form == "hermes":
        rest = f"{literal(chr(10))} call {literal(f'{chr(10)}</tool_call>')}"
        more = (
            f" ({literal(f'{chr(10)}{beginning}')} {rest}){{0,{MOST_CALLS - 1}}}" if several else ""
        )
    else:
        more = f' (", " call){{0,{MOST_CALLS - 1}}}' if several else ""
        rest, more = f'" [" call{more} "]"', ""
    calls = f"{rest}{more}"
    if needed:
        return [f"start: {literal(beginning)} {calls}"]
    within = f"(.|\\n)*{_escaped(beginning)}"
    words = f"WORDS: /(.|\\n)*/ & ~/{within}(.|\\n)*/"
    if beginning in tokens:
        return [f"start: WORDS | WORDS {literal(beginning)} {calls}", words]
    return [f"start: WORDS | until {calls}", f"until[lazy]: /{within}/", words]


def _literal(text: str, tokens: Mapping[str, int]) -> str:
    """Write a text for the grammar, with whatever is a token of its own by its number."""
    if not tokens:
        return json.dumps(text)
    pattern = "|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True))
    pieces = (piece for piece in re.split(f"({pattern})", text) if piece)
    return " ".join(f"<[{tokens[p]}]>" if p in tokens else json.dumps(p) for p in pieces)


def _escaped(text: str) -> str:
    return re.sub(r"([\[\]|/])", r"\\\1", text)
