"""Looking for a model in a store, where a person reads what was not found, and where."""

from collections.abc import Iterator
from contextlib import contextmanager

from hone.models.errors import NotFound
from hone.models.names import ModelReference
from hone.models.registry import Registry
from hone.models.toml_files import suggestion


@contextmanager
def looked_up(registry: Registry, reference: ModelReference) -> Iterator[None]:
    """Let a NotFound of the block say which store it is of, and which name may have been meant."""
    store = registry.store.absolute()
    if not store.is_dir():
        raise NotFound(f"there is no store {store}")
    try:
        yield
    except NotFound as error:
        models = registry.models()
        near = "" if reference.model in models else suggestion(reference.model, models)
        raise NotFound(f"{error} in the store {store}{near}") from None
