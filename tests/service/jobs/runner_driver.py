"""A runner in a process of its own, to be killed: works until SIGTERM.

python -m tests.service.jobs.runner_driver URL FOLDER SETTINGS [fake]
"""

import json
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from hone.service.jobs import plan
from hone.service.jobs.database import open_database
from tests.service.jobs.running_jobs import Yard, fake_command


def work(url: str, folder: Path, settings: dict[str, Any]) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with Yard(open_database(url), folder, settings).running():
        print("works", flush=True)
        stop.wait()


if __name__ == "__main__":
    if "fake" in sys.argv:
        plan.hone_command = fake_command
    work(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]))
