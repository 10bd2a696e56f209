"""Small photos with words below each, for a page in light or dark and in any script.

The words are text of the page and not drawn: no font that ships with a library has all scripts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hone.models.data_uris import data_uri
from hone.models.page import escape


@dataclass(frozen=True, slots=True)
class Photo:
    """A JPEG file's bytes, its size in CSS pixels, and the lines below it."""

    content: bytes
    width: int
    height: int
    lines: Sequence[str]

    def data_uri(self) -> str:
        """Return the file as a data URI."""
        return data_uri(self.content, "image/jpeg")


@dataclass(frozen=True, slots=True)
class Gallery:
    """Photos in rows, as many in each as there is room for, and a caption."""

    photos: Sequence[Photo]
    caption: str

    def html(self) -> str:
        """Return a figure; the caption stands first, since the photos may fill a screen."""
        photos = "".join(map(_html_photo, self.photos))
        caption = f"<figcaption>{escape(self.caption)}</figcaption>"
        return f'<figure class="gallery">{caption}<ul>{photos}</ul></figure>'

    def markdown(self, inline: Callable[[str], str]) -> str:
        """Return a list; `inline` makes a line of text safe."""
        items = [
            f"- ![{inline(' '.join(photo.lines))}]({photo.data_uri()})\n"
            f"  {inline(' '.join(photo.lines))}"
            for photo in self.photos
        ]
        return "\n".join([inline(self.caption), "", *items])


def _html_photo(photo: Photo) -> str:
    lines = "<br>".join(map(escape, photo.lines))
    size = f'width="{photo.width}" height="{photo.height}"'
    return f'<li><img src="{photo.data_uri()}" {size} alt=""><p>{lines}</p></li>'
