"""A file whose creation was broken off anywhere is whole or absent, and the store goes on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]


@pytest.mark.parametrize("mode", ["kill", "one-error", "broken-disk"])
def test_a_break_at_any_step(mode: str, url: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.service.jobs.file_crash_driver", mode, url,
         str(tmp_path / "files")],
        stdout=subprocess.PIPE, text=True, check=True, timeout=800,
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert report["complaints"] == []
    assert "wrong error" not in report["ends"]
    assert report["ends"]["done"] == 1
    assert report["ends"]["killed" if mode == "kill" else "refused"] >= (
        40 if mode == "kill" else 4
    )
