"""Settings of the runner, and the environment in which its training processes run."""

import os
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from hone.models.catalogue import (
    CATALOGUE,
    LEGACY_ALIASES,
    SCRATCH_BASES,
    Task,
    task_of_base,
)
from hone.models.imaging.archives import ArchiveBounds
from hone.models.layout import usable_cores
from hone.service.wrong_settings import wrong_settings

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
)


_SECRETS = ("HONE_", "PG")
"""What the names of the service's own settings, and of PostgreSQL's client's, begin with."""


class OfferedBase(BaseModel):
    """A base that a job may name: where it is, what it is for, and the recipe that trains it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str
    """A name of the catalogue, a local folder, or a hub id."""
    task: Task | None = None
    """What it is for; by default what its config.json says."""
    recipe: str | None = None
    """A recipe that ships, or a file; by default that of the task."""

    @property
    def settled_task(self) -> Task:
        """What it is for."""
        return task_of_base(self.base) if self.task is None else self.task


class RunnerSettings(BaseSettings):
    """What an operator may choose, as `HONE_JOBS_<NAME>`. Times are seconds."""

    model_config = SettingsConfigDict(env_prefix="HONE_JOBS_", extra="ignore", frozen=True)

    at_once: int = Field(1, ge=1, le=64)
    """How many jobs train at the same time, on all services of one database together."""
    threads: int | None = Field(None, ge=1, le=1024)
    """Threads of one training process; by default the cores but one, shared by those at once,
    and at least two where there are two: they step aside for serving all the same."""
    nice: int = Field(10, ge=0, le=19)
    """How much less than serving a training process is favoured by the kernel."""
    heartbeat_s: float = Field(1.0, gt=0)
    """Between two heartbeats: how soon a wish to cancel or pause is heard."""
    lease_s: float = Field(30.0, gt=0)
    """After how long without a heartbeat a job is given to another worker."""
    poll_s: float = Field(0.5, gt=0)
    """Between two looks at queue and processes; four times as long while no job runs here."""
    stop_grace_s: float = Field(20.0, gt=0)
    """From SIGTERM to SIGKILL for a training process."""
    most_attempts: int = Field(5, ge=1)
    """After how many services that died with a job it is failed."""
    most_kills: int = Field(3, ge=1)
    """After how many kills of its process without any progress it is failed."""
    sweep_s: float = Field(60.0, gt=0)
    """Between two rounds of cleaning up."""
    bases: dict[str, str | OfferedBase] = {}
    """More names that a job's `model` may have, each with its base: a name of the catalogue, a
    local folder or a hub id, or an object with `base`, `task` and `recipe`. As JSON in the
    environment."""
    archive_entries: int = Field(100_000, ge=2)
    """The most entries of a zip archive of pictures."""
    archive_bytes: int = Field(8 * 2**30, ge=1024)
    """The most bytes that one unpacks to."""
    picture_bytes: int = Field(16 * 2**20, ge=1024)
    """The most bytes of one picture in one; in JSON lines, a line has 10 MB at most."""
    checkpoints: int = Field(3, ge=0, le=100)
    """How many checkpoints of a job that writes text can be asked, the latest ones; each takes a
    moment of the job's time and the room of the model in fp32."""
    licence: str = "unknown"
    """The licence of the users' data, noted in the bundles."""

    @model_validator(mode="after")
    def _a_lease_outlives_some_heartbeats(self) -> Self:
        if self.lease_s < 3 * self.heartbeat_s:
            raise ValueError("lease_s must be at least three times heartbeat_s")
        return self

    @property
    def all_bases(self) -> dict[str, OfferedBase]:
        """The names that a job's `model` may have, and the base of each."""
        known = {name: name for name in (*CATALOGUE, *LEGACY_ALIASES, *SCRATCH_BASES)}
        return {
            name: OfferedBase(base=base) if isinstance(base, str) else base
            for name, base in {**known, **self.bases}.items()
        }

    @property
    def archive_bounds(self) -> ArchiveBounds:
        """What an archive may have; how far it may unpack is not to be chosen."""
        return ArchiveBounds(
            entries=self.archive_entries,
            entry_bytes=self.picture_bytes,
            total_bytes=self.archive_bytes,
        )

    @property
    def trainer_threads(self) -> int:
        """How many threads one training process may use."""
        cores = usable_cores()
        return self.threads or max(min(cores, 2), (cores - 1) // self.at_once)


def load_runner_settings() -> RunnerSettings:
    """Return the settings as the environment gives them; InvalidInput names each bad one."""
    try:
        return RunnerSettings()
    except ValidationError as error:
        raise wrong_settings(error, lambda name: f"HONE_JOBS_{name.upper()}") from None


def trainer_environment(threads: int, scratch: Path) -> dict[str, str]:
    """Return this process's environment for a training process.

    It gets no setting and no secret of the service, and writes what is temporary into `scratch`,
    which is on the disk of the state and goes with the job.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_SECRETS)}
    capped = dict.fromkeys(_THREAD_VARIABLES, str(threads))
    libraries = {"TOKENIZERS_PARALLELISM": "false", "ORT_DISABLE_TELEMETRY": "1"}
    return {**kept, **capped, **libraries, "TMPDIR": str(scratch)}
