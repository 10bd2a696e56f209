"""What the service costs before it does anything: start, memory, idling.

python -m benchmarks.footprint [--store STORE --model NAME]
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.contestants import Hone, started
from benchmarks.load import run_load
from benchmarks.served import find_model
from benchmarks.texts import default_texts, read_texts

REQUESTS = 1000
IDLE_S = 10.0
_CONNECTIONS = 8
_PROBE_S = 0.5


def measure_footprint(hone: Hone, texts: list[str], *, idle_s: float = IDLE_S) -> dict[str, Any]:
    """Start the service twice and return seconds to ready, MiB resident and idle share of a core.

    The first start must find no remembered layout, so it also measures which is the fastest.
    """
    with started(hone) as server:
        cold_s = server.ready_s
        layout = hone.layout(server.port)
    with started(hone) as server:
        requests = hone.requests(server.port, texts)
        answered = 0
        while answered < REQUESTS:
            load = run_load(
                requests,
                connections=_CONNECTIONS,
                seconds=_PROBE_S,
                offset=answered,
                generator="sockets",
            )
            answered += load.answers
        return {
            "variant": hone.variant,
            "layout": layout,
            "ready_cold_s": round(cold_s, 2),
            "ready_warm_s": round(server.ready_s, 2),
            "resident_mib": round(server.resident_mib(), 1),
            "after_requests": answered,
            "idle_share_of_a_core": round(server.idle_share(idle_s), 4),
        }


def main() -> None:
    """Measure and print one line of JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.footprint", description=__doc__)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--model")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = find_model(given.store, given.model, Path(folder))
        hone = Hone(model, model.variants[0], Path(folder))
        json.dump(measure_footprint(hone, read_texts(default_texts())), sys.stdout)
    print()


if __name__ == "__main__":
    main()
