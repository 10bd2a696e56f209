"""The figures of one run, and what they say about the targets."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.bare import BareRate, Layout
from benchmarks.load import Load

MOST_ADDED_MS = 1.5
LEAST_OF_BARE = 0.9
LEAST_OVER_PEERS = 3.0
MOST_READY_S = 3.0
MOST_RESIDENT_MIB = 400.0
MOST_IDLE_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement of one server.

    `bare` is the bare loop's figure right beside it, if any: ms for one connection, else texts
    per second.
    """

    connections: int
    round: int
    load: Load
    cpu_ms_per_text: float
    bare: float | None = None


@dataclass(slots=True)
class ServerResult:
    """All that was measured of one server. `note` says why there is less."""

    name: str
    variant: str = ""
    version: str = ""
    as_documented: bool = False
    note: str = ""
    layout: str = ""
    ready_s: list[float] = field(default_factory=list)
    resident_mib: list[float] = field(default_factory=list)
    idle_share: list[float] = field(default_factory=list)
    same_labels: float | None = None
    cells: list[Cell] = field(default_factory=list)

    def at(self, connections: int) -> list[Cell]:
        """Return the measurements with so many connections."""
        return [cell for cell in self.cells if cell.connections == connections]

    def rate(self, connections: int) -> float | None:
        """Return the median rate in texts per second."""
        return median([cell.load.texts_per_s for cell in self.at(connections)])

    def shares(self, connections: int) -> list[float]:
        """Return every measurement's share of the bare loop's rate beside it."""
        cells = self.at(connections)
        return [cell.load.texts_per_s / cell.bare for cell in cells if cell.bare]

    def shares_by_round(self, connections: int) -> dict[int, float]:
        """Return each round's median share of the bare loop's rate."""
        rounds: dict[int, list[float]] = {}
        for cell in self.at(connections):
            if cell.bare:
                rounds.setdefault(cell.round, []).append(cell.load.texts_per_s / cell.bare)
        return {number: statistics.median(shares) for number, shares in rounds.items()}

    def failures(self) -> int:
        """Return how many requests had no answer, or a bad one."""
        return sum(cell.load.failures for cell in self.cells)


@dataclass(slots=True)
class BareResult:
    """The bare loop with one variant.

    `screened` holds each layout's best rate; `best` was measured again beside the service.
    `alone` is the number of threads, and whether they spin, that is best for one text at a time.
    """

    variant: str
    screened: dict[Layout, float]
    best: Layout
    alone: tuple[int, bool]
    rates: list[BareRate] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)

    def alone_in_words(self) -> str:
        """Return how one text at a time is run."""
        threads, spinning = self.alone
        return f"{threads} thread{'s' * (threads > 1)}{', spinning' * spinning}"

    def to_json(self) -> dict[str, Any]:
        """Return what the JSON line holds of it."""
        order = sorted(self.screened.items(), key=lambda pair: -pair[1])
        return {
            "variant": self.variant,
            "best": str(self.best),
            "texts_per_s": rounded([rate.texts_per_s for rate in self.rates]),
            "cpu_ms_per_text": rounded([rate.cpu_ms_per_text for rate in self.rates], 3),
            "one_text": self.alone_in_words(),
            "one_text_p50_ms": rounded(self.p50_ms, 3),
            "screened": {str(layout): round(rate, 1) for layout, rate in order},
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target, what came out (median, lowest, highest), and whether that meets it."""

    target: str
    found: str
    met: bool | None

    def to_json(self) -> dict[str, Any]:
        """Return what the JSON line holds of it."""
        return asdict(self)


def median(values: Sequence[float]) -> float | None:
    """Return the median, or None of nothing."""
    return statistics.median(values) if values else None


def rounded(values: Sequence[float], digits: int = 1) -> list[float]:
    """Return the values with so many decimals."""
    return [round(value, digits) for value in values]


def verdicts(
    servers: Sequence[ServerResult], variant: str, footprint: dict[str, Any] | None
) -> list[Verdict]:
    """Hold the service, with its fastest variant, against each target."""
    hone = next((server for server in servers if server.name == f"hone {variant}"), None)
    if hone is None:
        return []
    peers = [server for server in servers if not server.name.startswith("hone")]
    found = [_added_latency(hone), _share_of_bare(hone)]
    documented = [peer for peer in peers if peer.as_documented]
    given = [peer for peer in peers if not peer.as_documented]
    found.append(_over_peers(hone, documented, "as their documents advise"))
    found.append(_over_peers(hone, given, f"given our {variant} session"))
    return found + (_footprint(footprint) if footprint else [])


def _added_latency(hone: ServerResult) -> Verdict:
    added = [cell.load.p50_ms - cell.bare for cell in hone.at(1) if cell.bare is not None]
    target = f"1 connection: median at most {MOST_ADDED_MS} ms above the bare loop"
    return _judge(target, added, " ms", lambda value: value <= MOST_ADDED_MS, digits=2)


def _share_of_bare(hone: ServerResult) -> Verdict:
    shares = [100 * share for share in hone.shares(32)]
    target = f"32 connections, {hone.variant}: at least {LEAST_OF_BARE:.0%} of the best bare loop"
    return _judge(target, shares, " %", lambda value: value >= 100 * LEAST_OF_BARE)


def _over_peers(hone: ServerResult, peers: Sequence[ServerResult], which: str) -> Verdict:
    target = f"32 connections: at least {LEAST_OVER_PEERS:g} times the best peer, {which}"
    rated = [(rate, peer) for peer in peers if (rate := median(peer.shares(32)))]
    if not rated:
        return Verdict(target, "no such peer could be measured", None)
    best = max(rated, key=lambda pair: pair[0])[1]
    ours, theirs = hone.shares_by_round(32), best.shares_by_round(32)
    ratios = [ours[number] / theirs[number] for number in ours if theirs.get(number)]
    named = f" times {best.name}"
    return _judge(target, ratios, named, lambda value: value >= LEAST_OVER_PEERS, digits=2)


def _footprint(footprint: dict[str, Any]) -> list[Verdict]:
    cold, warm = footprint["ready_cold_s"], footprint["ready_warm_s"]
    resident, idle = footprint["resident_mib"], footprint["idle_share_of_a_core"]
    return [
        Verdict(
            f"ready in under {MOST_READY_S:g} s",
            f"{cold} s the first time, {warm} s after that",
            max(cold, warm) < MOST_READY_S,
        ),
        Verdict(
            f"under {MOST_RESIDENT_MIB:.0f} MiB resident",
            f"{resident} MiB after {footprint['after_requests']} requests",
            resident < MOST_RESIDENT_MIB,
        ),
        Verdict(
            f"idle: at most {MOST_IDLE_SHARE:.0%} of a core",
            f"{idle:.2%}",
            idle <= MOST_IDLE_SHARE,
        ),
    ]


def _judge(
    target: str,
    values: list[float],
    unit: str,
    is_met: Callable[[float], bool],
    *,
    digits: int = 1,
) -> Verdict:
    if not values:
        return Verdict(target, "not measured", None)
    middle, low, high = (round(f(values), digits) for f in (statistics.median, min, max))
    found = f"{middle}{unit} ({low} to {high}, {len(values)} pairs)"
    return Verdict(target, found, is_met(statistics.median(values)))
