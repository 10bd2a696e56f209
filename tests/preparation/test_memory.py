"""Nine times the rows take no more memory."""

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from tests.preparation.running import word_tokenizer

ALLOWED_GROWTH_MIB = 40
_NOTES = 25
"""They make a text about 1 KB long: 80 MB more in the larger file, twice what is allowed."""

PREPARE = """
import resource, sys
from pathlib import Path
from hone.training.preparation.prepare import PrepareOptions, prepare
file, out, tokenizer = map(Path, sys.argv[1:])
options = PrepareOptions(file=file, out=out, tokenizer=tokenizer)
prepare(options, lambda problem: True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def write_rows(path: Path, count: int) -> Path:
    """Write rows of which every tenth repeats an earlier one and some conflict."""
    with path.open("wb") as file:
        for n in range(count):
            number = n // 2 if n % 10 == 0 else n
            text = f"Customer {number} writes about order {number * 7919 % count} and waits."
            text += f" Note {number} of {number * 31 % count}: nothing new." * _NOTES
            file.write(orjson.dumps({"text": text, "label": f"class {n % 50}"}) + b"\n")
    return path


def peak_mib(tmp_path: Path, count: int) -> int:
    path = write_rows(tmp_path / f"rows{count}.jsonl", count)
    files = (path, tmp_path / f"out{count}", word_tokenizer(tmp_path))
    command = [sys.executable, "-c", PREPARE, *map(str, files)]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(run.stdout)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    small, large = peak_mib(tmp_path, 10_000), peak_mib(tmp_path, 90_000)
    assert large - small < ALLOWED_GROWTH_MIB
