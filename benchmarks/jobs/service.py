"""`hone serve` on a store of its own, for a benchmark of the fine-tuning API."""

import contextlib
import http.client
from collections.abc import Iterator
from pathlib import Path

from benchmarks.environments import own_python
from benchmarks.processes import Server, free_port, running


@contextlib.contextmanager
def service(folder: Path, *arguments: str, **settings: str) -> Iterator[Server]:
    """Run a service whose store lies in `folder`, until the block ends.

    `settings` go into the environment as HONE_<NAME>.
    """
    port = free_port()
    environment = {f"HONE_{name.upper()}": value for name, value in settings.items()}
    with running(
        [str(own_python()), "-m", "hone", "serve", "--store", str(folder / "store"), *arguments],
        port=port,
        is_ready=_is_up,
        log=folder / "service.log",
        environment={"HONE_PORT": str(port), "HONE_DRAIN_DELAY_S": "0", **environment},
        cwd=Path.cwd(),
    ) as server:
        yield server


def _is_up(port: int) -> bool:
    """Say whether the service has started; an empty store is never ready."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/startupz")
        return connection.getresponse().status == http.client.OK
    finally:
        connection.close()
