"""The client of the closed API, 0.28.1, in an environment of its own, with its command line."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.service.client_environments import LEGACY, programs_of, run_client
from tests.service.running import Service

TEXT = "where is my card"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def legacy() -> Path:
    """Return the folder of the client's programs; skip if it cannot be installed."""
    return programs_of(LEGACY)


def python(legacy: Path, service: Service, expression: str) -> Any:
    """Return what an expression over the client's module `openai` gives."""
    script = f"import json, openai\nprint(json.dumps({expression}))"
    return json.loads(run_client(legacy, service, "python", "-c", script))


@pytest.mark.parametrize("chosen", [("-m", "prompts"), ("-e", "prompts")])
def test_the_command_line_completes(
    legacy: Path, speaking: Service, chosen: tuple[str, str]
) -> None:
    said = run_client(legacy, speaking, "openai", "api", "completions.create", *chosen, "-p", TEXT)
    answer = speaking.post({"model": "prompts", "prompt": TEXT}, "/v1/completions").json()
    assert said.strip() == TEXT + answer["choices"][0]["text"]


def test_the_module_completes_and_streams(legacy: Path, speaking: Service) -> None:
    call = (
        f"openai.Completion.create(model='prompts', prompt='{TEXT} ###', logprobs=5, max_tokens=1"
    )
    whole = python(legacy, speaking, f"{call})")
    parts = python(legacy, speaking, f"list({call}, stream=True))")
    said = "".join(part["choices"][0]["text"] for part in parts)
    assert said == whole["choices"][0]["text"]
    assert whole["choices"][0]["logprobs"]["tokens"] == [said]
    by_engine = python(
        legacy, speaking, f"openai.Completion.create(engine='prompts', prompt='{TEXT}')"
    )
    assert by_engine["choices"][0]["text"] == said


def test_the_module_chats(legacy: Path, speaking: Service) -> None:
    messages = [{"role": "user", "content": TEXT}]
    answer = python(
        legacy, speaking, f"openai.ChatCompletion.create(model='chats', messages={messages})"
    )
    body = {"model": "chats", "messages": messages}
    expected = speaking.post(body, "/v1/chat/completions").json()
    assert answer["choices"] == expected["choices"]


def test_an_unknown_model_is_the_clients_own_error(legacy: Path, speaking: Service) -> None:
    script = (
        "import openai\ntry: openai.Completion.create(model='nothing', prompt='a')\n"
        "except openai.error.InvalidRequestError as error: print(error.code, error.http_status)"
    )
    assert run_client(legacy, speaking, "python", "-c", script).split() == [
        "model_not_found",
        "404",
    ]
