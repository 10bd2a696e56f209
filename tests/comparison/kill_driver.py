"""Runs an experiment's file in a folder, as `hone compare` does, for tests that kill it."""

import sys
from pathlib import Path

from tests.comparison.experiments import run

if __name__ == "__main__":
    text, out = Path(sys.argv[1]).read_text(encoding="utf-8"), Path(sys.argv[2])
    run(text, out)
