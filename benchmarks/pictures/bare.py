"""The bare loop: decode, resize, run. `python -m benchmarks.pictures.bare MODEL VARIANT FOLDER`.

A process of its own, which reads one job a line from stdin and answers each with one line of
JSON. `BareLoop` is the other end.
"""

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.pictures.session import OnnxPictures

_START_AHEAD_S = 0.05
_BATCHES = (1, 4, 8)


@dataclass(frozen=True, slots=True)
class Layout:
    """How the bare loop uses the cores: `workers` are threads that share one session."""

    processes: int
    workers: int
    threads: int
    batch: int

    def __str__(self) -> str:
        parts = [f"{self.processes} processes of " if self.processes > 1 else ""]
        parts.append(f"{self.workers} worker{'s' * (self.workers > 1)} x {self.threads} thread")
        parts.append(f"{'s' * (self.threads > 1)}, batches of {self.batch}")
        return "".join(parts)


def layouts(cores: int) -> list[Layout]:
    """Return every layout that is tried on so many cores."""
    found = [Layout(1, 1, cores, batch) for batch in _BATCHES]
    if cores > 1:
        found += [Layout(1, cores, 1, batch) for batch in _BATCHES]
        found += [Layout(cores, 1, 1, batch) for batch in _BATCHES]
    return found


class BareLoop:
    """The processes that run the bare loop, one for each core; idle ones cost nothing."""

    def __init__(self, model: Path, variant: str, pictures: Path, *, processes: int) -> None:
        command = [sys.executable, "-m", "benchmarks.pictures.bare", str(model), variant]
        self._processes = [
            subprocess.Popen(
                [*command, str(pictures)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(processes)
        ]

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.communicate()

    def rate(self, layout: Layout, seconds: float) -> float:
        """Return how many pictures a layout classifies in a second."""
        job = {"layout": asdict(layout), "seconds": seconds}
        job["start_at"] = time.monotonic() + _START_AHEAD_S
        used = self._processes[: layout.processes]
        for process in used:
            _tell(process, job)
        return float(sum(_hear(process)["per_s"] for process in used))

    def alone_ms(self, threads: int, seconds: float) -> float:
        """Return the median time of one picture after the other, in ms."""
        _tell(self._processes[0], {"alone": threads, "seconds": seconds})
        return float(_hear(self._processes[0])["p50_ms"])

    def labels(self, count: int) -> list[str]:
        """Return the labels of the first pictures."""
        _tell(self._processes[0], {"labels": count})
        return [str(label) for label in _hear(self._processes[0])["labels"]]


def _tell(process: "subprocess.Popen[str]", job: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(job) + "\n")
    process.stdin.flush()


def _hear(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit("the bare loop ended; its error stands above")
    found: dict[str, Any] = json.loads(line)
    return found


# The process itself


class Runner:
    """Runs jobs. Sessions are kept from one job to the next."""

    def __init__(self, model: dict[str, Any], variant: str, pictures: Sequence[bytes]) -> None:
        self._pictures = pictures

        @cache
        def session(threads: int, spinning: bool) -> OnnxPictures:
            return OnnxPictures(model, variant, threads=threads, spinning=spinning)

        self._session = session

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Do one job of `BareLoop`'s."""
        if "labels" in job:
            session = self._session(1, False)
            return {"labels": [session.classify([p])[0] for p in self._pictures[: job["labels"]]]}
        if "alone" in job:
            return self._alone(job["alone"], job["seconds"])
        layout = Layout(**job["layout"])
        time.sleep(max(0.0, job["start_at"] - time.monotonic()))
        return self._many(layout, job["seconds"])

    def _alone(self, threads: int, seconds: float) -> dict[str, float]:
        session = self._session(threads, threads > 1)
        times: list[float] = []
        began = time.perf_counter()
        while (before := time.perf_counter()) - began < seconds:
            session.classify([self._pictures[len(times) % len(self._pictures)]])
            times.append(time.perf_counter() - before)
        return {"p50_ms": 1000 * statistics.median(times)}

    def _many(self, layout: Layout, seconds: float) -> dict[str, float]:
        session = self._session(layout.threads, layout.threads > 1)
        counts = [0] * layout.workers
        began = time.perf_counter()

        def work(number: int) -> None:
            place = number * 7
            while not counts[number] or time.perf_counter() - began < seconds:
                batch = range(place, place + layout.batch)
                session.classify([self._pictures[p % len(self._pictures)] for p in batch])
                counts[number] += layout.batch
                place += layout.batch

        threads = [threading.Thread(target=work, args=(n,)) for n in range(layout.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {"per_s": sum(counts) / (time.perf_counter() - began)}


def main() -> None:
    """Answer jobs until stdin ends."""
    model, variant, folder = sys.argv[1:]
    pictures = [path.read_bytes() for path in sorted(Path(folder).iterdir())]
    runner = Runner(json.loads(Path(model).read_text()), variant, pictures)
    for line in sys.stdin:
        print(json.dumps(runner.run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
