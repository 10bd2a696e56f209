"""What a job's model is made from: a base that the operator offers, or a fine-tuned model."""

from dataclasses import dataclass

from hone.models.catalogue import Task
from hone.models.errors import BundleCorrupt, NotFound
from hone.models.names import ModelReference
from hone.models.registry import Registry
from hone.service.jobs.fine_tuned import FineTunedModels
from hone.service.jobs.records import Failure, Job
from hone.service.jobs.settings import RunnerSettings


class Refused(Exception):
    """The job cannot be done as it was asked for."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Origin:
    """What a job's model is made from.

    `name` is the base as the API calls it, `base` as a recipe does; `task` is what it is for, and
    `recipe` what trains it, None for the task's own. `continue_from` is the version in the store
    whose weights are taken instead of the base's.
    """

    name: str
    base: str
    task: Task = "text-classification"
    recipe: str | None = None
    continue_from: str | None = None


@dataclass(frozen=True, slots=True)
class Store:
    """Where bundles are, which bases a job may name, and how recipes are filled in."""

    registry: Registry
    models: FineTunedModels
    settings: RunnerSettings


def find_origin(job: Job, store: Store) -> Origin:
    """Return what the job's model is made from; Refused if there is none of that name."""
    offered = store.settings.all_bases.get(job.model)
    if offered is not None:
        return Origin(job.model, offered.base, offered.settled_task, offered.recipe)
    try:
        earlier = store.models.get(job.owner, job.model)
        reference = ModelReference(earlier.store_model, version=earlier.store_version)
        manifest = store.registry.manifest(reference)
        base = str(manifest.recipe.content["model"]["base"])
    except (NotFound, BundleCorrupt, KeyError, TypeError):
        message = f"The model `{job.model[:200]}` does not exist or cannot be fine-tuned."
        raise Refused(Failure("model_not_found", message, "model")) from None
    if manifest.task != "text-classification":
        message = (
            f"The model `{job.model[:200]}` cannot be fine-tuned further: only classifiers of "
            f"texts can. Begin from its base, `{earlier.base}`, with all examples."
        )
        raise Refused(Failure("continuing_not_supported", message, "model"))
    return Origin(earlier.base, base, manifest.task, continue_from=str(reference))
