"""One service over tiny models of every form, and the newest client pointed at it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from hone.models.names import parse_reference
from hone.models.predictor import Predictor, load_predictor
from hone.models.registry import Registry
from tests.service.running import Service, serving
from tests.tiny_bundle import publish_tiny

INSTRUCTION = "Say which card matter the customer writes about.\nMessage:\n"
SYSTEM = "You sort messages of customers by what they are about."
PROMPT_FORM = {
    "kind": "prompt/completion",
    "instruction": INSTRUCTION,
    "separator": "\n\n###",
    "leading_space": True,
    "stop": " END",
}
CHAT_FORM = {"kind": "chat", "system": SYSTEM, "opening": [["user", "help"], ["assistant", "card"]]}


@pytest.fixture(scope="session")
def forms_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Publish a model of each form, and two with two labels."""
    registry = Registry(tmp_path_factory.mktemp("forms"))
    publish_tiny(registry)
    publish_tiny(registry, "prompts", prompt_form=PROMPT_FORM)
    publish_tiny(registry, "chats", prompt_form=CHAT_FORM)
    publish_tiny(registry, "plain", labels=("no", "yes"), baseline=None)
    recipe = {"sha256": "1" * 64, "content": {"dataset": {"positive_label": "bad"}}}
    publish_tiny(registry, "positive", labels=("bad", "good"), recipe=recipe)
    publish_tiny(registry, "strict", limits={"max_tokens": 8, "long_texts": "reject"})
    return registry.store


@pytest.fixture(scope="session")
def speaking(forms_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run a service with small limits; tests must leave it as it was."""
    with serving(
        forms_store,
        "--fake",
        log_folder=tmp_path_factory.mktemp("logs"),
        max_items=16,
        max_characters=5000,
        max_body_bytes=200_000,
    ) as service:
        yield service


@pytest.fixture(scope="session")
def client(speaking: Service) -> Iterator[OpenAI]:
    """Return the newest client."""
    base_url = f"http://127.0.0.1:{speaking.port}/v1"
    with OpenAI(base_url=base_url, api_key="unused", max_retries=0) as client:
        yield client


@pytest.fixture(scope="session")
def predictor(forms_store: Path) -> Predictor:
    """Return the model that `support`, `prompts` and `chats` all are."""
    return load_predictor(Registry(forms_store).open(parse_reference("support")))
