"""What the service remembers: the job store with its folders, opened once and shared.

<state>/hone.db    jobs, files, keys, unless another database is named
<state>/pepper     the keys' pepper
<state>/files/     content of files         <state>/uploads/   parts of uploads
<state>/work/      what jobs in progress work on
"""

from dataclasses import dataclass
from pathlib import Path

from hone.models.errors import NotFound
from hone.service.jobs.audit import AuditLog
from hone.service.jobs.checkpoints import Checkpoints
from hone.service.jobs.database import Database, open_database
from hone.service.jobs.events import Events
from hone.service.jobs.files import Files
from hone.service.jobs.fine_tuned import FineTunedModels
from hone.service.jobs.idempotency import Idempotency
from hone.service.jobs.keys import Keys, load_pepper
from hone.service.jobs.records import Records
from hone.service.jobs.uploads import Uploads
from hone.service.settings import Settings


@dataclass(frozen=True, slots=True)
class State:
    """The stores over one database. Their calls block: they belong into threads."""

    folder: Path
    database: Database
    keys: Keys
    files: Files
    uploads: Uploads
    records: Records
    events: Events
    checkpoints: Checkpoints
    models: FineTunedModels
    idempotency: Idempotency
    audit: AuditLog

    def sweep(self) -> None:
        """Remove what killed services left. For the start; other services may be at work."""
        self.files.sweep()
        self.uploads.sweep()

    def expire(self) -> None:
        """End what has reached its time. Now and then."""
        self.files.expire()
        self.uploads.expire()
        self.idempotency.expire()

    def close(self) -> None:
        """Close the database."""
        self.database.close()


def open_state(settings: Settings) -> State:
    """Open the job store, made first if need be.

    InvalidInput, StoreUnreachable, StoreFailed or DiskFull when that cannot be.
    """
    folder = settings.state_folder
    pepper = load_pepper(folder)
    database = open_database(settings.database_url)
    files = Files(database, folder / "files")
    return State(
        folder=folder,
        database=database,
        keys=Keys(database, pepper),
        files=files,
        uploads=Uploads(database, files, folder / "uploads"),
        records=Records(database),
        events=Events(database),
        checkpoints=Checkpoints(database),
        models=FineTunedModels(database),
        idempotency=Idempotency(database),
        audit=AuditLog(database),
    )


def open_existing_state(settings: Settings) -> State:
    """Open the job store; NotFound where none is, as at a mistyped path."""
    if settings.database is None and not settings.state_folder.is_dir():
        raise NotFound(f"there is no job store in {settings.state_folder.resolve()}")
    return open_state(settings)
