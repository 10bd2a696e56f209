"""Adapters served: models by name on one base in memory, that come, change and go by themselves."""

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from openai import InternalServerError, NotFoundError, OpenAI

from hone.models.decoding.detokenizing import CausalTokenizer
from hone.models.errors import Conflict
from hone.models.manifest import ManifestBody
from hone.models.names import ModelReference
from hone.models.registry import Registry
from tests.bases import base_folder
from tests.service.generation.adapter_bundles import BASE, publish_adapter, publish_base
from tests.service.generation.conftest import client_of
from tests.service.running import Service, serving
from tests.training.causal import reference

TOKENS = 24
PROMPTS = [" ".join(reference.STORY.split()[: 4 + 3 * number]) for number in range(6)]


class Adapters:
    """A store with a base, a service over it, and what each adapter ought to say."""

    def __init__(self, service: Service, registry: Registry, scratch: Path) -> None:
        self.service, self.registry, self._scratch = service, registry, scratch
        self.client: OpenAI = client_of(service)

    def publish(self, name: str, seed: int) -> None:
        base = self.registry.open(ModelReference(BASE))
        publish_adapter(self.registry, name, base, seed, self._scratch / str(seed))

    def expected(self, seed: int | None, prompt: str) -> str:
        folder = base_folder("stories260K")
        tokenizer = CausalTokenizer.from_file(folder / "tokenizer.json", eos_ids=[2])
        model = reference.load(folder if seed is None else self._scratch / str(seed))
        ids = tokenizer.encode(prompt)
        said = reference.greedy(model, ids, TOKENS)
        return tokenizer.decode([*ids, *said])[len(tokenizer.decode(ids)) :]

    def says(self, name: str, prompt: str) -> str:
        answer = self.client.completions.create(
            model=name, prompt=prompt, max_tokens=TOKENS, temperature=0
        )
        return str(answer.choices[0].text)

    def wait_until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < deadline, what
            time.sleep(0.05)

    def logged(self, what: str) -> bool:
        return what in self.service.log.read_text(encoding="utf-8")

    def loaded(self) -> float:
        return self.service.metrics()["hone_loaded_models", ()]


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adapters]:
    folder = tmp_path_factory.mktemp("adapters")
    registry = Registry(folder / "store")
    base = publish_base(registry)
    for seed, name in enumerate(("first", "second", "third")):
        publish_adapter(registry, name, base, seed, folder / str(seed))
    with serving(
        folder / "store", log_folder=folder, threads=1, run_jobs=False, reload_interval_s=0.1
    ) as service:
        yield Adapters(service, registry, folder)


def test_each_name_says_what_its_merged_model_says_all_at_once(adapters: Adapters) -> None:
    names: dict[str, int | None] = {"first": 0, "second": 1, "third": 2, BASE: None}
    asked = [(name, prompt) for prompt in PROMPTS for name in names]
    with ThreadPoolExecutor(len(asked)) as pool:
        found = list(pool.map(lambda one: adapters.says(*one), asked))
    assert len({tuple(found[n::4]) for n in range(4)}) == 4, "no two of them say the same"
    for (name, prompt), said in zip(asked, found, strict=True):
        assert said == adapters.expected(names[name], prompt)


def test_the_base_is_in_memory_once(adapters: Adapters) -> None:
    maps = Path(f"/proc/{adapters.service.process.pid}/task")
    decoders = {
        name
        for task in maps.iterdir()
        if (name := (task / "comm").read_text().strip()).startswith(BASE[:8])
    }
    assert adapters.loaded() == 4
    assert not adapters.logged("model not loaded")
    assert len(decoders) <= 1


def test_an_adapter_is_swapped_while_the_others_stream(adapters: Adapters) -> None:
    adapters.publish("changing", 3)
    adapters.wait_until(lambda: adapters.loaded() == 5, "it was not loaded")
    assert adapters.says("changing", PROMPTS[2]) == adapters.expected(3, PROMPTS[2])
    truth = {name: adapters.expected(seed, PROMPTS[3]) for seed, name in enumerate(("first",))}
    stop = False

    def stream() -> int:
        count = 0
        while not stop:
            assert adapters.says("first", PROMPTS[3]) == truth["first"]
            count += 1
        return count

    with ThreadPoolExecutor(2) as pool:
        streams = [pool.submit(stream) for _ in range(2)]
        adapters.publish("changing", 4)
        after = adapters.expected(4, PROMPTS[2])
        adapters.wait_until(
            lambda: adapters.says("changing", PROMPTS[2]) == after, "it was not swapped"
        )
        stop = True
        assert all(future.result(60) for future in streams)
    for version in (1, 2):
        adapters.registry.remove("changing", version)
    adapters.wait_until(lambda: adapters.loaded() == 4, "it was not unloaded")
    with pytest.raises(NotFoundError):
        adapters.says("changing", PROMPTS[0])
    assert adapters.says("second", PROMPTS[1]) == adapters.expected(1, PROMPTS[1])


def test_the_base_of_an_adapter_is_not_removed(adapters: Adapters) -> None:
    with pytest.raises(Conflict, match=r" is an adapter on base-of-stories@1"):
        adapters.registry.remove(BASE, 1)


def test_an_adapter_whose_base_is_another_or_absent_is_refused_and_the_log_says_why(
    adapters: Adapters,
) -> None:
    good = adapters.registry.open(ModelReference("first"))
    for name, change in (
        ("astray", {"base": "base-that-is-not-here"}),
        ("strange", {"base_files": {"fp32": "5" * 64}}),
    ):
        assert good.manifest.adapter is not None
        about = {**good.manifest.adapter.model_dump(), **change}
        with adapters.registry.staging() as staged:
            for entry in good.manifest.files:
                shutil.copy(good.folder / entry.path, staged)
            fields = {f: getattr(good.manifest, f) for f in ManifestBody.model_fields}
            made = ManifestBody.model_validate({**fields, "adapter": about})
            adapters.registry.publish(name, staged, made)
        wanted = f"the adapter's base '{about['base']}' is not in the store, or is another one"
        adapters.wait_until(partial(adapters.logged, wanted), "the log does not say why")
        with pytest.raises(InternalServerError):
            adapters.says(name, PROMPTS[0])
        adapters.registry.remove(name, 1)
    assert adapters.says("first", PROMPTS[1]) == adapters.expected(0, PROMPTS[1])
