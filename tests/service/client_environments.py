"""Real clients that need other versions than ours: each in an environment of its own, made once."""

import fcntl
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.running import ROOT, Service

LEGACY = "openai[datalib]==0.28.1"
"""The client of the closed API, with its command line and what its tool to prepare data needs."""

LANGCHAIN = "langchain-openai==1.7.4"
_FOLDER = ROOT / "build" / "test-venvs"


def programs_of(client: str) -> Path:
    """Return the folder of a client's programs, `python` too; skip if it cannot be installed."""
    place = _FOLDER / re.sub(r"\[.*?\]|==", "-", client)
    _FOLDER.mkdir(parents=True, exist_ok=True)
    with (_FOLDER / f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        if not (place / "whole").exists():
            _install(client, place)
            (place / "whole").touch()
    return place / "bin"


def _install(client: str, place: Path) -> None:
    pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    steps = [
        [sys.executable, "-m", "venv", "--clear", str(place)],
        [*pip, "--disable-pip-version-check", client],
    ]
    for step in steps:
        made = subprocess.run(step, capture_output=True, text=True, check=False, timeout=280)
        if made.returncode:
            pytest.skip(f"{client} cannot be installed here: {made.stderr.strip()[-300:]}")


def run_client(
    programs: Path, service: Service, program: str, *words: str, timeout_s: float = 120
) -> str:
    """Run a program of a client that knows where the service is; return what it prints."""
    address = f"http://127.0.0.1:{service.port}/v1"
    environment = {
        "PATH": os.environ["PATH"],
        "OPENAI_API_BASE": address,
        "OPENAI_BASE_URL": address,
        "OPENAI_API_KEY": "unused",
    }
    done = subprocess.run(
        [str(programs / program), *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
