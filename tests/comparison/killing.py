"""Runs in processes of their own, to be killed while they ask."""

import os
import subprocess
import sys
import time
from pathlib import Path

from hone.comparison.cache import open_cache
from tests.comparison.upstream import Upstream

ROOT = Path(__file__).resolve().parents[2]


def start(text: str, folder: Path, *words: str) -> "subprocess.Popen[str]":
    """Start a run in a process of its own."""
    path = folder / "experiment.toml"
    path.write_text(text)
    program = words or ("-m", "tests.comparison.kill_driver", str(path), str(folder / "out"))
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


def answered(folder: Path) -> int:
    with open_cache(folder / "out") as cache:
        return sum(row["state"] == "answered" for row in cache.rows())
