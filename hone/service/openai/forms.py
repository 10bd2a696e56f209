"""A multipart form with one file, which goes to the disk as it comes.

Memory does not grow with the file. Fields are few and short; their order does not matter.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import unquote

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from hone.service.errors import InvalidRequest, NotJson
from hone.service.jobs.incoming import Incoming
from hone.service.openai.bodies import pieces

FRAMING_BYTES = 64 * 2**10
"""What a form may have besides its file: fields, headers, boundaries."""

_MOST_FIELDS = 32
_GATHERED_BYTES = 512 * 2**10
_LONGEST_FIELD = 8 * 2**10
_EXTENDED_NAME = re.compile(rb"filename\*\s*=\s*utf-8''([^;\s]+)", re.IGNORECASE)


@dataclass(slots=True)
class Form:
    """The fields of a form, and the name that its file was sent under; None without a file."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None

    def take(self, name: str) -> str | None:
        """Return a field and forget it."""
        return self.fields.pop(name, None)

    def end(self) -> None:
        """Refuse what was not taken."""
        for name in self.fields:
            shown = name[:80]
            message = f"There is no field {shown!r}."
            raise InvalidRequest(message, param=shown, code="unknown_field")


async def read_form(request: Request, content: Incoming, *, file_field: str, most: int) -> Form:
    """Read a form whose file has up to `most` bytes, and write the file to `content`.

    InvalidRequest for what is no such form, TooLarge for more bytes, NotJson for another type.
    """
    reader = _FormReader(request.headers.get("content-type", ""), content, file_field)
    gathered = bytearray()
    async for piece in pieces(request, most + FRAMING_BYTES):
        gathered += piece
        if len(gathered) >= _GATHERED_BYTES:  # a thread for each few kilobytes is dear
            await asyncio.to_thread(reader.feed, bytes(gathered))
            gathered.clear()
    await asyncio.to_thread(reader.feed, bytes(gathered))
    return reader.end()


class _FormReader:
    """Reads a form piece by piece; `feed` blocks while it writes."""

    def __init__(self, content_type: str, content: Incoming, file_field: str) -> None:
        self._form = Form()
        self._content, self._file_field = content, file_field
        self._ended = False
        self._header, self._value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._name, self._text = "", bytearray()
        self._parser = MultipartParser(boundary_of(content_type), self._callbacks())  # type: ignore[arg-type]

    def feed(self, piece: bytes) -> None:
        """Take the next bytes."""
        try:
            self._parser.write(piece)
        except FormParserError:
            raise broken_form() from None

    def end(self) -> Form:
        """Return the whole form."""
        if not self._ended:
            raise broken_form()
        return self._form

    def _callbacks(self) -> dict[str, Callable[..., None]]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._take_header,
            "on_header_value": self._take_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._open_part,
            "on_part_data": self._take_data,
            "on_part_end": self._end_part,
            "on_end": self._end_form,
        }

    def _begin(self) -> None:
        self._headers.clear()
        self._text.clear()
        self._name = ""

    def _take_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[bytes(self._header).lower()] = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _open_part(self) -> None:
        given = self._headers.get(b"content-disposition", b"")
        _, options = parse_options_header(given)
        self._name = options.get(b"name", b"").decode(errors="replace")
        known = self._form.fields
        if not self._name or self._name in known or len(known) >= _MOST_FIELDS:
            raise broken_form("a part has no name or one that was there before")
        if self._name == self._file_field:
            if self._form.filename is not None:
                raise broken_form("there is more than one file")
            self._form.filename = _filename(given, options)

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == self._file_field:
            self._content.write(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > _LONGEST_FIELD:
            raise broken_form("a field is too long")

    def _end_part(self) -> None:
        if self._name != self._file_field:
            self._form.fields[self._name] = self._text.decode(errors="replace")

    def _end_form(self) -> None:
        self._ended = True


def boundary_of(content_type: str) -> bytes:
    """Return a form's boundary; NotJson for another type, InvalidRequest without one."""
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise NotJson("The body must be multipart/form-data.")
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= 200:
        raise broken_form("it names no boundary")
    return boundary


def _filename(given: bytes, options: dict[bytes, bytes]) -> str:
    """Return the name of a file's part, in whichever of the two ways clients write it."""
    extended = _EXTENDED_NAME.search(given)
    if extended:
        return unquote(extended[1].decode("latin-1"), errors="replace")
    return options.get(b"filename", b"").decode(errors="replace")


def broken_form(why: str = "it is cut off or malformed") -> InvalidRequest:
    """Return the error of a form that cannot be read."""
    return InvalidRequest(f"The form cannot be read: {why}.", code="invalid_form")
