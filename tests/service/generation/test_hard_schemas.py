"""Schemas that nothing can follow are the request's fault: a 400, before or while it decodes."""

import json
from typing import Any

import openai
import pytest
from openai import BadRequestError, OpenAI

from tests.service.generation.asking import MODEL, chat
from tests.service.running import Service

A = ord("a") - 31
"""The built-in model's token `a`."""
TOO_COMPLEX = {"type": "string", "pattern": "^(a{1,1000}){1,1000}$"}
"""A pattern that the grammar library gives up on after some dozens of characters."""


def formed(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        {"enum": []},
        nested(60),
        nested(127),
        nested(400),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_schema_that_nothing_follows_is_refused_at_once(
    client: OpenAI, fake: Service, schema: dict[str, Any], *, stream: bool
) -> None:
    with pytest.raises(BadRequestError) as refused:
        chat(client, response_format=formed(schema), stream=stream)
    assert (refused.value.code, refused.value.param) == ("unsupported_schema", "response_format")
    assert "Traceback" not in fake.logged()


def test_what_is_nested_less_deep_is_followed(client: OpenAI) -> None:
    said = chat(client, response_format=formed(nested(30)), max_tokens=400).choices[0]
    assert said.message.content.startswith("{")
    assert said.message.content.count('"a"') == 30


def counts(service: Service) -> dict[str, float]:
    found = service.metrics()
    labels = (("model", MODEL), ("version", "1"))

    def of(name: str, label: str, value: str) -> float:
        return found.get((name, tuple(sorted((*labels, (label, value))))), 0.0)

    return {
        "rejected": of("hone_requests_total", "outcome", "rejected"),
        "failed requests": of("hone_requests_total", "outcome", "failed"),
        "failed sequences": of("hone_sequences_total", "ended", "failed"),
    }


@pytest.mark.parametrize("stream", [True, False])
def test_a_schema_that_breaks_off_while_it_is_followed_is_the_requests_fault(
    client: OpenAI, fake: Service, *, stream: bool
) -> None:
    before = counts(fake)
    asked: dict[str, Any] = {
        "response_format": formed(TOO_COMPLEX),
        "logit_bias": {str(A): 100},
        "max_tokens": 900,
    }
    if stream:
        events: list[Any] = []
        with pytest.raises(openai.APIError) as refused:
            events += chat(client, **asked, stream=True)  # one by one: what came before stays
        body: Any = refused.value.body
        told = body["code"], body["param"], body["type"]
    else:
        with pytest.raises(BadRequestError) as failed:
            chat(client, **asked)
        told = failed.value.code, failed.value.param, failed.value.type
    assert told == ("unsupported_schema", "response_format", "invalid_request_error")
    grown = {name: value - before[name] for name, value in counts(fake).items()}
    assert grown == {"rejected": 1, "failed requests": 0, "failed sequences": 0}
    assert "decoding failed" not in fake.logged()
    assert chat(client).choices  # the thread goes on


def test_other_sequences_of_the_step_go_on(client: OpenAI, fake: Service) -> None:
    broken = {"model": MODEL, "messages": [{"role": "user", "content": "Say"}]} | {
        "response_format": formed(TOO_COMPLEX),
        "logit_bias": {str(A): 100},
        "n": 2,
        "stream": True,
    }
    answer = fake.post(broken, "/v1/chat/completions")
    events = [line for line in answer.body.decode().splitlines() if line.startswith("data: ")]
    assert events[-1] == "data: [DONE]"
    assert json.loads(events[-2].removeprefix("data: "))["error"]["code"] == "unsupported_schema"
    assert len(chat(client, max_tokens=30).choices[0].message.content) == 30
