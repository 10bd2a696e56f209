"""How far a run is: bars at a terminal, lines where the output goes into a file or a CI's log."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from hone.comparison.budget import Spending
from hone.comparison.listener import Listener
from hone.models.terminal import plain

_LONGEST_SILENCE_S = 30.0


class Shown(Listener, Protocol):
    """A listener that shows what it is told, as long as its block lasts."""

    def shown(self) -> AbstractContextManager[Listener]:
        """Show it until the block ends."""


def progress_on(console: Console) -> Shown:
    """Return what shows a run's progress there."""
    return ProgressBars(console) if console.is_terminal else ProgressLines(console)


class ProgressBars:
    """A bar for each contender, with what was spent so far."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[what]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[cost]}"),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}

    @contextmanager
    def shown(self) -> Iterator[Listener]:
        """Show the bars until the block ends."""
        with self._progress:
            yield self

    def begun(self, contender: str, steps: int, what: str) -> None:
        """Show a new bar."""
        name = plain(contender)
        self._tasks[contender] = self._progress.add_task(name, total=steps, what=what, cost="")

    def advanced(self, contender: str, steps: int, spent: Spending | None = None) -> None:
        """Move a bar on."""
        task = self._tasks[contender]
        self._progress.update(task, advance=steps)
        if spent is not None:
            self._progress.update(task, cost=str(spent))


@dataclass
class _Task:
    """One contender's steps; `told` is the last tenth that a line told of, at `told_at`."""

    steps: int
    what: str
    begun_at: float
    told_at: float
    done: int = 0
    told: int = 0
    spent: Spending | None = None


class ProgressLines:
    """A line where a contender begins, at each tenth of it, and after half a minute without one.

    From any thread. `clock` gives seconds.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._tasks: dict[str, _Task] = {}
        self._lock = threading.Lock()

    @contextmanager
    def shown(self) -> Iterator[Listener]:
        """Write lines; there is nothing to end."""
        yield self

    def begun(self, contender: str, steps: int, what: str) -> None:
        """Say that a contender begins."""
        with self._lock:
            now = self._clock()
            self._tasks[contender] = _Task(steps, what, now, now)
            self._say(f"{contender}: {steps:,} {what} to do")

    def advanced(self, contender: str, steps: int, spent: Spending | None = None) -> None:
        """Say how far a contender is, where it is time to."""
        with self._lock:
            task, now = self._tasks[contender], self._clock()
            task.done += steps
            task.spent = spent or task.spent
            tenth = 10 * task.done // max(task.steps, 1)
            if tenth > task.told or now - task.told_at >= _LONGEST_SILENCE_S:
                task.told, task.told_at = tenth, now
                self._say(_line(contender, task, now))

    def _say(self, line: str) -> None:
        self._console.print(plain(line), soft_wrap=True, highlight=False)


def _line(contender: str, task: _Task, now: float) -> str:
    said = f"{contender}: {task.done:,} of {task.steps:,} {task.what}"
    if task.spent is not None:
        said += f", {task.spent}"
    left = (now - task.begun_at) * (task.steps - task.done) / max(task.done, 1)
    return f"{said}, about {left:,.0f} s left" if left >= 1 else said
