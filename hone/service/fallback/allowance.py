"""What fallbacks may cost a day: a cap in dollars on the calls of this process."""

import time
from collections.abc import Callable

_DAY_S = 86_400

Clock = Callable[[], float]


class Allowance:
    """Dollars for each day of UTC, for all models together. For one event loop.

    What a call costs is known when it has ended, so that those under way when the last dollar goes
    may pass the cap. Without `most` there is none. `clock` gives the seconds since 1970.
    """

    def __init__(self, most: float | None, clock: Clock = time.time) -> None:
        self._most, self._clock = most, clock
        self._day, self._spent = self._today(), 0.0

    @property
    def is_limited(self) -> bool:
        """Whether there is a cap, which calls without a known price could not be held under."""
        return self._most is not None

    def is_spent(self) -> bool:
        """Whether nothing is left for today."""
        self._turn()
        return self._most is not None and self._spent >= self._most

    def spend(self, dollars: float) -> None:
        """Note what a call has cost."""
        self._turn()
        self._spent += dollars

    def _turn(self) -> None:
        today = self._today()
        if today != self._day:
            self._day, self._spent = today, 0.0

    def _today(self) -> int:
        return int(self._clock() // _DAY_S)
