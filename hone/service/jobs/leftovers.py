"""Bundles that go with the job, or the model, that they belong to."""

from hone.models.errors import NotFound
from hone.models.registry import Registry


def remove_all_versions(registry: Registry, name: str) -> bool:
    """Remove whatever a store has under a name; return whether there was anything.

    HoneError or OSError where one cannot be removed: who sweeps later tries again.
    """
    try:
        versions = registry.listing(name).versions
    except NotFound:
        return False
    for version in versions:
        registry.remove(name, version)
    return True
