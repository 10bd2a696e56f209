"""What the store holds, as the last look at it found."""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hone.models.errors import HoneError, NotFound
from hone.models.names import ModelReference
from hone.models.registry import STATE_FILE, ModelListing, Registry
from hone.service.serving import FileStamp, manifest_stamp, stamps_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A model as it was seen; `stamps` are its current version's, as is what it takes."""

    listing: ModelListing
    version: int
    stamps: tuple[FileStamp, ...]
    takes_pictures: bool = False

    @property
    def written_ns(self) -> int:
        """When the current version's manifest was written."""
        stamp = manifest_stamp(self.stamps)
        return stamp[3] if stamp else 0


Sightings = Mapping[str, Sighting]


class Lookout:
    """Looks at a store. `named` are the models to look for; none means all that there are."""

    def __init__(self, registry: Registry, named: Sequence[str]) -> None:
        self._registry = registry
        self._named = named
        self._complaints: dict[str, str] = {}

    def look(
        self, before: Sightings, *, known: Collection[str], asked_for: Collection[str]
    ) -> tuple[dict[str, Sighting], list[str]]:
        """Return what there is now, and which of the `known` models were removed on purpose.

        `before` is what the last look found: a model that cannot be read now stays as it was, and
        so does one that is gone together with its store. Blocks.
        """
        seen = dict(self._each(before, asked_for))
        gone = [model for model in known if model not in seen]
        removed = [m for m in gone if (self._registry.store / m / STATE_FILE).is_file()]
        kept = [model for model in gone if model not in removed and model in before]
        return seen | {model: before[model] for model in kept}, removed

    def _each(
        self, before: Sightings, asked_for: Collection[str]
    ) -> Iterator[tuple[str, Sighting]]:
        for model in self._names(before, asked_for):
            try:
                listing = self._registry.listing(model)
                version = listing.resolve(ModelReference(model))
            except NotFound:
                continue
            except (HoneError, OSError) as error:
                self._complain(model, error)
                if model in before:
                    yield model, before[model]
                continue
            self._complaints.pop(model, None)
            stamps = stamps_of(self._registry.folder(model, version))
            pictures = self._takes_pictures(ModelReference(model, version=version), stamps, before)
            yield model, Sighting(listing, version, stamps, pictures)

    def _takes_pictures(
        self, reference: ModelReference, stamps: tuple[FileStamp, ...], before: Sightings
    ) -> bool:
        """Say what a version takes, by its manifest, which is read once unless it changes.

        Also of a model that rests: the first request to one may hold large pictures.
        """
        seen = before.get(reference.model)
        if seen is not None and manifest_stamp(seen.stamps) == manifest_stamp(stamps):
            return seen.takes_pictures
        try:
            return self._registry.manifest(reference).task == "image-classification"
        except (HoneError, OSError):
            return False

    def _names(self, before: Sightings, asked_for: Collection[str]) -> Sequence[str]:
        if self._named:
            return [*dict.fromkeys([*self._named, *asked_for])]
        try:
            return self._registry.models()
        except OSError as error:
            self._complain("", error)
            return list(before)

    def _complain(self, model: str, error: Exception) -> None:
        """Log what cannot be read, once until it reads differently."""
        if self._complaints.get(model) != str(error):
            self._complaints[model] = str(error)
            logger.warning("store unreadable", extra={"model": model, "reason": str(error)})
