"""Reads a large training file in a process of its own, so that the service answers meanwhile.

    python -m hone.service.jobs.checking FILE BOUNDS

Going through a file line by line keeps the interpreter busy, and every other thread of a process
waits for it again and again: half a second for a health check was measured beside 500 MB. Small
files are read where they are asked for, which is sooner than a process starts.
"""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from hone.models.imaging.archives import ArchiveBounds
from hone.service.jobs.errors import StoreFailed, disk_errors
from hone.service.jobs.validation import DEFAULT_BOUNDS, FileReport, LineProblem, check_file

SMALL_BYTES = 2**20
_NICE = 5


def check(path: Path, bounds: ArchiveBounds = DEFAULT_BOUNDS) -> FileReport:
    """Read a file from its first line to its last. StoreFailed if it cannot be read."""
    with disk_errors():
        size = path.stat().st_size
    if size <= SMALL_BYTES:
        return check_file(path, bounds)
    told = orjson.dumps(asdict(bounds)).decode()
    command = [sys.executable, "-m", __name__, str(path), told]
    done = subprocess.run(  # noqa: S603 - our own module, on a file of ours
        command, capture_output=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise StoreFailed(f"a file could not be checked: status {done.returncode}")
    return _report(orjson.loads(done.stdout))


def _report(content: dict[str, Any]) -> FileReport:
    content["problems"] = _problems(content["problems"])
    content["tools"] = _problems(content["tools"])
    content["labels"] = Counter[str](content["labels"])
    return FileReport(**content)


def _problems(listed: list[dict[str, Any]]) -> tuple[LineProblem, ...]:
    return tuple(LineProblem(**problem) for problem in listed)


def main() -> None:
    """Print the report of one file as JSON."""
    os.nice(_NICE)
    path, bounds = sys.argv[1:]
    report = check_file(Path(path), ArchiveBounds(**orjson.loads(bounds)))
    sys.stdout.buffer.write(orjson.dumps({**asdict(report), "labels": dict(report.labels)}))


if __name__ == "__main__":
    main()
