"""`/v1/chat/completions` as clients of the API use it."""

import asyncio
import math
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

from hone.models.predictor import Predictor
from hone.service.openai.schemas import ChatRequest, ChatResponse
from tests.service.openai.conftest import SYSTEM
from tests.service.running import Service
from tests.tiny_bundle import LABELS

PATH = "/v1/chat/completions"
TEXT = "where is my card"
USER = {"role": "user", "content": TEXT}
OPENING = [{"role": "user", "content": "help"}, {"role": "assistant", "content": "card"}]
WHOLE = [{"role": "system", "content": SYSTEM}, *OPENING, USER]


def chat(service: Service, messages: list[Any], model: str = "chats", /, **body: Any) -> Any:
    answer = service.post({"model": model, "messages": messages, **body}, PATH)
    assert answer.status == 200, answer.body
    return answer.json()


def best_label(predictor: Predictor, text: str = TEXT) -> str:
    return LABELS[predictor.probabilities(predictor.encode([text]))[0].argmax()]


def test_the_label_is_the_message(client: OpenAI, predictor: Predictor) -> None:
    answer = client.chat.completions.create(
        model="chats",
        messages=[{"role": "user", "content": TEXT}],
        max_completion_tokens=1,
        temperature=0,
        user="somebody",
        response_format={"type": "text"},
    )
    assert answer.choices[0].message.content == best_label(predictor)
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.object == "chat.completion"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 1


@pytest.mark.parametrize(
    "messages",
    [
        WHOLE,
        [USER],
        [{"role": "developer", "content": SYSTEM}, USER],
        [*OPENING, {"role": "user", "content": f"\n{TEXT} "}],
        [{"role": "user", "content": [{"type": "text", "text": TEXT}]}],
        [{"role": "user", "content": TEXT, "name": "x"}],
    ],
)
@pytest.mark.parametrize("model", ["chats", "support", "prompts"])
def test_what_all_chats_share_may_be_sent_or_not(
    speaking: Service, predictor: Predictor, messages: list[Any], model: str
) -> None:
    answer = chat(speaking, messages, model, logprobs=True, top_logprobs=20)
    row = predictor.probabilities(predictor.encode([TEXT]))[0]
    (token,) = answer["choices"][0]["logprobs"]["content"]
    assert token["logprob"] == pytest.approx(math.log(row.max()), abs=1e-5)
    found = {shown["token"]: shown["logprob"] for shown in token["top_logprobs"]}
    assert found == {
        label: pytest.approx(math.log(row[place]), abs=1e-5) for place, label in enumerate(LABELS)
    }
    assert bytes(token["bytes"]).decode() == token["token"] == best_label(predictor)


def test_an_answer_may_be_sent_back(client: OpenAI, speaking: Service) -> None:
    answer = client.chat.completions.create(
        model="chats", messages=[{"role": "user", "content": TEXT}]
    )
    sent_back = answer.choices[0].message.model_dump()
    messages = [USER, sent_back, {"role": "user", "content": "money"}]
    chat(speaking, messages)
    ChatRequest.model_validate({"model": "chats", "messages": messages})


def test_the_difference_is_what_is_saved(speaking: Service) -> None:
    bare, whole = chat(speaking, [USER]), chat(speaking, WHOLE)
    assert bare["usage"] == whole["usage"]
    sent = -(-len(f"{SYSTEM}\nhelp\ncard") // 4)
    assert bare["savings"]["tokens_saved"] - whole["savings"]["tokens_saved"] == sent


def test_a_stream_says_the_same(client: OpenAI, predictor: Predictor) -> None:
    parts = list(
        client.chat.completions.create(
            model="chats",
            messages=[{"role": "user", "content": TEXT}],
            stream=True,
            stream_options={"include_usage": True},
            logprobs=True,
            n=2,
        )
    )
    for index in (0, 1):
        said = [c for part in parts for c in part.choices if c.index == index]
        assert said[0].delta.role == "assistant"
        assert "".join(c.delta.content or "" for c in said) == best_label(predictor)
        assert said[-1].finish_reason == "stop"
        assert said[1].logprobs is not None
    assert parts[-1].usage is not None
    assert parts[-1].usage.completion_tokens == 2


async def _ask_many(port: int, count: int) -> list[str | None]:
    base_url = f"http://127.0.0.1:{port}/v1"
    async with AsyncOpenAI(base_url=base_url, api_key="unused", max_retries=0) as client:
        answers = []
        for _ in range(count):
            answer = await client.chat.completions.create(
                model="chats", messages=[{"role": "user", "content": TEXT}]
            )
            answers.append(answer.choices[0].message.content)
        return answers


def test_the_asynchronous_client_is_answered(speaking: Service, predictor: Predictor) -> None:
    assert asyncio.run(_ask_many(speaking.port, 3)) == [best_label(predictor)] * 3


def test_answers_are_as_the_document_says(speaking: Service) -> None:
    for body in ({}, {"logprobs": True}, {"logprobs": True, "top_logprobs": 3, "n": 2}):
        ChatResponse.model_validate(chat(speaking, WHOLE, **body), strict=True)


IMAGE = {"type": "image_url", "image_url": {"url": "data:,"}}
TOOL = {"type": "function", "function": {"name": "f"}}
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"messages": None}, "messages", "invalid_request"),
    ({"messages": []}, "messages", "invalid_request"),
    ({"messages": "hello"}, "messages", "invalid_request"),
    ({"messages": ["hello"]}, "messages[0]", "invalid_request"),
    ({"messages": [{"content": "a"}]}, "messages[0].role", "invalid_request"),
    ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role", "unsupported_parameter"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "invalid_request"),
    ({"messages": [USER | {"content": [IMAGE]}]}, "messages[0].content", "unsupported_content"),
    ({"messages": [USER | {"content": [{}]}]}, "messages[0].content", "invalid_request"),
    ({"messages": [USER | {"content": [{"type": 1, "text": "a"}]}]}, "messages[0].content",
     "invalid_request"),
    ({"messages": [USER | {"content": 3}]}, "messages[0].content", "invalid_request"),
    ({"messages": [USER | {"content": " "}]}, "messages", "empty_text"),
    ({"messages": [{"role": "system", "content": "a"}]}, "messages", "empty_text"),
    ({"messages": [USER | {"content": "x" * 5001}]}, "messages[0].content", "text_too_long"),
    ({"messages": [USER | {"content": "x" * 4000}] * 2}, "messages", "text_too_long"),
    ({"messages": [USER, USER | {"tool_calls": [TOOL]}]}, "messages[1].tool_calls",
     "unsupported_parameter"),
    ({"messages": [USER | {"weight": 1}]}, "messages[0].weight", "unknown_field"),
    ({"messages": [USER] * 2049}, "messages", "too_many_items"),
    ({"tools": [TOOL]}, "tools", "unsupported_parameter"),
    ({"tool_choice": "auto"}, "tool_choice", "unsupported_parameter"),
    ({"functions": [{"name": "f"}]}, "functions", "unsupported_parameter"),
    ({"parallel_tool_calls": True}, "parallel_tool_calls", "unsupported_parameter"),
    ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
    ({"modalities": ["text", "audio"]}, "modalities", "unsupported_parameter"),
    ({"audio": {"voice": "x"}}, "audio", "unsupported_parameter"),
    ({"store": True}, "store", "unsupported_parameter"),
    ({"metadata": {"a": "b"}}, "metadata", "unsupported_parameter"),
    ({"reasoning_effort": "high"}, "reasoning_effort", "unsupported_parameter"),
    ({"web_search_options": {"a": 1}}, "web_search_options", "unsupported_parameter"),
    ({"logit_bias": {"1": 1}}, "logit_bias", "unsupported_parameter"),
    ({"logprobs": 3}, "logprobs", "invalid_request"),
    ({"top_logprobs": 3}, "top_logprobs", "invalid_request"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_request"),
    ({"logprobs": True, "top_logprobs": -1}, "top_logprobs", "invalid_request"),
    ({"top_logprobs": -1}, "top_logprobs", "invalid_request"),
    ({"max_tokens": 0}, "max_tokens", "invalid_request"),
    ({"n": 17}, "n", "too_many_items"),
    ({"n": 129}, "n", "invalid_request"),
    ({"temprature": 0}, "temprature", "unknown_field"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "param", "code"), REFUSED)
def test_what_cannot_be_done_is_refused_by_name(
    speaking: Service, body: dict[str, Any], param: str, code: str
) -> None:
    answer = speaking.post({"model": "chats", "messages": [USER], **body}, PATH)
    error = answer.error()
    assert (answer.status, error["param"], error["code"]) == (400, param, code)


def test_nulls_and_what_is_done_anyway_are_taken(speaking: Service) -> None:
    names = [
        "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs",
        "max_completion_tokens", "max_tokens", "metadata", "modalities", "moderation", "n",
        "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key",
        "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop",
        "store", "stream", "stream_options", "temperature", "tool_choice", "tools",
        "top_logprobs", "top_p", "user", "verbosity", "web_search_options",
    ]  # fmt: skip
    nulls = chat(speaking, [USER], **dict.fromkeys(names))
    ChatRequest.model_validate({"model": "chats", "messages": [USER], **dict.fromkeys(names)})
    harmless = {
        "tools": [], "tool_choice": "none", "modalities": ["text"], "store": False,
        "service_tier": "auto", "metadata": {}, "seed": 1, "top_p": 0.5, "temperature": 1,
        "verbosity": "medium", "reasoning_effort": "none", "response_format": {"type": "text"},
        "logit_bias": {}, "functions": [], "parallel_tool_calls": False, "web_search_options": {},
        "prompt_cache_key": "k", "prompt_cache_retention": "24h", "safety_identifier": "s",
    }  # fmt: skip
    ChatRequest.model_validate({"model": "chats", "messages": [USER], **harmless})
    assert chat(speaking, [USER], **harmless)["choices"] == nulls["choices"]
