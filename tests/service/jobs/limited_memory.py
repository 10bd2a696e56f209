"""`python -m hone` with little memory to spare: `python -m tests.service.jobs.limited_memory ...`.

The limit is set where the training begins. A lower one from the start would be reached at any
allocation: libraries try some again for ever, and a thread that cannot begin is waited for.
"""

import resource
from pathlib import Path
from typing import Any
from unittest import mock

from hone.cli import main
from hone.training import process
from hone.training.run import run_recipe

SPARE_BYTES = 64 * 2**20


def run_with_little(*arguments: Any, **options: Any) -> Any:
    """Run a recipe with so much memory, and no more, for what it will take."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    return run_recipe(*arguments, **options)


if __name__ == "__main__":
    with mock.patch.object(process, "run_recipe", run_with_little):
        main()
