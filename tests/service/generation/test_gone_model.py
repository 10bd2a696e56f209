"""A model may be taken out of memory between finding it and submitting to it."""

import asyncio
import json

from starlette.types import Message, Scope

from hone.service.fake import fake_text_model
from hone.service.generating import GeneratingModel
from hone.service.metrics import Metrics
from hone.service.openai.generation import Generator
from hone.service.openai.generation_requests import read_completion_question
from hone.service.serving import Host
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

        generator = Generator(read_completion_question, find=find, settings=host.settings)
        run = await generator.find(BODY, {"type": "http"})
        assert run is not None
        gone = models.pop(0)
        await asyncio.to_thread(gone.close, 5)
        await run.answer(send, "cmpl-1")
        assert run.model is models[0]
        await asyncio.to_thread(models[0].close, 5)
        return sent

    start, body = asyncio.run(main())
    assert start["status"] == 200
    assert json.loads(body["body"])["usage"]["completion_tokens"] == 3
