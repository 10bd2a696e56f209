"""From a job to the commands that a person would type: `hone prepare`, then `hone train`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hone.service.jobs.events import NewEvent
from hone.service.jobs.hyperparameters import batch_size, number, rate_factor
from hone.service.jobs.origins import Origin, Store
from hone.service.jobs.records import Job
from hone.service.jobs.tasks.kinds import KINDS
from hone.service.jobs.trainer import python_module
from hone.service.jobs.workplace import Workplace


def prepare_command(job: Job, origin: Origin, place: Workplace) -> Sequence[str]:
    """Return the command that checks, mends and splits the job's files."""
    given = ["--validation", str(place.validation)] if place.validation.exists() else []
    options = ["--yes", "--seed", str(job.seed), *KINDS[origin.task].preparation(origin)]
    out = ["--out", str(place.data)]
    return hone_command("prepare", str(place.training), *out, *options, *given)


def train_command(job: Job, origin: Origin, place: Workplace, store: Store) -> Sequence[str]:
    """Return the command that trains and publishes; Refused for options that fit no data."""
    overrides = [
        f"{key}={json.dumps(value, ensure_ascii=False)}"
        for key, value in _overrides(job, origin, place, store).items()
        if value is not None
    ]
    recipe = origin.recipe or KINDS[origin.task].recipe(origin)
    return hone_command("train", recipe, *overrides, "--events", str(place.events))


def hone_command(*arguments: str) -> list[str]:
    """Return a command of `hone`, run by the interpreter that runs us."""
    return python_module("hone", *arguments)


def notes(job: Job, origin: Origin, report: Mapping[str, Any]) -> list[NewEvent]:
    """Return what the client should know of how the job is done, from the prepared data."""
    return list(KINDS[origin.task].notes(job, origin, report))


def _overrides(job: Job, origin: Origin, place: Workplace, store: Store) -> dict[str, Any]:
    report = place.report()
    examples = int(report["splits"]["train"]["rows"])
    kind = KINDS[origin.task]
    # The older API lists no checkpoints: nobody could be told the name of one.
    asked = kind.sampled_checkpoints and job.flavour == "modern"
    return {
        "model.base": origin.base,
        "dataset.path": str(place.data),
        "training.seed": job.seed,
        "saving.name": job.store_model,
        "saving.store": str(store.registry.store),
        "saving.runs": str(place.runs),
        "saving.licence": store.settings.licence,
        "saving.checkpoints": store.settings.checkpoints if asked else None,
        "optimizer.learning_rate_multiplier": rate_factor(job, examples),
        "training.epochs": number(job.given, "n_epochs"),
        "training.batch_size": batch_size(job, examples),
        **kind.overrides(job, origin, report),
    }
