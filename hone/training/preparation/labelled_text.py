"""Plain text with a label on every line: `__label__x text` as fastText has it, or with a tab."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from hone.models.errors import InvalidExamples
from hone.training.preparation.encoding import Encoding
from hone.training.preparation.lines import OVERLONG, numbered_lines
from hone.training.preparation.rows import BadLine, RawRow, Record, unreadable_reason

MARK = "__label__"
_SAMPLE_LINES = 2000
_SAMPLE_CHARACTERS = 200


class LabelledText:
    """A text file whose kind has been found: most of its first lines decide."""

    def __init__(self, path: Path, encoding: Encoding) -> None:
        self._path = path
        self._encoding = encoding
        lines = fasttext = tabbed = 0
        before, after = set[str](), set[str]()
        for _, line in islice(numbered_lines(path, encoding), _SAMPLE_LINES):
            if line is not None and line.strip():
                lines += 1
                fasttext += line.startswith(MARK)
                first, tab, second = line.strip("\r\n").partition("\t")
                if tab and "\t" not in second:
                    tabbed += 1
                    before.add(first[:_SAMPLE_CHARACTERS])
                    after.add(second[:_SAMPLE_CHARACTERS])
        self.is_fasttext = 2 * fasttext > lines
        self._label_first = len(before) <= len(after)
        if not self.is_fasttext and 2 * tabbed <= lines:
            raise InvalidExamples(
                f"{path.name} has no labels: a line is a label, a tab and a text, or begins with "
                f"{MARK}name; tables are known as csv, tsv, xlsx, json, jsonl and parquet"
            )

    def records(self) -> Iterator[Record]:
        """Yield `label` and `text` of every line that is not blank."""
        for number, line in numbered_lines(self._path, self._encoding):
            if line is None:
                yield BadLine(number, OVERLONG)
            elif line.strip():
                reason = unreadable_reason(line, self._encoding)
                yield BadLine(number, reason) if reason else self._split(number, line.strip("\r\n"))

    def _split(self, number: int, line: str) -> Record:
        if self.is_fasttext:
            return _split_fasttext(number, line)
        first, tab, second = line.partition("\t")
        if not tab:
            return BadLine(number, "has no tab between label and text")
        if "\t" in second:
            return BadLine(number, "has more than one tab")
        label, text = (first, second) if self._label_first else (second, first)
        return RawRow(number, {"text": text, "label": label})


def _split_fasttext(number: int, line: str) -> Record:
    label, text = (*line.split(maxsplit=1), "")[:2]
    if not label.startswith(MARK):
        return BadLine(number, f"does not begin with {MARK}")
    if text.startswith(MARK):
        return BadLine(number, "has more than one label")
    return RawRow(number, {"text": text, "label": label.removeprefix(MARK)})
