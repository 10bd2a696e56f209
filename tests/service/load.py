"""Many clients at once, on one event loop."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp


@dataclass
class Outcome:
    """What the clients saw: statuses, seconds for each, and failures that had no status."""

    statuses: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    models: set[str] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)

    def seconds_of(self, status: int) -> list[float]:
        return [s for s, found in zip(self.seconds, self.statuses, strict=True) if found == status]


async def press(
    port: int,
    *,
    clients: int,
    until: Callable[[], bool],
    model: str = "support",
    pause_s: float = 0.0,
) -> Outcome:
    """Let `clients` ask one text after the other until `until()`; keep connections open."""
    outcome = Outcome()
    url = f"http://127.0.0.1:{port}/v1/classify"
    timeout = aiohttp.ClientTimeout(total=60)
    connector = aiohttp.TCPConnector(limit=clients)

    async def client(session: aiohttp.ClientSession, number: int) -> None:
        body = {"model": model, "input": f"where is my card {number}"}
        while not until():
            started = time.perf_counter()
            try:
                async with session.post(url, json=body) as response:
                    answer = await response.json()
                    outcome.statuses.append(response.status)
                    outcome.seconds.append(time.perf_counter() - started)
                    if response.status == 200:
                        outcome.models.add(answer["model"])
            except (aiohttp.ClientError, TimeoutError) as error:
                outcome.failures.append(repr(error))
            await asyncio.sleep(pause_s)

    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        await asyncio.gather(*[client(session, number) for number in range(clients)])
    return outcome


def press_while(port: int, meanwhile: Callable[[], None], **options: object) -> Outcome:
    """Press from before `meanwhile` (run in a thread) until half a second after its end."""

    async def main() -> Outcome:
        ended = asyncio.Event()
        pressing = asyncio.create_task(press(port, until=ended.is_set, **options))  # type: ignore[arg-type]
        await asyncio.sleep(0.5)
        try:
            await asyncio.to_thread(meanwhile)
            await asyncio.sleep(0.5)
        finally:
            ended.set()
        return await pressing

    return asyncio.run(main())
