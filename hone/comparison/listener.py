"""Who is told how far a comparison is."""

from typing import Protocol

from hone.comparison.budget import Spending


class Listener(Protocol):
    """Is told how far a run is, from any thread."""

    def begun(self, contender: str, steps: int, what: str) -> None:
        """Note that a contender begins with so many steps; `what` says of which kind.

        Before there are any contenders, a file of pictures stands in the place of one.
        """

    def advanced(self, contender: str, steps: int, spent: Spending | None = None) -> None:
        """Note that more steps are done, and what was spent by now, if that has changed."""
