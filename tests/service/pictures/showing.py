"""Pictures as clients send them: in JSON, in forms and in chats."""

import base64
from typing import Any

import openai

from tests.pictures import encoded, picture
from tests.service.running import Answer, Service

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 210)}


def data_url(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def shot(label: str, kind: str = "PNG", **options: Any) -> bytes:
    return encoded(picture(COLOURS[label], **options), kind)


def as_json(content: bytes, kind: str = "image/png") -> dict[str, str]:
    return {"image": data_url(content, kind)}


def form(*files: bytes | tuple[bytes, str], **fields: str) -> Any:
    """Return a form's body and headers; a file's type is image/png where none is given."""
    typed = [(file, "image/png") if isinstance(file, bytes) else file for file in files]
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    parts += [
        f'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n'
        f"Content-Type: {kind}\r\n\r\n".encode()
        + content
        + b"\r\n"
        for content, kind in typed
    ]
    return b"".join(parts) + b"--b--\r\n", {"content-type": "multipart/form-data; boundary=b"}


def post_form(service: Service, *files: bytes | tuple[bytes, str], **fields: str) -> Answer:
    return service.request("POST", "/v1/classify", *form(*files, **fields))


def client(service: Service) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{service.port}/v1", api_key="unused")


def ask(service: Service, *parts: Any, model: str = "colours") -> Any:
    content = [{"type": "text", "text": "Which colour is it?"}, *parts]
    messages: Any = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": content},
    ]
    return client(service).chat.completions.create(model=model, messages=messages)


def part(content: bytes, kind: str = "image/png") -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(content, kind), "detail": "high"}}
