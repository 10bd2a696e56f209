"""Tool calls in what a model writes: the forms in which chat templates have them, read back.

    hermes     <tool_call>\n{"name": "f", "arguments": {...}}\n</tool_call>   (Hermes, Qwen2, Qwen3)
    llama      {"name": "f", "parameters": {...}}                            (Llama 3)
    mistral    [TOOL_CALLS] [{"name": "f", "arguments": {...}}, ...]         (Mistral)

What is no whole call of a known tool stays text, to the letter.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import orjson

ToolForm = Literal["hermes", "llama", "mistral"]
TOOL_FORMS: tuple[ToolForm, ...] = ("hermes", "mistral", "llama")

BEGINNINGS: Mapping[ToolForm, str] = {
    "hermes": "<tool_call>",
    "llama": "<|python_tag|>",
    "mistral": "[TOOL_CALLS]",
}
"""What stands before calls; a Llama may also leave it out."""
ENDS: Mapping[ToolForm, str] = {"hermes": "</tool_call>", "llama": "", "mistral": "]"}

_HEAD = re.compile(r'\{"name": "([A-Za-z0-9_-]+)", "(?:arguments|parameters)": ')
_BETWEEN: Mapping[ToolForm, str] = {"hermes": "", "llama": ";", "mistral": ","}


def marks(form: ToolForm | None) -> tuple[str, ...]:
    """Return the marks of a form that a tokenizer may have as special tokens."""
    if form is None:
        return ()
    return tuple(mark for mark in (BEGINNINGS[form], ENDS[form]) if len(mark) > 1)


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that may be called; `parameters` is the JSON schema of its arguments.

    `strict`: its arguments have to follow the schema.
    """

    name: str
    parameters: Mapping[str, Any] | None = None
    strict: bool = False


class Said(NamedTuple):
    """A piece of text."""

    text: str


class CallPiece(NamedTuple):
    """A piece of the call `number`, from 0: the first has its name, the others arguments."""

    number: int
    name: str | None
    arguments: str


class ToolCallReader:
    """Takes the pieces of a text; gives out its words, and its calls once they are known as such.

    `sure` says that the text is nothing but calls, as the grammar of a call that is needed has them
    (`tool_grammars`): arguments are given out as they come, and nothing is words. Linear in the
    length of the text.
    """

    def __init__(self, form: ToolForm, names: Collection[str], *, sure: bool = False) -> None:
        self._form = form
        self._names = frozenset(names)
        self._sure = sure
        self._held = ""
        """What is not given out yet."""
        self._step = self._await_start if form == "llama" else self._read_text
        self._object = _Object(0)
        self._told = 0
        """How much of the object's arguments was given out; 0 before its name was."""
        self._found: list[Said | CallPiece] = []
        self.calls = 0
        """How many calls were found."""
        self.cut = False
        """Whether the text ended within a call that was given out all the same."""

    def push(self, text: str) -> list[Said | CallPiece]:
        """Take the next piece; return what is known now."""
        self._held += text
        while self._step():
            pass
        found, self._found = self._found, []
        return found

    def finish(self) -> list[Said | CallPiece]:
        """Return what was held back, at the end of the text."""
        held, self._held = self._held, ""
        self.cut = bool(self._told and self._step == self._read_object)
        if self._sure:
            return self._only_call()
        nothing = self.cut or (self.calls and not held.strip())
        return [] if nothing or not held else [Said(held)]

    def _only_call(self) -> list[Said | CallPiece]:
        """Return the call that is sure to have been begun, where its name is, too."""
        if self.calls or len(self._names) > 1:
            return []
        self.calls, self.cut = 1, True
        return [CallPiece(0, next(iter(self._names)), "")]

    # Steps: each looks at what is held, and tells whether the next can go on with it.

    def _read_text(self) -> bool:
        mark = BEGINNINGS[self._form]
        place = self._held.find(mark)
        if place < 0:
            self._say(_safe_length(self._held, mark))
            return False
        self._say(len(self._held[:place].rstrip()))
        return self._go(self._await_object, len(self._held) - len(self._held.lstrip()) + len(mark))

    def _await_start(self) -> bool:
        """Tell a Llama's call, which stands alone, from a text, by how it begins."""
        begun, mark = self._held.lstrip(), BEGINNINGS["llama"]
        if begun.startswith(mark):
            return self._go(self._await_object, self._held.index(mark) + len(mark))
        if begun.startswith("{"):
            return self._go(self._await_object, 0)
        if mark.startswith(begun):
            return False
        return self._go(self._pass_on, 0)

    def _pass_on(self) -> bool:
        self._say(len(self._held))
        return False

    def _await_object(self) -> bool:
        """Skip white space, and the bracket of a list."""
        place = _skip(self._held, self._object.place, " \t\r\n[" if self._lists() else " \t\r\n")
        if place == len(self._held):
            return False
        if self._held[place] != "{":
            return self._break(place)
        self._told = 0
        return self._go(self._read_object, place)

    def _read_object(self) -> bool:
        closed = self._object.read(self._held)
        if self._sure and self._tell_arguments(closed=closed) and closed:
            return self._after(self._object.place)
        if not closed:
            return False
        call = _call(self._held[self._object.start : self._object.place], self._names)
        if call is None:
            return self._break(self._object.place)
        name, arguments = call
        self._found += [CallPiece(self.calls, name, ""), CallPiece(self.calls, None, arguments)]
        self.calls += 1
        return self._after(self._object.place)

    def _tell_arguments(self, *, closed: bool) -> bool:
        """Give out what there is of a call that is sure to become one; False for no such call."""
        head = _HEAD.match(self._held, self._object.start)
        if head is None or head[1] not in self._names:
            return False
        if not self._told:
            self._found.append(CallPiece(self.calls, head[1], ""))
            self._told = head.end()
            self.calls += 1
        end = self._object.place - closed
        if end > self._told:
            self._found.append(CallPiece(self.calls - 1, None, self._held[self._told : end]))
            self._told = end
        return True

    def _after(self, place: int) -> bool:
        self._held = self._held[place:]
        return self._go(self._await_end, 0)

    def _await_end(self) -> bool:
        """Look whether another call follows, or the mark that ends calls, or text."""
        place, end, between = _skip(self._held, 0), ENDS[self._form], _BETWEEN[self._form]
        rest = self._held[place:]
        if not rest:
            return False
        if between and rest.startswith(between):
            return self._go(self._await_object, place + 1)
        if self._form == "llama":
            return self._go(self._await_object if rest[0] == "{" else self._pass_on, place)
        if rest.startswith(end):
            self._held = rest[len(end) :]
            return self._go(self._read_text, 0)
        if end.startswith(rest):
            return False
        return self._go(self._read_text, 0)

    def _lists(self) -> bool:
        return self._form == "mistral"

    def _go(self, step: Any, place: int) -> bool:  # noqa: ANN401 - one of the methods above
        self._step = step
        self._object = _Object(place)
        return True

    def _break(self, place: int) -> bool:
        """Give out as text what began as a call and is none."""
        self._say(place)
        return self._go(self._pass_on if self._form == "llama" else self._read_text, 0)

    def _say(self, length: int) -> None:
        if length:
            self._found.append(Said(self._held[:length]))
            self._held = self._held[length:]


class _Object:
    """Finds the end of a JSON object, piece by piece."""

    def __init__(self, start: int) -> None:
        self.start = self.place = start
        """`place` is how far it was read."""
        self._depth = 0
        self._quoted = self._escaped = False

    def read(self, text: str) -> bool:
        """Go on in the text; True when the object is closed, right before `place`."""
        while self.place < len(text):
            character = text[self.place]
            self.place += 1
            if self._escaped:
                self._escaped = False
            elif self._quoted:
                self._escaped = character == "\\"
                self._quoted = character != '"'
            elif character == '"':
                self._quoted = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if not self._depth:
                    return True
        return False


def _call(text: str, names: Collection[str]) -> tuple[str, str] | None:
    """Return name and arguments, as JSON, of a text that calls one of these tools; else None."""
    try:
        found = orjson.loads(text)
        arguments = found.get("arguments", found.get("parameters"))
        if isinstance(arguments, str):  # some models quote them
            arguments = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return None
    name = found.get("name")
    if not isinstance(name, str) or name not in names or not isinstance(arguments, dict):
        return None
    return name, orjson.dumps(arguments).decode()


def _safe_length(text: str, mark: str) -> int:
    """Return how much of a text can neither begin a mark nor be the white space before one."""
    most = min(len(text), len(mark) - 1)
    begun = next((n for n in range(most, 0, -1) if text.endswith(mark[:n])), 0)
    return len(text[: len(text) - begun].rstrip())


def _skip(text: str, place: int, characters: str = " \t\r\n") -> int:
    while place < len(text) and text[place] in characters:
        place += 1
    return place
