"""Asking the fake causal model through the real client."""

from typing import Any

from openai import OpenAI

MODEL = "fake-text"


def complete(client: OpenAI, **asked: Any) -> Any:
    defaults: dict[str, Any] = {"model": MODEL, "prompt": "Say", "max_tokens": 12, "temperature": 0}
    return client.completions.create(**(defaults | asked))


def chat(client: OpenAI, **asked: Any) -> Any:
    defaults: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Say"}],
        "max_tokens": 12,
        "temperature": 0,
    }
    return client.chat.completions.create(**(defaults | asked))
