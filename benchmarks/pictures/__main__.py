"""Pictures over HTTP: the service, a bare loop over the same session, and a hand-written server.

    python -m benchmarks.pictures [--store STORE --model NAME --pictures FOLDER] [--base FOLDER]
        [--out FILE]

Everybody gets the same pictures in the same order and the same cores; servers run one at a time,
and the bare loop (decode, resize, run) is measured right beside each while it stands still.
"""

import argparse
import base64
import contextlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.load import Load, Requests, ask, generator_name, get, run_load
from benchmarks.pictures.bare import BareLoop, Layout, layouts
from benchmarks.pictures.model import PictureModel, describe, find_picture_model, read_pictures
from benchmarks.pictures.session import MODEL_VARIABLE
from benchmarks.processes import Server, ServerFailed, free_port, running
from hone.models.layout import usable_cores

CONNECTIONS = (1, 32)
MOST_ADDED_MS = 3.0
LEAST_OF_BARE = 0.8
_ROOT = Path(__file__).resolve().parents[2]
_CHECKED = 32
_LEAST_AGREEMENT = 0.9
_WARM_S = 1.0
_LOGS = _ROOT / "build" / "bench" / "logs"


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server: how it is started on a port, asked, and read."""

    name: str
    command: Callable[[int], list[str]]
    path: str
    body: Callable[[bytes], bytes]
    label: Callable[[bytes], str]
    is_ready: Callable[[int], bool]
    environment: dict[str, str]

    @contextlib.contextmanager
    def started(self) -> Iterator[Server]:
        """Run the server on a free port until the block ends."""
        port = free_port()
        log = _LOGS / f"pictures-{self.name}.log".replace(" ", "-")
        with running(
            self.command(port),
            port=port,
            is_ready=self.is_ready,
            log=log,
            environment=self.environment,
            cwd=_ROOT,
        ) as server:
            yield server


@dataclass(slots=True)
class Measured:
    """What was seen of one contestant, round by round; `bare` stood beside it."""

    name: str
    p50_ms: dict[int, list[float]] = field(default_factory=lambda: {n: [] for n in CONNECTIONS})
    per_s: dict[int, list[float]] = field(default_factory=lambda: {n: [] for n in CONNECTIONS})
    bare_ms: list[float] = field(default_factory=list)
    bare_per_s: list[float] = field(default_factory=list)
    failures: int = 0
    note: str = ""

    @property
    def added_ms(self) -> list[float]:
        """One connection's median above the bare loop's beside it."""
        return [a - b for a, b in zip(self.p50_ms[1], self.bare_ms, strict=True)]

    @property
    def shares(self) -> list[float]:
        """The rate at 32 connections as a share of the bare loop's beside it."""
        return [a / b for a, b in zip(self.per_s[32], self.bare_per_s, strict=True)]


class Bench:
    """One run over one variant."""

    def __init__(self, loop: BareLoop, pictures: Sequence[bytes], seconds: float) -> None:
        self.loop, self.pictures, self.seconds = loop, pictures, seconds
        cores = usable_cores()
        share_s = seconds / 4
        self.screened = {layout: loop.rate(layout, share_s) for layout in layouts(cores)}
        self.best: Layout = max(self.screened, key=self.screened.__getitem__)
        self.alone = min((1, cores), key=lambda threads: loop.alone_ms(threads, share_s))

    def measure(self, contestant: Contestant, found: Measured, number: int) -> None:
        """Measure a contestant once, and the bare loop beside it; a failure becomes a note."""
        try:
            with contestant.started() as server:
                self._check_labels(contestant, server.port)
                self._load(contestant, server, 32, _WARM_S, number)
                for connections in CONNECTIONS:
                    with server.paused():
                        self._bare(found, connections)
                    load = self._load(contestant, server, connections, self.seconds, number)
                    found.p50_ms[connections].append(load.p50_ms)
                    found.per_s[connections].append(load.texts_per_s)
                    found.failures += load.failures
        except (ServerFailed, ConnectionError, TimeoutError, _OtherModel) as error:
            found.note = f"not measured: {error}"

    def _bare(self, found: Measured, connections: int) -> None:
        if connections == 1:
            found.bare_ms.append(self.loop.alone_ms(self.alone, self.seconds))
        else:
            found.bare_per_s.append(self.loop.rate(self.best, self.seconds))

    def _load(
        self, contestant: Contestant, server: Server, connections: int, seconds: float, number: int
    ) -> Load:
        bodies = [contestant.body(picture) for picture in self.pictures]
        return run_load(
            Requests(server.port, contestant.path, bodies),
            connections=connections,
            seconds=seconds,
            offset=97 * number,
            generator=generator_name(),
        )

    def _check_labels(self, contestant: Contestant, port: int) -> None:
        wanted = self.loop.labels(_CHECKED)
        found = []
        for picture in self.pictures[: len(wanted)]:
            status, answer = ask(Requests(port, contestant.path, []), contestant.body(picture))
            if status != 200:
                raise _OtherModel(f"it answers {status}: {answer[:200].decode(errors='replace')}")
            found.append(contestant.label(answer))
        same = sum(a == b for a, b in zip(found, wanted, strict=True)) / len(wanted)
        if same < _LEAST_AGREEMENT:
            raise _OtherModel(f"only {same:.0%} of its labels are the bare loop's")


class _OtherModel(Exception):
    """A contestant does not answer, or with another model."""


def hone(model: PictureModel, variant: str, state: Path) -> Contestant:
    """Return our service with one variant of the model."""
    command = [sys.executable, "-m", "hone", "serve", model.name, "--store", str(model.store)]
    command += ["--variant", variant, "--drain-delay", "0", "--port"]
    return Contestant(
        f"hone {variant}",
        lambda port: [*command, str(port)],
        "/v1/classify",
        lambda picture: json.dumps(
            {"model": model.name, "input": {"image": _data_url(picture)}}
        ).encode(),
        lambda answer: str(json.loads(answer)["data"][0]["label"]),
        lambda port: get(port, "/readyz")[0] == 200,
        {"HONE_STATE_DIR": str(state)},
    )


def by_hand(description: Path, probe: bytes) -> Contestant:
    """Return the hand-written server."""

    def body(picture: bytes) -> bytes:
        return json.dumps({"image": base64.b64encode(picture).decode()}).encode()

    return Contestant(
        "fastapi+transformers",
        lambda port: [sys.executable, "-m", "benchmarks.pictures.peer", str(port)],
        "/classify",
        body,
        lambda answer: str(json.loads(answer)["label"]),
        lambda port: ask(Requests(port, "/classify", []), body(probe))[0] == 200,
        {MODEL_VARIABLE: str(description)},
    )


def _data_url(picture: bytes) -> str:
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    kind = "webp" if picture[8:12] == b"WEBP" else kind
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def run(model: PictureModel, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure everybody in rounds, and return the figures."""
    description = describe(model, folder, options.base)
    pictures = read_pictures(model.pictures)
    (folder / "pictures").mkdir()
    for number, picture in enumerate(pictures):
        (folder / "pictures" / f"{number:04d}").write_bytes(picture)
    variants = [name for name in ("int8", "fp32") if name in model.bundle.manifest.variants]
    result: dict[str, Any] = {
        "benchmark": "pictures",
        "date": machine.now(),
        "machine": machine.describe_machine() | {"load_before": machine.load_average()},
        "software": machine.describe_software(),
        "model": f"{model.name}, {len(model.bundle.manifest.labels)} labels",
        "pictures": len(pictures),
        "mean_bytes": round(statistics.mean(map(len, pictures))),
        "rounds": options.rounds,
        "variants": {},
    }
    for variant in variants:
        contestants = [hone(model, variant, folder / "state")]
        if variant == "fp32" and json.loads(description.read_text())["head"]:
            contestants.append(by_hand(description, pictures[0]))
        loop = BareLoop(description, variant, folder / "pictures", processes=usable_cores())
        with contextlib.closing(loop):
            bench = Bench(loop, pictures, options.seconds)
            found = [Measured(contestant.name) for contestant in contestants]
            for number in range(options.rounds):
                for contestant, seen in zip(contestants, found, strict=True):
                    if not seen.note:
                        print(f"round {number + 1}: {contestant.name}", file=sys.stderr)
                        bench.measure(contestant, seen, number)
        result["variants"][variant] = _figures(bench, found)
    result["load_after"] = round(os.getloadavg()[0], 2)
    return result


def _figures(bench: Bench, found: Sequence[Measured]) -> dict[str, Any]:
    rows = {}
    for seen in found:
        rows[seen.name] = (
            {"note": seen.note}
            if seen.note
            else {
                "p50_ms": {n: round(statistics.median(seen.p50_ms[n]), 2) for n in CONNECTIONS},
                "per_s": {n: round(statistics.median(seen.per_s[n]), 1) for n in CONNECTIONS},
                "added_ms": [round(value, 2) for value in seen.added_ms],
                "share_of_bare": [round(value, 3) for value in seen.shares],
                "bare_p50_ms": round(statistics.median(seen.bare_ms), 2),
                "bare_per_s": round(statistics.median(seen.bare_per_s), 1),
                "failures": seen.failures,
            }
        )
    return {"best": str(bench.best), "alone_threads": bench.alone, "servers": rows}


def show(result: dict[str, Any], console: Console) -> None:
    """Print one table a variant, and what it says about the targets."""
    facts = result["machine"]
    console.print(
        f"\n{facts['cpu']}, {facts['cores']} cores; {result['model']}; {result['pictures']} "
        f"pictures of {result['mean_bytes'] // 1000} kB; commit {result['software']['commit']}",
        highlight=False,
    )
    for variant, found in result["variants"].items():
        table = Table(title=f"{variant}; bare loop: {found['best']}", title_justify="left")
        for heading in ("", "p50 ms at 1", "bare", "pictures/s at 32", "bare", "failures"):
            table.add_column(heading, justify="left" if not heading else "right")
        for name, row in found["servers"].items():
            if row.get("note"):
                table.add_row(name, row["note"])
                continue
            cells = [row["p50_ms"][1], row["bare_p50_ms"], row["per_s"][32], row["bare_per_s"]]
            table.add_row(name, *map(str, cells), str(row["failures"]))
        console.print(table)
        ours = found["servers"][f"hone {variant}"]
        if not ours.get("note"):
            added, share = (statistics.median(ours[n]) for n in ("added_ms", "share_of_bare"))
            console.print(
                f"{variant}, 1 connection: {added:.2f} ms above the bare loop, at most "
                f"{MOST_ADDED_MS:g}: {_word(added <= MOST_ADDED_MS)}"
            )
            console.print(
                f"{variant}, 32 connections: {share:.1%} of the bare loop, at least "
                f"{LEAST_OF_BARE:.0%}: {_word(share >= LEAST_OF_BARE)}"
            )


def _word(met: bool) -> str:
    return "[green]met[/]" if met else "[red]MISSED[/]"


def main() -> None:
    """Run the benchmark, print tables and one line of JSON, and append that to `--out`."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.pictures",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--store", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--pictures", type=Path, help="a folder")
    parser.add_argument("--base", type=Path, help="a probe's base, which the peer needs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--out", type=Path, help="append the line of JSON to this file")
    options = parser.parse_args()
    model = find_picture_model(options.store, options.model, options.pictures)
    with tempfile.TemporaryDirectory() as folder:
        result = run(model, options, Path(folder))
    show(result, Console(width=130))
    line = json.dumps(result)
    print(line)
    if options.out is not None:
        with options.out.open("a", encoding="utf-8") as out:
            out.write(line + "\n")


if __name__ == "__main__":
    main()
