"""Which versions are in memory: loading, swapping and retiring them while requests run.

The store is looked at once a second. A version that became current is opened (every hash
verified), loaded and warmed beside the old one, which answers until the swap, one assignment;
then the old one finishes its queue and goes. A version that cannot be loaded changes nothing,
is logged once, and is tried again only when its files change or (of an adapter) the versions of its
base, which may come after it, or on SIGHUP.

Only so many models are in memory (`max_loaded_models`). The others rest: the first request for
one loads it, and the model that was asked for longest ago goes. Models named at the start stay.
"""

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from hone.models.errors import HoneError, InvalidName, NotFound
from hone.models.names import ModelReference, is_of_checkpoints, parse_reference
from hone.models.registry import ModelListing, Registry
from hone.service.errors import ModelNotFound, NotReady
from hone.service.jobs.naming import holds_checkpoints
from hone.service.loading import ServedModel, load_model
from hone.service.serving import FileStamp, Host, ModelFacts, facts_of, manifest_stamp, stamps_of
from hone.service.sightings import Lookout, Sighting, Sightings

logger = logging.getLogger(__name__)

Key = tuple[str, int]

LOADING_S = 20.0
"""How long a request waits for a model that was just published."""


class _Grounds(NamedTuple):
    """What it depends on whether a version can be loaded: its files, and its base's versions."""

    stamps: tuple[FileStamp, ...]
    bases: tuple[int, ...]


class ModelPool:
    """The models of one service. Its methods belong to the event loop's thread."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._registry = Registry(host.settings.store)
        self.current: dict[str, ServedModel] = {}
        self.started = False
        self._lookout = Lookout(self._registry, host.settings.models)
        self._seen: Sightings = {}
        self._pictures_seen = False
        self._resting: set[str] = set()
        """Models that are not in memory for want of room; a request loads them."""
        self._asked_for: set[str] = set()
        """Fine-tuned models that somebody asked for: followed though others were named."""
        self._pinned: OrderedDict[Key, ServedModel] = OrderedDict()
        self._loading: dict[Key, asyncio.Task[ServedModel]] = {}
        self._refused: dict[Key, _Grounds] = {}
        self._one_refresh = asyncio.Lock()
        self._one_load = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()

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
        key = (reference.model, version)
        if version == sighting.version and reference.model in self._resting:
            return await self._soon(key)
        if self._in_memory(key) is None:
            if reference.version is None and reference.alias is None:
                raise NotReady(f"The model {name!r} is not loaded.")
            if not self.host.settings.pinned_versions:
                raise NotReady("That version is not loaded, and this service loads no others.")
        return await self._version(key)

    async def published(self, model: str, version: int) -> ServedModel:
        """Return a version that is known to be published, however new, and follow its model.

        Waits for its load, up to `LOADING_S`; NotReady if it is not loaded then, or cannot be.
        """
        self._asked_for.add(model)
        return await self._soon((model, version))

    async def checkpoint(self, model: str, step: int) -> ServedModel:
        """Return a job's checkpoint, which is loaded when it is asked for and never followed.

        ModelNotFound where the store has it no more; else as `published`.
        """
        if self._in_memory((model, step)) is None:
            try:
                listing = await asyncio.to_thread(self._registry.listing, model)
                listing.resolve(ModelReference(model, version=step))
            except NotFound:
                raise ModelNotFound("That checkpoint is not kept, or not there yet.") from None
        self._asked_for.add(model)
        return await self._soon((model, step))

    async def _soon(self, key: Key) -> ServedModel:
        try:
            async with asyncio.timeout(LOADING_S):
                return await self._version(key)
        except TimeoutError:
            raise NotReady("The model is being loaded; ask again.") from None

    async def _version(self, key: Key) -> ServedModel:
        """Return a version from memory, or when it is there."""
        found = self._in_memory(key) or await self._load(key)
        found.last_used = time.monotonic()
        return found

    def _in_memory(self, key: Key) -> ServedModel | None:
        current = self.current.get(key[0])
        if current is not None and current.facts.version == key[1]:
            return current
        if key in self._pinned:
            self._pinned.move_to_end(key)
        return self._pinned.get(key)

    def loaded(self) -> Iterator[ServedModel]:
        """Yield every version in memory."""
        yield from self.current.values()
        yield from self._pinned.values()

    def takes_pictures(self) -> bool:
        """Tell whether any model, in memory or resting, is one of pictures."""
        return self._pictures_seen or any(model.takes_pictures for model in self.loaded())

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

    def _sighting(self, model: str) -> Sighting:
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
            before, known = self._seen, {model.facts.name for model in self.loaded()}
            known |= self._resting
            seen, removed = await asyncio.to_thread(
                self._lookout.look, before, known=known, asked_for=tuple(self._asked_for)
            )
            self._seen = seen
            self._pictures_seen = any(sighting.takes_pictures for sighting in seen.values())
            self._resting &= set(seen)
            for model in self._in_order(seen):
                await self._follow(model, news=self.started and model not in before)
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

    def _in_order(self, seen: Collection[str]) -> list[str]:
        """Return models as they are to be loaded: those named, then the youngest first."""
        named = self.host.settings.models
        return sorted(seen, key=lambda model: (model not in named, -self._seen[model].written_ns))

    async def _follow(self, model: str, *, news: bool) -> None:
        """Load a model's current version, unless it is or there is no room for it.

        For a model that is `news` room is made. A new version of one that rests waits for who
        asks for it.
        """
        named = model in self.current or model in self.host.settings.models
        if is_of_checkpoints(model) and not named:
            self._resting.add(model)
            return
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
        pinned = self._pinned.get((model, sighting.version))
        if pinned is not None:
            self._install(pinned)
            return
        with contextlib.suppress(NotReady):
            await self._load((model, sighting.version))

    def _install(self, model: ServedModel) -> None:
        name, version = model.facts.name, model.facts.version
        pinned = self._pinned.pop((name, version), None)
        if pinned is not None and pinned is not model:
            self._retire(pinned)
        old = self.current.get(name)
        self.current[name] = model
        self._resting.discard(name)
        logger.info(
            "model serves", extra={"model": model.id, "instead_of": old.id if old else None}
        )
        if old is not None:
            model.last_used = max(model.last_used, old.last_used)
            self._retire(old)
        self._make_room(newest=name)
        self._count()

    # Room

    def _has_room_for(self, model: str) -> bool:
        settings = self.host.settings
        return model in settings.models or len(self.current) < settings.max_loaded_models

    def _make_room(self, newest: str) -> None:
        """Let models rest until no more are loaded than may be: who was asked longest ago first.

        One whose successor could not be loaded stays: who asked for it would get the successor.
        """
        named = {newest, *self.host.settings.models}
        idle = [
            one
            for name, one in self.current.items()
            if one.stamps and name not in named and not self._is_behind(one)
        ]
        idle.sort(key=lambda one: (one.last_used, one.facts.created))
        excess = len(self.current) - self.host.settings.max_loaded_models
        for model in idle[: max(0, excess)]:
            name = model.facts.name
            self._resting.add(name)
            logger.info("model rests", extra={"model": model.id, "for": newest})
            self.host.metrics.unloads.inc()
            self._retire(self.current.pop(name))

    def _is_behind(self, model: ServedModel) -> bool:
        sighting = self._seen.get(model.facts.name)
        return sighting is not None and sighting.version != model.facts.version

    # Pinned versions

    def _pin(self, model: ServedModel) -> None:
        self._pinned[model.facts.name, model.facts.version] = model
        while len(self._pinned) > max(1, self.host.settings.pinned_versions):
            self._retire(self._pinned.popitem(last=False)[1])
        self._count()

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
        """Load a version in a thread, and keep it; all who ask meanwhile wait for the same load.

        It is kept although nobody may wait for it any more.
        """
        task = self._loading.get(key)
        if task is None:
            task = asyncio.create_task(self._load_in_thread(key))
            self._loading[key] = task
            task.add_done_callback(lambda _: self._loading.pop(key, None))
        return await asyncio.shield(task)

    async def _load_in_thread(self, key: Key) -> ServedModel:
        model, version = key
        async with self._one_load:
            grounds = await asyncio.to_thread(self._grounds, key)
            if self._refused.get(key) == grounds:
                raise NotReady(_cannot_load(key))
            try:
                loaded = await asyncio.to_thread(self._open_and_load, key, grounds.stamps)
            except Exception as error:
                # Whatever is wrong with a bundle, the versions in memory go on serving.
                self._refused[key] = grounds
                self.host.metrics.load_failures.labels(model).inc()
                expected = isinstance(error, HoneError)
                logger.error(  # noqa: TRY400 - an expected error needs no stack
                    "model not loaded",
                    extra={"model": f"{model}@{version}", "reason": str(error)},
                    exc_info=None if expected else error,
                )
                raise NotReady(_cannot_load(key)) from error
            pinned = holds_checkpoints(model) or self._is_behind(loaded)
            (self._pin if pinned else self._install)(loaded)
            return loaded

    def _grounds(self, key: Key) -> "_Grounds":
        reference = ModelReference(key[0], version=key[1])
        stamps = stamps_of(self._registry.folder(*key))
        bases: tuple[int, ...] = ()
        with contextlib.suppress(HoneError, OSError):  # then its load will say what is wrong
            adapter = self._registry.manifest(reference).adapter
            if adapter is not None:
                bases = tuple(self._registry.listing(adapter.base).versions)
        return _Grounds(stamps, bases)

    def _open_and_load(self, key: Key, stamps: tuple[FileStamp, ...]) -> ServedModel:
        bundle = self._registry.open(ModelReference(key[0], version=key[1]))
        return load_model(bundle, self.host, stamps)

    def _retire(self, model: ServedModel, timeout_s: float | None = None) -> None:
        task = asyncio.create_task(self._close(model, timeout_s))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
        self._count()

    async def _close(self, model: ServedModel, timeout_s: float | None) -> None:
        # It waits for the model's streams, maybe for hours: with a thread of the executor that
        # reads requests and loads models, some such models would stop the service.
        closers = ThreadPoolExecutor(1, f"closing {model.id}")
        ended = False
        try:
            await asyncio.get_running_loop().run_in_executor(closers, model.close, timeout_s)
            ended = True
        finally:
            # A thread that has ended its work lets go of the model as it ends.
            closers.shutdown(wait=ended)

    def _count(self) -> None:
        self.host.metrics.loaded_models.set(len(self.current) + len(self._pinned))


def _cannot_load(key: Key) -> str:
    return f"The model '{key[0]}@{key[1]}' could not be loaded; the server's log says why."
