"""How a session is laid out over a machine's cores, found by measuring.

Which is faster, one thread for each of several callers or several threads for one, and with how
many tokens in a batch, depends on the model and on the processor. So it is tried.
"""

import itertools
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hone.models.batching import choose_batch
from hone.models.engines import Engine
from hone.models.manifest import TokenLengths
from hone.models.tokenizer import IntArray, pad

EngineFactory = Callable[[int], Engine]
"""Gives an engine whose runs use that many threads."""

_CPU_BATCH = 4
"""Long texts in a batch at most: what is computed between two layers then still lies in the cache.
On every processor tried, batches of 80 to 112 tokens of Banking77's texts were the fastest."""
_GPU_BATCH_TOKENS = (4096, 1024, 16384, 65536)
_GPU_WORKERS = 2
_MOST_TEXTS = 4096
_GROUPS = Path("/sys/fs/cgroup")
_QUEUE = 32
_FEWEST_RUNS = 4
_OVERHEAD_TEXTS = 4
_OVERHEAD_RUNS = 5
_MOST_OVERHEAD = 4096.0
"""Tokens. A GPU takes many in the time of one; then only the budget bounds a batch."""
_CLEARLY = 0.1
_STEADY = 0.75
_HANDLING_S = 150e-6
"""What a service spends on a batch beside running it: waking a worker, giving out answers."""


@dataclass(frozen=True, slots=True)
class SessionLayout:
    """Workers that call the session, threads of one run, and padded tokens in a batch.

    A batch may have more than `batch_tokens` only if it is a single text. With `lone_threads`, a
    text that comes while nothing else is running has a session of its own with so many. A batch
    costs as much as its padded tokens and `overhead_tokens` more.
    """

    workers: int
    intra_threads: int
    batch_tokens: int
    lone_threads: int | None = None
    overhead_tokens: float = 8.0

    def __str__(self) -> str:
        return self.described()

    def described(self, *, pictures: bool = False) -> str:
        """Return it in words; a picture costs one unit of a batch."""
        unit, noun = ("pictures", "picture") if pictures else ("tokens", "text")
        threads = "thread" if self.intra_threads == 1 else "threads"
        workers = "worker" if self.workers == 1 else "workers"
        lone = f", {self.lone_threads} threads for a lone {noun}" if self.lone_threads else ""
        return (
            f"{self.workers} {workers} x {self.intra_threads} {threads}, "
            f"{self.batch_tokens} {unit} in a batch{lone}"
        )


@dataclass(frozen=True, slots=True)
class Workload:
    """What is measured with: random ids of a vocabulary, as long as the training texts were."""

    lengths: TokenLengths
    vocabulary_size: int


@dataclass(frozen=True, slots=True)
class LayoutTrial:
    """What one layout did in its best round and in its worst."""

    layout: SessionLayout
    texts_per_s: float
    worst_texts_per_s: float

    @property
    def steady(self) -> bool:
        """Whether the rounds agree; if not, something else was running on the machine."""
        return self.worst_texts_per_s >= self.texts_per_s * _STEADY


def usable_cores() -> int:
    """Return how many cores this process may use: its affinity, and its container's quota."""
    return max(1, min(len(os.sched_getaffinity(0)), int(_cpu_quota())))


def layout_candidates(*, cores: int, lengths: TokenLengths, on_gpu: bool) -> list[SessionLayout]:
    """Return the layouts worth trying, the one that is most often right first."""
    if on_gpu:
        return [SessionLayout(_GPU_WORKERS, 1, tokens) for tokens in _GPU_BATCH_TOKENS]
    tokens = _CPU_BATCH * max(1, lengths.p90)
    tried = [SessionLayout(cores, 1, tokens)]
    if cores > 1:
        tried.append(SessionLayout(1, cores, cores * tokens))
    return tried


def measure_lone_threads(
    engine_for: EngineFactory,
    candidates: Sequence[int],
    workload: Workload,
    *,
    budget_s: float = 0.2,
) -> int:
    """Return with how many threads one text of usual length is answered the soonest.

    The candidates take turns for about `budget_s` seconds and count with their lower quartiles,
    which others' bursts on the machine hardly move; the first stays unless another is faster by
    a tenth.
    """
    ids = _usual_texts(workload, 1)
    engines = {threads: engine_for(threads) for threads in candidates}
    if len(engines) == 1:
        return candidates[0]
    seconds: dict[int, list[float]] = {threads: [] for threads in candidates}
    deadline = time.perf_counter() + budget_s
    while time.perf_counter() < deadline or len(seconds[candidates[-1]]) < _FEWEST_RUNS:
        for threads, engine in engines.items():
            seconds[threads].append(_run_seconds(engine, ids))
    usual = {threads: float(np.quantile(found, 0.25)) for threads, found in seconds.items()}
    fastest = min(candidates, key=usual.__getitem__)
    first = candidates[0]
    return first if usual[first] <= usual[fastest] * (1 + _CLEARLY) else fastest


def measure_layout(
    engine_for: EngineFactory,
    candidates: Sequence[SessionLayout],
    workload: Workload,
    *,
    budget_s: float = 0.5,
) -> tuple[SessionLayout, list[LayoutTrial]]:
    """Try the candidates for about `budget_s` seconds; return the fastest and all results.

    The overhead of a batch is measured first, for each number of threads. A single candidate is
    not tried. Otherwise every candidate runs the same random texts, whose lengths follow the
    training texts', in batches as they would form out of a queue of 32. After two rounds only the
    faster half goes on, and each counts with its best round, so that a neighbour's burst on the
    machine does not decide; for the same reason the first candidate stays unless another is
    clearly faster.
    """
    overheads = {
        threads: round(measure_overhead(engine_for(threads), workload), 1)
        for threads in {layout.intra_threads for layout in candidates}
    }
    candidates = [replace(c, overhead_tokens=overheads[c.intra_threads]) for c in candidates]
    if len(candidates) == 1:
        return candidates[0], []
    rows = _random_rows(workload.lengths, workload.vocabulary_size)
    share_s = budget_s / (3 * len(candidates))
    first = candidates[0]
    texts = rows[: _texts_in(share_s, engine_for(first.intra_threads), rows, first)]
    rounds: dict[SessionLayout, list[float]] = {layout: [] for layout in candidates}
    left = list(candidates)
    deadline = time.perf_counter() + budget_s
    for turn in itertools.count(1):
        for layout in left:
            rounds[layout].append(_texts_per_s(engine_for(layout.intra_threads), texts, layout))
        if turn > 1:
            left.sort(key=lambda layout: max(rounds[layout]), reverse=True)
            del left[max(2, len(left) // 2) :]
            if time.perf_counter() >= deadline:
                break
    fastest = left[0]
    keeps_up = max(rounds[first]) >= max(rounds[fastest]) * (1 - _CLEARLY)
    trials = [LayoutTrial(layout, max(rates), min(rates)) for layout, rates in rounds.items()]
    return first if keeps_up else fastest, trials


def measure_overhead(engine: Engine, workload: Workload) -> float:
    """Return what a batch costs beside its padded tokens, in tokens.

    From the time of one text and of `_OVERHEAD_TEXTS` of the usual length, each the shortest of
    a few runs.
    """
    ids = _usual_texts(workload, _OVERHEAD_TEXTS)
    length = int(ids.shape[1])
    one_s = many_s = math.inf
    for _ in range(_OVERHEAD_RUNS):
        one_s = min(one_s, _run_seconds(engine, ids[:1]))
        many_s = min(many_s, _run_seconds(engine, ids))
    more_tokens = (_OVERHEAD_TEXTS - 1) * length
    token_s = max(many_s - one_s, 1e-9) / more_tokens
    overhead_s = one_s - length * token_s + _HANDLING_S
    return float(min(max(overhead_s / token_s, 1.0), _MOST_OVERHEAD))


def _usual_texts(workload: Workload, count: int) -> IntArray:
    shape = (count, max(1, workload.lengths.p50))
    return np.random.default_rng(0).integers(0, workload.vocabulary_size, shape)


def _run_seconds(engine: Engine, ids: IntArray) -> float:
    started = time.perf_counter()
    engine.run(ids, np.ones_like(ids))
    return time.perf_counter() - started


def _texts_per_s(engine: Engine, texts: list[list[int]], layout: SessionLayout) -> float:
    """Return the pace of one round.

    Where each run stays on its caller's thread, what counts is the time that the processor gave
    to it: unlike the time on the wall, it does not grow when others want the processor too.
    """
    batches = _batches(texts, layout)
    wall_s, processor_s = _run(engine, batches, layout.workers)
    stays_on_thread = layout.intra_threads == 1 and engine.device == "cpu"
    elapsed_s = processor_s / layout.workers if stays_on_thread else wall_s
    return len(texts) / (elapsed_s + len(batches) / layout.workers * _HANDLING_S)


def _random_rows(lengths: TokenLengths, vocabulary_size: int) -> list[list[int]]:
    generator = np.random.default_rng(0)
    shares = generator.random(_MOST_TEXTS)
    points = [max(1, lengths.p50 // 2), lengths.p50, lengths.p90, lengths.p99]
    sizes = np.interp(shares, [0.0, 0.5, 0.9, 1.0], points).astype(int).clip(min=1)
    return [generator.integers(0, vocabulary_size, size).tolist() for size in sizes]


def _texts_in(seconds: float, engine: Engine, rows: list[list[int]], layout: SessionLayout) -> int:
    """Return how many texts fill `seconds`, judged by a few run one by one (after a warm run)."""
    engine.run(*pad(rows[:1], 0))
    started = time.perf_counter()
    done = 0
    while done < 16 and (done < 2 or time.perf_counter() - started < seconds / 2):
        engine.run(*pad(rows[done : done + 1], 0))
        done += 1
    one_s = (time.perf_counter() - started) / done
    fitting = int(seconds * layout.workers / one_s)
    return min(max(fitting, 4 * layout.workers), _MOST_TEXTS)


def _batches(rows: list[list[int]], layout: SessionLayout) -> list[tuple[IntArray, IntArray]]:
    """Cut the rows into batches as they would form in a queue of `_QUEUE` texts."""
    batches: list[list[list[int]]] = []
    for start in range(0, len(rows), _QUEUE):
        waiting = rows[start : start + _QUEUE]
        pool = sorted((len(row), number, row) for number, row in enumerate(waiting))
        while pool:
            oldest = min(pool, key=lambda entry: entry[1])
            low, high = choose_batch(
                pool,
                oldest[:2],
                most_texts=len(pool),
                batch_tokens=layout.batch_tokens,
                overhead_tokens=layout.overhead_tokens,
            )
            batches.append([row for _, _, row in pool[low:high]])
            del pool[low:high]
    return [pad(batch, 0) for batch in batches]


def _run(
    engine: Engine, batches: list[tuple[IntArray, IntArray]], workers: int
) -> tuple[float, float]:
    """Run all batches over `workers` threads; return seconds on the wall and of the threads."""
    waiting = list(batches)
    processor_s: list[float] = []
    failures: list[Exception] = []

    def work() -> None:
        started = time.thread_time()
        try:
            while waiting:
                engine.run(*waiting.pop())
        except IndexError:  # another worker took the last one
            pass
        except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
            failures.append(error)
        processor_s.append(time.thread_time() - started)

    threads = [threading.Thread(target=work) for _ in range(workers - 1)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return time.perf_counter() - started, sum(processor_s)


def _cpu_quota() -> float:
    """Return the control group's limit in cores (cgroup v2, then v1), or infinity."""
    own = _own_group()
    for folder in (_GROUPS / own, _GROUPS):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if quota.isdigit() and period.isdigit():
            return max(1.0, int(quota) / int(period))
    for folder in (_GROUPS / "cpu" / own, _GROUPS / "cpu"):
        quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit():
            return max(1.0, int(quota) / int(period))
    return float(2**20)


def _own_group() -> str:
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "" or "cpu" in controllers.split(","):
            return path.lstrip("/")
    return ""


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
