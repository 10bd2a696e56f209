"""stories260K, exported once for all tests of a worker."""

from pathlib import Path

import pytest

from hone.training.causal.export import export_decoder
from tests.bases import base_folder


@pytest.fixture(scope="session")
def stories() -> Path:
    return base_folder("stories260K")


@pytest.fixture(scope="session")
def stories_fp32(stories: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stories") / "model.fp32.onnx"
    export_decoder(stories, "fp32", path)
    return path
