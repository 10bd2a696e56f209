"""A model is looked up once, and may be taken out of memory before it is submitted to."""

import asyncio
import json
from typing import Any

import pytest
from starlette.types import Message, Scope

from hone.service.fake import fake_model, fake_text_model
from hone.service.generating import GeneratingModel
from hone.service.metrics import Metrics
from hone.service.openai import generation
from hone.service.openai.completions import read_completion
from hone.service.openai.generation import GenerationRun, Readers, completion_look
from hone.service.openai.generation_requests import read_completion_question
from hone.service.reading import read_object
from hone.service.serving import Host, LoadedModel
from hone.service.settings import Settings

BODY = json.dumps({"model": "fake-text", "prompt": "Say", "max_tokens": 3}).encode()


def test_the_request_goes_to_the_one_that_took_its_place() -> None:
    async def main() -> list[Message]:
        host = Host(Settings(), Metrics(), {}, asyncio.get_running_loop())
        models = [fake_text_model(host), fake_text_model(host)]
        sent: list[Message] = []

        async def find(name: str, scope: Scope) -> GeneratingModel:
            del name, scope
            return models[0]

        async def send(message: Message) -> None:
            sent.append(message)

        readers = Readers(read_completion, read_completion_question)
        look = completion_look(readers, find=find, settings=host.settings)
        run = await look(BODY, {"type": "http"})
        assert isinstance(run, GenerationRun)
        gone = models.pop(0)
        await asyncio.to_thread(gone.close, 5)
        await run.answer(send, "cmpl-1")
        assert run.model is models[0]
        await asyncio.to_thread(models[0].close, 5)
        return sent

    start, body = asyncio.run(main())
    assert start["status"] == 200
    assert json.loads(body["body"])["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("name", ["fake", "fake-text"])
def test_a_body_is_read_and_its_model_found_once_for_either_kind(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []
    asked: list[str] = []

    def count_reading(body: bytes) -> dict[str, Any]:
        read.append(body)
        return read_object(body)

    async def main() -> None:
        host = Host(Settings(), Metrics(), {}, asyncio.get_running_loop())
        model = fake_model(host) if name == "fake" else fake_text_model(host)

        async def find(wanted: str, scope: Scope) -> LoadedModel | GeneratingModel:
            del scope
            asked.append(wanted)
            return model

        readers = Readers(read_completion, read_completion_question)
        look = completion_look(readers, find=find, settings=host.settings)
        body = json.dumps({"model": name, "prompt": "Say"}).encode()
        found = await look(body, {"type": "http"})
        assert found.model is model
        await asyncio.to_thread(model.close, 5)

    monkeypatch.setattr(generation, "read_object", count_reading)
    asyncio.run(main())
    assert (len(read), asked) == (1, [name])
