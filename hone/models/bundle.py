"""A bundle on disk: a folder that matches its manifest, or is refused."""

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hone.models.errors import BundleCorrupt
from hone.models.examples import sha256_of_file
from hone.models.manifest import MANIFEST_FILE, FileEntry, Manifest, Variant

ALLOWED_SUFFIXES = frozenset({".onnx", ".safetensors", ".json", ".txt", ".md", ".toml", ".csv"})
"""Formats that hold data and no code. Nothing else may lie in a bundle."""

_LARGEST_MANIFEST_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was verified: every file's hash is the manifest's."""

    folder: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """Return the path of a file that the manifest lists; BundleCorrupt for another."""
        if all(entry.path != name for entry in self.manifest.files):
            raise BundleCorrupt(f"{self.folder} has no file {name!r}")
        return self.folder / name

    def variant_file(self, variant: Variant) -> Path:
        """Return the ONNX file of a variant; BundleCorrupt when the bundle has none."""
        try:
            return self.file(self.manifest.variants[variant])
        except KeyError:
            raise BundleCorrupt(f"{self.folder} has no variant {variant!r}") from None


def describe_files(folder: Path) -> list[FileEntry]:
    """Return an entry for each file of a folder about to become a bundle.

    BundleCorrupt for a file that no bundle may hold.
    """
    entries = []
    for path in sorted(folder.iterdir()):
        _check_plain(path)
        size, sha256 = path.stat().st_size, sha256_of_file(path)
        try:
            entries.append(FileEntry(path=path.name, size=size, sha256=sha256))
        except ValueError:
            raise BundleCorrupt(f"{path} has a name that a bundle may not hold") from None
    return entries


def read_manifest(folder: Path) -> Manifest:
    """Read a bundle's manifest without looking at the other files' content."""
    path = folder / MANIFEST_FILE
    try:
        _check_plain(path)
        if path.stat().st_size > _LARGEST_MANIFEST_BYTES:
            raise BundleCorrupt(f"{path} is too large for a manifest")
        return Manifest.from_bytes(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise BundleCorrupt(f"{folder} has no {MANIFEST_FILE}") from None


def open_bundle(folder: Path) -> Bundle:
    """Verify every file against the manifest and return the bundle; BundleCorrupt otherwise.

    Run before every load: ONNX Runtime by itself does not notice flipped bits.
    """
    bundle = Bundle(folder, read_manifest(folder))
    for variant in bundle.manifest.variants:
        bundle.variant_file(variant)
    try:
        _check_listing(folder, (entry.path for entry in bundle.manifest.files))
        for entry in bundle.manifest.files:
            _check_content(folder / entry.path, entry)
    except FileNotFoundError:
        raise BundleCorrupt(f"{folder} was removed while it was being read") from None
    return bundle


def _check_content(path: Path, entry: FileEntry) -> None:
    _check_plain(path)
    if path.stat().st_size != entry.size or sha256_of_file(path) != entry.sha256:
        raise BundleCorrupt(f"{path} does not match its hash in {MANIFEST_FILE}")


def _check_listing(folder: Path, listed: Iterable[str]) -> None:
    present = {path.name for path in folder.iterdir()} - {MANIFEST_FILE}
    expected = set(listed)
    if present != expected:
        wrong = ", ".join(sorted(present ^ expected))
        raise BundleCorrupt(f"{folder} and its manifest list different files: {wrong}")


def _check_plain(path: Path) -> None:
    """Refuse links, folders, devices, hard links to elsewhere, and formats that may hold code."""
    info = path.lstat()
    if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1:
        raise BundleCorrupt(f"{path} is not a plain file of its own")
    if path.suffix not in ALLOWED_SUFFIXES:
        raise BundleCorrupt(f"{path} has a format that a bundle may not hold")
