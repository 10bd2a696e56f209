"""Physical lines of a text file, with their numbers and a limit on their length."""

from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from hone.training.preparation.encoding import Encoding, open_text
from hone.training.preparation.rows import LONGEST_LINE

OVERLONG = f"is longer than {LONGEST_LINE:,} characters"


def numbered_lines(path: Path, encoding: Encoding) -> Iterator[tuple[int, str | None]]:
    """Yield (line number from 1, line with its end); the line is None when it is too long."""
    with open_text(path, encoding) as file:
        number = 0
        while line := file.readline(LONGEST_LINE):
            number += 1
            if len(line) == LONGEST_LINE and not line.endswith(("\n", "\r")):
                _skip_rest_of_line(file)
                yield number, None
            else:
                yield number, line


def _skip_rest_of_line(file: TextIO) -> None:
    while rest := file.readline(LONGEST_LINE):
        if rest.endswith(("\n", "\r")):
            return
