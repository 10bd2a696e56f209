"""Ten times more than can be answered: what is taken is answered soon, the rest told at once."""

import asyncio
import statistics
import time
from pathlib import Path

import aiohttp

from tests.service.running import serving

SECONDS_FOR_A_TEXT = 0.05
QUEUE = 20
OFFERED_PER_S = 10 / SECONDS_FOR_A_TEXT
FOR_S = 4


def test_overload_tenfold(tmp_path: Path) -> None:
    with serving(
        tmp_path / "none",
        str(SECONDS_FOR_A_TEXT),
        "~",
        program=("-m", "tests.service.fake_driver"),
        log_folder=tmp_path,
        max_queue_items=QUEUE,
        max_items=QUEUE,
    ) as service:
        answered, refused = asyncio.run(_offer(service.port))
        assert service.get("/readyz").status == 200
        rejections = service.metrics()["hone_rejections_total", (("reason", "overloaded"),)]
        assert rejections == len(refused)
    capacity = FOR_S / SECONDS_FOR_A_TEXT
    assert len(answered) > 0.6 * capacity
    # one full queue before, one batch that runs, and this machine's other work
    assert statistics.quantiles(answered, n=20)[-1] < 3 * QUEUE * SECONDS_FOR_A_TEXT + 0.5
    assert len(refused) > 0.5 * OFFERED_PER_S * FOR_S
    assert statistics.median(refused) < 0.1


async def _offer(port: int) -> tuple[list[float], list[float]]:
    """Send at a fixed pace whatever comes back; return the seconds of 200s and of 429s."""
    answered: list[float] = []
    refused: list[float] = []
    url = f"http://127.0.0.1:{port}/v1/classify"

    async def one(session: aiohttp.ClientSession) -> None:
        started = time.perf_counter()
        async with session.post(url, json={"model": "fake", "input": "hello"}) as response:
            body = await response.json()
            elapsed = time.perf_counter() - started
            if response.status == 200:
                answered.append(elapsed)
                return
            assert response.status == 429
            assert body["error"]["type"] == "rate_limit_error"
            assert body["error"]["code"] == "overloaded"
            assert int(response.headers["retry-after"]) >= 1
            assert int(response.headers["retry-after-ms"]) >= 50
            refused.append(elapsed)

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        sent: list[asyncio.Task[None]] = []
        started = time.perf_counter()
        while (elapsed := time.perf_counter() - started) < FOR_S:
            while len(sent) < elapsed * OFFERED_PER_S:
                sent.append(asyncio.create_task(one(session)))
            await asyncio.sleep(0.005)
        await asyncio.gather(*sent)
    return answered, refused
