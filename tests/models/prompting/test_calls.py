"""A call over HTTP: a body of many megabytes is sent whole, in pieces, and made off the loop."""

import asyncio
import io
from typing import Any

import orjson
import pytest
from aiohttp import web

from hone.models.prompting import calls
from hone.models.prompting.calls import connect


@pytest.mark.parametrize("size", [10, 2**16, 2**16 + 1, 5 * 2**20])
def test_a_body_arrives_whole_whatever_its_size(size: int) -> None:
    body = orjson.dumps({"image": "x" * size})
    seen: list[tuple[str | None, int | None, bytes]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.content_type, request.content_length, await request.read()))
        return web.json_response({})

    async def ask() -> None:
        app = web.Application(client_max_size=2**24)
        app.router.add_post("/v1/classify", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        address = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        options: dict[str, Any] = {"key": None, "key_header": "Authorization", "agent": "test"}
        async with connect(address, timeout_s=60, connections=1, **options) as line:
            await line.post("/classify", body)  # a warning of aiohttp's would be an error here
            await line.post("/classify", body)
        await runner.cleanup()

    asyncio.run(ask())
    assert seen == [("application/json", len(body), body)] * 2


def test_a_large_body_shares_its_bytes_and_a_small_one_is_sent_at_once() -> None:
    small, large = b"x" * 100, b"x" * 2**21
    assert calls._sent(small) is small
    sent = calls._sent(large)
    assert isinstance(sent, io.BytesIO)
    assert sent.getvalue() is large  # no copy was made
