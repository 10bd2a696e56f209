"""Ties a program to its parent's life and steps aside for others, then becomes that program.

    python -m hone.models.leash PARENT SIGNAL NICE PROGRAM [ARGUMENT]...

When the parent dies, however it dies, the kernel sends the program the signal (`SIGTERM`, or
`SIGKILL` where nothing could end it in order any more). That is arranged here and not between
fork and exec of the parent, where only the simplest calls are safe in a process with threads. The
kernel's parent is the thread that started us: it must live as long as we may.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_GONE = 75


def command(parent_death: signal.Signals, *, program: Sequence[str], nice: int = 0) -> list[str]:
    """Return the command of a program, given by its path, on the leash of this process."""
    leash = [sys.executable, "-m", "hone.models.leash", str(os.getpid()), parent_death.name]
    return [*leash, str(nice), *program]


def tie_to(parent: int, number: signal.Signals) -> bool:
    """Ask for a signal at the parent's death; False if it is dead already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    return os.getppid() == parent


def step_aside(nice: int) -> None:
    """Be favoured less by the kernel than others are, and than this process's parent by `nice`.

    Where it groups processes by session for its scheduling, as many do, niceness counts only
    inside a group: the group, which is this program's own, has to be nice too.
    """
    niceness = os.nice(nice)
    if niceness <= 0:
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(niceness), encoding="ascii")


def main() -> None:
    """Run the command of the module's description."""
    parent, number, nice, *program = sys.argv[1:]
    if not tie_to(int(parent), signal.Signals[number]):
        sys.exit(_GONE)
    step_aside(int(nice))
    os.execv(program[0], program)  # noqa: S606 - its caller's own command


if __name__ == "__main__":
    main()
