"""The bare loop: the same session and tokenizer with no service around them.

python -m benchmarks.bare MODEL_JSON VARIANT TEXTS_JSON

A process of its own, which reads one job a line from stdin and answers each with one line of
JSON. `BareLoop` is the other end. The texts come in random order, in windows of 32, as 32
connections would offer them; inside a window they are sorted by length before batches are cut.
"""

import functools
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks.session import OnnxClassifier

WINDOW = 32
_BATCH_TOKENS = (1, 48, 80, 112, 160, 256, 512)
_START_AHEAD_S = 0.05
"""Two processes begin at the same moment; a job takes less than this to reach both."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the bare loop uses the cores.

    A batch has at most `batch_tokens` padded tokens, or is a single text. Cutting by tokens came
    out 6 % faster than the best count of texts: a long text makes all others of its batch long.
    """

    processes: int
    workers: int
    own_sessions: bool
    threads: int
    spinning: bool
    batch_tokens: int

    def __str__(self) -> str:
        parts = [f"{self.processes} processes of " if self.processes > 1 else ""]
        parts.append(f"{self.workers} worker{'s' * (self.workers > 1)} x {self.threads} thread")
        parts.append("s" * (self.threads > 1))
        if self.workers > 1:
            parts.append(", a session each" if self.own_sessions else ", one session")
        size = f"{self.batch_tokens} tokens" if self.batch_tokens > 1 else "1 text"
        parts.append(f"{', spinning' * self.spinning}, batches of {size}")
        return "".join(parts)


@dataclass(frozen=True, slots=True)
class BareRate:
    """What a layout did."""

    texts_per_s: float
    cpu_ms_per_text: float


def layouts(cores: int) -> list[Layout]:
    """Return every layout that is tried on so many cores."""
    found = []
    for batch in _BATCH_TOKENS:
        found.append(Layout(1, 1, False, cores, True, batch))
        if cores > 1:
            found.append(Layout(1, 1, False, cores, False, batch))
            found.append(Layout(1, cores, False, 1, False, batch))
            found.append(Layout(1, cores, True, 1, False, batch))
            found.append(Layout(cores, 1, False, 1, False, batch))
    return found


class BareLoop:
    """The processes that run the bare loop, one for each core; idle ones cost nothing."""

    def __init__(self, model: Path, variant: str, texts: Path, *, processes: int) -> None:
        command = [sys.executable, "-m", "benchmarks.bare", str(model), variant, str(texts)]
        self._processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(processes)
        ]

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.communicate()

    def rate(self, layout: Layout, *, seconds: float, offset: int) -> BareRate:
        """Return how many texts a layout classifies in a second, and what they cost."""
        start_at = time.monotonic() + _START_AHEAD_S
        job = {"layout": asdict(layout), "seconds": seconds, "start_at": start_at}
        used = self._processes[: layout.processes]
        for number, process in enumerate(used):
            _tell(process, job | {"offset": offset + 1000 * number})
        heard = [_hear(process) for process in used]
        texts = sum(answer["texts"] for answer in heard)
        return BareRate(
            texts_per_s=sum(answer["texts"] / answer["elapsed_s"] for answer in heard),
            cpu_ms_per_text=1000 * sum(answer["cpu_s"] for answer in heard) / texts,
        )

    def one_by_one(self, *, threads: int, spinning: bool, seconds: float) -> dict[str, float]:
        """Classify text after text alone; return the median and the 99th percentile in ms."""
        job = {"threads": threads, "spinning": spinning, "seconds": seconds}
        _tell(self._processes[0], job)
        found: dict[str, float] = _hear(self._processes[0])
        return found

    def labels(self, count: int) -> list[str]:
        """Return the labels of the first texts, each classified alone."""
        _tell(self._processes[0], {"labels": count})
        found: list[str] = _hear(self._processes[0])
        return found


def _tell(process: "subprocess.Popen[str]", job: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(job) + "\n")
    process.stdin.flush()


def _hear(process: "subprocess.Popen[str]") -> Any:  # noqa: ANN401 - any JSON
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit("the bare loop ended; its error stands above")
    return json.loads(line)


# The process itself


class Runner:
    """Runs jobs. Sessions are kept from one job to the next."""

    def __init__(self, model: dict[str, Any], variant: str, texts: Sequence[str]) -> None:
        self._texts = texts

        @functools.cache
        def session(threads: int, spinning: bool, number: int) -> OnnxClassifier:
            del number  # tells sessions apart that are otherwise alike
            return OnnxClassifier(model, variant, threads=threads, spinning=spinning)

        self._session = session

    def run(self, job: dict[str, Any]) -> Any:  # noqa: ANN401 - any JSON
        """Do one job of `BareLoop`'s."""
        if "labels" in job:
            alone = [[text] for text in self._texts[: job["labels"]]]
            return [self._session(1, False, 0).classify(text)[0]["label"] for text in alone]
        if "layout" in job:
            layout = Layout(**job["layout"])
            return self.many(layout, job["seconds"], job["offset"], job["start_at"])
        return self.one_by_one(job["threads"], job["spinning"], job["seconds"])

    def many(
        self, layout: Layout, seconds: float, offset: int, start_at: float = 0.0
    ) -> dict[str, float]:
        """Return this process's share: texts done, seconds on the clock and of processors."""
        sessions = [
            self._session(layout.threads, layout.spinning, number * layout.own_sessions)
            for number in range(layout.workers)
        ]
        windows = _Windows(self._texts, offset, layout.batch_tokens, sessions[0].encode)
        windows.refill()
        done = [0] * layout.workers
        time.sleep(max(0.0, start_at - time.monotonic()))
        began, cpu_began_s = time.perf_counter(), time.process_time()
        deadline = began + seconds

        def work(number: int) -> None:
            while time.perf_counter() < deadline:
                batch = windows.take()
                sessions[number].probabilities(batch)
                done[number] += len(batch)

        _in_parallel([functools.partial(work, number) for number in range(layout.workers)])
        return {
            "texts": sum(done),
            "elapsed_s": time.perf_counter() - began,
            "cpu_s": time.process_time() - cpu_began_s,
        }

    def one_by_one(self, threads: int, spinning: bool, seconds: float) -> dict[str, float]:
        """Return the median and the 99th percentile, in ms, of tokenizing and running one text."""
        session = self._session(threads, spinning, 0)
        texts = cycle(self._texts)
        session.classify([next(texts)])
        times: list[float] = []
        began = time.perf_counter()
        while (now := time.perf_counter()) - began < seconds:
            session.classify([next(texts)])
            times.append(1000 * (time.perf_counter() - now))
        times.sort()
        return {"p50_ms": statistics.median(times), "p99_ms": times[int(0.99 * (len(times) - 1))]}


class _Windows:
    """Batches for several workers out of windows of texts.

    The worker that takes a window's last batch tokenizes the next window before it runs that
    batch, so that the others need not wait.
    """

    def __init__(
        self,
        texts: Sequence[str],
        offset: int,
        batch_tokens: int,
        encode: Callable[[Sequence[str]], list[list[int]]],
    ) -> None:
        self._texts = texts
        self._position = offset
        self._batch_tokens = batch_tokens
        self._encode = encode
        self._stock: list[list[list[int]]] = []
        self._lock = threading.Lock()

    def take(self) -> list[list[int]]:
        """Return the next batch of id rows."""
        while True:
            with self._lock:
                if self._stock:
                    batch = self._stock.pop()
                    if self._stock:
                        return batch
                else:
                    batch = None
            self.refill()
            if batch is not None:
                return batch

    def refill(self) -> None:
        """Tokenize a window, sort it by length and cut it into batches."""
        with self._lock:
            start, self._position = self._position, self._position + WINDOW
        count = len(self._texts)
        rows = self._encode([self._texts[place % count] for place in range(start, start + WINDOW)])
        batches = _cut(sorted(rows, key=len), self._batch_tokens)
        with self._lock:
            self._stock.extend(batches)


def _cut(rows: Sequence[list[int]], batch_tokens: int) -> list[list[list[int]]]:
    """Cut rows, the shortest first, into batches of at most so many padded tokens."""
    batches: list[list[list[int]]] = [[]]
    for row in rows:
        if batches[-1] and (len(batches[-1]) + 1) * len(row) > batch_tokens:
            batches.append([])
        batches[-1].append(row)
    return batches


def _in_parallel(tasks: Sequence[Callable[[], None]]) -> None:
    """Run the tasks at once, the first on this thread; raise what any of them raised."""
    failures: list[Exception] = []

    def guarded(task: Callable[[], None]) -> None:
        try:
            task()
        except Exception as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(task,)) for task in tasks[1:]]
    for thread in threads:
        thread.start()
    guarded(tasks[0])
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def _jobs() -> Iterator[dict[str, Any]]:
    for line in sys.stdin:
        yield json.loads(line)


def main() -> None:
    """Answer jobs until stdin ends."""
    model, variant, texts = sys.argv[1:]
    runner = Runner(
        json.loads(Path(model).read_text()), variant, json.loads(Path(texts).read_text())
    )
    for job in _jobs():
        print(json.dumps(runner.run(job)), flush=True)


if __name__ == "__main__":
    main()
