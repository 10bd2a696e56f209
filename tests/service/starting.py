"""A service that is still loading, and whether it answers."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.service.running import ROOT, Service


@contextmanager
def loading_slowly(store: Path, seconds: float) -> Iterator[Service]:
    """Run a service that takes some seconds to load a model; it is not waited for."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = (
        "import time, hone.service.pool as pool; load = pool.load_model\n"
        f"def slowly(*a): time.sleep({seconds}); return load(*a)\n"
        "pool.load_model = slowly\n"
        "from hone.service.command import settings_from\n"
        "from hone.service.server import run\n"
        f"run(settings_from(store={str(store)!r}, port={port}, drain_delay_s=0))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield Service(process, port, "", store)
    finally:
        process.kill()
        process.wait(30)


def answers(service: Service) -> bool:
    try:
        return service.get("/livez").status == 200
    except OSError:
        return False
