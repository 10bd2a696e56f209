"""From a job to the commands that a person would type: `hone prepare`, then `hone train`.

What the hosted API calls `learning_rate_multiplier` multiplies the rate that the recipe settles by
itself. Its legacy kind is a share of another model's rate, of which 0.05, 0.1 or 0.2 (by batch
size) is the usual one: there it counts in units of the usual one.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hone.models.errors import BundleCorrupt, NotFound
from hone.models.names import ModelReference
from hone.models.registry import Registry
from hone.service.jobs.events import NewEvent
from hone.service.jobs.fine_tuned import FineTunedModels
from hone.service.jobs.records import Failure, Job
from hone.service.jobs.settings import RunnerSettings
from hone.service.jobs.trainer import python_module
from hone.service.jobs.workplace import Workplace

LEGACY_EPOCHS = 4
LEGACY_MOST_BATCH = 256
LEGACY_BATCH_SHARE = 0.002
LEGACY_PROMPT_LOSS_WEIGHT = 0.01
_LARGEST_AUTO_BATCH = 32
"""What the recipe's own rule takes for large files. Smaller shares than that are left to it."""

_USUAL_MULTIPLIERS = ((32, 0.05), (128, 0.1))
_USUAL_FOR_LARGE = 0.2


class Refused(Exception):
    """The job cannot be done as it was asked for."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Origin:
    """What a job's model is made from.

    `name` is the base as the API calls it, `base` as a recipe does; `continue_from` the version in
    the store whose weights are taken instead of the base's.
    """

    name: str
    base: str
    continue_from: str | None = None


@dataclass(frozen=True, slots=True)
class Store:
    """Where bundles are, which bases a job may name, and how recipes are filled in."""

    registry: Registry
    models: FineTunedModels
    settings: RunnerSettings


def find_origin(job: Job, store: Store) -> Origin:
    """Return what the job's model is made from; Refused if there is none of that name."""
    base = store.settings.all_bases.get(job.model)
    if base is not None:
        return Origin(job.model, base)
    try:
        earlier = store.models.get(job.owner, job.model)
        reference = ModelReference(earlier.store_model, version=earlier.store_version)
        recipe = store.registry.manifest(reference).recipe.content
        return Origin(earlier.base, str(recipe["model"]["base"]), str(reference))
    except (NotFound, BundleCorrupt, KeyError, TypeError):
        message = f"The model `{job.model[:200]}` does not exist or cannot be fine-tuned."
        raise Refused(Failure("model_not_found", message, "model")) from None


def prepare_command(job: Job, origin: Origin, place: Workplace) -> Sequence[str]:
    """Return the command that checks, mends and splits the job's files.

    No class is left out for being rare: the labels are the client's choice.
    """
    given = ["--validation", str(place.validation)] if place.validation.exists() else []
    options = ["--yes", "--seed", str(job.seed), "--min-per-class", "1", "--base", origin.base]
    out = ["--out", str(place.data)]
    return hone_command("prepare", str(place.training), *out, *options, *given)


def train_command(job: Job, origin: Origin, place: Workplace, store: Store) -> Sequence[str]:
    """Return the command that trains and publishes; Refused for options that fit no data."""
    overrides = [
        f"{key}={json.dumps(value, ensure_ascii=False)}"
        for key, value in _overrides(job, origin, place, store).items()
    ]
    return hone_command("train", "classifier", *overrides, "--events", str(place.events))


def hone_command(*arguments: str) -> list[str]:
    """Return a command of `hone`, run by the interpreter that runs us."""
    return python_module("hone", *arguments)


def notes(job: Job, report: Mapping[str, Any]) -> list[NewEvent]:
    """Return what the client should know of how the job is done, from the prepared data."""
    return [NewEvent(message) for message in _note_messages(job, report)]


def usual_multiplier(batch_size: int) -> float:
    """Return the legacy multiplier that means the usual learning rate."""
    for most, multiplier in _USUAL_MULTIPLIERS:
        if batch_size <= most:
            return multiplier
    return _USUAL_FOR_LARGE


def batch_size(job: Job, examples: int) -> int | None:
    """Return the batch size to train with; None leaves it to the recipe.

    Legacy's share of the examples is one or two for a small file, where an encoder learns badly:
    it is followed from where it is more than the recipe would take.
    """
    given = number(job.given, "batch_size")
    if given is not None:
        return int(given)
    if job.flavour == "modern":
        return None
    share = min(LEGACY_MOST_BATCH, round(examples * LEGACY_BATCH_SHARE))
    return share if share > _LARGEST_AUTO_BATCH else None


def number(given: Mapping[str, Any], name: str) -> float | None:
    """Return a hyperparameter that was given as a number; None for "auto", null and nothing."""
    value = given.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def betas(job: Job) -> list[float]:
    """Return the F-betas that the client wants to see."""
    found = job.given.get("classification_betas") or []
    return [float(beta) for beta in found]


def _overrides(job: Job, origin: Origin, place: Workplace, store: Store) -> dict[str, Any]:
    report = place.report()
    _check_classes(job, report)
    chosen: dict[str, Any] = {
        "model.base": origin.base,
        "dataset.path": str(place.data),
        "training.seed": job.seed,
        "saving.name": job.store_model,
        "saving.store": str(store.registry.store),
        "saving.runs": str(place.runs),
        "saving.licence": store.settings.licence,
        "optimizer.learning_rate_multiplier": _rate_factor(job, _examples(report)),
    }
    optional = {
        "model.continue_from": origin.continue_from,
        "training.epochs": number(job.given, "n_epochs"),
        "training.batch_size": batch_size(job, _examples(report)),
        "dataset.positive_label": _positive_label(job, report),
        "dataset.betas": betas(job) or None,
    }
    return {**chosen, **{key: value for key, value in optional.items() if value is not None}}


def _rate_factor(job: Job, examples: int) -> float:
    given = number(job.given, "learning_rate_multiplier")
    if given is None:
        return 1.0
    if job.flavour == "modern":
        return float(given)
    return given / usual_multiplier(batch_size(job, examples) or _LARGEST_AUTO_BATCH)


def _examples(report: Mapping[str, Any]) -> int:
    return int(report["splits"]["train"]["rows"])


def _labels(report: Mapping[str, Any]) -> list[str]:
    return [str(row["label"]) for row in report["labels"]]


def _check_classes(job: Job, report: Mapping[str, Any]) -> None:
    """Refuse what the client said of the classes and the files do not hold."""
    wanted, found = number(job.given, "classification_n_classes"), len(_labels(report))
    if wanted is not None and wanted != found:
        message = (
            f"The number of classes in {job.training_file} ({found}) does not match the number of "
            f"classes specified in the hyperparameters ({wanted:g})."
        )
        raise Refused(Failure("invalid_n_classes", message, "classification_n_classes"))
    unknown = [p for p in report["problems"] if p["code"] == "unknown_labels"]
    if unknown:
        shown = ", ".join(f"`{one['label']}`" for one in unknown[0]["examples"][:5])
        message = (
            "The job failed due to an invalid validation file. It has labels that the training "
            f"file does not have: {shown}."
        )
        raise Refused(Failure("invalid_validation_file", message[:500], "validation_file"))


def _positive_label(job: Job, report: Mapping[str, Any]) -> str | None:
    """Return the positive class as the prepared data spell it; Refused if no class is called so."""
    wanted = job.given.get("classification_positive_class")
    if wanted is None:
        return None
    labels = {_bare(label, report): label for label in _labels(report)}
    found = labels.get(_bare(str(wanted), report))
    if found is None:
        message = (
            f"The positive class specified `{str(wanted)[:100]}` is not found among the classes "
            f"in the validation file {job.validation_file or job.training_file}."
        )
        param = "classification_positive_class"
        raise Refused(Failure("invalid_positive_class", message, param))
    return found


def _bare(label: str, report: Mapping[str, Any]) -> str:
    stop = str((report.get("prompt_form") or {}).get("stop", "")).strip()
    return label.strip().removesuffix(stop).strip().casefold()


def _note_messages(job: Job, report: Mapping[str, Any]) -> Iterator[str]:
    counts, splits = report["counts"], report["splits"]
    yield (
        f"The completions are {len(report['labels'])} distinct labels: an encoder classifier is "
        "trained, which answers with one of them"
    )
    if counts["dropped"]:
        reasons = ", ".join(
            f"{count} {reason.replace('_', ' ')}" for reason, count in counts["dropped"].items()
        )
        yield f"{counts['kept']} of {counts['read']} examples are used; left out: {reasons}"
    yield (
        f"{splits['train']['rows']} examples are trained on, {splits['validation']['rows']} "
        f"choose the weights, {splits['test']['rows']} test them"
    )
    if report.get("shared_instruction"):
        yield (
            "All prompts begin with the same instruction: it is taken off, and requests need not "
            "send it any more"
        )
    yield from _hyperparameter_notes(job)


def _hyperparameter_notes(job: Job) -> Iterator[str]:
    if job.flavour == "legacy" and number(job.given, "n_epochs") is None:
        yield (
            f"n_epochs was not given: instead of {LEGACY_EPOCHS}, which is for larger models, as "
            "many are trained as an encoder needs on this much data"
        )
    if number(job.given, "prompt_loss_weight") is not None:
        yield "prompt_loss_weight has no effect on a classifier, which writes no text"


def settled_hyperparameters(
    job: Job, *, epochs: float, batch: int, weight: float = LEGACY_PROMPT_LOSS_WEIGHT
) -> dict[str, Any]:
    """Return the hyperparameters in place of "auto", as the API's objects show them."""
    multiplier = number(job.given, "learning_rate_multiplier")
    shown: dict[str, Any] = {
        "n_epochs": math.ceil(epochs) if not float(epochs).is_integer() else int(epochs),
        "batch_size": batch,
        "learning_rate_multiplier": multiplier,
    }
    if multiplier is None:
        shown["learning_rate_multiplier"] = (
            usual_multiplier(batch) if job.flavour == "legacy" else 1.0
        )
    if job.flavour == "legacy":
        loss_weight = number(job.given, "prompt_loss_weight")
        shown["prompt_loss_weight"] = weight if loss_weight is None else loss_weight
    return shown
