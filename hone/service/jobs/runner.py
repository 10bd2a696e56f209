"""The runner: claims jobs in order, a bounded number at once, and works on them until told to stop.

It has two threads of its own and never touches an event loop. One works on the claimed jobs and
starts their processes, which live no longer than it; the other reads the files of new jobs.
"""

import fcntl
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hone.models import durable
from hone.models.errors import BundleCorrupt, HoneError, NotFound
from hone.models.registry import Registry
from hone.service.jobs.admission import Admission
from hone.service.jobs.claims import Claims, Reaper
from hone.service.jobs.database import Database
from hone.service.jobs.errors import disk_errors
from hone.service.jobs.files import Files
from hone.service.jobs.fine_tuned import FineTunedModels
from hone.service.jobs.leftovers import remove_all_versions
from hone.service.jobs.naming import job_of
from hone.service.jobs.origins import Store
from hone.service.jobs.records import OVER, UNFINISHED, Records, Status
from hone.service.jobs.settings import RunnerSettings
from hone.service.jobs.work import Desk, Work
from hone.service.jobs.workplace import workplaces

logger = logging.getLogger(__name__)

_LOOKS_IN_A_LEASE = 4
_LONGEST_BETWEEN_LOOKS_S = 1.0
_IDLE_POLLS = 4
"""How many times longer a pause is without jobs: those of this service ring, others' can wait."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the runner works with: the job store, the state folder, and the store of bundles."""

    database: Database
    files: Files
    state: Path
    store: Path
    settings: RunnerSettings


class Runner:
    """Works on jobs from `start` to `stop`."""

    def __init__(
        self,
        around: Surroundings,
        *,
        on_published: Callable[[str, int], None] = lambda _model, _version: None,
    ) -> None:
        """Take `on_published`, called on the runner's thread with a bundle's name and version."""
        self.worker = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._around, self._settings = around, around.settings
        self._claims = Claims(around.database, self.worker)
        self._records = Records(around.database)
        models = FineTunedModels(around.database)
        store = Store(Registry(around.store), models, around.settings)
        self._desk = Desk(self._claims, around.files, store, around.state, on_published)
        self._admission = Admission(self._records, around.files, store)
        self._reaper = Reaper(around.database, around.settings.lease_s)
        self._stopping = threading.Event()
        self._bell = around.database.bell
        self._works: list[Work] = []
        self._timers: dict[str, float] = {}
        self._threads = [
            threading.Thread(target=self._run, name="hone-jobs", daemon=True),
            threading.Thread(target=self._admit, name="hone-admission", daemon=True),
        ]

    def start(self) -> None:
        """Begin; jobs of workers that died on this machine go on at once."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float | None = None) -> None:
        """Let the processes write their checkpoints, queue their jobs again, and end.

        Waits for it; what has not ended after `timeout_s` (by default the grace time, and some) is
        killed.
        """
        self.ask_to_stop()
        timeout = self._settings.stop_grace_s + 5 if timeout_s is None else timeout_s
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def ask_to_stop(self) -> None:
        """Begin to stop, without waiting for it."""
        self._stopping.set()
        self._bell.ring()

    @property
    def busy(self) -> int:
        """How many jobs this runner works on."""
        return len(self._works)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._guarded("work", self._work)
            self._stopping.wait(self._settings.poll_s)

    def _work(self) -> None:
        """Work until told to stop; raises when the lock cannot be had, as on a full disk."""
        with _alive(self._around.state / "workers", self.worker):
            for _ in self._turns():
                self._guarded("turn", self._turn)
            self._leave()

    def _turns(self) -> Iterator[None]:
        """Yield when there may be something to do, until told to stop."""
        heard = 0
        while not self._stopping.is_set():
            yield
            idle = not self._works
            pause_s = self._settings.poll_s
            if idle:  # but a silent worker's lease is seen to end only by looking often enough
                lease_s = self._settings.lease_s / _LOOKS_IN_A_LEASE
                pause_s = max(pause_s, min(_IDLE_POLLS * pause_s, lease_s))
            heard = self._bell.wait(heard, pause_s)

    def _turn(self) -> None:
        for work in self._works:
            self._take_turn(work)
        self._works = [work for work in self._works if not work.over]
        if self._due("sweep", self._settings.sweep_s):
            self._sweep()
        look = min(self._settings.lease_s / _LOOKS_IN_A_LEASE, _LONGEST_BETWEEN_LOOKS_S)
        if self._due("reap", look):
            self._requeue()
        self._claim()

    def _claim(self) -> None:
        at_once = self._settings.at_once
        while len(self._works) < at_once and not self._stopping.is_set():
            claim = self._claims.claim(most_running=at_once)
            if claim is None:
                return
            work = Work(claim, self._desk)
            logger.info("job claimed", extra={"job": work.job.id, "token": claim.token})
            self._works.append(work)
            self._take_turn(work)

    def _take_turn(self, work: Work) -> None:
        try:
            work.turn()
            work.trouble = ""
        except BundleCorrupt:  # what lies under the job's own name will not mend itself
            logger.exception("the store's folder of a job is broken", extra={"job": work.job.id})
            work.give_up()
        except HoneError as error:  # the store does not answer now: the next turn tries again
            if str(error) != work.trouble:
                work.trouble = str(error)
                logger.warning("job waits", extra={"job": work.job.id, "reason": work.trouble})
        except Exception:
            # A bug met by one job must not stop the others.
            logger.exception("job failed", extra={"job": work.job.id})
            work.give_up()

    def _leave(self) -> None:
        """Stop every process and queue its job again."""
        deadline = time.monotonic() + self._settings.stop_grace_s + 3
        for work in self._works:
            work.leave()
        while self._works and time.monotonic() < deadline:
            for work in self._works:
                self._take_turn(work)
            self._works = [work for work in self._works if not work.over]
            time.sleep(0.05)
        for work in self._works:
            work.abandon()

    def _admit(self) -> None:
        for _ in self._turns():
            self._guarded("admission", lambda: self._admission.admit_waiting(self._stopping))

    def _requeue(self) -> None:
        """Queue the jobs of silent workers again, and at once those of the dead on this machine."""
        for id_ in self._reaper.reap():
            logger.warning("job of a silent worker queued again", extra={"job": id_})
        for worker in _dead_workers(self._around.state / "workers", but=self.worker):
            for id_ in self._claims.requeue_all_of(worker.name):
                logger.warning("job of a dead worker queued again", extra={"job": id_})
            worker.unlink(missing_ok=True)

    def _sweep(self) -> None:
        for chore in (self._forget_workplaces, self._remove_orphans):
            self._guarded("chore", chore)

    def _forget_workplaces(self) -> None:
        """Remove the folders of jobs that are over."""
        mine = {work.job.id for work in self._works}
        for place in workplaces(self._around.state):
            if place.folder.name in mine:
                continue
            with suppress(HoneError):
                if self._status_of(place.folder.name) not in UNFINISHED:
                    place.forget()

    def _remove_orphans(self) -> None:
        """Remove bundles and checkpoints of jobs that are over and have no model, or no more.

        Such are left by a worker that died with a job which was cancelled then, and where a
        deleted model's bundle could not be removed. What no job of this store has made is not
        touched.
        """
        registry = self._desk.store.registry
        over = [name for name in registry.models() if self._status_of(job_of(name)) in OVER]
        # Only now: a job that has succeeded meanwhile has its model since the same moment.
        kept = {model.store_model for model in self._desk.store.models.all()}
        for name in over:
            if job_of(name) in kept:
                continue
            try:
                if remove_all_versions(registry, name):
                    logger.info("orphaned bundle removed", extra={"job": name})
            except (HoneError, OSError) as error:  # the next sweep tries again; others can go
                trouble = {"job": name, "reason": str(error)}
                logger.warning("orphaned bundle not removed", extra=trouble)

    def _status_of(self, job: str) -> Status | None:
        """Return a job's status; None if there is no such job."""
        try:
            return self._records.find(job).status
        except NotFound:
            return None

    def _due(self, what: str, every_s: float) -> bool:
        now = time.monotonic()
        if what in self._timers and now - self._timers[what] < every_s:
            return False
        self._timers[what] = now
        return True

    def _guarded(self, what: str, act: Callable[[], object]) -> None:
        try:
            act()
        except HoneError as error:
            logger.warning("job store trouble", extra={"during": what, "reason": str(error)})
        except Exception:
            # The threads of the runner end when they are told to, and not for a bug.
            logger.exception("runner failed", extra={"during": what})


@contextmanager
def _alive(folder: Path, worker: str) -> Iterator[None]:
    """Hold a lock under the worker's name while it lives; the kernel lets go when it dies."""
    with disk_errors():
        durable.make_folder(folder)
        lock = os.open(folder / worker, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(lock)  # the file stays: if a job was left, the next runner finds it so


def _dead_workers(folder: Path, *, but: str) -> Iterator[Path]:
    """Yield the names of workers of this machine that live no more."""
    for path in sorted(folder.glob("*")):
        if path.name == but:
            continue
        with suppress(FileNotFoundError, BlockingIOError), path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield path
