"""Runs in processes of their own that are killed at a point, for tests of what is left then."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from hone.comparison.cache import open_cache
from tests.comparison.upstream import Upstream

ROOT = Path(__file__).resolve().parents[2]
OUT = "out"


def start(text: str, folder: Path, *words: str) -> "subprocess.Popen[str]":
    """Start a run of an experiment's text into `out` below a folder; `words` are another program.

    The text is written to `experiment.toml` in the folder.
    """
    path = folder / "experiment.toml"
    path.write_text(text)
    program = words or ("-m", "tests.comparison.kill_driver", str(path), str(folder / OUT))
    return subprocess.Popen(
        [sys.executable, *program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def wait_for(server: Upstream, served: int, process: "subprocess.Popen[str]") -> None:
    """Wait until the server has seen so many requests."""
    deadline = time.monotonic() + 120
    while len(server.served) < served:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.001)


def kill_after(server: Upstream, served: int, process: "subprocess.Popen[str]") -> None:
    """Kill a run once the server has seen so many requests, and wait until all is quiet."""
    wait_for(server, served, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    server.settle()


def answered(folder: Path) -> int:
    """Return how many answers are on disk of the run below a folder."""
    with open_cache(folder / OUT) as cache:
        return sum(row["state"] == "answered" for row in cache.rows())
