"""Pictures made for tests: small, seeded, and of each kind that a decoder can meet."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CATS_DOGS = Path(__file__).resolve().parents[2] / "shared/data/cats_dogs/Data/Train_Data"
MOBILENET = Path(__file__).resolve().parents[2] / "shared/bases/mobilenet_v2"


def shared(path: Path) -> Path:
    """Return a path of the shared folder, which lies beside the checkout or under /work."""
    inside = path.parts[path.parts.index("shared") :]
    return next((p for p in (path, Path("/work", *inside)) if p.exists()), path)


def picture(
    colour: tuple[int, int, int], *, size: tuple[int, int] = (48, 40), seed: int = 0
) -> Any:
    """Return an RGB picture of one colour with noise and a bright square, drawn from the seed."""
    generator = np.random.default_rng(seed)
    width, height = size
    pixels = generator.normal(colour, 25, (height, width, 3))
    top, left = generator.integers(0, height // 2), generator.integers(0, width // 2)
    pixels[top : top + height // 4, left : left + width // 4] += 70
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def encoded(image: Any, kind: str = "JPEG", **options: Any) -> bytes:
    """Return a picture as a file's bytes."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return one chunk of a PNG file."""
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def png_file(
    width: int,
    height: int,
    colour: int,
    depth: int,
    *chunks: bytes,
    interlace: int = 0,
    compression: int = 0,
    filtering: int = 0,
) -> bytes:
    """Return a PNG with that header and these chunks, which need not fit it."""
    header = struct.pack(
        ">IIBBBBB", width, height, depth, colour, compression, filtering, interlace
    )
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + png_chunk(b"IHDR", header) + b"".join(chunks) + png_chunk(b"IEND", b"")


def grey_png(data: bytes, *, side: int = 64) -> bytes:
    """Return a grey PNG of side x side pixels with that unpacked data."""
    return png_file(side, side, 0, 8, png_chunk(b"IDAT", zlib.compress(data)))


def png_bomb(side: int) -> bytes:
    """Return a black PNG of side x side pixels, one bit each, in a few kilobytes."""
    rows = zlib.compress(bytes((side // 8 + 2) * side), 9)
    return png_file(side, side, 0, 1, png_chunk(b"IDAT", rows))
