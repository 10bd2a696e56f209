"""`make bench`: the service, a bare loop over the same session, and other servers, in one run.

python -m benchmarks.serving [--store STORE --model NAME] [--texts FILE] [--out FILE]

Everybody gets the same model, the same texts in the same order, the same cores and the same
load generator. Servers are started one at a time. A machine's speed drifts, so each round
measures everybody for a few seconds, in another order than the round before, and every ratio is
between measurements of the same round; between the service and the bare loop, of neighbouring
seconds.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks import machine
from benchmarks.bare import BareLoop, Layout, layouts
from benchmarks.contestants import PEERS, Contestant, Hone, NotMeasurable, PeerServer, started
from benchmarks.environments import NotInstalled
from benchmarks.footprint import IDLE_S, measure_footprint
from benchmarks.load import generator_name, run_load
from benchmarks.processes import Server, ServerFailed
from benchmarks.report import Report
from benchmarks.results import BareResult, Cell, ServerResult, verdicts
from benchmarks.served import BUILD, ServedModel, find_model
from benchmarks.texts import default_texts, read_texts
from hone.models.layout import usable_cores

CONNECTIONS = (1, 8, 32)
_BUSIEST = CONNECTIONS[-1]
_PAIRS = 2
"""How often in a round the bare loop and the service with its fastest variant take turns."""
_CHECKED = 64
_LEAST_AGREEMENT = 0.9
_WIDTH = 150
"""Columns of the tables, also where they are read from a log."""
_WARM_S = 1.0
_SETTLE_S = 1.0
_ALONE = ((1, False), (2, False), (2, True))
"""Threads, and whether they spin, that are tried for one text at a time."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does. No round begins that might end after `deadline`, a monotonic time."""

    model: ServedModel
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
            if isinstance(contestant, Hone) and connections != 8:
                result.cells += self._beside_bare(contestant, server, connections, number)
            else:
                result.cells.append(
                    self._load(contestant, server, connections, self.plan.seconds, number)
                )
        result.resident_mib.append(server.resident_mib())

    def _beside_bare(
        self, contestant: Contestant, server: Server, connections: int, number: int
    ) -> list[Cell]:
        """Measure the bare loop and the service in turns; the idle service takes no time of it."""
        cells = []
        pairs = _PAIRS if contestant.variant == self.plan.model.variants[0] else 1
        for pair in range(pairs):
            bare = None
            if pair % 2 == 0:
                bare = self._bare(contestant.variant, connections, number)
            cell = self._load(contestant, server, connections, self.plan.seconds, number)
            if bare is None:
                bare = self._bare(contestant.variant, connections, number)
            cells.append(Cell(connections, number, cell.load, cell.cpu_ms_per_text, bare))
        return cells

    def _bare(self, variant: str, connections: int, number: int) -> float:
        """Return the bare loop's median in ms for one connection, else its texts a second."""
        loop, result = self._loops[variant], self.bare[variant]
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


def main() -> None:
    """Run the benchmark, print tables and one line of JSON, and append that to `--out`."""
    given = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers are ended too
    console = Console(stderr=True)
    model = find_model(given.store, given.model)
    path = given.texts or default_texts()
    texts = read_texts(path)
    plan = Plan(
        model=model,
        texts=texts,
        rounds=given.rounds,
        seconds=given.seconds,
        deadline=time.monotonic() + 60 * given.minutes,
        workers=usable_cores(),
        generator=given.generator or generator_name(),
        console=console,
    )
    report = Report(
        date=machine.now(),
        machine=machine.describe_machine() | {"load_before": machine.load_average()},
        software=machine.describe_software(),
        model=model.facts(),
        texts={"file": str(path), "count": len(texts), "seed": 0},
        settings={
            "rounds": plan.rounds,
            "seconds": plan.seconds,
            "connections": CONNECTIONS,
            "workers": plan.workers,
            "generator": plan.generator,
        },
    )
    with tempfile.TemporaryDirectory() as layouts_folder:
        run_benchmark(plan, given.contestants, Path(layouts_folder), report, idle_s=given.idle)
    report.show(Console(width=_WIDTH))
    line = report.to_json()
    print(line)
    if given.out is not None:
        with given.out.open("a", encoding="utf-8") as out:
            out.write(line + "\n")


def run_benchmark(
    plan: Plan, wanted: Sequence[str], layouts_folder: Path, report: Report, *, idle_s: float
) -> None:
    """Measure everything and put it into the report."""
    variants = plan.model.variants
    ours = [Hone(plan.model, variant, layouts_folder) for variant in variants]
    peers, absent = _peers(plan)
    contestants = [c for c in [*ours, *peers] if _is_wanted(c.name, wanted)]
    if idle_s:
        plan.console.print("footprint", style="dim")
        report.footprint = measure_footprint(ours[0], plan.texts, idle_s=idle_s)
    benchmark = Benchmark(plan, contestants)
    texts_file = BUILD / "texts.json"
    texts_file.write_text(json.dumps(plan.texts))
    loops = [
        BareLoop(plan.model.description, variant, texts_file, processes=plan.workers)
        for variant in variants
    ]
    try:
        for variant, loop in zip(variants, loops, strict=True):
            plan.console.print(f"bare loop, {variant}", style="dim")
            benchmark.screen(variant, loop)
        report.settings["rounds"] = benchmark.run_rounds()
    finally:
        for loop in loops:
            loop.close()
    report.bare = list(benchmark.bare.values())
    report.servers = [*benchmark.results.values(), *absent]
    report.verdicts = verdicts(report.servers, variants[0], report.footprint)


def _peers(plan: Plan) -> tuple[list[Contestant], list[ServerResult]]:
    """Return the peers that can be measured here, and a result that says why for the others."""
    present: list[Contestant] = []
    absent = []
    for peer in PEERS:
        try:
            present.append(PeerServer(peer, plan.model, plan.workers))
        except (NotInstalled, NotMeasurable) as error:
            note = f"not measured: {error}"
            absent.append(ServerResult(peer.name, as_documented=peer.as_documented, note=note))
    return present, absent


def _empty_result(contestant: Contestant) -> ServerResult:
    documented = isinstance(contestant, PeerServer) and contestant.peer.as_documented
    return ServerResult(
        contestant.name, contestant.variant, contestant.version, as_documented=documented
    )


def _alone_ms(loop: BareLoop, kind: tuple[int, bool], seconds: float) -> float:
    threads, spinning = kind
    return loop.one_by_one(threads=threads, spinning=spinning, seconds=seconds)["p50_ms"]


def _is_wanted(name: str, wanted: Sequence[str]) -> bool:
    return not wanted or any(name.startswith(prefix) for prefix in wanted)


def _offset(number: int) -> int:
    """Return the text that a round begins with: the same for everybody, another each round."""
    return 997 * number


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.serving",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--store", type=Path, help="default: ./store, or one that is made")
    parser.add_argument("--model", help="default: banking77, or a quickly trained one")
    parser.add_argument("--texts", type=Path, help="a CSV or JSONL file with a field 'text'")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--minutes", type=float, default=11.0, help="begin no later round")
    parser.add_argument("--idle", type=float, default=IDLE_S, help="0 leaves the footprint out")
    parser.add_argument("--generator", choices=["wrk", "sockets"], help="default: wrk if installed")
    parser.add_argument("--out", type=Path, help="append the line of JSON to this file")
    parser.add_argument("contestants", nargs="*", help="beginnings of names; default: everybody")
    return parser.parse_args()


if __name__ == "__main__":
    main()
