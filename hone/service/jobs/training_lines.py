"""The lines of a training file: hostile bytes in, dictionaries or what is wrong with them out."""

from collections.abc import Iterator
from typing import Any, BinaryIO

import orjson

LONGEST_LINE = 2_000_000
"""Bytes of a line of text."""

LONGEST_PICTURE_LINE = 10_000_000
"""Bytes of a line with a picture in it: what `hone prepare` reads, too."""

_BOM = b"\xef\xbb\xbf"


def numbered_lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Yield every line that is not blank with its number; None for one that is far too long."""
    number = 0
    while line := file.readline(LONGEST_PICTURE_LINE):
        number += 1
        if len(line) == LONGEST_PICTURE_LINE and not line.endswith(b"\n"):
            while (rest := file.readline(LONGEST_PICTURE_LINE)) and not rest.endswith(b"\n"):
                pass
            yield number, None
        elif number == 1 and line.startswith(_BOM):
            yield number, line.removeprefix(_BOM)
        elif not line.isspace():
            yield number, line


def parsed_line(line: bytes | None) -> dict[str, Any] | str:
    """Return a line's dictionary, or what is wrong with it."""
    if line is None:
        return overlong(LONGEST_PICTURE_LINE)
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        if is_not_utf8(line):
            return "cannot be parsed. Error: line is not UTF-8"
        where = f"character {error.pos + 1}"
        return f"cannot be parsed. Error: line contains invalid json: it is wrong from {where} on"
    return found if isinstance(found, dict) else "is not a JSON dictionary"


def overlong(most: int) -> str:
    """Return what is wrong with a line of more bytes than that."""
    return f"cannot be parsed. Error: line has more than {most} bytes"


def is_not_utf8(line: bytes) -> bool:
    """Tell whether a line is not text at all."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return True
    return False
