"""`make bench`: the service, a bare loop over the same session, and other servers, in one run.

python -m benchmarks.serving [--store STORE --model NAME] [--texts FILE] [--out FILE]

Everybody gets the same model, the same texts in the same order, the same cores and the same
load generator. Servers are started one at a time.
"""

import argparse
import contextlib
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import machine
from benchmarks.bare import BareLoop
from benchmarks.contestants import PEERS, Contestant, Hone, NotMeasurable, PeerServer
from benchmarks.environments import NotInstalled
from benchmarks.footprint import IDLE_S, measure_footprint
from benchmarks.load import generator_name
from benchmarks.report import Report
from benchmarks.results import ServerResult, verdicts
from benchmarks.rounds import CONNECTIONS, Benchmark, Plan
from benchmarks.served import find_model
from benchmarks.texts import default_texts, read_texts
from hone.models.layout import usable_cores

_WIDTH = 150
"""Columns of the tables, also where they are read from a log."""


def main() -> None:
    """Run the benchmark, print tables and one line of JSON, and append that to `--out`."""
    given = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers are ended too
    with tempfile.TemporaryDirectory() as folder:
        plan = _plan(given, Path(folder))
        report = _empty_report(plan)
        run_benchmark(plan, given.contestants, Path(folder), report, idle_s=given.idle)
    report.show(Console(width=_WIDTH))
    line = report.to_json()
    print(line)
    if given.out is not None:
        with given.out.open("a", encoding="utf-8") as out:
            out.write(line + "\n")


def run_benchmark(
    plan: Plan, wanted: Sequence[str], folder: Path, report: Report, *, idle_s: float
) -> None:
    """Measure everything and put it into the report. `folder` is empty, and this run's own."""
    variants = plan.model.variants
    ours = [Hone(plan.model, variant, folder / "layouts") for variant in variants]
    peers, absent = _peers(plan, wanted)
    if idle_s:
        plan.console.print("footprint", style="dim")
        report.footprint = measure_footprint(ours[0], plan.texts, idle_s=idle_s)
    taking_part = [hone for hone in ours if _is_wanted(hone.name, wanted)]
    benchmark = Benchmark(plan, [*taking_part, *peers])
    texts = folder / "texts.json"
    texts.write_text(json.dumps(plan.texts))
    with contextlib.ExitStack() as loops:
        for variant in variants:
            plan.console.print(f"bare loop, {variant}", style="dim")
            loop = BareLoop(plan.model.description, variant, texts, processes=plan.workers)
            loops.callback(loop.close)
            benchmark.screen(variant, loop)
        report.settings["rounds"] = benchmark.run_rounds()
    report.bare = list(benchmark.bare.values())
    report.servers = [*benchmark.results.values(), *absent]
    report.verdicts = verdicts(report.servers, variants[0], report.footprint)
    report.machine["load_after"] = machine.load_average()


def _peers(plan: Plan, wanted: Sequence[str]) -> tuple[list[Contestant], list[ServerResult]]:
    """Return the peers that can be measured here, and a result that says why for the others."""
    present: list[Contestant] = []
    absent = []
    for peer in (peer for peer in PEERS if _is_wanted(peer.name, wanted)):
        try:
            present.append(PeerServer(peer, plan.model, plan.workers))
        except (NotInstalled, NotMeasurable) as error:
            note = f"not measured: {error}"
            absent.append(ServerResult(peer.name, as_documented=peer.as_documented, note=note))
    return present, absent


def _is_wanted(name: str, wanted: Sequence[str]) -> bool:
    return not wanted or any(name.startswith(prefix) for prefix in wanted)


def _plan(given: argparse.Namespace, folder: Path) -> Plan:
    texts_file = given.texts or default_texts()
    return Plan(
        model=find_model(given.store, given.model, folder),
        texts_file=texts_file,
        texts=read_texts(texts_file),
        rounds=given.rounds,
        seconds=given.seconds,
        deadline=time.monotonic() + 60 * given.minutes,
        workers=usable_cores(),
        generator=given.generator or generator_name(),
        console=Console(stderr=True),
    )


def _empty_report(plan: Plan) -> Report:
    return Report(
        date=machine.now(),
        machine=machine.describe_machine() | {"load_before": machine.load_average()},
        software=machine.describe_software(),
        model=plan.model.facts(),
        texts={"file": str(plan.texts_file), "count": len(plan.texts), "seed": 0},
        settings={
            "seconds": plan.seconds,
            "connections": CONNECTIONS,
            "workers": plan.workers,
            "generator": plan.generator,
        },
    )


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
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--minutes", type=float, default=11.0, help="begin no later round")
    parser.add_argument("--idle", type=float, default=IDLE_S, help="0 leaves the footprint out")
    parser.add_argument("--generator", choices=["wrk", "sockets"], help="default: wrk if installed")
    parser.add_argument("--out", type=Path, help="append the line of JSON to this file")
    parser.add_argument("contestants", nargs="*", help="beginnings of names; default: everybody")
    return parser.parse_args()


if __name__ == "__main__":
    main()
