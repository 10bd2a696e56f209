"""Only so many models are in memory; the others are loaded when somebody asks for them."""

from pathlib import Path

import pytest

from hone.models.registry import Registry
from tests.service.load import press_while
from tests.service.running import Service, serving, wait_until
from tests.tiny_bundle import publish_tiny

NAMES = ("one", "two", "three", "four")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    registry = Registry(tmp_path / "store")
    for seed, name in enumerate(NAMES):
        publish_tiny(registry, name, seed=seed)
    return registry.store


def loaded(service: Service) -> list[str]:
    return [name.partition("@")[0] for name in service.get("/readyz").json()["models"]]


def test_no_more_models_are_loaded_than_may_be_and_all_of_them_answer(
    store: Path, tmp_path: Path
) -> None:
    with serving(store, log_folder=tmp_path, max_loaded_models=2) as service:
        assert loaded(service) == ["four", "three"], "the youngest ones first"
        assert service.get("/readyz").json()["missing"] == []
        listed = {model["id"] for model in service.get("/v1/models").json()["data"]}
        assert set(NAMES) <= listed
        for name in (*NAMES, *NAMES):
            assert service.classify("where is my card", name)["model"] == f"{name}@1"
            assert len(loaded(service)) == 2
        assert service.metrics()["hone_loaded_models", ()] == 2
        assert service.metrics()["hone_model_unloads_total", ()] == 8


def test_the_model_that_was_asked_longest_ago_makes_room(store: Path, tmp_path: Path) -> None:
    with serving(store, log_folder=tmp_path, max_loaded_models=2) as service:
        service.classify("card", "three")
        service.classify("card", "one")
        assert loaded(service) == ["one", "three"]
        service.classify("card", "three")
        service.classify("card", "two@1")
        assert loaded(service) == ["three", "two"]
        service.classify("card", "two@latest")
        assert loaded(service) == ["three", "two"]


def test_a_model_named_at_the_start_stays(store: Path, tmp_path: Path) -> None:
    names = "one,two,three"
    with serving(store, log_folder=tmp_path, models=names, max_loaded_models=2) as service:
        assert loaded(service) == ["one", "three", "two"]


def test_a_model_just_published_makes_room(store: Path, tmp_path: Path) -> None:
    with serving(store, log_folder=tmp_path, max_loaded_models=2, reload_interval_s=0.1) as service:
        service.classify("card", "four")
        publish_tiny(Registry(store), "five", seed=5)
        wait_until(lambda: loaded(service) == ["five", "four"])
        publish_tiny(Registry(store), "four", seed=6)
        wait_until(lambda: service.classify("card", "four")["model"] == "four@2")
        Registry(store).remove("five", 1)
        wait_until(lambda: len(loaded(service)) == 2 and "five" not in loaded(service))


def test_models_take_turns_under_load_without_a_failure(store: Path, tmp_path: Path) -> None:
    with serving(store, log_folder=tmp_path, max_loaded_models=1) as service:

        def ask_for_others() -> None:
            for name in ("one", "two", "three", "one", "two"):
                assert service.classify("card", name)["model"] == f"{name}@1"

        outcome = press_while(service.port, ask_for_others, clients=8, model="four")
        assert outcome.failures == []
        assert set(outcome.statuses) == {200}
        assert service.metrics()["hone_model_unloads_total", ()] >= 5
