"""Requests that cannot be answered: each has its status, its code, and the one error body."""

import json
import socket
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.service.hostile import HOSTILE, anything
from tests.service.running import Answer, Service, exchange

HEAD = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"

REFUSED: list[tuple[Any, int, str, str | None]] = [
    ([], 400, "invalid_json", None),
    ("support", 400, "invalid_json", None),
    ({}, 400, "invalid_request", "model"),
    ({"model": 3, "input": "card"}, 400, "invalid_request", "model"),
    ({"model": "", "input": "card"}, 400, "invalid_request", "model"),
    ({"model": "s" * 200, "input": "card"}, 400, "invalid_request", "model"),
    ({"model": "nothing", "input": "card"}, 404, "model_not_found", "model"),
    ({"model": "support@9", "input": "card"}, 404, "model_not_found", "model"),
    ({"model": "support@beta", "input": "card"}, 404, "model_not_found", "model"),
    ({"model": "support@0", "input": "card"}, 404, "model_not_found", "model"),
    ({"model": "../../etc/passwd", "input": "card"}, 404, "model_not_found", "model"),
    ({"model": "support"}, 400, "invalid_request", "input"),
    ({"model": "support", "input": None}, 400, "invalid_request", "input"),
    ({"model": "support", "input": []}, 400, "invalid_request", "input"),
    ({"model": "support", "input": {"a": 1}}, 400, "invalid_request", "input"),
    ({"model": "support", "input": ["card", 7]}, 400, "invalid_request", "input[1]"),
    ({"model": "support", "input": [["card"]]}, 400, "invalid_request", "input[0]"),
    ({"model": "support", "input": ""}, 400, "empty_text", "input"),
    ({"model": "support", "input": ["card", " \n"]}, 400, "empty_text", "input[1]"),
    ({"model": "support", "input": ["card"] * 17}, 400, "too_many_items", "input"),
    ({"model": "support", "input": "x" * 5001}, 400, "text_too_long", "input"),
    ({"model": "support", "input": "card", "top_k": 0}, 400, "invalid_request", "top_k"),
    ({"model": "support", "input": "card", "top_k": 1.5}, 400, "invalid_request", "top_k"),
    ({"model": "support", "input": "card", "top_k": True}, 400, "invalid_request", "top_k"),
    ({"model": "support", "input": "card", "top_k": None}, 400, "invalid_request", "top_k"),
    ({"model": "support", "input": "card", "topk": 1}, 400, "unknown_field", "topk"),
    ({"model": "strict", "input": ["card", "card " * 9]}, 400, "text_too_long", "input[1]"),
    ({"model": "support", "input": "x" * 300_000}, 413, "body_too_large", None),
]


@pytest.mark.parametrize(("body", "status", "code", "param"), REFUSED)
def test_a_bad_request_is_told_what_is_wrong(
    asked: Service, body: Any, status: int, code: str, param: str | None
) -> None:
    answer = asked.post(body)
    error = answer.error()
    assert (answer.status, error["code"], error["param"]) == (status, code, param)
    assert error["type"] == "invalid_request_error"
    assert len(error["message"]) < 300


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bytes_are_a_clear_400(asked: Service, body: bytes) -> None:
    answer = asked.post(body)
    assert answer.status == 400
    assert answer.error()["type"] == "invalid_request_error"


ODD_AND_FINE = {
    "escaped null": b'{"model":"support","input":"a\\u0000b"}',
    "only unknown words": '{"model":"support","input":"\u0430\u4f60\U0001f600"}'.encode(),
    "duplicate keys": b'{"model":"nothing","input":"x","model":"support","input":"card"}',
    "right to left": '{"model":"support","input":"\u202e card \u200b"}'.encode(),
    "combining marks": ('{"model":"support","input":"e' + "\u0301" * 900 + '"}').encode(),
    "a control character, escaped": b'{"model":"support","input":"\\u0001\\u007f"}',
}


@pytest.mark.parametrize("body", ODD_AND_FINE.values(), ids=ODD_AND_FINE.keys())
def test_odd_texts_are_answered(asked: Service, body: bytes) -> None:
    assert asked.post(body).status == 200


def test_a_long_text_is_not_echoed(asked: Service) -> None:
    text = "secret" * 20_000
    for body in (
        {"model": "support", "input": text},
        {"model": text[:150_000], "input": "card"},
        {text[:150_000]: 1},
        {"model": "support", "input": "card", "top_k": text},
    ):
        answer = asked.post(body)
        assert answer.status in {400, 413}
        assert len(answer.body) < 1000


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "multipart/mixed; boundary=x"}, 415),
        ({"content-type": "application/json; charset=utf-8"}, 200),
        ({"content-type": "application/problem+json"}, 200),
        ({}, 200),
        ({"content-type": "application/json", "content-encoding": "gzip"}, 415),
        ({"content-type": "application/json", "content-encoding": "identity"}, 200),
    ],
)
def test_the_body_must_be_plain_json(asked: Service, headers: dict[str, str], status: int) -> None:
    body = json.dumps({"model": "support", "input": "card"}).encode()
    answer = asked.request("POST", "/v1/classify", body, headers)
    assert answer.status == status
    if status != 200:
        assert answer.error()["code"] == "unsupported_media_type"


def test_a_form_that_is_none_is_refused(asked: Service) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    body = json.dumps({"model": "support", "input": "card"}).encode()
    answer = asked.request("POST", "/v1/classify", body, headers)
    assert (answer.status, answer.error()["code"]) == (400, "invalid_form")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "unknown_url"),
        ("GET", "/v1/nothing", 404, "unknown_url"),
        ("GET", "/v1/classify/", 404, "unknown_url"),
        ("POST", "//v1/classify", 404, "unknown_url"),
        ("GET", "/%ff%fe", 404, "unknown_url"),
        ("GET", "/v1/classify", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("POST", "/readyz", 405, "method_not_allowed"),
    ],
)
def test_wrong_addresses_and_methods(
    asked: Service, method: str, path: str, status: int, code: str
) -> None:
    answer = asked.request(method, path)
    assert (answer.status, answer.error()["code"]) == (status, code)
    assert ("allow" in answer.headers) == (status == 405)
    assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("path", ["/livez", "/startupz", "/readyz"])
def test_watchers_may_ask_for_the_head_alone(asked: Service, path: str) -> None:
    answer = asked.request("HEAD", path)
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    "host", [b"", b"evil.example", b"a/../b?c#d", b"[::1", b"x" * 2000, b"x:99999999", b"\xff"]
)
def test_the_host_header_changes_nothing(asked: Service, host: bytes) -> None:
    raw = exchange(asked, b"GET /livez HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 200"), raw


def test_a_body_without_length_is_counted_as_it_comes(asked: Service) -> None:
    chunk = b"2710\r\n" + b"x" * 10_000 + b"\r\n"
    raw = exchange(asked, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 30)
    assert raw.startswith(b"HTTP/1.1 413")
    assert _error(raw)["code"] == "body_too_large"


def test_a_chunked_body_is_answered(asked: Service) -> None:
    body = b'{"model":"support","input":"card"}'
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    raw = exchange(asked, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    assert raw.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("length", [b"99999999999999999999999", b"-1", b"1e3", b"0x10", b"7, 8"])
def test_a_strange_length_is_refused(asked: Service, length: bytes) -> None:
    raw = exchange(asked, HEAD + b"Content-Length: " + length + b"\r\n\r\n{}")
    assert raw.split()[1] in {b"400", b"413"}, raw
    _error(raw)


def test_after_a_refusal_the_connection_goes_on(asked: Service) -> None:
    body = b'{"model":"support","input":"card"}'
    good = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    bad = HEAD + b"Content-Length: 2\r\n\r\n[]"
    raw = exchange(asked, bad + good + b"GET /nothing HTTP/1.1\r\nConnection: close\r\n\r\n")
    statuses = [line.split()[1] for line in raw.split(b"\r\n") if line.startswith(b"HTTP/1.1")]
    assert statuses[0] == b"400"


def _error(raw: bytes) -> Any:
    head, _, body = raw.partition(b"\r\n\r\n")
    return Answer(int(head.split()[1]), {}, body).error()


fuzzed = settings(max_examples=150)


@fuzzed
@given(body=st.binary(max_size=300))
def test_no_bytes_are_a_500(asked: Service, body: bytes) -> None:
    assert asked.post(body).status in {400, 404}


@fuzzed
@given(
    body=st.fixed_dictionaries(
        {},
        optional={
            "model": st.sampled_from(["support", "plain", "strict", "support@1"]) | anything,
            "input": st.text() | st.lists(st.text(), max_size=20) | anything,
            "top_k": st.integers(-1, 9) | anything,
        },
    )
)
def test_no_json_is_a_500(asked: Service, body: Any) -> None:
    answer = asked.post(json.dumps(body).encode())
    assert answer.status in {200, 400, 404}
    if answer.status == 200:
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        assert len(answer.json()["data"]) == len(texts)


@fuzzed
@given(raw=st.binary(min_size=1, max_size=200), cut=st.integers(0, 150))
def test_no_broken_http_is_a_500_or_a_hang(asked: Service, raw: bytes, cut: int) -> None:
    body = b'{"model":"support","input":"card"}'
    whole = HEAD + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body
    with asked.connect() as connection:
        connection.sendall(whole[:cut] + raw + whole[cut:])
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(20)
        try:
            answer = connection.recv(65536)
        except ConnectionResetError:
            return
    assert not answer.startswith(b"HTTP/1.1 5"), answer
