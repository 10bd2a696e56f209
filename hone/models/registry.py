"""The store: bundles by model and version, with moving aliases.

    <store>/<model>/<version>/    a complete bundle; it never changes
    <store>/<model>/state.json    aliases, and the highest version number ever given
    <store>/.staging/             what is being written; swept when nobody writes
    <store>/.trash/               what is being removed

A version exists from the one rename that puts its folder in place. `latest` is no entry that
could lag behind: it is the highest version there is.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

import hone
from hone.models import durable
from hone.models.bundle import Bundle, describe_files, open_bundle, read_manifest
from hone.models.errors import BundleCorrupt, Conflict, NotFound
from hone.models.manifest import MANIFEST_FILE, Manifest, ManifestBody, build_manifest
from hone.models.names import (
    LATEST,
    MODEL_NAME,
    PRODUCTION,
    VERSION_NUMBER,
    ModelReference,
    check_alias_name,
    check_model_name,
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
        return sorted(name for name in names if MODEL_NAME.fullmatch(name) and self._versions(name))

    def listing(self, model: str) -> ModelListing:
        """Return a model's versions and aliases; NotFound if it has none."""
        versions = self._versions(check_model_name(model))
        if not versions:
            raise NotFound(f"there is no model {model!r}")
        aliases = {
            alias: version
            for alias, version in self._state(model).aliases.items()
            if version in versions
        }
        return ModelListing(model, versions, {**aliases, LATEST: versions[-1]})

    def resolve(self, reference: ModelReference) -> int:
        """Return the version number that a reference means now; NotFound if there is none.

        A bare name means `production` where that alias is set, else `latest`.
        """
        listing = self.listing(reference.model)
        if reference.version is not None:
            if reference.version not in listing.versions:
                raise NotFound(f"there is no version {reference}")
            return reference.version
        alias = reference.alias
        if alias is None:
            alias = PRODUCTION if PRODUCTION in listing.aliases else LATEST
        try:
            return listing.aliases[alias]
        except KeyError:
            raise NotFound(f"there is no alias {reference}") from None

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

    # Writing

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Give a private folder in the store's file system to collect a bundle's files in."""
        parent = self.store / ".staging"
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=f"{os.getpid()}-"))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, model: str, staged: Path, body: ManifestBody) -> Manifest:
        """Make the staged files the next version of `model`, all or nothing.

        `staged` comes from `staging` and is moved. Files are flushed first, the manifest is
        written last, and one rename makes the version exist: a kill between any two steps
        leaves the old state or the new one.
        """
        with self._locked(model):
            version = self._next_version(model)
            manifest = build_manifest(
                body,
                model=model,
                version=version,
                hone_version=hone.__version__,
                files=describe_files(staged),
            )
            for entry in manifest.files:
                durable.fsync_file(staged / entry.path)
            durable.write_atomically(staged / MANIFEST_FILE, manifest.to_bytes())
            open_bundle(staged)
            durable.rename(staged, self.folder(model, version))
        self._sweep()
        return manifest

    def promote(self, reference: ModelReference, alias: str = PRODUCTION) -> int:
        """Verify a version, point `alias` at it, and return its number."""
        check_alias_name(alias)
        with self._locked(reference.model):
            version = self.open(reference).manifest.version
            state = self._state(reference.model)
            state.aliases[alias] = version
            self._write_state(reference.model, state)
        return version

    def remove(self, model: str, version: int) -> None:
        """Remove one version; Conflict while an alias points at it. Its number is never reused."""
        with self._locked(model):
            listing = self.listing(model)
            if version not in listing.versions:
                raise NotFound(f"there is no version {model}@{version}")
            holders = [a for a, v in listing.aliases.items() if v == version and a != LATEST]
            if holders:
                raise Conflict(
                    f"{model}@{version} is {' and '.join(holders)}: promote another version first"
                )
            state = self._state(model)
            state.highest_version = max(state.highest_version, *listing.versions)
            self._write_state(model, state)
            trash = self.store / ".trash"
            trash.mkdir(exist_ok=True)
            target = Path(tempfile.mkdtemp(dir=trash))
            durable.rename(self.folder(model, version), target / str(version))
        shutil.rmtree(target, ignore_errors=True)

    # Inside

    @contextmanager
    def _locked(self, model: str) -> Iterator[None]:
        folder = self.store / check_model_name(model)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _versions(self, model: str) -> list[int]:
        folder = self.store / model
        if not folder.is_dir():
            return []
        names = (path.name for path in folder.iterdir() if path.is_dir())
        return sorted(int(name) for name in names if VERSION_NUMBER.fullmatch(name))

    def _next_version(self, model: str) -> int:
        return max([0, self._state(model).highest_version, *self._versions(model)]) + 1

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
        for folder in (self.store / ".staging").glob("*-*"):
            owner = folder.name.partition("-")[0]
            if owner.isdigit() and not Path(f"/proc/{owner}").exists():
                shutil.rmtree(folder, ignore_errors=True)
        for folder in (self.store / ".trash").glob("*"):
            shutil.rmtree(folder, ignore_errors=True)
