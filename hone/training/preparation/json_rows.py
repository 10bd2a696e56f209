"""JSON lines and JSON lists, one object at a time, whichever of the two a file really holds."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from hone.models.errors import InvalidExamples
from hone.training.preparation.encoding import Encoding, open_text
from hone.training.preparation.lines import OVERLONG, numbered_lines
from hone.training.preparation.rows import (
    LONGEST_LINE,
    BadLine,
    RawRow,
    Record,
    unreadable_reason,
)

_CHUNK = 1 << 16
_STRUCTURE = re.compile(r'["\[\]{},]')
_STRING_END = re.compile(r'["\\\r\n]')


class _Unreadable(ValueError):
    """The message is the end of a sentence that begins with the line."""


def holds_a_list(path: Path, encoding: Encoding) -> bool:
    """Tell a JSON list from JSON lines by its first two signs; a line may itself be a list.

    Raises InvalidExamples for one object over several lines, which is neither.
    """
    with open_text(path, encoding) as file:
        head = file.read(_CHUNK).lstrip("\ufeff \t\r\n")
    if head.startswith("["):
        return head[1:].lstrip()[:1] in {"{", "]", ""}
    if re.match(r"\{[ \t]*\r?\n", head):
        raise InvalidExamples(
            f"{path.name} holds a JSON object over several lines: write a list of objects, "
            "or one object a line"
        )
    return False


def json_line_records(path: Path, encoding: Encoding) -> Iterator[Record]:
    """Yield the object of every line that is not blank; numbers are lines."""
    decoder = _decoder()
    for number, line in numbered_lines(path, encoding):
        if line is None:
            yield BadLine(number, OVERLONG)
        elif line.strip():
            yield _record(decoder, number, line, encoding)


def json_list_records(path: Path, encoding: Encoding) -> Iterator[Record]:
    """Yield the objects of a list; numbers are items, from 1."""
    decoder = _decoder()
    for number, item in enumerate(_items(path, encoding), start=1):
        if isinstance(item, _Unreadable):
            yield BadLine(number, str(item))
        elif item.strip():
            yield _record(decoder, number, item, encoding)
        else:
            yield BadLine(number, "is empty: there is a comma too many")


def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant)


def _record(decoder: json.JSONDecoder, number: int, text: str, encoding: Encoding) -> Record:
    reason = unreadable_reason(text, encoding)
    if reason is not None:
        return BadLine(number, reason)
    try:
        fields = _parse(decoder, text)
    except _Unreadable as error:
        return BadLine(number, str(error))
    return RawRow(number, fields)


def _parse(decoder: json.JSONDecoder, text: str) -> dict[str, object]:
    try:
        value = decoder.decode(text)
    except json.JSONDecodeError as error:
        raise _Unreadable(f"is not valid JSON from character {error.pos + 1} on") from None
    except RecursionError:
        raise _Unreadable("is nested too deeply") from None
    except _Unreadable:
        raise
    except ValueError:
        raise _Unreadable("holds a number with too many digits") from None
    if not isinstance(value, dict):
        raise _Unreadable("is not a JSON object")
    # Only escapes can bring in what the check of the raw line did not see.
    if "\\u" in text:
        _check_strings(value)
    return value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        for key, value in pairs:
            if fields[key] != value:
                raise _Unreadable(f"has the key {key[:50]!r} twice, with different values")
    return fields


def _refuse_constant(name: str) -> object:
    raise _Unreadable(f"holds {name}, which is not JSON")


def _check_strings(value: object) -> None:
    if isinstance(value, str):
        reason = unreadable_reason(value)
        if reason is not None:
            raise _Unreadable(reason)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_strings(key)
            _check_strings(item)
    elif isinstance(value, list):
        for item in value:
            _check_strings(item)


def _items(path: Path, encoding: Encoding) -> Iterator[str | _Unreadable]:
    """Cut a list into the text of its items, or why there is none."""
    cutter = _ItemCutter()
    with open_text(path, encoding) as file:
        while not cutter.closed and (chunk := file.read(_CHUNK)):
            yield from cutter.feed(chunk)
        while not cutter.after.strip() and (chunk := file.read(_CHUNK)):
            cutter.after = chunk
    if not cutter.closed:
        yield _Unreadable("is not closed, so that nothing after it could be read")
    elif cutter.after.strip():
        yield _Unreadable("stands after the end of the list, where nothing is read")


class _ItemCutter:
    """Finds where the items of the outermost list end, by brackets and strings alone, so that
    one broken item does not hide the following ones.
    """

    def __init__(self) -> None:
        self._open: list[str] = []
        self._in_string = False
        self._escaped = False
        self._pieces: list[str] = []
        self._length = 0
        self.closed = False
        self.after = ""

    def feed(self, chunk: str) -> Iterator[str | _Unreadable]:
        """Yield the items that end in this piece of the file."""
        start = position = 0
        while not self.closed:
            if self._in_string:
                position = self._pass_string(chunk, position)
            found = None if self._in_string else _STRUCTURE.search(chunk, position)
            if found is None:
                break
            position = found.end()
            sign = found.group()
            if len(self._open) == 1 and sign in ",]":
                self._keep(chunk[start : position - 1])
                self.closed = sign == "]"
                yield from self._finished()
                start = position
            elif not self._open:
                self._open.append("[")
                start = position
            else:
                self._take(sign)
        if self.closed:
            self.after = chunk[position:]
        elif self._open:
            self._keep(chunk[start:])

    def _pass_string(self, chunk: str, position: int) -> int:
        """Go to the string's end, or to a line end: no JSON string goes over one."""
        while self._in_string and position < len(chunk):
            if self._escaped:
                self._escaped = False
                position += 1
                continue
            found = _STRING_END.search(chunk, position)
            if found is None:
                return len(chunk)
            position = found.end()
            self._escaped = found.group() == "\\"
            self._in_string = self._escaped
        return position

    def _take(self, sign: str) -> None:
        if sign == '"':
            self._in_string = True
        elif sign in "[{":
            self._open.append(sign)
        elif sign in "]}":
            # A closing bracket that fits none of this item's is part of what is broken in it.
            opening = "[" if sign == "]" else "{"
            if opening in self._open[1:]:
                while self._open.pop() != opening:
                    pass

    def _keep(self, piece: str) -> None:
        self._length += len(piece)
        if self._length > LONGEST_LINE:
            self._pieces.clear()
        else:
            self._pieces.append(piece)

    def _finished(self) -> Iterator[str | _Unreadable]:
        item = "".join(self._pieces)
        too_long = self._length > LONGEST_LINE
        self._pieces.clear()
        self._length = 0
        if too_long:
            yield _Unreadable(OVERLONG)
        # The empty place before the closing bracket is no item: `[]`, or a trailing comma.
        elif item.strip() or not self.closed:
            yield item
