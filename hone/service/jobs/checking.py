"""Reads a large training file in a process of its own, so that the service answers meanwhile.

    python -m hone.service.jobs.checking FILE BOUNDS

Going through a file line by line keeps the interpreter busy, and every other thread of a process
waits for it again and again: half a second for a health check was measured beside 500 MB. Small
files of lines are read where they are asked for, which is sooner than a process starts; an archive
never is, as a small one may unpack to much.
"""

import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from hone.models.imaging.archives import ArchiveBounds, begins_as_archive
from hone.service.jobs.errors import StoreFailed, disk_errors
from hone.service.jobs.validation import DEFAULT_BOUNDS, FileReport, LineProblem, check_file

SMALL_BYTES = 2**20
_NICE = 5
_OUT_OF_MEMORY = 71
_KILLED = {signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS}
"""Not by who stops the service, and all that it started."""

_TOO_LARGE = "The file takes more memory to look through than there is."


def check(path: Path, bounds: ArchiveBounds = DEFAULT_BOUNDS) -> FileReport:
    """Read a file from its first line to its last. StoreFailed if it cannot be read.

    A file whose process is killed is reported as unusable: it would be killed again and again, and
    the jobs behind it would wait for ever.
    """
    with disk_errors():
        small = path.stat().st_size <= SMALL_BYTES and not begins_as_archive(path)
    if small:
        return check_file(path, bounds)
    told = orjson.dumps(asdict(bounds)).decode()
    command = [sys.executable, "-m", __name__, str(path), told]
    done = subprocess.run(  # noqa: S603 - our own module, on a file of ours
        command, capture_output=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode == _OUT_OF_MEMORY or -done.returncode in _KILLED:
        return FileReport(0, None, (LineProblem(None, _TOO_LARGE),), 1, Counter())
    if done.returncode:
        raise StoreFailed(f"a file could not be checked: status {done.returncode}")
    return _report(orjson.loads(done.stdout))


def _report(content: dict[str, Any]) -> FileReport:
    content["problems"] = _problems(content["problems"])
    content["wrong_tools"] = _problems(content["wrong_tools"])
    content["tool_lines"] = tuple(content["tool_lines"])
    content["labels"] = Counter[str](content["labels"])
    return FileReport(**content)


def _problems(listed: list[dict[str, Any]]) -> tuple[LineProblem, ...]:
    return tuple(LineProblem(**problem) for problem in listed)


def main() -> None:
    """Print the report of one file as JSON."""
    os.nice(_NICE)
    path, bounds = sys.argv[1:]
    try:
        report = check_file(Path(path), ArchiveBounds(**orjson.loads(bounds)))
    except MemoryError:
        sys.exit(_OUT_OF_MEMORY)
    sys.stdout.buffer.write(orjson.dumps({**asdict(report), "labels": dict(report.labels)}))


if __name__ == "__main__":
    main()
