"""Hostile bytes at the three APIs: a clear 4xx, never a 500; and each request is counted once."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.service.hostile import HOSTILE, anything
from tests.service.running import Service, exchange, read_answer, serving, wait_until

QUESTION = {
    "type": "choice", "instructions": "?", "choices": [{"value": "card"}, {"value": "other"}]
}  # fmt: skip
GOOD: dict[str, dict[str, Any]] = {
    "/v1/completions": {"model": "support", "prompt": "card"},
    "/v1/chat/completions": {"model": "support", "messages": [{"role": "user", "content": "card"}]},
    "/v1/decisions": {"model": "support", "input": "card", "questions": [QUESTION]},
}
FIELDS = {
    "/v1/completions": ["prompt", "n", "stop", "logprobs", "echo", "stream", "best_of", "suffix"],
    "/v1/chat/completions": ["messages", "n", "tools", "top_logprobs", "response_format", "stop"],
    "/v1/decisions": ["input", "questions", "prompt_cache_key"],
}
fuzzed = settings(max_examples=60)


@pytest.mark.parametrize("path", GOOD)
@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bytes_are_a_clear_400(speaking: Service, path: str, body: bytes) -> None:
    answer = speaking.post(body, path)
    assert answer.status == 400
    assert answer.error()["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", GOOD)
def test_nan_infinity_and_half_a_pair_in_good_bodies_are_a_400(
    speaking: Service, path: str
) -> None:
    good = json.dumps(GOOD[path])
    for bad in ('"temperature": NaN', '"n": Infinity', '"user": "\\ud800"', '"n": 1e999'):
        answer = speaking.post((good[:-1] + f", {bad}}}").encode(), path)
        assert answer.status == 400, bad


@pytest.mark.parametrize("path", GOOD)
def test_bodies_over_the_limit_are_a_413(speaking: Service, path: str) -> None:
    answer = speaking.post(GOOD[path] | {"user": "x" * 300_000}, path)
    assert (answer.status, answer.error()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("path", GOOD)
@fuzzed
@given(data=st.data())
def test_no_json_is_a_500(speaking: Service, path: str, data: st.DataObject) -> None:
    changes = data.draw(st.dictionaries(st.sampled_from(FIELDS[path]), anything, max_size=3))
    answer = speaking.post(json.dumps(GOOD[path] | changes).encode(), path)
    assert answer.status in {200, 400, 404}, answer.body


@fuzzed
@given(message=st.dictionaries(st.sampled_from(["role", "content", "name"]), anything))
def test_no_message_is_a_500(speaking: Service, message: dict[str, Any]) -> None:
    body = GOOD["/v1/chat/completions"] | {"messages": [{"role": "user", **message}]}
    assert speaking.post(body, "/v1/chat/completions").status in {200, 400}


@fuzzed
@given(question=st.dictionaries(st.sampled_from([*QUESTION, "levels", "name"]), anything))
def test_no_question_is_a_500(speaking: Service, question: dict[str, Any]) -> None:
    body = GOOD["/v1/decisions"] | {"questions": [QUESTION | question]}
    assert speaking.post(body, "/v1/decisions").status in {200, 400}


def outcomes(service: Service) -> dict[str, float]:
    found: dict[str, float] = {}
    for (name, labels), value in service.metrics().items():
        if name == "hone_requests_total":
            word = dict(labels)["outcome"]
            found[word] = found.get(word, 0) + value
    return found


@pytest.mark.parametrize("path", GOOD)
@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({}, 200, "answered"),
        ({"model": "nothing"}, 404, "rejected"),
        ({"unknown": 1}, 400, "rejected"),
    ],
)
def test_a_request_is_counted_once(
    speaking: Service, path: str, changes: dict[str, Any], status: int, word: str
) -> None:
    before = outcomes(speaking)
    assert speaking.post(GOOD[path] | changes, path).status == status
    after = outcomes(speaking)
    moved = {name: after[name] - before.get(name, 0) for name in after}
    assert {name: count for name, count in moved.items() if count} == {word: 1}


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run a service whose one worker takes half a second for a text."""
    folder = tmp_path_factory.mktemp("slow")
    driver = ("-m", "tests.service.fake_driver")
    with serving(folder / "none", "0.5", "~", program=driver, log_folder=folder) as service:
        yield service


def whole_request(path: str, body: Any) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(content) + content


def waiting(service: Service) -> float:
    return service.metrics()["hone_queue_texts", (("model", "fake"), ("version", "1"))]


@pytest.mark.parametrize("path", GOOD)
def test_a_client_that_leaves_frees_its_place(slow: Service, path: str) -> None:
    body = GOOD[path] | {"model": "fake"}
    if path == "/v1/decisions":
        options = [{"value": "positive"}, {"value": "negative"}]
        body |= {"questions": [QUESTION | {"choices": options}]}
    # Five texts of the greatest length: four fill a batch, and one waits.
    holding = {"model": "fake", "input": ["a" * 600] * 5}
    before = outcomes(slow).get("cancelled", 0)
    with slow.connect() as holder:
        holder.sendall(whole_request("/v1/classify", holding))
        wait_until(lambda: waiting(slow) == 1)
        with slow.connect() as leaving:
            leaving.sendall(whole_request(path, body))
            wait_until(lambda: waiting(slow) == 2)
        wait_until(lambda: outcomes(slow).get("cancelled", 0) == before + 1)
        assert read_answer(holder).startswith(b"HTTP/1.1 200")
    assert outcomes(slow)["cancelled"] == before + 1
    assert exchange(slow, whole_request(path, body)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("path", GOOD)
def test_only_post_is_taken_there(speaking: Service, path: str) -> None:
    answer = speaking.get(path)
    assert (answer.status, answer.error()["code"]) == (405, "method_not_allowed")
