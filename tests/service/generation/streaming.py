"""Completions of the built-in causal model that are begun and left, and what is held then."""

import json
import os
import socket
from pathlib import Path
from typing import Any

from tests.service.running import Service

MODEL = "fake-text"
LABELS = (("model", MODEL), ("version", "1"))


def body(prompt: str = "Say", max_tokens: int = 700, **more: Any) -> bytes:
    asked = {"model": MODEL, "prompt": prompt, "max_tokens": max_tokens, **more}
    return json.dumps(asked).encode()


def begin(service: Service, content: bytes) -> socket.socket:
    """Send a request for a completion and return the connection."""
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n"
    connection = service.connect()
    connection.sendall(f"{head}content-type: application/json\r\n\r\n".encode() + content)
    return connection


def count(service: Service, name: str) -> float:
    return service.metrics().get((name, LABELS), 0.0)


def busy(service: Service) -> float:
    return count(service, "hone_running_sequences") + count(service, "hone_waiting_sequences")


def resident_bytes(service: Service) -> int:
    pages = Path(f"/proc/{service.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
