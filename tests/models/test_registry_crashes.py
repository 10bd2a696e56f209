"""A store that was broken off anywhere is in its old state or its new one, and goes on working."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.models.bodies import ROOT

pytestmark = pytest.mark.timeout(900)
"""Seconds of work, but in hundreds of short-lived processes: a busy machine makes them wait."""

OPERATIONS = ["publish-first", "publish", "promote", "remove", "remove-highest"]


def break_off(operation: str, mode: str, folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.crash_driver", operation, mode, str(folder)],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=800,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_kill_at_any_step(operation: str, tmp_path: Path) -> None:
    report = break_off(operation, "kill", tmp_path)
    assert report["complaints"] == []
    assert report["ends"].keys() == {"killed", "done"}
    assert report["ends"]["killed"] > 60


@pytest.mark.parametrize("mode", ["one-error", "broken-disk", "full-disk"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_input_output_error_at_any_step(operation: str, mode: str, tmp_path: Path) -> None:
    report = break_off(operation, mode, tmp_path)
    assert report["complaints"] == []
    assert "wrong error" not in report["ends"]
    assert report["ends"]["refused"] >= 1
