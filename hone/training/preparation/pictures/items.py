"""One picture of a source."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class PictureItem:
    """One picture: what it is called, where its file is, its label; or why there is no file."""

    number: int
    name: str
    path: Path | None
    label: str | None
    reason: str | None = None


def spoken_name(name: str) -> str:
    """Return a file's name as it can be written down: bytes that are not UTF-8 become `?`.

    Names of files are bytes; Python keeps those that it cannot read as halves of surrogate pairs,
    which no database and no JSON takes.
    """
    return name.encode("utf-8", "replace").decode()
