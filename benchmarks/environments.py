"""Environments of the peers: each has its own, with the newest release that PyPI gives.

The libraries that do the arithmetic (ONNX Runtime, tokenizers, torch, transformers, numpy) are
not installed a second time: a path file adds this project's environment behind the peer's own
packages, so that all of them run the same arithmetic.
"""

import subprocess
import sys
import sysconfig
import venv
from functools import cache
from pathlib import Path

_PATH_FILE = "behind.pth"
_VERSION = "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))"


class NotInstalled(Exception):
    """A peer could not be installed; the message says why."""


@cache
def peer_python(package: str, folder: Path) -> Path:
    """Return the interpreter of a package's environment, made on first use; or NotInstalled."""
    place = folder / package
    python = place / "bin" / "python"
    path_file = next(place.glob("lib/python*/site-packages"), place) / _PATH_FILE
    if path_file.exists():
        return python
    venv.create(place, with_pip=True, clear=True)
    install = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "-q", package]
    try:
        done = subprocess.run(install, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        raise NotInstalled("pip took more than five minutes") from None
    if done.returncode:
        raise NotInstalled((done.stderr.strip().splitlines() or ["pip failed"])[-1][:200])
    path_file = next(place.glob("lib/python*/site-packages")) / _PATH_FILE
    path_file.write_text(sysconfig.get_path("purelib") + "\n")
    return python


def peer_version(package: str, folder: Path) -> str:
    """Return the version of a package that `peer_python` installed."""
    python = str(peer_python(package, folder))
    done = subprocess.run(
        [python, "-c", _VERSION, package], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def own_python() -> Path:
    """Return the interpreter that runs this."""
    return Path(sys.executable)
