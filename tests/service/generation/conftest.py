"""Services over causal models: the fake one, a slowed one, and a real one where it lies beside."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from hone.models.manifest import ManifestBody
from hone.models.registry import Registry
from hone.training.causal.staging import stage_decoder
from tests.bases import base_folder
from tests.service.running import Service, serving
from tests.training.causal import reference

SLOW_S = 0.02
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


@pytest.fixture(scope="session")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("fake")
    with serving(
        folder / "store", "--fake", log_folder=folder, max_items=16, run_jobs=False
    ) as service:
        yield service


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Service]:
    with serving(
        tmp_path / "store",
        str(SLOW_S),
        program=("-m", "tests.service.generation.slow_driver"),
        log_folder=tmp_path,
        decoder_slots=2,
        max_waiting_tokens=1500,
        stream_ping_s=0.2,
        shutdown_timeout_s=2,
        run_jobs=False,
    ) as service:
        yield service


def client_of(service: Service) -> OpenAI:
    base_url = f"http://127.0.0.1:{service.port}/v1"
    return OpenAI(base_url=base_url, api_key="unused", max_retries=0)


@pytest.fixture(scope="session")
def client(fake: Service) -> Iterator[OpenAI]:
    with client_of(fake) as client:
        yield client


def publish_stories(registry: Registry, scratch: Path) -> None:
    """Publish stories260K as `stories`, fp32, with a plain chat template, through the gate."""
    folder = scratch / "base"
    folder.mkdir()
    for path in base_folder("stories260K").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "chat_template.jinja").write_text("{{ bos_token }}" + TEMPLATE)
    with registry.staging() as staged:
        made = stage_decoder(folder, staged, reference.prompts(folder, 3), ["fp32"])
        body: dict[str, Any] = {
            "task": "text-generation",
            "limits": {"max_tokens": 512},
            "base": {"id": "stories260K", "licence": "MIT", "revision": "0" * 64},
            "recipe": {"sha256": "1" * 64, "content": {}},
            "data": {"train": {"rows": 0, "sha256": "2" * 64}},
            "scores": {},
            "variants": made.variants,
            "token_lengths": {"p50": 5, "p90": 9, "p99": 12, "longest": 13},
            "generation": made.record.model_dump(),
        }
        registry.publish("stories", staged, ManifestBody.model_validate(body))


@pytest.fixture(scope="session")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("stories")
    publish_stories(Registry(folder / "store"), folder)
    with serving(folder / "store", log_folder=folder, threads=1, run_jobs=False) as service:
        yield service


@pytest.fixture(scope="session")
def teller(stories: Service) -> Iterator[OpenAI]:
    with client_of(stories) as client:
        yield client
