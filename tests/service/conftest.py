"""One service over a tiny model, shared by the tests that only ask it things."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hone.models.registry import Registry
from tests.service.running import Service, serving
from tests.tiny_bundle import publish_tiny


@pytest.fixture(scope="session")
def asked_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Publish two versions of `support` and one each of two other models."""
    store = tmp_path_factory.mktemp("store")
    registry = Registry(store)
    for seed in (1, 2):
        publish_tiny(registry, seed=seed)
    publish_tiny(registry, "plain", labels=("a", "b"), baseline=None)
    publish_tiny(registry, "strict", limits={"max_tokens": 8, "long_texts": "reject"})
    return store


@pytest.fixture(scope="session")
def asked(asked_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run a service with small limits over `asked_store`; tests must leave it as it was."""
    with serving(
        asked_store,
        log_folder=tmp_path_factory.mktemp("logs"),
        max_items=16,
        max_characters=5000,
        max_body_bytes=200_000,
    ) as service:
        yield service
