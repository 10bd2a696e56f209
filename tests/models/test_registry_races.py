"""Several processes may work on one store at once."""

import json
import subprocess
import sys
from pathlib import Path

from tests.models.bodies import ROOT
from tests.models.race_driver import VERSIONS_EACH, WRITERS


def test_writers_get_distinct_consecutive_versions_and_readers_whole_bundles(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.race_driver", str(tmp_path / "store")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=250,
    )
    report = json.loads(done.stdout)
    assert report["complaints"] == []
    given = [number for numbers in report["given"] for number in numbers]
    assert sorted(given) == [*range(1, WRITERS * VERSIONS_EACH + 1)]
    assert all(numbers == sorted(numbers) for numbers in report["given"])
