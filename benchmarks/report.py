"""How a run is told: tables for a person, one line of JSON for everything else."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.results import BareResult, ServerResult, Verdict, median, rounded

_MOST_LAYOUTS = 5


@dataclass(slots=True)
class Report:
    """One run."""

    date: str
    machine: dict[str, Any]
    software: dict[str, Any]
    model: dict[str, Any]
    texts: dict[str, Any]
    settings: dict[str, Any]
    bare: list[BareResult] = field(default_factory=list)
    servers: list[ServerResult] = field(default_factory=list)
    footprint: dict[str, Any] | None = None
    verdicts: list[Verdict] = field(default_factory=list)

    def to_json(self) -> str:
        """Return everything on one line."""
        return json.dumps(
            {
                "benchmark": "serving",
                "date": self.date,
                "machine": self.machine,
                "software": self.software,
                "model": self.model,
                "texts": self.texts,
                "settings": self.settings,
                "bare": [bare.to_json() for bare in self.bare],
                "servers": [_server_json(server) for server in self.servers],
                "footprint": self.footprint,
                "targets": [verdict.to_json() for verdict in self.verdicts],
            }
        )

    def show(self, console: Console) -> None:
        """Print the tables."""
        flags = " ".join(self.machine["flags"])
        console.print(
            f"\n{self.machine['cpu']}, {self.machine['cores']} cores ({flags}); "
            f"{self.model['name']}, {self.model['labels']} labels; "
            f"{self.texts['count']} texts of {self.texts['file']}; "
            f"load by {self.settings['generator']}; commit {self.software['commit']}",
            highlight=False,
        )
        for bare in self.bare:
            console.print(_bare_table(bare))
        console.print(_server_table(self.servers, self.settings["connections"]))
        console.print(_verdict_table(self.verdicts))


def _bare_table(bare: BareResult) -> Table:
    table = Table(title=f"Bare loop, {bare.variant}", title_justify="left")
    table.add_column("layout")
    table.add_column("texts/s", justify="right")
    table.add_column("CPU ms a text", justify="right")
    order = sorted(bare.screened.items(), key=lambda pair: -pair[1])
    for layout, rate in order[:_MOST_LAYOUTS]:
        table.add_row(str(layout), f"{rate:.0f}")
    if bare.rates:
        pace = median([rate.texts_per_s for rate in bare.rates])
        cost = median([rate.cpu_ms_per_text for rate in bare.rates])
        table.add_row(f"beside the service: {bare.best}", _figure(pace), _figure(cost, 2))
    if bare.p50_ms:
        one = median(bare.p50_ms)
        table.add_row(f"one text at a time, {bare.alone_in_words()}", f"{_figure(one, 2)} ms")
    return table


def _server_table(servers: Sequence[ServerResult], connections: Sequence[int]) -> Table:
    table = Table(title="Servers", title_justify="left", caption_justify="left")
    table.add_column("\nserver", no_wrap=True)
    headings = ["ready\ns", "\nMiB", "idle\n%"]
    headings += [f"texts/s\nat {count}" for count in connections]
    headings += [f"p50 ms\nat {count}" for count in connections]
    headings += [f"p99 ms\nat {connections[-1]}", "CPU ms\na text"]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for server in servers:
        if server.cells:
            table.add_row(*_server_row(server, connections))
    notes = [f"{server.name}: {server.note}" for server in servers if server.note]
    table.caption = "\n".join(notes) or None
    return table


def _server_row(server: ServerResult, connections: Sequence[int]) -> list[str]:
    name = f"{server.name} {server.version}"
    if server.variant not in server.name:
        name += f" ({server.variant})"
    last = server.at(connections[-1])
    p50 = [median([cell.load.p50_ms for cell in server.at(count)]) for count in connections]
    idle = median(server.idle_share)
    failures = f", {server.failures()} FAILED" if server.failures() else ""
    return [
        f"{name}{failures}",
        _figure(median(server.ready_s), 1),
        _figure(median(server.resident_mib)),
        _figure(None if idle is None else 100 * idle, 1),
        *(_figure(server.rate(count)) for count in connections),
        *(_figure(value, 2) for value in p50),
        _figure(median([cell.load.p99_ms for cell in last]), 1),
        _figure(median([cell.cpu_ms_per_text for cell in last]), 2),
    ]


def _verdict_table(verdicts: Sequence[Verdict]) -> Table:
    table = Table(title="Targets", title_justify="left")
    for heading in ("target", "found", ""):
        table.add_column(heading)
    words = {True: "[green]met", False: "[red]MISSED", None: "[yellow]not measured"}
    for verdict in verdicts:
        table.add_row(verdict.target, verdict.found, words[verdict.met])
    return table


def _server_json(server: ServerResult) -> dict[str, Any]:
    cells = [
        {
            "connections": cell.connections,
            "round": cell.round,
            "texts_per_s": round(cell.load.texts_per_s, 1),
            "p50_ms": round(cell.load.p50_ms, 3),
            "p99_ms": round(cell.load.p99_ms, 3),
            "failures": cell.load.failures,
            "cpu_ms_per_text": round(cell.cpu_ms_per_text, 3),
            "bare_beside": None if cell.bare is None else round(cell.bare, 3),
        }
        for cell in server.cells
    ]
    return {
        "name": server.name,
        "variant": server.variant,
        "version": server.version,
        "as_documented": server.as_documented,
        "note": server.note,
        "layout": server.layout,
        "ready_s": rounded(server.ready_s, 2),
        "resident_mib": rounded(server.resident_mib),
        "idle_share_of_a_core": rounded(server.idle_share, 4),
        "same_labels_as_bare": server.same_labels,
        "cells": cells,
    }


def _figure(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
