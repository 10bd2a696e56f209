"""From a bundle to a model that answers, whatever its task."""

from collections.abc import Sequence

from hone.models.bundle import Bundle
from hone.models.errors import InvalidInput
from hone.service import generating
from hone.service.errors import InvalidRequest
from hone.service.generating import GeneratingModel, load_generating
from hone.service.serving import (
    LOADERS,
    FileStamp,
    Host,
    LoadedModel,
    facts_of,
    load_classifier,
)

ServedModel = LoadedModel | GeneratingModel
"""A classifier or a causal model in memory."""


def load_model(bundle: Bundle, host: Host, stamps: Sequence[FileStamp]) -> ServedModel:
    """Load a verified bundle and warm it. Takes seconds; not for the loop.

    BundleCorrupt or InvalidInput when the bundle cannot be served.
    """
    facts, task = facts_of(bundle.manifest), bundle.manifest.task
    if task in LOADERS:
        return load_classifier(bundle, facts, host, stamps)
    if task == generating.TASK:
        return load_generating(bundle, facts, host, stamps)
    known = ", ".join([*LOADERS, generating.TASK])
    raise InvalidInput(f"{facts} is for {task}; this service does {known}")


def as_classifier(model: ServedModel) -> LoadedModel:
    """Return a model that classifies; InvalidRequest for one that does not."""
    if isinstance(model, LoadedModel):
        return model
    raise InvalidRequest(
        f"'{model.facts.name}' completes texts and does not classify: ask it at /v1/completions "
        "or /v1/chat/completions.",
        param="model",
        code="not_a_classifier",
    )
