"""What is kept in memory, and what is not: the pool itself, on real tiny bundles."""

import asyncio
import shutil
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from hone.models.bundle import Bundle
from hone.models.errors import NotFound
from hone.models.manifest import MANIFEST_FILE
from hone.models.registry import Registry
from hone.service import pool as pool_module
from hone.service.errors import ModelNotFound, NotReady
from hone.service.metrics import Metrics
from hone.service.pool import ModelPool
from hone.service.serving import Host
from hone.service.settings import Settings
from tests.models.shared_bases import publish_adapter, publish_base
from tests.tiny_bundle import publish_tiny


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "store")
    for name in ("a", "b", "c"):
        publish_tiny(registry, name)
    return registry


@asynccontextmanager
async def following(registry: Registry, **settings: object) -> AsyncIterator[ModelPool]:
    chosen = Settings(
        store=registry.store, workers=1, threads=1, batch_tokens=256, **settings  # type: ignore[arg-type]
    )  # fmt: skip
    pool = ModelPool(Host(chosen, Metrics(), {}, asyncio.get_running_loop()))
    try:
        await pool.refresh()
        yield pool
    finally:
        await pool.close(10)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await test()

    asyncio.run(main())


def workers() -> list[str]:
    """Return the threads of batchers, whose names are those of their models."""
    return [thread.name for thread in threading.enumerate() if thread.name[:3] in {"a@1", "a@2"}]


async def settled(pool: ModelPool) -> None:
    """Wait until what was retired has ended."""
    await asyncio.gather(*pool._retiring)


def test_a_retired_model_is_freed_at_once(registry: Registry) -> None:
    async def test() -> None:
        async with following(registry, max_loaded_models=1) as pool:
            (first,) = pool.current.values()
            gone = weakref.ref(first)
            await pool.get("a" if first.facts.name != "a" else "b")
            await settled(pool)
            del first
            assert gone() is None, "without a collection"

    run(test)


def test_what_was_loaded_is_kept_although_nobody_waits_any_more(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "LOADING_S", 0.0)

    async def test() -> None:
        async with following(registry, max_loaded_models=2) as pool:
            resting = next(name for name in "abc" if name not in pool.current)
            with pytest.raises(NotReady, match="being loaded"):
                await pool.get(resting)
            await asyncio.gather(*pool._loading.values())
            assert len(pool.current) == 2

    run(test)


def test_one_whose_successor_cannot_be_loaded_does_not_make_room(registry: Registry) -> None:
    async def test() -> None:
        async with following(registry, max_loaded_models=2) as pool:
            await pool.get("a")
            publish_tiny(registry, "a", seed=2)
            weights = registry.folder("a", 2) / "model.fp32.onnx"
            weights.write_bytes(weights.read_bytes()[:-1] + b"x")
            await pool.refresh()
            for name in ("b", "c", "b", "c"):
                await pool.get(name)
            assert (await pool.get("a")).facts.version == 1

    run(test)


def test_a_store_that_is_away_changes_nothing(registry: Registry) -> None:
    async def test() -> None:
        async with following(registry, max_loaded_models=1) as pool:
            (loaded,) = pool.current.values()
            elsewhere = registry.store.with_name("elsewhere")
            registry.store.rename(elsewhere)
            await pool.refresh()
            assert pool.names() == ["a", "b", "c"]
            elsewhere.rename(registry.store)
            await pool.refresh()
            assert list(pool.current.values()) == [loaded]

    run(test)


def test_a_model_removed_while_it_loads_is_not_served_on(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading, go_on = threading.Event(), threading.Event()
    load = ModelPool._open_and_load

    def slowly(self: ModelPool, *args: object) -> object:
        found = load(self, *args)  # type: ignore[arg-type]
        loading.set()
        assert go_on.wait(30)
        return found

    async def test() -> None:
        async with following(registry, max_loaded_models=2) as pool:
            resting = next(name for name in "abc" if name not in pool.current)
            monkeypatch.setattr(ModelPool, "_open_and_load", slowly)
            asking = asyncio.create_task(pool.get(resting))
            await asyncio.to_thread(loading.wait)
            registry.remove(resting, 1)
            await pool.refresh()
            go_on.set()
            await asking
            await pool.refresh()
            assert resting not in pool.current
            with pytest.raises(ModelNotFound):
                await pool.get(resting)

    run(test)


def test_a_pinned_version_that_becomes_the_current_one_is_one_model(registry: Registry) -> None:
    async def test() -> None:
        publish_tiny(registry, "a", seed=2)
        async with following(registry) as pool:
            pinned = await pool.get("a@1")
            registry.remove("a", 2)
            await pool.refresh()
            assert pool.current["a"] is pinned
            await settled(pool)
            assert len(workers()) == 1

    run(test)


def test_a_new_version_is_asked_for_as_lately_as_the_old_one_was(registry: Registry) -> None:
    async def test() -> None:
        async with following(registry, max_loaded_models=2, models=("a",)) as pool:
            await pool.get("a")
            before = pool.current["a"].last_used
            assert before > 0
            publish_tiny(registry, "a", seed=2)
            await pool.refresh()
            assert pool.current["a"].facts.version == 2
            assert pool.current["a"].last_used == before

    run(test)


def test_a_new_version_of_a_resting_model_waits_for_who_asks(registry: Registry) -> None:
    async def test() -> None:
        async with following(registry, max_loaded_models=1) as pool:
            (loaded,) = pool.current.values()
            resting = next(name for name in "abc" if name not in pool.current)
            publish_tiny(registry, resting, seed=2)
            await pool.refresh()
            assert list(pool.current.values()) == [loaded]
            assert (await pool.get(resting)).facts.version == 2

    run(test)


def test_the_checkpoints_of_a_training_take_no_model_s_room(registry: Registry) -> None:
    async def test() -> None:
        async with following(registry, max_loaded_models=3) as pool:
            publish_tiny(registry, "answers-ckpt")
            await pool.refresh()
            assert set(pool.current) == {"a", "b", "c"}
            assert pool.missing() == []
            assert (await pool.get("answers-ckpt")).facts.version == 1
            publish_tiny(registry, "answers-ckpt", seed=2)
            await pool.refresh()
            assert (await pool.get("answers-ckpt")).facts.version == 2

    run(test)


def test_a_model_whose_folder_is_half_there_is_no_reason_to_lose_others(
    registry: Registry,
) -> None:
    async def test() -> None:
        async with following(registry, max_loaded_models=3) as pool:
            shutil.copytree(registry.folder("a", 1), registry.store / "d" / "1")
            (registry.store / "d" / "1" / MANIFEST_FILE).write_bytes(b"{}")
            await pool.refresh()
            assert sorted(pool.current) == ["a", "b", "c"]

    run(test)


def test_an_adapter_that_is_seen_before_its_base_is_tried_again_when_that_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(tmp_path / "adapters")
    publish_adapter(registry, publish_base(registry))
    away = tmp_path / "away"
    registry.folder("base-0", 1).rename(away)
    tried: list[str] = []

    def load(bundle: Bundle, *_: object) -> object:
        tried.append(bundle.manifest.model)
        raise NotFound("whatever is wrong")

    monkeypatch.setattr(pool_module, "load_model", load)

    async def test() -> None:
        async with following(registry, models=["support"]) as pool:
            await pool.refresh()
            assert tried == ["support"]
            away.rename(registry.folder("base-0", 1))
            for _ in range(3):
                await pool.refresh()
            assert tried == ["support"] * 2

    run(test)


def test_models_that_wait_for_their_streams_keep_no_thread_from_others(tmp_path: Path) -> None:
    over = threading.Event()
    closed: list[str] = []

    class Streaming:
        def __init__(self, name: str) -> None:
            self.facts = SimpleNamespace(name=name, version=1)
            self.id, self.stamps, self.last_used = f"{name}@1", (), 0.0
            self.takes_pictures = False

        def close(self, timeout_s: float | None = None) -> None:
            assert over.wait(60)
            closed.append(self.id)

    async def test() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
        async with following(Registry(tmp_path / "empty")) as pool:
            for number in range(5):
                pool._retire(Streaming(f"m{number}"))  # type: ignore[arg-type]
            try:
                async with asyncio.timeout(20):
                    await asyncio.to_thread(int)
                    await pool.refresh()
            finally:
                over.set()
            await settled(pool)
        assert len(closed) == 5

    run(test)
