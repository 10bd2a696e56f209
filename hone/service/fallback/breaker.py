"""A circuit breaker: when an upstream fails again and again, it is left alone for a while.

Closed, all calls pass. After some failures in a row it opens, and none does. When the pause is over
one call passes, as a trial: if it succeeds the breaker closes, else the pause begins anew. (Nygard,
Release It!, 2nd edition, 2018.)
"""

import time
from collections.abc import Callable

LONGEST_HOLD_S = 300.0
"""Longer than that no upstream is left alone because it asks for it."""

Clock = Callable[[], float]


class Pass:
    """A call's leave to pass; by it the breaker knows whose the news is."""

    __slots__ = ()


class Breaker:
    """For one event loop. Whoever may `enter` says afterwards how it went, once, with its pass.

    While it is open only the trial's news counts: calls that began before say nothing new.
    """

    def __init__(self, *, failures: int, pause_s: float, clock: Clock = time.monotonic) -> None:
        self._most, self._pause_s, self._clock = failures, pause_s, clock
        self._failures = 0
        self._open_until = 0.0
        self._open = False
        self._trial: Pass | None = None

    def admits(self) -> bool:
        """Tell whether a call may pass now."""
        if not self._open:
            return True
        return self._trial is None and self._clock() >= self._open_until

    def enter(self) -> Pass | None:
        """Let a call pass, if one may: of an open breaker only one at a time."""
        if not self.admits():
            return None
        call = Pass()
        if self._open:
            self._trial = call
        return call

    def succeeded(self, call: Pass) -> None:
        """Note that the upstream answered."""
        if self._counts(call):
            self._failures = 0
            self._open, self._trial = False, None

    def failed(self, call: Pass, hold_s: float | None = None) -> None:
        """Note that it did not; `hold_s` is for how long it asks to be left alone."""
        if not self._counts(call):
            return
        self._failures += 1
        self._trial = None
        if self._open or hold_s is not None or self._failures >= self._most:
            pause_s = self._pause_s if hold_s is None else min(hold_s, LONGEST_HOLD_S)
            self._open = True
            self._open_until = max(self._open_until, self._clock() + pause_s)

    def abandoned(self, call: Pass) -> None:
        """Note that the call was given up before it said anything."""
        if call is self._trial:
            self._trial = None

    def _counts(self, call: Pass) -> bool:
        return not self._open or call is self._trial
