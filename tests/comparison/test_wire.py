"""Bodies that are sent are the APIs' own, and whatever comes back is an answer or is refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hone.comparison.experiment import PromptContender, ServedContender
from hone.models.prompting.prompts import Message, Prompt
from hone.models.prompting.usage import Usage
from hone.models.prompting.wire import Api, MalformedAnswer, read_reply, read_usage, request_body

LABELS = ("card", "refund")
PROMPT = Prompt("Say which.", (Message("user", "where is it?"),))
APIS: tuple[Api, ...] = ("chat", "completions", "decisions", "classify")


def body_of(api: str, descriptions: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "name": "n",
        "model": "m",
        "address": "http://localhost/v1",
        "api": api,
    }
    one: PromptContender | ServedContender
    if api == "classify":
        one = ServedContender.model_validate(given | {"kind": "served"} | changes)
    else:
        extra = {"kind": "prompt", "prompt": "zero-shot"}
        one = PromptContender.model_validate(given | extra | changes)
    return request_body(one, PROMPT, LABELS, descriptions or {})


def test_a_chat_is_sent_as_messages() -> None:
    assert body_of("chat") == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Say which."},
            {"role": "user", "content": "where is it?"},
        ],
        "max_tokens": 32,
        "temperature": 0.0,
    }
    newer = body_of(
        "chat", temperature="default", max_tokens_field="max_completion_tokens", logprobs=True
    )
    assert newer["max_completion_tokens"] == 32
    assert newer["logprobs"] is True
    assert not {"temperature", "max_tokens"} & set(newer)


def test_a_completion_is_sent_as_one_text_and_ends_with_the_line() -> None:
    body = body_of("completions", logprobs=True)
    assert body["prompt"] == "Say which.\n\nwhere is it?"
    assert (body["stop"], body["logprobs"]) == (["\n"], 1)
    assert "stop" not in body_of("completions", stop=[])
    assert body_of("completions", stop=[" END"])["stop"] == [" END"]


def test_a_decision_has_the_labels_as_choices() -> None:
    body = body_of("decisions", {"card": "about cards"})
    assert body == {
        "model": "m",
        "input": "where is it?",
        "questions": [
            {
                "type": "choice",
                "instructions": "Say which.",
                "choices": [{"value": "card", "description": "about cards"}, {"value": "refund"}],
            }
        ],
    }


def test_our_own_service_gets_the_text_alone() -> None:
    assert body_of("classify") == {"model": "m", "input": "where is it?", "top_k": 1}


def test_parameters_of_the_file_are_sent_unless_they_have_a_key_of_their_own() -> None:
    body = body_of("chat", parameters={"reasoning_effort": "low", "top_p": 0.5})
    assert (body["reasoning_effort"], body["top_p"]) == ("low", 0.5)
    for name in ("n", "stream", "max_tokens", "messages"):
        with pytest.raises(ValidationError, match=f"{name!r} cannot be given here"):
            body_of("chat", parameters={name: 2})


def chat(**message: Any) -> dict[str, Any]:
    finish = message.pop("finish_reason", "stop")
    logprobs = message.pop("logprobs", None)
    return {"choices": [{"message": message, "finish_reason": finish, "logprobs": logprobs}]}


def test_a_refusal_that_the_api_names_comes_first() -> None:
    for content in (
        chat(content=None, refusal="I will not."),
        chat(content="card", refusal="no"),
        chat(content="card", finish_reason="content_filter"),
    ):
        assert read_reply("chat", json.dumps(content).encode()).refused
    assert not read_reply("chat", json.dumps(chat(content="card", refusal=None)).encode()).refused


def test_content_in_parts_is_read() -> None:
    parts = [{"type": "text", "text": "ca"}, {"type": "text", "text": "rd"}, {"type": "image"}]
    assert read_reply("chat", json.dumps(chat(content=parts)).encode()).text == "card"


@pytest.mark.parametrize(
    ("logprobs", "confidence"),
    [
        ([0.0, 0.0], 1.0),
        ([-9999.0, 0.0], None),
        ([800.0], 1.0),
        ([None, -0.1], None),
        ([], None),
    ],
)
def test_the_confidence_is_the_product_of_the_tokens(
    logprobs: list[float | None], confidence: float | None
) -> None:
    entries = {"content": [{"token": "x", "logprob": value} for value in logprobs]}
    content = chat(content="card", logprobs=entries)
    assert read_reply("chat", json.dumps(content).encode()).confidence == confidence


def test_usage_is_read_in_both_spellings() -> None:
    chat_usage = {
        "prompt_tokens": 100,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 10},
    }
    newer = {
        "input_tokens": 100,
        "output_tokens": 3,
        "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 10},
    }
    wanted = Usage(
        prompt_tokens=100,
        completion_tokens=3,
        cached_tokens=64,
        cache_write_tokens=10,
        counting="measured",
    )
    assert read_usage(chat_usage) == read_usage(newer) == wanted
    assert read_usage({"prompt_tokens": 5, "prompt_tokens_details": None}) is not None


@pytest.mark.parametrize(
    "usage",
    [None, [], {}, {"prompt_tokens": -1}, {"prompt_tokens": True}, {"prompt_tokens": "9"},
     {"prompt_tokens": 2**63}, {"completion_tokens": 3}],
)  # fmt: skip
def test_what_is_no_usage_counts_nothing(usage: object) -> None:
    assert read_usage(usage) is None


@given(st.integers(0, 10**6), st.integers(0, 10**7), st.integers(0, 10**7))
def test_parts_of_the_prompt_are_never_more_than_the_prompt(
    prompt: int, cached: int, written: int
) -> None:
    details = {"cached_tokens": cached, "cache_write_tokens": written}
    usage = read_usage({"prompt_tokens": prompt, "prompt_tokens_details": details})
    assert usage is not None
    assert usage.cached_tokens + usage.cache_write_tokens <= usage.prompt_tokens == prompt


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["choices", "message", "content", "text", "logprobs", "answers", "type", "choice",
             "data", "label", "confidence", "usage", "prompt_tokens", "token_logprobs", "refusal"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=20,
)  # fmt: skip


@given(st.sampled_from(APIS), JSON)
def test_any_body_is_an_answer_or_malformed(api: Api, content: Any) -> None:
    choice = {"message": content, "text": content, "logprobs": content}
    shapes = [
        content,
        {"choices": [content]},
        {"choices": [choice], "usage": content},
        {"answers": [content]},
        {"data": [content]},
    ]
    for shape in shapes:
        try:
            reply = read_reply(api, json.dumps(shape).encode())
        except MalformedAnswer:
            continue
        assert isinstance(reply.text, str)
        assert reply.confidence is None or 0 <= reply.confidence <= 1


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"<html>", b"[]", b"{}", b"null", b'{"choices": []}']
)
def test_what_is_no_answer_says_so(api: Api, body: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        read_reply(api, body)
