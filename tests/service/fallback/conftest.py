"""A store whose model has a fallback, made by a real comparison, and a stand-in upstream."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from hone.comparison.adoption import read_adoption
from hone.models.manifest import Manifest
from hone.models.names import ModelReference
from hone.models.registry import Registry
from tests.comparison.fallback_runs import SURE, compared, rows
from tests.comparison.upstream import Behaviour, Upstream, upstream
from tests.service.running import Service, serving

KEY = "sk-of-the-service"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """Return a folder with `store`, `data` and `run`, and the manifest with the fallback."""
    folder = tmp_path_factory.mktemp("fallback")
    with upstream(Behaviour()) as server:
        compared(folder, server)
    manifest = read_adoption(folder / "run").publish()
    Registry(folder / "store").promote(ModelReference(manifest.model, version=manifest.version))
    return folder, manifest


@pytest.fixture(scope="session")
def texts(made: tuple[Path, Manifest]) -> list[dict[str, Any]]:
    """Return new texts, with their label and whether the model is above the threshold.

    Those between the threshold and where the model begins to be right are left out.
    """
    record = made[1].fallback
    assert record is not None
    found = rows(made[0] / "store", 40, seed=77)
    low, high = sorted((SURE, record.threshold))
    flagged = (row | {"sure": row["confidence"] >= high} for row in found)
    return [row for row in flagged if row["sure"] or row["confidence"] < low]


@pytest.fixture
def big() -> Iterator[Upstream]:
    """Run an upstream that wants a key."""
    with upstream(Behaviour(key=KEY)) as server:
        yield server


@pytest.fixture
def service(made: tuple[Path, Manifest], big: Upstream, tmp_path: Path) -> Iterator[Service]:
    """Serve the store with the upstream's address."""
    with served(made[0] / "store", big, tmp_path) as running:
        yield running


def served(
    store: Path, server: Upstream, logs: Path, **settings: Any
) -> AbstractContextManager[Service]:
    """Serve a store with that upstream."""
    given: dict[str, Any] = {
        "fallback_url": server.address,
        "fallback_api_key": KEY,
        "prices_file": store.parent / "data" / "prices.json",
        "run_jobs": "false",
        "state_dir": logs / "state",
        **settings,
    }
    return serving(store, log_folder=logs, **given)
