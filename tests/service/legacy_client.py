"""The client of the closed API, 0.28.1, in an environment of its own, made once."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.running import ROOT

CLIENT = "openai==0.28.1"
VENV = ROOT / "build" / "test-venvs" / "openai-0.28.1"


def legacy_programs() -> Path:
    """Make the environment if need be, and return its folder of programs; skip if it cannot be."""
    programs = VENV / "bin"
    if not (VENV / "whole").exists():
        steps = [
            [sys.executable, "-m", "venv", "--clear", str(VENV)],
            [str(programs / "pip"), "install", "--quiet", "--disable-pip-version-check", CLIENT],
        ]
        for step in steps:
            made = subprocess.run(step, capture_output=True, text=True, check=False, timeout=280)
            if made.returncode:
                pytest.skip(f"{CLIENT} cannot be installed here: {made.stderr.strip()[-300:]}")
        (VENV / "whole").touch()
    return programs
