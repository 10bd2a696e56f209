"""Files in the place of their addresses: data URIs (RFC 2397)."""

import base64


def data_uri(content: bytes, media_type: str) -> str:
    """Return a file's bytes as `data:TYPE;base64,...`."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
