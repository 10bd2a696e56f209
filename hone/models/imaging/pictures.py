"""A picture by where it is: its file, or the JSON line that embeds it; and one that is at hand.

Neither keeps what it decodes to. A file's bytes are read when they are needed, and are then those
that were looked at before, or the picture is refused.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import orjson
from pydantic import BaseModel, ConfigDict, Field

from hone.models.data_uris import data_uri
from hone.models.imaging.decoding import check_picture
from hone.models.imaging.embedded import decode_data_url, is_data_url, stated_type
from hone.models.imaging.files import (
    LARGEST_FILE,
    open_regular,
    path_within,
    read_picture_file,
    refuse_large,
)
from hone.models.imaging.headers import MEDIA_TYPES, UnusablePicture, read_header
from hone.models.imaging.tokens import picture_tokens

_LONGEST_LINE = 2 * LARGEST_FILE
_ADDRESSES = ("http:", "https:", "data:", "file:", "ftp:")


class Picture(Protocol):
    """A picture that can be shown to a model."""

    @property
    def name(self) -> str:
        """What a person calls it."""

    @property
    def sha256(self) -> str:
        """The SHA-256 of its bytes, in hexadecimal."""

    @property
    def tokens(self) -> int:
        """What it costs in a prompt: an estimate, see `tokens.py`."""

    def read(self) -> bytes:
        """Return its bytes; UnusablePicture if they are not what they were."""


class PictureFile(BaseModel):
    """A picture on disk that was checked; `width` and `height` in pixels, before any rotation.

    With `at`, the picture is the data URL `image` of the JSON line that begins at that byte.
    `written` is the path as its line has it, None for an embedded one, and `line` the number of
    that line.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    path: str
    name: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    width: int = Field(ge=1)
    height: int = Field(ge=1)
    at: int | None = Field(None, ge=0)
    written: str | None = None
    line: int | None = Field(None, ge=1)

    @property
    def called(self) -> str:
        """Its name, and its path as it was written where that is another one."""
        own = self.written is None or self.written == self.name
        return self.name if own else f"{self.name} ({self.written})"

    @property
    def tokens(self) -> int:
        """What it costs in a prompt: an estimate."""
        return picture_tokens(self.width, self.height)

    def read(self) -> bytes:
        """Return its bytes; UnusablePicture if it is gone, or is not what was checked."""
        try:
            return self.read_unnamed()
        except UnusablePicture as error:
            raise UnusablePicture(f"the picture {self.called}: {error}") from None

    def read_unnamed(self) -> bytes:
        """Return its bytes as `read` does; UnusablePicture as the end of a sentence that names it.

        For who names pictures by their lines.
        """
        content = read_picture_file(Path(self.path)) if self.at is None else self._embedded(self.at)
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise UnusablePicture("it is not what it was")
        return content

    def _embedded(self, at: int) -> bytes:
        try:
            with open_regular(Path(self.path)) as file:
                file.seek(at)
                row = orjson.loads(file.readline(_LONGEST_LINE))
            return decode_data_url(row["image"])[0]
        except (OSError, ValueError, KeyError, TypeError, UnusablePicture):
            raise UnusablePicture("it is not what it was") from None


@dataclass(frozen=True, slots=True)
class PictureBytes:
    """A picture at hand."""

    content: bytes
    name: str = "picture"

    @property
    def sha256(self) -> str:
        """The SHA-256 of its bytes, in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def tokens(self) -> int:
        """What it costs in a prompt: an estimate, by its header; UnusablePicture if it is none."""
        header = read_header(self.content)
        return picture_tokens(header.width, header.height)

    def read(self) -> bytes:
        """Return its bytes."""
        return self.content


def data_url(picture: Picture) -> str:
    """Return a picture as `data:image/...;base64,...`; UnusablePicture if it is none."""
    content = picture.read()
    return data_uri(content, MEDIA_TYPES[read_header(content).format])


def find_picture(value: str, table: Path, *, at: int, line: int, name: str) -> PictureFile:
    """Return the picture that a row of the file `table` names, checked as a service checks it.

    `value` is a path in the table's folder, or a data URL; `at` is where the row's line begins, and
    `line` its number. Nothing is fetched or decoded. UnusablePicture, as the end of a sentence,
    says what is wrong with it; embedded or not, it may have `LARGEST_FILE` bytes.
    """
    embedded = is_data_url(value) or value.lower().startswith(_ADDRESSES)
    path = table if embedded else path_within(table.parent, value)
    if embedded:
        try:
            content, media_type = decode_data_url(value)
        except UnusablePicture as error:
            raise UnusablePicture(f"'image' {error}") from None
        refuse_large(content)
        header = check_picture(content, media_type=stated_type(media_type))
    else:
        content = read_picture_file(path)
        header = check_picture(content)
    return PictureFile(
        path=str(path),
        name=name,
        sha256=hashlib.sha256(content).hexdigest(),
        width=header.width,
        height=header.height,
        at=at if embedded else None,
        written=None if embedded else value,
        line=line,
    )
