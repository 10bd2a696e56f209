"""The rounds of a benchmark: everybody for a few seconds, in another order each time.

A machine's speed drifts, so the bare loop is measured again right beside every server, and a
server counts with its share of that: only figures of neighbouring seconds are ever divided.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.bare import BareLoop, Layout, layouts
from benchmarks.contestants import Contestant, Hone, NotMeasurable, PeerServer, started
from benchmarks.load import run_load
from benchmarks.processes import Server, ServerFailed
from benchmarks.results import BareResult, Cell, ServerResult
from benchmarks.served import ServedModel

CONNECTIONS = (1, 8, 32)
_BUSIEST = CONNECTIONS[-1]
_PAIRS = 2
"""How often in a round the bare loop and the service with its fastest variant take turns."""
_CHECKED = 64
_LEAST_AGREEMENT = 0.9
_WARM_S = 1.0
_SETTLE_S = 1.0
_ALONE = ((1, False), (2, False), (2, True))
"""Threads, and whether they spin, that are tried for one text at a time."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does. No round begins that might end after `deadline`, a monotonic time."""

    model: ServedModel
    texts_file: Path
    texts: list[str]
    rounds: int
    seconds: float
    deadline: float
    workers: int
    generator: str
    console: Console


class Benchmark:
    """One run, and its results so far."""

    def __init__(self, plan: Plan, contestants: Sequence[Contestant]) -> None:
        self.plan = plan
        self.contestants = list(contestants)
        self.results = {c.name: _empty_result(c) for c in contestants}
        self.bare: dict[str, BareResult] = {}
        self._loops: dict[str, BareLoop] = {}
        self._expected: dict[str, list[str]] = {}

    def screen(self, variant: str, loop: BareLoop) -> None:
        """Try every layout of the bare loop twice, the better half longer; keep the best."""
        share_s = self.plan.seconds / 8
        rates: dict[Layout, float] = {}
        left = layouts(self.plan.workers)
        for seconds in (share_s, share_s, 2 * share_s, 4 * share_s):
            for layout in left:
                rate = loop.rate(layout, seconds=seconds, offset=0)
                rates[layout] = max(rates.get(layout, 0.0), rate.texts_per_s)
            left = sorted(left, key=rates.__getitem__, reverse=True)[: max(3, len(left) // 2)]
        alone = min(_ALONE, key=lambda kind: _alone_ms(loop, kind, 2 * share_s))
        self.bare[variant] = BareResult(variant, rates, left[0], alone)
        self._loops[variant] = loop
        self._expected[variant] = loop.labels(_CHECKED)

    def run_rounds(self) -> int:
        """Run the planned rounds, or as many as there is time for; return how many."""
        longest_s = 0.0
        for number in range(self.plan.rounds):
            began = time.monotonic()
            if number and began + longest_s > self.plan.deadline:
                return number
            self.run_round(number)
            longest_s = max(longest_s, time.monotonic() - began)
        return self.plan.rounds

    def run_round(self, number: int) -> None:
        """Measure every contestant that still takes part, each beginning from another place."""
        shift = number % len(self.contestants)
        for contestant in [*self.contestants[shift:], *self.contestants[:shift]]:
            result = self.results[contestant.name]
            if result.note and not result.cells:
                continue
            self.plan.console.print(f"round {number + 1}: {contestant.name}", style="dim")
            try:
                with started(contestant) as server:
                    self._measure(contestant, server, result, number)
            except (ServerFailed, NotMeasurable, ConnectionError, TimeoutError) as error:
                result.note = f"not measured: {error}"
                self.plan.console.print(f"  {result.note}", style="yellow", highlight=False)

    def _measure(
        self, contestant: Contestant, server: Server, result: ServerResult, number: int
    ) -> None:
        result.ready_s.append(server.ready_s)
        if isinstance(contestant, Hone):
            result.layout = contestant.layout(server.port)
        self._check_labels(contestant, server, result)
        self._load(contestant, server, _BUSIEST, _WARM_S, number)
        result.idle_share.append(server.idle_share(_SETTLE_S))
        for connections in CONNECTIONS:
            if connections == _BUSIEST or (connections == 1 and isinstance(contestant, Hone)):
                result.cells += self._beside_bare(contestant, server, connections, number)
            else:
                result.cells.append(
                    self._load(contestant, server, connections, self.plan.seconds, number)
                )
        result.resident_mib.append(server.resident_mib())

    def _beside_bare(
        self, contestant: Contestant, server: Server, connections: int, number: int
    ) -> list[Cell]:
        """Measure the bare loop and the server in turns; the server is frozen meanwhile.

        A peer is held against the loop with the fastest variant, whatever its own: that only
        tells how fast the machine was.
        """
        cells = []
        fastest = self.plan.model.variants[0]
        variant = contestant.variant if isinstance(contestant, Hone) else fastest
        pairs = _PAIRS if contestant.name == f"hone {fastest}" else 1
        for pair in range(pairs):
            bare = None
            if pair % 2 == 0:
                bare = self._bare(server, variant, connections, number)
            cell = self._load(contestant, server, connections, self.plan.seconds, number)
            if bare is None:
                bare = self._bare(server, variant, connections, number)
            cells.append(Cell(connections, number, cell.load, cell.cpu_ms_per_text, bare))
        return cells

    def _bare(self, server: Server, variant: str, connections: int, number: int) -> float:
        """Return the bare loop's median in ms for one connection, else its texts a second."""
        loop, result = self._loops[variant], self.bare[variant]
        with server.paused():
            if connections == 1:
                median_ms = _alone_ms(loop, result.alone, self.plan.seconds)
                result.p50_ms.append(median_ms)
                return median_ms
            rate = loop.rate(result.best, seconds=self.plan.seconds, offset=_offset(number))
        result.rates.append(rate)
        return rate.texts_per_s

    def _load(
        self,
        contestant: Contestant,
        server: Server,
        connections: int,
        seconds: float,
        number: int,
    ) -> Cell:
        before = server.cpu_seconds()
        load = run_load(
            contestant.requests(server.port, self.plan.texts),
            connections=connections,
            seconds=seconds,
            offset=_offset(number),
            generator=self.plan.generator,
        )
        used_s = server.cpu_seconds() - before
        return Cell(connections, number, load, 1000 * used_s / max(1, load.answers))

    def _check_labels(self, contestant: Contestant, server: Server, result: ServerResult) -> None:
        """See that everybody runs the same model: NotMeasurable if the labels differ."""
        expected = self._expected[contestant.variant]
        found = contestant.first_labels(server.port, self.plan.texts[:_CHECKED])
        same = sum(a == b for a, b in zip(expected, found, strict=True)) / len(expected)
        result.same_labels = same
        if same < _LEAST_AGREEMENT:
            raise NotMeasurable(f"only {same:.0%} of its labels are the bare loop's")


def _empty_result(contestant: Contestant) -> ServerResult:
    documented = isinstance(contestant, PeerServer) and contestant.peer.as_documented
    return ServerResult(
        contestant.name, contestant.variant, contestant.version, as_documented=documented
    )


def _alone_ms(loop: BareLoop, kind: tuple[int, bool], seconds: float) -> float:
    threads, spinning = kind
    return loop.one_by_one(threads=threads, spinning=spinning, seconds=seconds)["p50_ms"]


def _offset(number: int) -> int:
    """Return the text that a round begins with: the same for everybody, another each round."""
    return 997 * number
