"""What the stand-in of a hosted model sees in a content with pictures: the colour of each."""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

PICTURE_TOKENS = 255
_COLOURS = ("red", "green", "blue")


def colour_of(url: str) -> str:
    """Return the strongest colour of an embedded picture's upper left corner."""
    head, _, content = url.partition(",")
    assert head.startswith("data:image/"), head
    assert head.endswith(";base64"), head
    picture = Image.open(io.BytesIO(base64.b64decode(content, validate=True))).convert("RGB")
    corner = np.asarray(picture)[: picture.height // 4, : picture.width // 4]
    return _COLOURS[int(corner.mean(axis=(0, 1)).argmax())]


def in_words(content: Any) -> str:
    """Return a message's content, or an input of `/v1/classify`, with its pictures in words."""
    if isinstance(content, dict):
        return f"Text: a {colour_of(content['image'])} picture"
    if not isinstance(content, list):
        return str(content)
    lines = []
    for part in content:
        if part["type"] == "text":
            assert set(part) == {"type", "text"}
            lines.append(part["text"])
        else:
            assert part["type"] == "image_url"
            lines.append(f"Text: a {colour_of(part['image_url']['url'])} picture")
    return "\n".join(lines)


def pictures_in(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the `image_url` of each picture of a chat's body, in their order."""
    contents = [message["content"] for message in body.get("messages", ())]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return [part["image_url"] for part in parts if part["type"] == "image_url"]
