"""How much memory a training holds: of the GPU where it is on one, else of the process.

On a CPU the whole process is counted, with its libraries and data: that is what a machine must
have room for. A file of the kernel is read where there is one, because `getrusage` counts
what the process that started this one held (the most of a process is kept over `exec`).
"""

import resource
import sys

import torch

_RESIDENT, _MOST_RESIDENT = "VmRSS", "VmHWM"


def held_bytes(device: str) -> int:
    """Return how much is held now on `device`, `cpu` or `cuda`."""
    if device == "cuda":
        return int(torch.cuda.memory_allocated())
    return _of_process(_RESIDENT)


def peak_bytes(device: str) -> int:
    """Return the most that this process has held so far on `device`, `cpu` or `cuda`."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return _of_process(_MOST_RESIDENT)


def _of_process(name: str) -> int:
    try:
        with open("/proc/self/status", encoding="utf-8") as file:  # noqa: PTH123 - no real file
            return next(1024 * int(line.split()[1]) for line in file if line.startswith(name))
    except (OSError, StopIteration):  # no such file system here
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most
