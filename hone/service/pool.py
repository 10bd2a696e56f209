"""Which versions are in memory: loading, swapping and retiring them while requests run.

The store is looked at once a second. A version that became current is opened (every hash
verified), loaded and warmed beside the old one, which answers until the swap, one assignment;
then the old one finishes its queue and goes. A version that cannot be loaded changes nothing,
is logged once, and is tried again only when its files change or on SIGHUP.

Only so many models are in memory (`max_loaded_models`). The others rest: the first request for
one loads it, and the model that was asked for longest ago goes. Models named at the start stay.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from hone.models.errors import HoneError, InvalidName, NotFound
from hone.models.names import ModelReference, parse_reference
from hone.models.registry import STATE_FILE, ModelListing, Registry
from hone.service.errors import ModelNotFound, NotReady
from hone.service.loading import ServedModel, load_model
from hone.service.serving import (
    FileStamp,
    Host,
    ModelFacts,
    facts_of,
    manifest_stamp,
    stamps_of,
)

logger = logging.getLogger(__name__)

Key = tuple[str, int]

LOADING_S = 20.0
"""How long a request waits for a model that was just published."""


@dataclass(frozen=True, slots=True)
class _Sighting:
    """A model as the last look at the store found it; `stamps` are its current version's."""

    listing: ModelListing
    version: int
    stamps: tuple[FileStamp, ...]

    @property
    def written_ns(self) -> int:
        """When the current version's manifest was written."""
        stamp = manifest_stamp(self.stamps)
        return stamp[3] if stamp else 0


class ModelPool:
    """The models of one service. Its methods belong to the event loop's thread."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._registry = Registry(host.settings.store)
        self.current: dict[str, ServedModel] = {}
        self.started = False
        self._seen: dict[str, _Sighting] = {}
        self._resting: set[str] = set()
        """Models that are not in memory for want of room; a request loads them."""
        self._asked_for: set[str] = set()
        """Fine-tuned models that somebody asked for: followed though others were named."""
        self._pinned: OrderedDict[Key, ServedModel] = OrderedDict()
        self._loading: dict[Key, asyncio.Task[ServedModel]] = {}
        self._refused: dict[Key, tuple[FileStamp, ...]] = {}
        self._one_refresh = asyncio.Lock()
        self._one_load = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self._complaints: dict[str, str] = {}

    # Finding

    async def get(self, name: str) -> ServedModel:
        """Return the model that a request names, loading it if it rests or is a pinned version.

        ModelNotFound when there is none, NotReady when it is not (yet) to be had.
        """
        found = self.current.get(name)
        if found is not None:
            found.last_used = time.monotonic()
            return found
        try:
            reference = parse_reference(name)
            sighting = self._sighting(reference.model)
            version = sighting.listing.resolve(reference)
        except InvalidName:
            raise ModelNotFound(f"There is no model {name[:80]!r}.") from None
        except NotFound:
            raise ModelNotFound(f"There is no model {name[:80]!r}.") from None
        current = self.current.get(reference.model)
        if current is not None and current.facts.version == version:
            current.last_used = time.monotonic()
            return current
        if reference.model in self._resting and version == sighting.version:
            return await self.published(reference.model, version)
        if reference.version is None and reference.alias is None:
            raise NotReady(f"The model {name!r} is not loaded.")
        return await self._pinned_version((reference.model, version))

    async def published(self, model: str, version: int) -> ServedModel:
        """Return a version that is known to be published, however new, and follow its model.

        Waits for its load, up to `LOADING_S`; NotReady if it is not loaded then, or cannot be.
        """
        self._asked_for.add(model)
        current = self.current.get(model)
        if current is None or current.facts.version != version:
            try:
                async with asyncio.timeout(LOADING_S):
                    loaded = await self._load((model, version))
            except TimeoutError:
                raise NotReady("The model is being loaded; ask again.") from None
            self._install(loaded)
            current = loaded
        current.last_used = time.monotonic()
        return current

    def loaded(self) -> Iterator[ServedModel]:
        """Yield every version in memory."""
        yield from self.current.values()
        yield from self._pinned.values()

    def names(self) -> list[str]:
        """Return the names of all models that can be asked for."""
        return sorted({*self._seen, *self.current})

    def missing(self) -> list[str]:
        """Return the models of the store (or those named at the start) that should be loaded."""
        wanted = {*self._seen, *self.host.settings.models} - self._resting
        return sorted(wanted - set(self.current))

    def listing(self, model: str) -> ModelListing:
        """Return versions and aliases as last seen; NotFound for an unknown model."""
        current = self.current.get(model)
        if model not in self._seen and current is not None:
            version = current.facts.version
            return ModelListing(model, [version], {"latest": version})
        return self._sighting(model).listing

    async def facts(self, model: str, version: int) -> ModelFacts:
        """Return what a version says about itself, from memory or from its manifest."""
        for loaded in self.loaded():
            if (loaded.facts.name, loaded.facts.version) == (model, version):
                return loaded.facts
        reference = ModelReference(model, version=version)
        return facts_of(await asyncio.to_thread(self._registry.manifest, reference))

    def _sighting(self, model: str) -> _Sighting:
        try:
            return self._seen[model]
        except KeyError:
            raise NotFound(f"there is no model {model!r}") from None

    # Following the store

    def add(self, model: ServedModel) -> None:
        """Serve a model that is in no store."""
        self._install(model)

    async def refresh(self, *, again: bool = False) -> None:
        """Look at the store and follow it; with `again`, retry what failed before."""
        async with self._one_refresh:
            if again:
                self._refused.clear()
            in_memory = {model.facts.name for model in self.loaded()}
            seen, removed = await asyncio.to_thread(self._look, in_memory)
            before, self._seen = self._seen, seen
            self._resting &= set(seen)
            for model in self._in_order(seen):
                known = before.get(model)
                changed = known is None or known.version != seen[model].version
                await self._follow(model, news=self.started and changed)
            for model in removed:
                logger.info("model removed", extra={"model": model})
                current = self.current.pop(model, None)
                if current is not None:
                    self._retire(current)
            self._drop_unlisted_pins()
            self.started = True

    async def close(self, timeout_s: float) -> None:
        """Retire everything: queues are finished, workers end."""
        for task in self._loading.values():
            task.cancel()
        for model in list(self.loaded()):
            self._retire(model, timeout_s)
        self.current.clear()
        self._pinned.clear()
        await asyncio.gather(*self._retiring)

    def _look(self, in_memory: Collection[str]) -> tuple[dict[str, _Sighting], list[str]]:
        """Read the store: what is there, and which of the loaded models were removed on purpose."""
        seen = dict(self._look_at_each())
        gone = [model for model in self._seen if model not in seen and model in in_memory]
        removed = [m for m in gone if (self._registry.store / m / STATE_FILE).is_file()]
        # Otherwise it is the store that is gone, not the model: keep what was known.
        seen |= {model: self._seen[model] for model in gone if model not in removed}
        return seen, removed

    def _look_at_each(self) -> Iterator[tuple[str, _Sighting]]:
        for model in self._names_in_store():
            try:
                listing = self._registry.listing(model)
                version = listing.resolve(ModelReference(model))
            except NotFound:
                continue
            except (HoneError, OSError) as error:
                self._complain(model, error)
                if model in self._seen:
                    yield model, self._seen[model]
                continue
            self._complaints.pop(model, None)
            stamps = stamps_of(self._registry.folder(model, version))
            yield model, _Sighting(listing, version, stamps)

    def _names_in_store(self) -> Sequence[str]:
        if self.host.settings.models:
            return [*dict.fromkeys([*self.host.settings.models, *self._asked_for])]
        try:
            return self._registry.models()
        except OSError as error:
            self._complain("", error)
            return list(self._seen)

    def _complain(self, model: str, error: Exception) -> None:
        """Log what cannot be read, once until it reads differently."""
        if self._complaints.get(model) != str(error):
            self._complaints[model] = str(error)
            logger.warning("store unreadable", extra={"model": model, "reason": str(error)})

    def _in_order(self, seen: Collection[str]) -> list[str]:
        """Return models as they are to be loaded: those named, then the youngest first."""
        named = self.host.settings.models
        return sorted(seen, key=lambda model: (model not in named, -self._seen[model].written_ns))

    async def _follow(self, model: str, *, news: bool) -> None:
        """Load a model's current version, unless it is or there is no room for it.

        For `news`, what has just been published, room is made.
        """
        sighting = self._seen[model]
        current = self.current.get(model)
        if (
            current is not None
            and current.facts.version == sighting.version
            and manifest_stamp(current.stamps) == manifest_stamp(sighting.stamps)
        ):
            return
        if current is None and not news and not self._has_room_for(model):
            self._resting.add(model)
            return
        key = (model, sighting.version)
        try:
            loaded = self._pinned.get(key) or await self._load(key)
        except NotReady:
            return
        self._install(loaded)

    def _install(self, model: ServedModel) -> None:
        name, version = model.facts.name, model.facts.version
        self._pinned.pop((name, version), None)
        old = self.current.get(name)
        if old is model:  # who asked for it and who follows the store have waited for one load
            return
        self.current[name] = model
        self._resting.discard(name)
        logger.info(
            "model serves", extra={"model": model.id, "instead_of": old.id if old else None}
        )
        if old is not None:
            self._retire(old)
        self._make_room(newest=name)
        self._count()

    # Room

    def _has_room_for(self, model: str) -> bool:
        settings = self.host.settings
        return model in settings.models or len(self.current) < settings.max_loaded_models

    def _make_room(self, newest: str) -> None:
        """Let models rest until no more are loaded than may be: who was asked longest ago first."""
        named = {newest, *self.host.settings.models}
        idle = [one for name, one in self.current.items() if one.stamps and name not in named]
        idle.sort(key=lambda one: (one.last_used, one.facts.created))
        excess = len(self.current) - self.host.settings.max_loaded_models
        for model in idle[: max(0, excess)]:
            name = model.facts.name
            self._resting.add(name)
            logger.info("model rests", extra={"model": model.id, "for": newest})
            self.host.metrics.unloads.inc()
            self._retire(self.current.pop(name))

    # Pinned versions

    async def _pinned_version(self, key: Key) -> ServedModel:
        if key in self._pinned:
            self._pinned.move_to_end(key)
            return self._pinned[key]
        if not self.host.settings.pinned_versions:
            raise NotReady("That version is not loaded, and this service loads no others.")
        loaded = await self._load(key)
        if self.current.get(key[0]) is not loaded and key not in self._pinned:
            self._pinned[key] = loaded
            while len(self._pinned) > self.host.settings.pinned_versions:
                self._retire(self._pinned.popitem(last=False)[1])
            self._count()
        return loaded

    def _drop_unlisted_pins(self) -> None:
        """Retire the pinned versions that were removed, alone or with their model."""
        listed = {
            (model, version)
            for model, sighting in self._seen.items()
            for version in sighting.listing.versions
        }
        for key in [key for key in self._pinned if key not in listed]:
            self._retire(self._pinned.pop(key))

    # Loading and retiring

    async def _load(self, key: Key) -> ServedModel:
        """Load a version in a thread; all who ask meanwhile wait for the same load."""
        task = self._loading.get(key)
        if task is None:
            task = asyncio.create_task(self._load_in_thread(key))
            self._loading[key] = task
            task.add_done_callback(lambda _: self._loading.pop(key, None))
        return await asyncio.shield(task)

    async def _load_in_thread(self, key: Key) -> ServedModel:
        model, version = key
        async with self._one_load:
            stamps = await asyncio.to_thread(stamps_of, self._registry.folder(model, version))
            if self._refused.get(key) == stamps:
                raise NotReady(_cannot_load(key))
            try:
                return await asyncio.to_thread(self._open_and_load, key, stamps)
            except Exception as error:
                # Whatever is wrong with a bundle, the versions in memory go on serving.
                self._refused[key] = stamps
                self.host.metrics.load_failures.labels(model).inc()
                expected = isinstance(error, HoneError)
                logger.error(  # noqa: TRY400 - an expected error needs no stack
                    "model not loaded",
                    extra={"model": f"{model}@{version}", "reason": str(error)},
                    exc_info=None if expected else error,
                )
                raise NotReady(_cannot_load(key)) from error

    def _open_and_load(self, key: Key, stamps: tuple[FileStamp, ...]) -> ServedModel:
        bundle = self._registry.open(ModelReference(key[0], version=key[1]))
        return load_model(bundle, self.host, stamps)

    def _retire(self, model: ServedModel, timeout_s: float | None = None) -> None:
        task = asyncio.create_task(asyncio.to_thread(model.close, timeout_s))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
        self._count()

    def _count(self) -> None:
        self.host.metrics.loaded_models.set(len(self.current) + len(self._pinned))


def _cannot_load(key: Key) -> str:
    return f"The model '{key[0]}@{key[1]}' could not be loaded; the server's log says why."
