"""The store: bundles by model and version, with moving aliases.

    <store>/<model>/<version>/    a complete bundle; it never changes
    <store>/<model>/state.json    aliases, and the highest version number ever given
    <store>/.staging/             what is being written; each folder is locked by its writer
    <store>/.trash/               what is being removed

A version exists from the one rename that puts its folder in place. `latest` is no entry that
could lag behind: it is the highest version there is.
"""

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

import hone
from hone.models import durable
from hone.models.bundle import Bundle, describe_files, open_bundle, read_manifest
from hone.models.errors import BundleCorrupt, Conflict, NotFound
from hone.models.manifest import (
    MANIFEST_FILE,
    AdapterRecord,
    Manifest,
    ManifestBody,
    Variant,
    build_manifest,
    file_sha256,
)
from hone.models.names import (
    LATEST,
    PRODUCTION,
    VERSION_NUMBER,
    ModelReference,
    check_alias_name,
    check_model_name,
    is_model_name,
)

STATE_FILE = "state.json"


class _State(BaseModel):
    model_config = ConfigDict(extra="forbid")
    aliases: dict[str, int] = {}
    highest_version: int = 0


@dataclass(frozen=True, slots=True)
class ModelListing:
    """A model's versions, lowest first, and its aliases (`latest` included)."""

    model: str
    versions: list[int]
    aliases: dict[str, int]

    def resolve(self, reference: ModelReference) -> int:
        """Return the version number that a reference means; NotFound if there is none.

        A bare name means `production` where that alias is set, else `latest`.
        """
        if reference.version is not None:
            if reference.version not in self.versions:
                raise NotFound(f"there is no version {reference}")
            return reference.version
        alias = reference.alias
        if alias is None:
            alias = PRODUCTION if PRODUCTION in self.aliases else LATEST
        try:
            return self.aliases[alias]
        except KeyError:
            raise NotFound(f"there is no alias {reference}") from None


class Registry:
    """Publishes, finds, promotes and removes bundles in one store folder.

    Safe with several processes on one machine (a file lock for each model); not on NFS.
    """

    def __init__(self, store: Path) -> None:
        self.store = store

    # Reading

    def models(self) -> list[str]:
        """Return the names of all models that have a version."""
        if not self.store.is_dir():
            return []
        names = (path.name for path in self.store.iterdir() if path.is_dir())
        return sorted(name for name in names if is_model_name(name) and self._versions(name))

    def listing(self, model: str) -> ModelListing:
        """Return a model's versions and aliases; NotFound if it has none."""
        versions, state = self._snapshot(check_model_name(model))
        if not versions:
            raise NotFound(f"there is no model {model!r}")
        aliases = {alias: v for alias, v in state.aliases.items() if v in versions}
        return ModelListing(model, versions, {**aliases, LATEST: versions[-1]})

    def resolve(self, reference: ModelReference) -> int:
        """Return the version number that a reference means now; NotFound if there is none.

        A bare name means `production` where that alias is set, else `latest`.
        """
        return self.listing(reference.model).resolve(reference)

    def highest(self, model: str) -> int:
        """Return the highest version that there is or was of a model; 0 before the first."""
        name = check_model_name(model)
        return max([0, self._state(name).highest_version, *self._versions(name)])

    def folder(self, model: str, version: int) -> Path:
        """Return where a version lies (whether or not it does)."""
        return self.store / check_model_name(model) / str(version)

    def manifest(self, reference: ModelReference) -> Manifest:
        """Return a version's manifest without verifying the other files."""
        version = self.resolve(reference)
        return self._own(read_manifest(self.folder(reference.model, version)), reference, version)

    def open(self, reference: ModelReference) -> Bundle:
        """Return a version's bundle, every file verified; BundleCorrupt or NotFound otherwise."""
        version = self.resolve(reference)
        bundle = open_bundle(self.folder(reference.model, version))
        self._own(bundle.manifest, reference, version)
        return bundle

    @staticmethod
    def _own(manifest: Manifest, reference: ModelReference, version: int) -> Manifest:
        if (manifest.model, manifest.version) != (reference.model, version):
            raise BundleCorrupt(f"the folder of {reference} holds another model's bundle")
        return manifest

    def base_of(self, record: AdapterRecord, variant: Variant) -> ModelReference:
        """Return the newest version of an adapter's base that holds the file it was made for.

        NotFound, with the base's name, if there is none.
        """
        for version, manifest in reversed(list(self._readable(check_model_name(record.base)))):
            if file_sha256(manifest, variant) == record.base_files[variant]:
                return ModelReference(record.base, version=version)
        raise NotFound(f"the adapter's base {record.base!r} is not in the store, or is another one")

    # Writing

    @contextmanager
    def making(self, model: str) -> Iterator[None]:
        """Wait until no other process is making a version of `model`, and keep them waiting."""
        folder = self.store / check_model_name(model)
        durable.make_folder(folder)
        with _flock(folder / ".making"):
            yield

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Give a private folder in the store's file system to collect a bundle's files in."""
        parent = self.store / ".staging"
        folder = parent / uuid.uuid4().hex
        durable.make_folder(parent)
        with _flock(parent / ".lock"):  # no sweep between the two lines
            folder.mkdir()
            held = _try_flock(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if held is not None:
                os.close(held)

    def publish(
        self,
        model: str,
        staged: Path,
        body: ManifestBody,
        *,
        version: int | None = None,
        edition_of: int | None = None,
    ) -> Manifest:
        """Make the staged files the next version of `model`, all or nothing.

        `version` is a number of one's own choice, which must be higher than all that there ever
        were: Conflict otherwise. An edition of an older version that would take the place of a
        newer one, as no alias says what is served, is refused with Conflict, too.

        `staged` comes from `staging` and is moved. Files are flushed first, the manifest is
        written last, and one rename makes the version exist: a kill between any two steps
        leaves the old state or the new one.
        """
        with self._locked(model):
            if edition_of is not None:
                self._check_displaces_none(model, edition_of)
            version = self._number(model, version)
            manifest = build_manifest(
                body,
                model=model,
                version=version,
                hone_version=hone.__version__,
                files=describe_files(staged),
            )
            for entry in manifest.files:
                # Some libraries write files for their owner alone; a service may be another user.
                (staged / entry.path).chmod(0o666 & ~durable.umask())
                durable.fsync_file(staged / entry.path)
            durable.write_atomically(staged / MANIFEST_FILE, manifest.to_bytes())
            open_bundle(staged)
            durable.rename(staged, self.folder(model, version))
        with suppress(OSError):  # the version is there, whatever becomes of others' remains
            self._sweep()
        return manifest

    def promote(self, reference: ModelReference, alias: str = PRODUCTION) -> int:
        """Verify a version, point `alias` at it, and return its number."""
        check_alias_name(alias)
        self.resolve(reference)
        with self._locked(reference.model):
            version = self.open(reference).manifest.version
            state = self._state(reference.model)
            state.aliases[alias] = version
            self._write_state(reference.model, state)
        return version

    def remove(self, model: str, version: int) -> None:
        """Remove one version; Conflict while an alias points at it. Its number is never reused."""
        self.listing(model)
        with self._locked(model):
            listing = self.listing(model)
            if version not in listing.versions:
                raise NotFound(f"there is no version {model}@{version}")
            holders = [a for a, v in listing.aliases.items() if v == version and a != LATEST]
            if holders:
                raise Conflict(
                    f"{model}@{version} is {' and '.join(holders)}: promote another version first"
                )
            self._check_not_needed(model, version)
            state = self._state(model)
            state.highest_version = max(state.highest_version, *listing.versions)
            self._write_state(model, state)
            target = self.store / ".trash" / uuid.uuid4().hex
            durable.make_folder(target.parent)
            durable.rename(self.folder(model, version), target)
        shutil.rmtree(target, ignore_errors=True)

    # Inside

    def _check_not_needed(self, base: str, version: int) -> None:
        """Refuse with Conflict to remove the base of an adapter, unless another version has it.

        A version that cannot be read is nobody's base, and holds nothing for anybody.
        """
        found = dict(self._readable(base))
        manifest = found.pop(version, None)
        if (
            manifest is None
            or manifest.generation is None
            or not manifest.generation.takes_adapters
        ):
            return
        held = {file_sha256(one, v) for one in found.values() for v in one.variants}
        for user in self._adapters_on(base):
            lost = set((user.adapter.base_files if user.adapter else {}).values()) - held
            if lost & {file_sha256(manifest, variant) for variant in manifest.variants}:
                who = f"{user.model}@{user.version}"
                raise Conflict(f"{who} is an adapter on {base}@{version}: remove it first")

    def _check_displaces_none(self, model: str, taken: int) -> None:
        """Refuse an edition of `taken` that would be served instead of a newer version."""
        aliases = self.listing(model).aliases
        served = aliases[LATEST]
        if PRODUCTION not in aliases and served != taken:
            raise Conflict(
                f"{model}@{served} is served, as the latest version; an edition of {model}@{taken} "
                f"would be later: say first what is to be served, as by `hone models promote "
                f"{model}@{served}`"
            )

    def _adapters_on(self, base: str) -> Iterator[Manifest]:
        for model in self.models():
            for _, found in self._readable(model):
                if found.adapter is not None and found.adapter.base == base:
                    yield found

    def _readable(self, model: str) -> Iterator[tuple[int, Manifest]]:
        """Yield the versions whose manifests can be read; no service has need of the others."""
        for version in self._versions(model):
            with suppress(BundleCorrupt):
                reference = ModelReference(model, version=version)
                manifest = read_manifest(self.folder(model, version))
                yield version, self._own(manifest, reference, version)

    @contextmanager
    def _locked(self, model: str) -> Iterator[None]:
        folder = self.store / check_model_name(model)
        durable.make_folder(folder)
        with _flock(folder / ".lock"):
            yield

    def _snapshot(self, model: str) -> tuple[list[int], _State]:
        """Return versions and state as they were at one moment, without taking the lock.

        Read one after the other, a promotion in between could leave an alias dangling.
        """
        state = self._state(model)
        while True:
            versions, before = self._versions(model), state
            state = self._state(model)
            if state == before:
                return versions, state

    def _versions(self, model: str) -> list[int]:
        folder = self.store / model
        if not folder.is_dir():
            return []
        names = (path.name for path in folder.iterdir() if path.is_dir())
        return sorted(int(name) for name in names if VERSION_NUMBER.fullmatch(name))

    def _number(self, model: str, wanted: int | None) -> int:
        highest = self.highest(model)
        if wanted is not None and wanted <= highest:
            raise Conflict(f"{model} has or had the version {highest}: {wanted} is not higher")
        return highest + 1 if wanted is None else wanted

    def _state(self, model: str) -> _State:
        path = self.store / model / STATE_FILE
        try:
            return _State.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return _State()
        except ValidationError:
            raise BundleCorrupt(f"{path} is not a valid state file") from None

    def _write_state(self, model: str, state: _State) -> None:
        content = state.model_dump_json(indent=2).encode() + b"\n"
        durable.write_atomically(self.store / model / STATE_FILE, content)

    def _sweep(self) -> None:
        """Delete staging folders whose process is gone, and what a killed removal left."""
        staging = self.store / ".staging"
        durable.make_folder(staging)
        with _flock(staging / ".lock"):
            for folder in filter(Path.is_dir, staging.iterdir()):
                held = _try_flock(folder)
                if held is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                    os.close(held)
        for folder in (self.store / ".trash").glob("*"):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _flock(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _try_flock(folder: Path) -> int | None:
    """Lock a folder until its descriptor is closed; None if another holds it.

    The kernel lets go when the holder dies. A process id would not do: two containers that
    share a store do not see each other's.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:  # its writer has just published or given it up
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
