"""One worker of the experiment in `nemesis`: claims, heartbeats and finishes until told.

    python -m benchmarks.jobs.worker URL NAME LEASE_S

It works on each job for a few heartbeats, and reaps. What is acknowledged, it prints: one line for
each job that it has finished, after the transaction has been committed.
"""

import random
import sys
import time

from hone.models.errors import HoneError
from hone.service.jobs.claims import Claim, Claims, NewModel, Progress, Reaper
from hone.service.jobs.database import Database, open_database
from hone.service.jobs.errors import LeaseLost
from hone.service.jobs.events import NewEvent

LAST = "succeeded"


def work(database: Database, name: str, lease_s: float) -> None:
    """Work for ever."""
    claims, reaper = Claims(database, name), Reaper(database, lease_s)
    while True:
        try:
            reaper.reap()
            claim = claims.claim(most_running=10)
            if claim is None:
                time.sleep(0.02)
            else:
                _finish(claims, claim)
        except LeaseLost:
            print("lost", flush=True)
        except HoneError as error:  # a writer was stopped while it held the store: try again
            print("trouble", error.code, flush=True)


def _finish(claims: Claims, claim: Claim) -> None:
    for step in range(random.randint(1, 4)):
        claims.heartbeat(claim, Progress(events=[NewEvent(f"{claim.token} step {step}")]))
        time.sleep(random.random() * 0.3)
    model = NewModel(f"ft:ada:acme::{claim.job.id}", base="ada", store_version=1)
    done = claims.succeed(claim, model, progress=Progress(events=[NewEvent(LAST)]))
    print("done", done.id, done.token, flush=True)


if __name__ == "__main__":
    work(open_database(sys.argv[1], wait_s=5), sys.argv[2], float(sys.argv[3]))
