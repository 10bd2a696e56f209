"""One service over a model of pictures and one of texts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hone.models.registry import Registry
from tests.service.running import Service, serving
from tests.tiny_bundle import publish_tiny
from tests.tiny_picture_bundle import publish_tiny_pictures


@pytest.fixture(scope="session")
def shown_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("store")
    publish_tiny_pictures(Registry(store))
    publish_tiny(Registry(store))
    return store


@pytest.fixture(scope="session")
def shown(shown_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run a service; tests must leave it as it was."""
    with serving(
        shown_store,
        log_folder=tmp_path_factory.mktemp("logs"),
        max_body_bytes=60_000,
        max_picture_body_bytes=400_000,
        max_pictures=8,
    ) as service:
        yield service
