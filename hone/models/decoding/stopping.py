"""Where a completion ends: at a stop string, which may come in pieces of several tokens."""

from collections.abc import Sequence


class StopFinder:
    """Passes text on until the first of some stop strings; the stop itself is not passed on.

    Text that could be the beginning of a stop is held back until it is known not to be.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.found: str | None = None
        """The stop that was met."""

    def push(self, text: str) -> str:
        """Take the next piece of text; return what can be passed on."""
        if self.found is not None:
            return ""
        if not self._stops:
            return text
        held = self._held + text
        places = [(place, stop) for stop in self._stops if (place := held.find(stop)) >= 0]
        if places:
            # Of stops that begin at one place the longest; it is the one that was meant.
            place, self.found = min(places, key=lambda found: (found[0], -len(found[1])))
            self._held = ""
            return held[:place]
        kept = max(_overlap(held, stop) for stop in self._stops)
        cut = len(held) - kept
        self._held = held[cut:]
        return held[:cut]

    def finish(self) -> str:
        """Return what was held back, at the end of a text without a stop."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of `text` are the beginning of `stop`."""
    most = min(len(text), len(stop) - 1)
    return next((n for n in range(most, 0, -1) if text.endswith(stop[:n])), 0)
