"""A bell between threads: who made work rings, who waits for work hears it at once."""

import threading


class Bell:
    """Every ring is heard once by each who waits, also one that came before the waiting."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.rings = 0

    def ring(self) -> None:
        """Wake all who wait."""
        with self._condition:
            self.rings += 1
            self._condition.notify_all()

    def wait(self, heard: int, timeout_s: float) -> int:
        """Wait for a ring after the first `heard` ones, and return how many there were."""
        with self._condition:
            self._condition.wait_for(lambda: self.rings > heard, timeout_s)
            return self.rings
