"""New versions: swapped in under load, or refused with the old one still serving."""

import signal
import time
from pathlib import Path

import pytest

from hone.models.manifest import MANIFEST_FILE
from hone.models.names import parse_reference
from hone.models.registry import Registry
from tests.service.load import press_while
from tests.service.running import Service, serving, wait_until
from tests.tiny_bundle import publish_tiny

FILES = (MANIFEST_FILE, "model.fp32.onnx", "tokenizer.json")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "store")
    publish_tiny(registry, seed=1)
    return registry


def serves(service: Service, version: int) -> bool:
    return bool(service.classify("card")["model"] == f"support@{version}")


def test_a_new_version_comes_in_under_load_without_a_failure(
    registry: Registry, tmp_path: Path
) -> None:
    with serving(registry.store, log_folder=tmp_path) as service:

        def publish_two_more() -> None:
            for seed, version in ((2, 2), (3, 3)):
                publish_tiny(registry, seed=seed)
                wait_until(lambda version=version: serves(service, version))

        outcome = press_while(service.port, publish_two_more, clients=16)
        assert outcome.failures == []
        assert set(outcome.statuses) == {200}
        assert outcome.models == {"support@1", "support@2", "support@3"}
        assert service.metrics()["hone_loaded_models", ()] == 1


def test_promotion_moves_what_is_served(registry: Registry, tmp_path: Path) -> None:
    publish_tiny(registry, seed=2)
    with serving(registry.store, log_folder=tmp_path) as service:
        assert serves(service, 2)
        registry.promote(parse_reference("support@1"))
        wait_until(lambda: serves(service, 1))
        assert service.classify("card", "support@production")["model"] == "support@1"
        assert service.classify("card", "support@latest")["model"] == "support@2"
        publish_tiny(registry, seed=3)
        wait_until(lambda: 3 in service.get("/v1/models/support").json()["versions"])
        assert serves(service, 1)


def test_a_flipped_byte_in_any_file_is_refused_and_the_old_version_serves(
    registry: Registry, tmp_path: Path
) -> None:
    with serving(registry.store, log_folder=tmp_path, reload_interval_s=0.1) as service:
        for number, name in enumerate(FILES, 1):
            version = _publish_broken(registry, name)
            wait_until(lambda n=number: service.logged().count("model not loaded") >= n)
            assert serves(service, 1)
            assert service.get("/readyz").status == 200
            pinned = service.post({"model": f"support@{version}", "input": "card"})
            assert pinned.status == 503
        failures = service.metrics()["hone_model_load_failures_total", (("model", "support"),)]
        assert failures == 3
        assert service.logged().count("model not loaded") == 3
        publish_tiny(registry, seed=9)
        wait_until(lambda: serves(service, 5))


def test_a_version_whose_files_are_mended_is_tried_again(
    registry: Registry, tmp_path: Path
) -> None:
    with serving(registry.store, log_folder=tmp_path, reload_interval_s=0.1) as service:
        version = _publish_broken(registry, "tokenizer.json")
        wait_until(lambda: "model not loaded" in service.logged())
        file = registry.folder("support", version) / "tokenizer.json"
        file.write_bytes(_flipped(file.read_bytes()))
        wait_until(lambda: serves(service, version))


def test_old_versions_are_loaded_on_demand_and_few_are_kept(
    registry: Registry, tmp_path: Path
) -> None:
    for seed in (2, 3, 4, 5):
        publish_tiny(registry, seed=seed)
    with serving(registry.store, log_folder=tmp_path, pinned_versions=2) as service:
        answers = {
            version: service.classify("where is my card", f"support@{version}")
            for version in (1, 2, 3, 4, 5, 1, 2)
        }
        for version, answer in answers.items():
            assert answer["model"] == f"support@{version}"
        assert len({str(answer["data"]) for answer in answers.values()}) == 5
        assert service.metrics()["hone_loaded_models", ()] <= 3
        assert serves(service, 5)


def test_sighup_looks_at_the_store_at_once(registry: Registry, tmp_path: Path) -> None:
    with serving(registry.store, log_folder=tmp_path, reload_interval_s=3600) as service:
        publish_tiny(registry, seed=2)
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: serves(service, 2))


def test_a_removed_model_is_no_longer_served(registry: Registry, tmp_path: Path) -> None:
    publish_tiny(registry, "other")
    with serving(registry.store, log_folder=tmp_path) as service:
        service.classify("card", "other")
        registry.remove("other", 1)
        wait_until(lambda: service.post({"model": "other", "input": "card"}).status == 404)
        assert serves(service, 1)


@pytest.mark.parametrize("removed", [[("support", 1)], [("other", 1), ("other", 2)]])
def test_a_pinned_version_that_was_removed_leaves_the_memory(
    registry: Registry, tmp_path: Path, removed: list[tuple[str, int]]
) -> None:
    publish_tiny(registry, seed=2)
    for seed in (1, 2):
        publish_tiny(registry, "other", seed=seed)
    with serving(registry.store, log_folder=tmp_path, reload_interval_s=0.1) as service:
        for name in ("support", "other"):
            service.classify("card", f"{name}@1")
        assert service.metrics()["hone_loaded_models", ()] == 4
        for name, version in removed:
            registry.remove(name, version)
        left = 4 - len(removed)
        wait_until(lambda: service.metrics()["hone_loaded_models", ()] == left, timeout_s=10)
        assert service.post({"model": f"{removed[0][0]}@1", "input": "card"}).status == 404
        assert serves(service, 2)


def test_a_store_that_vanishes_takes_no_pinned_version(registry: Registry, tmp_path: Path) -> None:
    version = _publish_broken(registry, "model.fp32.onnx")
    with serving(registry.store, log_folder=tmp_path, reload_interval_s=0.1) as service:
        service.classify("card", "support@1")
        assert service.get("/v1/models/support").json()["version"] == version
        registry.store.rename(tmp_path / "elsewhere")
        time.sleep(1)
        assert service.classify("card", "support@1")["model"] == "support@1"


def test_a_store_that_vanishes_stops_nothing(registry: Registry, tmp_path: Path) -> None:
    with serving(registry.store, log_folder=tmp_path, reload_interval_s=0.1) as service:
        registry.store.rename(tmp_path / "elsewhere")
        wait_until(lambda: service.get("/livez").status == 200)
        for _ in range(20):
            assert serves(service, 1)
        (tmp_path / "elsewhere").rename(registry.store)
        publish_tiny(registry, seed=2)
        wait_until(lambda: serves(service, 2))


def _publish_broken(registry: Registry, name: str) -> int:
    """Publish a version of which no moment was ever whole under its number."""
    elsewhere = Registry(registry.store.parent / "workshop")
    number = registry.listing("support").versions[-1] + 1
    while True:
        manifest = publish_tiny(elsewhere, seed=7)
        if manifest.version == number:
            break
    folder = elsewhere.folder("support", number)
    file = folder / name
    file.write_bytes(_flipped(file.read_bytes()))
    folder.rename(registry.folder("support", number))
    return number


def _flipped(content: bytes) -> bytes:
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 1
    return bytes(changed)
