"""Jobs by the newest client: create one, follow it to its end."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from openai import OpenAI

from tests.service.running import Service, wait_until

LONG_S = 600
"""Seconds: a busy machine needs half a minute to import what training needs."""


@contextmanager
def client_of(service: Service, key: str = "unused") -> Iterator[OpenAI]:
    base_url = f"http://127.0.0.1:{service.port}/v1"
    with OpenAI(base_url=base_url, api_key=key, max_retries=0) as client:
        yield client


def json_lines(rows: Sequence[Any]) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def uploaded(client: OpenAI, content: bytes, name: str = "train.jsonl") -> str:
    return client.files.create(file=(name, content), purpose="fine-tune").id


def hyperparameters(**given: Any) -> Any:
    return {"type": "supervised", "supervised": {"hyperparameters": given}}


def ended(client: OpenAI, id_: str) -> Any:
    """Wait for a job's end, and return it."""
    wait_until(
        lambda: client.fine_tuning.jobs.retrieve(id_).finished_at is not None, timeout_s=LONG_S
    )
    return client.fine_tuning.jobs.retrieve(id_)


def said(client: OpenAI, id_: str) -> list[str]:
    return [event.message for event in client.fine_tuning.jobs.list_events(id_, limit=100)][::-1]
