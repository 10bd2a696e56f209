"""Streams that are slow, that nobody reads any more, that fail, and that are too many."""

import contextlib
import json
import time
from pathlib import Path

import openai
import pytest
from openai import OpenAI

from hone.service.jobs.keys import Limits, NewKey
from hone.service.settings import Settings
from hone.service.state import open_state
from tests.service.generation.conftest import client_of
from tests.service.generation.streaming import (
    LABELS,
    MODEL,
    begin,
    body,
    busy,
    count,
    resident_bytes,
)
from tests.service.running import Service, serving, wait_until


@pytest.mark.parametrize("stream", [True, False])
def test_clients_that_vanish_leave_nothing_behind(slow: Service, *, stream: bool) -> None:
    for _ in range(8):
        # 2 slots and room for two more: the others are refused, which leaves nothing either.
        connections = [begin(slow, body(stream=stream)) for _ in range(6)]
        wait_until(lambda: count(slow, "hone_running_sequences") == 2)
        if stream:
            connections[0].recv(10)
        for connection in connections:
            connection.close()
        wait_until(lambda: busy(slow) == 0)
    with client_of(slow) as client:
        answer = client.completions.create(model=MODEL, prompt="Say", max_tokens=3)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3
    assert slow.get("/livez").status == 200


def test_a_full_service_answers_429_and_says_when_to_ask_again(slow: Service) -> None:
    held = [begin(slow, body(stream=True)) for _ in range(2)]
    wait_until(lambda: count(slow, "hone_running_sequences") == 2)
    held += [begin(slow, body(stream=True)) for _ in range(2)]  # as many as may wait
    wait_until(lambda: busy(slow) == 4)
    answer = slow.post(json.loads(body()), "/v1/completions")
    assert answer.status == 429
    assert answer.error()["code"] == "overloaded"
    assert int(answer.headers["retry-after"]) >= 1
    for connection in held:
        connection.close()


def test_a_short_request_begins_while_others_decode(slow: Service) -> None:
    with begin(slow, body(stream=True)) as held:
        wait_until(lambda: count(slow, "hone_running_sequences") == 1)
        with client_of(slow) as client:
            short = client.completions.create(model=MODEL, prompt="x", max_tokens=2)
        assert len(short.choices[0].text) == 2
        assert count(slow, "hone_running_sequences") == 1
        held.close()


def test_a_silent_stream_is_kept_alive(slow: Service) -> None:
    held = [begin(slow, body(stream=True)) for _ in range(2)]
    wait_until(lambda: count(slow, "hone_running_sequences") == 2)
    with begin(slow, body(max_tokens=2, stream=True)) as waiting:
        wait_until(lambda: count(slow, "hone_waiting_sequences") == 1)
        received = b""
        while b"still at work" not in received:
            received += waiting.recv(4096)
        for connection in held:
            connection.close()
        while b"[DONE]" not in received:
            received += waiting.recv(4096)
    assert received.startswith(b"HTTP/1.1 200")
    events = [line for line in received.split(b"\n") if line.startswith(b"data: {")]
    assert json.loads(events[-1][6:].rstrip(b"\r"))["choices"][0]["finish_reason"] == "length"


def test_a_request_that_breaks_the_model_fails_alone(slow: Service) -> None:
    with begin(slow, body(stream=True)) as held, client_of(slow) as client:
        wait_until(lambda: count(slow, "hone_running_sequences") == 1)
        with pytest.raises(openai.InternalServerError) as failed:
            client.completions.create(model=MODEL, prompt="a ~ b")
        assert failed.value.code == "inference_failed"
        assert "poison" not in str(failed.value)
        assert client.completions.create(model=MODEL, prompt="ok", max_tokens=1).choices
        assert held.recv(100)


def counted(service: Service, name: str, label: str, value: str) -> float:
    return service.metrics().get((name, tuple(sorted((*LABELS, (label, value))))), 0.0)


def test_a_stream_that_breaks_off_is_told_and_counted_as_failed(slow: Service) -> None:
    # Two slots: the third prompt, which breaks the model, is read when the others have ended.
    asked = {"model": MODEL, "prompt": ["one", "two", "a ~ b"], "max_tokens": 4, "stream": True}
    answer = slow.post(asked, "/v1/completions")
    assert answer.status == 200
    events = [line for line in answer.body.decode().splitlines() if line.startswith("data: ")]
    assert events[-1] == "data: [DONE]"
    assert json.loads(events[-2].removeprefix("data: "))["error"]["code"] == "inference_failed"
    assert "choices" in json.loads(events[0].removeprefix("data: "))
    outcomes = ("answered", "rejected", "failed", "cancelled")
    found = [counted(slow, "hone_requests_total", "outcome", o) for o in outcomes]
    assert found == [0, 0, 1, 0]
    assert counted(slow, "hone_sequences_total", "ended", "failed") == 1


def test_a_stream_that_is_cut_by_the_stop_says_so(slow: Service) -> None:
    with client_of(slow) as client:
        stream = client.completions.create(
            model=MODEL, prompt="Say", max_tokens=1000, stream=True, temperature=0
        )
        next(iter(stream))
        slow.process.terminate()
        started = time.monotonic()
        with pytest.raises(openai.APIError) as cut:
            for _ in stream:
                pass
        assert "stopping" in str(cut.value)
        assert time.monotonic() - started < 30
    assert slow.process.wait(30) == 0


def test_an_idle_service_burns_nothing(slow: Service) -> None:
    slow.post(json.loads(body(max_tokens=2)), "/v1/completions")
    before = slow.cpu_seconds()
    time.sleep(1)
    assert slow.cpu_seconds() - before < 0.3


def test_five_hundred_vanished_clients_leave_memory_where_it_was(tmp_path: Path) -> None:
    with serving(
        tmp_path / "store",
        "0.005",
        program=("-m", "tests.service.generation.slow_driver"),
        log_folder=tmp_path,
        decoder_slots=50,
        prefix_cache_bytes=2**20,
        run_jobs=False,
    ) as service:
        memory: list[int] = []
        for _ in range(10):
            connections = [begin(service, body(stream=True)) for _ in range(50)]
            for connection in connections:
                assert connection.recv(10)
                connection.close()
            wait_until(lambda: busy(service) == 0)
            memory.append(resident_bytes(service))
        assert memory[-1] - memory[1] < 8 * 2**20
        assert service.post(json.loads(body(max_tokens=2)), "/v1/completions").status == 200


def test_who_leaves_a_stream_pays_for_what_was_read_and_said(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    limits = Limits(tokens_per_minute=600)
    with contextlib.closing(open_state(Settings(store=store))) as state:
        key = state.keys.create(NewKey("acme", ("infer",), limits=limits))[1]
    driver = ("-m", "tests.service.generation.slow_driver")
    with serving(
        store, "0.02", program=driver, log_folder=tmp_path, access="on", run_jobs=False
    ) as service:
        content = body("Say " * 60, stream=True)
        head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
        length = f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
        with service.connect() as connection:
            connection.sendall(f"{head}{length}".encode() + content)
            assert connection.recv(12) == b"HTTP/1.1 200"
        address = f"http://127.0.0.1:{service.port}/v1"
        with OpenAI(base_url=address, api_key=key, max_retries=0) as client:

            def left() -> int:
                headers = client.models.with_raw_response.list().headers
                return int(headers["x-ratelimit-remaining-tokens"])

            wait_until(lambda: left() < 500)  # of 600, less a prompt of 240, and 10 come a second
