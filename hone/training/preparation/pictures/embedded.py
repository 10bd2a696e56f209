"""Pictures embedded in JSON lines, as the hosted API's training files have them."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from hone.models.imaging.embedded import holds_picture, is_data_url, picture_example
from hone.models.imaging.headers import SUFFIXES, UnusablePicture, sniff
from hone.training.preparation.pictures.items import PictureItem
from hone.training.preparation.rows import BadLine, Record

_COLUMN = "image"


def is_embedded(fields: Mapping[str, object]) -> bool:
    """Tell whether a row is an example with a picture in it."""
    return is_data_url(fields.get(_COLUMN)) or holds_picture(fields.get("messages"))


def embedded_items(records: Iterator[Record], scratch: Path) -> Iterator[PictureItem]:
    """Yield an item for each record; the pictures are written into the folder `scratch`."""
    scratch.mkdir(parents=True, exist_ok=True)
    for record in records:
        if isinstance(record, BadLine):
            yield PictureItem(record.number, "", None, None, record.reason)
            continue
        try:
            example = picture_example(record.fields)
        except UnusablePicture as error:
            yield PictureItem(record.number, "", None, None, str(error))
            continue
        form = sniff(example.content)
        path = scratch / f"{record.number}{SUFFIXES[form] if form else ''}"
        path.write_bytes(example.content)
        yield PictureItem(record.number, f"picture {record.number}", path, example.label)
