"""From the bytes of a picture file to RGB pixels. Every guard stands before the decoder.

Pillow by itself has 43 formats, and decodes a PNG of 20 kB to 800 MiB with no more than a warning.
"""

import io

import numpy as np
from PIL import Image, ImageOps

from hone.models.imaging.headers import MEDIA_TYPES, Header, UnusablePicture, read_header
from hone.models.imaging.jpeg_data import is_jpeg_cut_inside
from hone.models.imaging.png_data import check_png_data

MOST_PIXELS = 25_000_000
"""What one picture may have: 75 MB as RGB."""

_DEEP_GREY = ("I;16", "I;16B", "I;16L", "I;16N")
_OPAQUE = ("L", "RGB", "CMYK", "YCbCr", "1")


def check_picture(
    content: bytes, *, media_type: str | None = None, most_pixels: int = MOST_PIXELS
) -> Header:
    """Return the header of a picture that may be decoded; UnusablePicture, with why, otherwise.

    `media_type`, where it is known, is what the sender calls the file. Nothing is decoded.
    """
    header = read_header(content)
    if media_type is not None and media_type != MEDIA_TYPES[header.format]:
        raise UnusablePicture(f"it is called {media_type[:40]} and is {header.format}")
    if header.animated:
        raise UnusablePicture("it is animated, and only still pictures are taken")
    if header.width * header.height > most_pixels:
        raise UnusablePicture(
            f"it has {header.width} x {header.height} pixels, and {most_pixels / 1e6:g} "
            "million are the most"
        )
    return header


def decode_picture(
    content: bytes, *, media_type: str | None = None, most_pixels: int = MOST_PIXELS
) -> Image.Image:
    """Return the picture in RGB, upright by its EXIF orientation, transparency over white.

    UnusablePicture for whatever `check_picture` refuses, and for a file that is broken inside or
    whose data is not as long as its header says.
    """
    header = check_picture(content, media_type=media_type, most_pixels=most_pixels)
    if header.format == "PNG":
        check_png_data(content)
    try:
        picture = Image.open(io.BytesIO(content), formats=(header.format,))
        lies = picture.width * picture.height > most_pixels  # a WebP's frame may be another size
        if not lies:
            picture.load()
    except Exception:  # noqa: BLE001 - what decoders raise shares no class but Exception
        raise UnusablePicture(f"it is a {header.format} picture that is broken inside") from None
    if lies:
        raise UnusablePicture("its header and its content have different sizes")
    if header.format == "JPEG" and is_jpeg_cut_inside(content, picture):
        raise UnusablePicture("it is a JPEG picture that was cut off and closed again")
    try:
        return _to_rgb(_upright(picture))
    except Exception:  # noqa: BLE001 - as above: what a file says of its transparency may not fit
        raise UnusablePicture(f"it is a {header.format} picture that is broken inside") from None


def _upright(picture: Image.Image) -> Image.Image:
    """Turn a picture as its EXIF data says; one whose EXIF data is broken stays as it is."""
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # noqa: BLE001 - as above; the pixels are good all the same
        return picture


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode in _DEEP_GREY or picture.mode == "I":
        # Pillow would clip 16 bits to 8 instead of scaling them.
        wide = np.asarray(picture).astype(np.uint32)
        picture = Image.fromarray((wide >> 8).clip(0, 255).astype(np.uint8))
    if picture.mode in _OPAQUE:
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    with_alpha = picture.convert("RGBA")
    white = Image.new("RGBA", with_alpha.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, with_alpha).convert("RGB")
