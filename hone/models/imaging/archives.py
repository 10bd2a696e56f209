"""Zip archives of pictures: looked through before anything is unpacked.

What an archive says of its entries may be a lie, so the bytes are counted again as they come out.
"""

import errno
import io
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hone.models.errors import InvalidExamples

_CHUNK = 1 << 20
_BROKEN = (
    zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error, lzma.LZMAError, struct.error,
    ValueError, OverflowError,
)  # fmt: skip
"""What `zipfile` raises for what is no archive, or only half of one."""

_ERRORS_OF_CONTENT = (None, errno.EINVAL)
_LONGEST_END = 22 + 65_536
_ENTRY = b"PK\x01\x02"
_ENTRY_BYTES = 400
"""Of the list of entries, for each: 46 and the name, on average."""

_LONGEST_NAME, _LONGEST_PATH = 255, 1024
"""Bytes that file systems take."""

_SIGNATURE = b"PK\x03\x04"
_LEFT_OUT = ("__MACOSX", ".DS_Store", "Thumbs.db")


@dataclass(frozen=True, slots=True)
class ArchiveBounds:
    """The most that is unpacked; sizes in bytes. Pictures hardly compress, tables tenfold."""

    entries: int = 500_000
    entry_bytes: int = 64 * 2**20
    total_bytes: int = 64 * 2**30
    ratio: float = 100.0
    """Bytes unpacked for each one packed, of any entry of more than `ratio_from` bytes, and of all
    entries together for each byte of the archive: small ones add up, and may share their data."""
    ratio_from: int = 2**20


def is_archive(path: Path) -> bool:
    """Tell whether a file is called a zip archive."""
    return path.suffix.lower() == ".zip" and path.is_file()


def begins_as_archive(path: Path) -> bool:
    """Tell whether a file's first bytes are those of a zip archive, whatever it is called."""
    with path.open("rb") as file:
        return file.read(len(_SIGNATURE)) == _SIGNATURE


def unpack(archive: Path, folder: Path, bounds: ArchiveBounds | None = None) -> None:
    """Unpack a zip archive of pictures into an empty folder; InvalidExamples with what is wrong."""
    with OpenArchive(archive, bounds or ArchiveBounds()) as opened:
        for name in opened.names:
            _extract(opened, name, folder)


class OpenArchive:
    """A zip archive that was looked through; InvalidExamples for one that may not be unpacked."""

    def __init__(self, archive: Path, bounds: ArchiveBounds) -> None:
        self._archive, self._bounds = archive, bounds
        self._source = _Bounded(archive, bounds)
        packed = archive.stat().st_size
        try:
            with self._broken_told():
                self._file = zipfile.ZipFile(self._source)
            self._source.is_opened()
            self._entries = {
                entry.filename: entry for entry in _checked(self._file, bounds, packed)
            }
        except BaseException:
            self._source.close()
            raise

    def __enter__(self) -> "OpenArchive":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._source.close()

    @property
    def names(self) -> Sequence[str]:
        """The names of its files, in their order."""
        return list(self._entries)

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield a file's bytes, counted as they come out."""
        entry, read = self._entries[name], 0
        most = min(entry.file_size, self._bounds.entry_bytes)
        with self._broken_told(name), self._file.open(entry) as packed:
            while chunk := packed.read(_CHUNK):
                read += len(chunk)
                if read > most:
                    raise InvalidExamples(f"the archive's entry {_shown(name)} lies about its size")
                yield chunk

    @contextmanager
    def _broken_told(self, name: str | None = None) -> Iterator[None]:
        whole = f"{self._archive.name} is no zip archive, or is broken"
        broken = InvalidExamples(
            whole if name is None else f"the archive's entry {_shown(name)} is broken"
        )
        try:
            yield
        except OSError as error:
            if error.errno not in _ERRORS_OF_CONTENT:  # the disk's, and not the archive's
                raise
            raise broken from None
        except _BROKEN:
            raise broken from None


class _Bounded(io.BufferedReader):
    """An archive's file, which refuses what is too long a list of entries before it is read.

    The list is read at once, and where it stands, and how long it is, is said in more than one
    place. So it is not looked for here: what `zipfile` asks for is what counts.
    """

    def __init__(self, archive: Path, bounds: ArchiveBounds) -> None:
        super().__init__(io.FileIO(archive))
        self._entries, self._opened = bounds.entries, False

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as any file does; InvalidExamples for more than a list of entries may have."""
        if self._opened:
            return super().read(size)
        if size is None or size < 0:  # the end of the file, with the longest of comments
            content = super().read(_LONGEST_END + 1)
            size = len(content)
            if size <= _LONGEST_END:
                return content
        if size > self._entries * _ENTRY_BYTES:
            raise InvalidExamples(
                f"the archive's list of entries has {size:,} bytes: {self._entries:,} entries fit"
            )
        content = super().read(size)
        if (count := content.count(_ENTRY)) > self._entries:
            raise InvalidExamples(f"the archive has {count:,} entries; {self._entries:,} fit")
        return content

    def is_opened(self) -> None:
        """Read without bounds from now on: entries are read in parts."""
        self._opened = True


def _checked(
    file: zipfile.ZipFile, bounds: ArchiveBounds, packed_bytes: int
) -> Iterator[zipfile.ZipInfo]:
    entries = file.infolist()
    if len(entries) > bounds.entries:
        raise InvalidExamples(f"the archive has {len(entries):,} entries; {bounds.entries:,} fit")
    total = sum(entry.file_size for entry in entries)
    if total > bounds.total_bytes:
        raise InvalidExamples(f"the archive unpacks to more than {bounds.total_bytes:,} bytes")
    if total > max(bounds.ratio_from, bounds.ratio * packed_bytes):
        raise InvalidExamples(f"the archive unpacks to more than {bounds.ratio:g} times its size")
    names: set[str] = set()
    for entry in entries:
        _check_name(entry)
        _check_kind(entry)
        _check_size(entry, bounds)
        if entry.filename in names:
            raise InvalidExamples(f"the archive has {_shown(entry.filename)} twice")
        names.add(entry.filename)
        if not entry.is_dir() and not set(_LEFT_OUT) & set(PurePosixPath(entry.filename).parts):
            yield entry


def _check_name(entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    parts = name.split("/")
    windows = "\\" in name or (len(name) > 1 and name[1] == ":")
    if not name or name.startswith("/") or ".." in parts or windows or "\0" in entry.orig_filename:
        raise InvalidExamples(
            f"the archive has the entry {_shown(entry.filename)}, which leads out of it"
        )
    if len(name.encode()) > _LONGEST_PATH or any(len(p.encode()) > _LONGEST_NAME for p in parts):
        raise InvalidExamples(f"the archive's entry {_shown(name)} has too long a name")


def _check_kind(entry: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise InvalidExamples(f"the archive's entry {_shown(entry.filename)} is a link or a device")
    if entry.flag_bits & 0x1:
        raise InvalidExamples(f"the archive's entry {_shown(entry.filename)} is encrypted")


def _check_size(entry: zipfile.ZipInfo, bounds: ArchiveBounds) -> None:
    if entry.file_size > bounds.entry_bytes:
        raise InvalidExamples(
            f"the archive's entry {_shown(entry.filename)} has {entry.file_size:,} bytes; "
            f"{bounds.entry_bytes:,} are the most"
        )
    large = entry.file_size > bounds.ratio_from
    if large and entry.file_size > bounds.ratio * max(1, entry.compress_size):
        raise InvalidExamples(
            f"the archive's entry {_shown(entry.filename)} unpacks to more than {bounds.ratio:g} "
            "times its size"
        )


def _extract(archive: OpenArchive, name: str, folder: Path) -> None:
    target = folder / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as unpacked:
            for chunk in archive.chunks(name):
                unpacked.write(chunk)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise InvalidExamples(
            f"the archive's entry {_shown(name)} stands in another's way"
        ) from None


def _shown(name: str) -> str:
    return repr(name[:120])
