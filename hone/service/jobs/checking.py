"""Reads a large training file in a process of its own, so that the service answers meanwhile.

    python -m hone.service.jobs.checking FILE

Going through a file line by line keeps the interpreter busy, and every other thread of a process
waits for it again and again: half a second for a health check was measured beside 500 MB. Small
files are read where they are asked for, which is sooner than a process starts.
"""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import orjson

from hone.service.jobs.errors import StoreFailed, disk_errors
from hone.service.jobs.validation import FileReport, LineProblem, check_file

SMALL_BYTES = 2**20
_NICE = 5


def check(path: Path) -> FileReport:
    """Read a file from its first line to its last. StoreFailed if it cannot be read."""
    with disk_errors():
        size = path.stat().st_size
    if size <= SMALL_BYTES:
        return check_file(path)
    command = [sys.executable, "-m", __name__, str(path)]
    done = subprocess.run(  # noqa: S603 - our own module, on a file of ours
        command, capture_output=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise StoreFailed(f"a file could not be checked: status {done.returncode}")
    return _report(orjson.loads(done.stdout))


def _report(content: dict[str, Any]) -> FileReport:
    problems = tuple(LineProblem(line, message) for line, message in content.pop("problems"))
    labels = Counter[str](content.pop("labels"))
    return FileReport(**content, problems=problems, labels=labels)


def main() -> None:
    """Print the report of one file as JSON."""
    os.nice(_NICE)
    report = check_file(Path(sys.argv[1]))
    content = {
        "examples": report.examples,
        "form": report.form,
        "problems": [(problem.line, problem.message) for problem in report.problems],
        "problem_count": report.problem_count,
        "labels": dict(report.labels),
    }
    sys.stdout.buffer.write(orjson.dumps(content))


if __name__ == "__main__":
    main()
