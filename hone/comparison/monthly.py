"""What a month of requests costs: parts of them, the machines that answer them, and break-even.

A machine that always runs is paid for the whole month, however little it does, so that what a
request costs depends on how many there are. `a_request` is the one figure that goes by.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

HOURS_A_MONTH = 730.0
SECONDS_A_MONTH = HOURS_A_MONTH * 3600
_JUMPS = 2000


@dataclass(frozen=True, slots=True)
class Part:
    """A share of all requests that one arm answers, and what that takes.

    `machine_usd` is a month of one machine that always runs, for up to `machine_requests`.
    """

    share: float
    request_usd: float
    machine_usd: float = 0.0
    machine_requests: float = math.inf


def month(parts: Sequence[Part], requests: float) -> float:
    """Return what a month of that many requests costs, in US dollars."""
    return math.fsum(
        piece
        for part in parts
        for piece in (part.share * requests * part.request_usd, _machines(part, requests))
    )


def a_request(parts: Sequence[Part], requests: float | None) -> float:
    """Return what a request costs in US dollars: its tokens, and its share of the machines.

    At so many `requests` a month the machines that they need are shared among them, as `month`
    has it. Without a volume a machine is shared among all that it is planned to answer, which is
    the least that a request can cost.
    """
    if requests is not None:
        return month(parts, requests) / requests
    return math.fsum(
        part.share * piece
        for part in parts
        for piece in (part.request_usd, part.machine_usd / part.machine_requests)
    )


def _machines(part: Part, requests: float) -> float:
    if not part.machine_usd:
        return 0.0
    return part.machine_usd * math.ceil(part.share * requests / part.machine_requests)


def break_even(old: Sequence[Part], new: Sequence[Part], *, fixed: float = 0.0) -> float:
    """Return the least number of requests a month at which the new way costs no more.

    `fixed` is a monthly sum on top of the new way. Between the volumes at which a machine is
    added, both costs are straight lines, so each stretch is solved by itself. Infinite if there
    is none within the first two thousand added machines; 0 if there is nothing to make up for.
    """
    slope = _slope(old) - _slope(new)
    low = 0.0
    for high in _jumps([*old, *new]):
        inside = (low + high) / 2 if high < math.inf else low + 1
        owed = fixed + _machine_total(new, inside) - _machine_total(old, inside)
        if slope * low > owed or (slope * low == owed and slope >= 0):
            return low
        if slope > 0 and owed / slope <= high:
            return owed / slope
        low = high
    return math.inf


def pays_until(old: Sequence[Part], new: Sequence[Part], *, fixed: float = 0.0) -> float | None:
    """Return the largest number of requests a month at which the new way costs no more.

    None where there is no such end: it goes on for ever, or never begins. An end is where requests
    themselves cost more the new way, all machines in use, so that only what the old way's idle
    machines cost speaks for it. It is looked for within the first two thousand added machines.
    """
    if a_request(old, None) >= a_request(new, None):
        return None
    slope, low, last = _slope(old) - _slope(new), 0.0, None
    for high in _jumps([*old, *new]):
        inside = (low + high) / 2 if high < math.inf else low + 1
        owed = fixed + _machine_total(new, inside) - _machine_total(old, inside)
        if slope >= 0 and slope * high >= owed:
            last = high
        elif slope < 0 and slope * low > owed:
            last = min(high, owed / slope)
        low = high
    return last


def _slope(parts: Sequence[Part]) -> float:
    return math.fsum(part.share * part.request_usd for part in parts)


def _machine_total(parts: Sequence[Part], requests: float) -> float:
    return math.fsum(_machines(part, requests) for part in parts)


def _jumps(parts: Sequence[Part]) -> Iterator[float]:
    """Yield the first volumes at which a machine is full, in order; infinity if there is none."""
    steps = [p.machine_requests / p.share for p in parts if p.machine_usd and p.share]
    if not steps:
        yield math.inf
        return
    reach = min(steps) * _JUMPS
    full = {step * k for step in steps for k in range(1, int(reach / step) + 1)}
    yield from sorted(full)


def payback(once: float, saved_month: float) -> float:
    """Return after how many months a one-off cost above zero is made up for; infinite if never."""
    return once / saved_month if saved_month > 0 else math.inf
