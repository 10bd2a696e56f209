"""`/v1/completions` as clients of the API use it."""

import math
from typing import Any

import numpy as np
import openai
import pytest
from openai import OpenAI

from hone.models.predictor import Predictor
from hone.service.openai.schemas import CompletionRequest, CompletionResponse
from tests.service.openai.conftest import INSTRUCTION
from tests.service.running import Service
from tests.tiny_bundle import LABELS

TEXT = "where is my card"
NULLS = dict.fromkeys(
    ["n", "max_tokens", "logprobs", "temperature", "top_p", "stop", "suffix", "logit_bias", "user"]
)


def row_of(predictor: Predictor, text: str) -> Any:
    return predictor.probabilities(predictor.encode([text]))[0]


def complete(service: Service, path: str = "/v1/completions", **body: Any) -> Any:
    answer = service.post({"model": "prompts", "prompt": TEXT, **body}, path)
    assert answer.status == 200, answer.body
    return answer.json()


def test_the_label_comes_as_the_training_data_had_it(client: OpenAI, predictor: Predictor) -> None:
    label = LABELS[row_of(predictor, TEXT).argmax()]
    answer = client.completions.create(
        model="prompts", prompt=f"{TEXT}\n\n###\n\n", max_tokens=1, temperature=0, stop=[" END"]
    )
    assert answer.choices[0].text == f" {label}"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.model, answer.object) == ("prompts@1", "text_completion")
    assert client.completions.create(model="support", prompt=TEXT).choices[0].text == label


@pytest.mark.parametrize(
    "prompt",
    [
        TEXT,
        f"{INSTRUCTION}{TEXT}\n\n###\n\n",
        f"{INSTRUCTION}{TEXT}",
        f"{TEXT}\n\n###\n\n",
        f" {INSTRUCTION.replace(chr(10), chr(13) + chr(10))}\n{TEXT} \n###",
    ],
)
def test_the_shared_part_may_be_sent_or_not(
    speaking: Service, predictor: Predictor, prompt: str
) -> None:
    choice = complete(speaking, prompt=prompt, logprobs=5)["choices"][0]
    (shown,) = choice["logprobs"]["top_logprobs"]
    expected = row_of(predictor, TEXT)
    for place, label in enumerate(LABELS):
        assert shown[f" {label}"] == pytest.approx(math.log(expected[place]), abs=1e-5)


def test_log_probabilities_are_those_of_the_labels(client: OpenAI, predictor: Predictor) -> None:
    answer = client.completions.create(model="support", prompt=TEXT, logprobs=5)
    found = answer.choices[0].logprobs
    assert found is not None
    assert found.top_logprobs is not None
    assert found.token_logprobs is not None
    row = row_of(predictor, TEXT)
    assert sum(math.exp(value) for value in found.top_logprobs[0].values()) == pytest.approx(1)
    assert found.token_logprobs == [pytest.approx(math.log(row.max()), abs=1e-5)]
    assert found.tokens == [LABELS[row.argmax()]]
    assert found.text_offset == [len(TEXT)]
    fewer = client.completions.create(model="support", prompt=TEXT, logprobs=0).choices[0].logprobs
    assert fewer is not None
    assert fewer.top_logprobs == [{found.tokens[0]: found.token_logprobs[0]}]


def test_an_echo_is_a_token_without_a_log_probability(speaking: Service) -> None:
    choice = complete(speaking, echo=True, logprobs=2)["choices"][0]
    label = choice["logprobs"]["tokens"][1]
    assert choice["text"] == TEXT + label
    assert choice["logprobs"]["tokens"] == [TEXT, label]
    assert choice["logprobs"]["token_logprobs"][0] is None
    assert choice["logprobs"]["top_logprobs"][0] is None
    assert choice["logprobs"]["text_offset"] == [0, len(TEXT)]
    only = complete(speaking, echo=True, logprobs=2, max_tokens=0)
    assert only["choices"][0]["text"] == TEXT
    assert only["choices"][0]["logprobs"]["tokens"] == [TEXT]
    assert only["choices"][0]["finish_reason"] == "length"
    assert only["usage"]["completion_tokens"] == 0


def test_each_prompt_has_its_choices_in_order(client: OpenAI, predictor: Predictor) -> None:
    texts = [TEXT, "money i sent", "refund"]
    answer = client.completions.create(
        model="support", prompt=texts, n=2, best_of=4, temperature=1.5, seed=3
    )
    rows = predictor.probabilities(predictor.encode(texts))
    expected = [LABELS[place] for place in np.repeat(rows.argmax(axis=1), 2)]
    assert [choice.text for choice in answer.choices] == expected
    assert [choice.index for choice in answer.choices] == list(range(6))
    assert answer.usage is not None
    read = sum(len(text.ids) for text in predictor.encode(texts))
    assert answer.usage.prompt_tokens == read
    assert answer.usage.completion_tokens == 6
    assert answer.usage.total_tokens == read + 6


def test_the_label_is_cut_at_a_stop(speaking: Service) -> None:
    label = complete(speaking)["choices"][0]["text"]
    for stop, left in ((label[2:], label[:2]), ([label[3:], label[2:4]], label[:2]), (" ", "")):
        assert complete(speaking, stop=stop)["choices"][0]["text"] == left
    for stop in ("", [], ["zzz"], [" END"], "\n"):
        assert complete(speaking, stop=stop)["choices"][0]["text"] == label


def test_a_stream_says_the_same(client: OpenAI) -> None:
    whole = client.completions.create(model="prompts", prompt=TEXT, n=2, logprobs=1)
    parts = list(
        client.completions.create(
            model="prompts",
            prompt=TEXT,
            n=2,
            logprobs=1,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert parts[-1].choices == []
    assert parts[-1].usage == whole.usage
    for index in (0, 1):
        said = [c for part in parts for c in part.choices if c.index == index]
        assert "".join(choice.text for choice in said) == whole.choices[index].text
        assert [choice.finish_reason for choice in said] == [None, "stop"]
        assert said[0].logprobs == whole.choices[index].logprobs


def test_a_stream_is_events_and_ends_with_done(speaking: Service) -> None:
    answer = speaking.post({"model": "prompts", "prompt": TEXT, "stream": True}, "/v1/completions")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.body.decode().split("\n\n")
    assert all(event.startswith("data: {") for event in events[:-2])
    assert events[-2:] == ["data: [DONE]", ""]
    assert "usage" not in answer.body.decode()


def test_answers_are_as_the_document_says(speaking: Service) -> None:
    for body in ({}, {"logprobs": 2, "echo": True}, {"model": "plain"}, {"prompt": [TEXT] * 3}):
        CompletionResponse.model_validate(complete(speaking, **body), strict=True)


@pytest.mark.parametrize("engine", ["prompts", "prompts%401", "prompts@1"])
def test_the_engine_may_stand_in_the_address(speaking: Service, engine: str) -> None:
    path = f"/v1/engines/{engine}/completions"
    given = complete(speaking, path, model=None, **NULLS)
    assert given["model"] == "prompts@1"
    assert given["choices"] == complete(speaking)["choices"]


def test_an_engine_and_another_model_are_refused(speaking: Service) -> None:
    path = "/v1/engines/prompts/completions"
    answer = speaking.post({"model": "support", "prompt": TEXT}, path)
    assert (answer.status, answer.error()["param"]) == (400, "model")
    path = "/v1/engines/curie%3Aft-x/completions"
    assert speaking.post({"prompt": TEXT}, path).error()["code"] == "model_not_found"


def test_savings_count_what_is_still_sent_against_the_baseline(speaking: Service) -> None:
    bare = complete(speaking)
    again = complete(speaking, prompt=f"{INSTRUCTION}{TEXT}\n\n###\n\n")
    assert again["usage"] == bare["usage"]
    # 120 static tokens, and the characters by four, rounded up
    assert bare["savings"]["baseline_prompt_tokens"] == 120 + 4
    assert bare["savings"]["tokens_saved"] == 124 - bare["usage"]["prompt_tokens"]
    sent = -(-len(f"{INSTRUCTION.strip()}\n###") // 4)
    assert again["savings"] == {
        **bare["savings"],
        "tokens_saved": bare["savings"]["tokens_saved"] - sent,
    }
    assert complete(speaking, model="plain")["savings"] is None


def test_empty_fields_of_what_is_not_supported_are_taken(speaking: Service) -> None:
    empty: dict[str, Any] = {"suffix": "", "logit_bias": {}}
    complete(speaking, **empty)
    CompletionRequest.model_validate({"model": "prompts", "prompt": TEXT, **empty})


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"prompt": None}, "prompt", "invalid_request"),
    ({"prompt": [1, 2]}, "prompt", "token_ids"),
    ({"prompt": [[1, 2]]}, "prompt", "token_ids"),
    ({"prompt": [TEXT, 3]}, "prompt[1]", "invalid_request"),
    ({"prompt": ""}, "prompt", "empty_text"),
    ({"prompt": INSTRUCTION + "\n\n###\n\n"}, "prompt", "empty_text"),
    ({"prompt": [TEXT, "###"]}, "prompt[1]", "empty_text"),
    ({"prompt": [TEXT] * 17}, "prompt", "too_many_items"),
    ({"prompt": [TEXT] * 8, "n": 3}, "n", "too_many_items"),
    ({"prompt": "x" * 5001}, "prompt", "text_too_long"),
    ({"model": None}, "model", "invalid_request"),
    ({"model": "strict", "prompt": [TEXT, "card " * 9]}, "prompt[1]", "text_too_long"),
    ({"logprobs": 6}, "logprobs", "invalid_request"),
    ({"logprobs": -1}, "logprobs", "invalid_request"),
    ({"logprobs": True}, "logprobs", "invalid_request"),
    ({"n": 0}, "n", "invalid_request"),
    ({"n": 3, "best_of": 2}, "best_of", "invalid_request"),
    ({"max_tokens": -1}, "max_tokens", "invalid_request"),
    ({"temperature": 3}, "temperature", "invalid_request"),
    ({"temperature": "0"}, "temperature", "invalid_request"),
    ({"stop": ["a"] * 5}, "stop", "invalid_request"),
    ({"stop": 5}, "stop", "invalid_request"),
    ({"stop": [5]}, "stop", "invalid_request"),
    ({"stream": "yes"}, "stream", "invalid_request"),
    ({"stream_options": {}}, "stream_options", "invalid_request"),
    ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x", "unknown_field"),
    ({"suffix": "after"}, "suffix", "unsupported_parameter"),
    ({"logit_bias": {"50256": -100}}, "logit_bias", "unsupported_parameter"),
    ({"tools": [{}]}, "tools", "unknown_field"),
    ({"n": 16, "prompt": "x" * 5000, "echo": True, "user": 3}, "user", "invalid_request"),
]


@pytest.mark.parametrize(("body", "param", "code"), REFUSED)
def test_what_cannot_be_done_is_refused_by_name(
    speaking: Service, body: dict[str, Any], param: str, code: str
) -> None:
    answer = speaking.post({"model": "prompts", "prompt": TEXT, **body}, "/v1/completions")
    error = answer.error()
    assert (answer.status, error["param"], error["code"]) == (400, param, code)
    assert error["type"] == "invalid_request_error"


def test_the_client_raises_what_the_status_means(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.completions.create(model="nothing", prompt=TEXT)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as bad:
        client.completions.create(model="prompts", prompt=[1, 2, 3])
    assert (bad.value.param, bad.value.code) == ("prompt", "token_ids")


def test_the_model_without_weights_answers(client: OpenAI) -> None:
    answer = client.completions.create(model="fake", prompt="what a day", logprobs=3)
    assert answer.choices[0].text in {"negative", "neutral", "positive"}
