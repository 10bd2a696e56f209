"""`/v1/classify` as a multipart form: fields `model` and `top_k`, and files called `image`."""

from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from hone.models.imaging.headers import sniff
from hone.service.errors import InvalidRequest
from hone.service.openai.forms import boundary_of, broken_form
from hone.service.pictures import checked_picture

FILE_FIELDS = frozenset({"image", "image[]", "images", "file"})

_LONGEST_FIELD = 1024
_MOST_FIELDS = 8


@dataclass(slots=True)
class PictureForm:
    """The fields of a form, and the bytes and the stated type of each file in order."""

    fields: dict[str, str] = field(default_factory=dict)
    files: list[tuple[bytes, str | None]] = field(default_factory=list)

    def pictures(self, most: int) -> list[bytes]:
        """Return the files' bytes, each one checked; InvalidRequest for none or too many."""
        if not self.files:
            raise InvalidRequest("The form has no file called 'image'.", param="image")
        if len(self.files) > most:
            message = (
                f"The form has {len(self.files)} pictures; at most {most} go into one request."
            )
            raise InvalidRequest(message, param="image", code="too_many_items")
        return [
            checked_picture(content, f"image[{index}]", kind)
            for index, (content, kind) in enumerate(self.files)
        ]


def read_picture_form(body: bytes, content_type: str) -> PictureForm:
    """Read a whole form; InvalidRequest for what is none."""
    reader = _Reader()
    parser = MultipartParser(
        boundary_of(content_type),
        {
            "on_part_begin": reader.begin,
            "on_header_field": reader.take_header,
            "on_header_value": reader.take_value,
            "on_header_end": reader.end_header,
            "on_headers_finished": reader.open_part,
            "on_part_data": reader.take_data,
            "on_part_end": reader.end_part,
            "on_end": reader.end,
        },
    )
    try:
        parser.write(body)
    except FormParserError:
        raise broken_form() from None
    if not reader.ended:
        raise broken_form()
    return reader.form


class _Reader:
    """What the parser calls."""

    def __init__(self) -> None:
        self.form = PictureForm()
        self.ended = False
        self._header, self._value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._name, self._data = "", bytearray()
        self._is_file = False

    def begin(self) -> None:
        self._headers, self._name, self._data = {}, "", bytearray()

    def take_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def end_header(self) -> None:
        self._headers[bytes(self._header).lower()] = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def open_part(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode(errors="replace")
        self._is_file = b"filename" in options or b"filename*" in options
        if not self._name or self._name in self.form.fields:
            raise broken_form("a part has no name or one that was there before")
        if self._is_file and self._name not in FILE_FIELDS:
            raise broken_form(
                f"its file is called {self._name[:40]!r}, and has to be called 'image'"
            )

    def take_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]
        if self._name not in FILE_FIELDS and len(self._data) > _LONGEST_FIELD:
            raise broken_form("a field is too long")

    def end_part(self) -> None:
        if self._name in FILE_FIELDS:
            if not self._is_file and sniff(self._data) is None:
                raise broken_form("'image' is a field and no file; with curl it is -F image=@FILE")
            kind = self._headers.get(b"content-type")
            named = None if kind is None else kind.split(b";")[0].decode("latin-1")
            self.form.files.append((bytes(self._data), named))
            return
        if len(self.form.fields) >= _MOST_FIELDS:
            raise broken_form("it has too many fields")
        self.form.fields[self._name] = self._data.decode(errors="replace")

    def end(self) -> None:
        self.ended = True
