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
