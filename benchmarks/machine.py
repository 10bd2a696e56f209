"""What a figure was measured on: processor, libraries, date, commit."""

import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from hone.models.layout import usable_cores

_FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp")
_LIBRARIES = (
    "onnxruntime",
    "tokenizers",
    "numpy",
    "uvicorn",
    "uvloop",
    "fastapi",
    "torch",
    "transformers",
)


def describe_machine() -> dict[str, Any]:
    """Return the processor, its cores and the instructions that matter for integer arithmetic."""
    facts = _processor()
    present = set(facts.get("flags", facts.get("Features", "")).split())
    return {
        "cpu": facts.get("model name", platform.processor() or platform.machine()),
        "flags": [flag for flag in _FLAGS if flag in present],
        "cores": usable_cores(),
        "memory_gib": round(_memory_bytes() / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
    }


def describe_software() -> dict[str, Any]:
    """Return the versions that a figure depends on, and the commit."""
    return {
        "python": platform.python_version(),
        "hone": versions(["hone"]).get("hone"),
        "commit": commit(),
        **versions(_LIBRARIES),
    }


def versions(names: Iterable[str]) -> dict[str, str]:
    """Return the installed versions of those distributions that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Return the short commit, with `+` when files differ from it; `unknown` outside of git."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    return described.stdout.strip() or "unknown"


def now() -> str:
    """Return the date and time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def load_average() -> float:
    """Return the mean number of running processes over the last minute."""
    return round(os.getloadavg()[0], 2)


def _processor() -> dict[str, str]:
    """Return the first processor's lines of /proc/cpuinfo."""
    facts: dict[str, str] = {}
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return facts
    for line in lines:
        name, separator, value = line.partition(":")
        if separator:
            facts.setdefault(name.strip(), value.strip())
    return facts


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
