"""Real pretrained models, where they lie beside the repository; tests without them skip."""

from pathlib import Path

import pytest

BASES = Path(__file__).resolve().parents[1].parent / "shared" / "bases"


def base_folder(name: str) -> Path:
    """Return a base's folder, or skip the test."""
    folder = BASES / name
    if not folder.is_dir():
        pytest.skip(f"{name} is not here")
    return folder
