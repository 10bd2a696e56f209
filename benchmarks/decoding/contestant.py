"""One contestant in a process of its own.

    python -m benchmarks.decoding.contestant PEER VARIANT THREADS

reads a line `{"streams": 4, "wanted": [64, 64, 64, 64]}` at a time, and answers each with its
seconds.
"""

import importlib
import json
import sys

from benchmarks.decoding.prompts import Run


def main(peer: str, variant: str, threads: str) -> None:
    make = importlib.import_module(f"benchmarks.decoding.peers.{peer}").make
    run: Run = make(variant, int(threads))
    run(1, [2])
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        print(run(asked["streams"], asked["wanted"]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
