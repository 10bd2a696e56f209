"""Which session layouts are tried, and that the fastest is chosen."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hone.models import layout as module
from hone.models.engines import FakeEngine, FloatArray
from hone.models.layout import (
    LayoutTrial,
    SessionLayout,
    Workload,
    layout_candidates,
    measure_layout,
    measure_lone_threads,
    measure_overhead,
    usable_cores,
)
from hone.models.manifest import TokenLengths
from hone.models.tokenizer import IntArray

LENGTHS = TokenLengths(p50=10, p90=20, p99=40, longest=80)
WORKLOAD = Workload(LENGTHS, 100)


class TimedEngine(FakeEngine):
    """Takes some seconds for a run and some for each padded token; runs one at a time or not.

    It says that it is a GPU, so that the time on the wall counts: it sleeps.
    """

    def __init__(self, *, run_s: float, token_s: float, one_at_a_time: bool) -> None:
        super().__init__(3)
        self._run_s, self._token_s = run_s, token_s
        self._lock = threading.Lock() if one_at_a_time else None

    @property
    def device(self) -> str:
        return "cuda"

    def run(self, input_ids: IntArray, attention_mask: IntArray) -> FloatArray:
        seconds = self._run_s + self._token_s * input_ids.size
        if self._lock is None:
            time.sleep(seconds)
        else:
            with self._lock:
                time.sleep(seconds)
        return np.zeros((len(input_ids), 3), dtype=np.float32)


def measured(engine: FakeEngine) -> SessionLayout:
    candidates = layout_candidates(cores=2, lengths=LENGTHS, on_gpu=False)
    chosen, trials = measure_layout(lambda _: engine, candidates, WORKLOAD, budget_s=1.0)
    tried = {
        replace(t.layout, overhead_tokens=c.overhead_tokens)
        for t, c in zip(trials, candidates, strict=True)
    }
    assert tried == set(candidates)
    return chosen


def test_an_engine_that_runs_one_at_a_time_gets_one_worker() -> None:
    chosen = measured(TimedEngine(run_s=0.01, token_s=0, one_at_a_time=True))
    assert chosen.workers == 1
    assert chosen.overhead_tokens > 100


def test_an_engine_that_costs_by_the_token_gets_all_cores_and_little_overhead() -> None:
    chosen = measured(TimedEngine(run_s=0, token_s=0.0002, one_at_a_time=False))
    assert chosen.workers == 2
    assert chosen.overhead_tokens < 6


def test_on_one_thread_the_processors_time_counts() -> None:
    """Sleeping stands for a neighbour that has the processor: it must not decide."""

    class Interrupted(FakeEngine):
        def run(self, input_ids: IntArray, attention_mask: IntArray) -> FloatArray:
            time.sleep(0.002)
            busy_until = time.thread_time() + 0.0005
            while time.thread_time() < busy_until:
                pass
            return super().run(input_ids, attention_mask)

    assert measured(Interrupted(3)).workers == 2


def test_measuring_keeps_to_its_time() -> None:
    started = time.perf_counter()
    measured(TimedEngine(run_s=0.002, token_s=0.0001, one_at_a_time=False))
    assert time.perf_counter() - started < 4


def test_a_failure_in_a_worker_is_raised_in_the_caller() -> None:
    engine = FakeEngine(3, poison=0)
    candidates = layout_candidates(cores=2, lengths=LENGTHS, on_gpu=False)
    with pytest.raises(RuntimeError, match="poisoned"):
        measure_layout(lambda _: engine, candidates, WORKLOAD)


def test_rounds_that_disagree_are_not_steady() -> None:
    layout = SessionLayout(2, 1, 100)
    assert LayoutTrial(layout, 100, 90).steady
    assert not LayoutTrial(layout, 100, 50).steady


def test_one_core_has_no_layout_of_several_threads() -> None:
    for layout in layout_candidates(cores=1, lengths=LENGTHS, on_gpu=False):
        assert (layout.workers, layout.intra_threads) == (1, 1)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000"}, 1),
        ({"cpu.max": "400000 100000"}, 4),
        ({"cpu.max": "10000 100000"}, 1),
        ({"cpu.max": "max 100000"}, 16),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 16),
        ({}, 16),
    ],
)
def test_a_containers_quota_bounds_the_cores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str], cores: int
) -> None:
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content + "\n")
    monkeypatch.setattr(module, "_GROUPS", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)))
    assert usable_cores() == cores


@pytest.mark.parametrize(("seconds", "chosen"), [((0.02, 0.005), 2), ((0.005, 0.02), 1)])
def test_a_lone_text_gets_as_many_threads_as_answer_it_soonest(
    seconds: tuple[float, float], chosen: int
) -> None:
    engines = {
        threads: TimedEngine(run_s=run_s, token_s=0, one_at_a_time=False)
        for threads, run_s in zip((1, 2), seconds, strict=True)
    }
    assert measure_lone_threads(engines.__getitem__, (1, 2), WORKLOAD, budget_s=0.2) == chosen
    assert measure_lone_threads(lambda _: engines[1], (1, 2), WORKLOAD, budget_s=0.2) == 1


@pytest.mark.parametrize("overhead_s", [0.005, 0.04])
def test_the_overhead_of_a_batch_is_measured_in_tokens(overhead_s: float) -> None:
    engine = TimedEngine(run_s=overhead_s, token_s=0.0005, one_at_a_time=False)
    found = measure_overhead(engine, WORKLOAD)
    assert found == pytest.approx(overhead_s / 0.0005, rel=0.35)


def test_an_engine_that_takes_many_texts_in_the_time_of_one_has_a_bounded_overhead() -> None:
    engine = TimedEngine(run_s=0.01, token_s=0, one_at_a_time=False)
    assert 100 < measure_overhead(engine, WORKLOAD) <= 4096


def test_a_layout_is_told_in_the_units_of_its_model() -> None:
    layout = SessionLayout(2, 1, 4, lone_threads=2)
    assert str(layout).endswith("4 tokens in a batch, 2 threads for a lone text")
    told = layout.described(pictures=True)
    assert told.endswith("4 pictures in a batch, 2 threads for a lone picture")
