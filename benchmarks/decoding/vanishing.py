"""Clients that vanish in the middle of a stream: `python -m benchmarks.decoding.vanishing`.

Rounds of fifty streams of the built-in causal model, each closed after its first bytes. Prints,
after each round, the seconds until no sequence runs or waits, and the service's memory and threads.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from tests.service.generation.streaming import begin, body, busy, resident_bytes
from tests.service.running import Service, serving, wait_until

_AT_ONCE = 50


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=500)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(
            Path(folder) / "store",
            "0.005",
            program=("-m", "tests.service.generation.slow_driver"),
            log_folder=Path(folder),
            decoder_slots=_AT_ONCE,
            prefix_cache_bytes=2**20,
            run_jobs=False,
        ) as service,
    ):
        for number in range(asked.clients // _AT_ONCE):
            for connection in [begin(service, body(stream=True)) for _ in range(_AT_ONCE)]:
                assert connection.recv(10)
                connection.close()
            started = time.perf_counter()
            wait_until(lambda: busy(service) == 0)
            waited, memory = time.perf_counter() - started, resident_bytes(service) / 2**20
            gone = (number + 1) * _AT_ONCE
            print(f"{gone}: free in {waited:.2f} s; {memory:.1f} MiB, {threads(service)} threads")
        answer = service.post(json.loads(body(max_tokens=2)), "/v1/completions")
        print(f"the next request: {answer.status}")


def threads(service: Service) -> int:
    """Return how many threads a service has."""
    return len(list(Path(f"/proc/{service.process.pid}/task").iterdir()))


if __name__ == "__main__":
    main()
