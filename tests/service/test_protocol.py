"""HTTP on the wire: clients that are slow, rude, or gone."""

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from hone.service.protocol import _Unread
from tests.service.running import Service, exchange, read_answer, serving, wait_until

HEAD = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
BODY = b'{"model":"fake","input":"hello"}'
REQUEST = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run a service with short deadlines."""
    folder = tmp_path_factory.mktemp("strict")
    with serving(
        folder / "no-store",
        "--fake",
        log_folder=folder,
        header_timeout_s=1,
        request_timeout_s=2,
        max_connections=60,
        max_body_bytes=100_000,
    ) as service:
        yield service


def status(raw: bytes) -> int:
    assert raw.startswith(b"HTTP/1.1 "), raw
    assert b'{"error":{"message":' in raw or raw.startswith(b"HTTP/1.1 200")
    return int(raw.split()[1])


def closes_within(connection: socket.socket, seconds: float) -> bytes:
    """Return what arrives until the server closes; fail if it does not."""
    connection.settimeout(seconds)
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


def test_a_huge_header_is_refused_before_it_is_parsed(strict: Service) -> None:
    before = strict.cpu_seconds()
    with strict.connect() as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nX: ")
        started = time.perf_counter()
        try:
            for _ in range(60):
                connection.sendall(b"a" * 2**20)
            refused_after = time.perf_counter() - started
        except (BrokenPipeError, ConnectionResetError):
            refused_after = time.perf_counter() - started
    assert refused_after < 5
    assert strict.cpu_seconds() - before < 1
    assert strict.get("/livez").status == 200


def test_a_header_over_the_limit_gets_a_431(strict: Service) -> None:
    raw = exchange(strict, b"GET /livez HTTP/1.1\r\nX: " + b"a" * 40_000)
    assert status(raw) == 431
    assert b"x-request-id: req_" in raw
    many = b"".join(b"X%d: y\r\n" % number for number in range(9000))
    assert status(exchange(strict, b"GET /livez HTTP/1.1\r\n" + many)) == 431
    long_url = b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n"
    assert status(exchange(strict, long_url)) == 431


def test_a_header_under_the_limit_passes(strict: Service) -> None:
    request = b"GET /livez HTTP/1.1\r\nX: " + b"a" * 30_000 + b"\r\n\r\n"
    assert status(exchange(strict, request)) == 200


def test_a_head_and_its_body_may_come_in_any_pieces(strict: Service) -> None:
    with strict.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in REQUEST:
            connection.sendall(bytes([byte]))
        assert status(read_answer(connection)) == 200


def test_slow_heads_are_ended_while_others_are_served(strict: Service) -> None:
    slow = [strict.connect() for _ in range(40)]
    for number, connection in enumerate(slow):
        connection.sendall(b"POST /v1/classify HTTP/1.1\r\nX" if number % 2 else b"")
    worst = 0.0
    started = time.monotonic()
    while time.monotonic() - started < 1.5:
        asked_at = time.perf_counter()
        assert strict.post(BODY).status == 200
        worst = max(worst, time.perf_counter() - asked_at)
    for number, connection in enumerate(slow):
        raw = closes_within(connection, 5)
        connection.close()
        assert (status(raw) == 408) if number % 2 else (raw == b"")
    assert worst < 1


def test_a_slow_body_is_ended(strict: Service) -> None:
    with strict.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 50000\r\n\r\n{")
        started = time.monotonic()
        assert status(closes_within(connection, 10)) == 408
        assert 1.5 < time.monotonic() - started < 6


def test_a_body_that_drips_is_ended_too(strict: Service) -> None:
    with strict.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 50000\r\n\r\n{")
        started = time.monotonic()
        ended = False
        while not ended and time.monotonic() - started < 15:
            time.sleep(0.1)
            try:
                connection.sendall(b" ")
            except (BrokenPipeError, ConnectionResetError):
                ended = True
    assert ended


def test_trailers_and_chunk_sizes_are_bounded(strict: Service) -> None:
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    trailer = chunked + b"2\r\n{}\r\n0\r\nX: " + b"a" * 300_000
    assert status(exchange(strict, trailer)) == 400
    extension = chunked + b"2;" + b"a" * 300_000
    assert status(exchange(strict, extension)) == 400


def test_connections_above_the_limit_get_a_503_at_once(strict: Service) -> None:
    held = [strict.connect() for _ in range(60)]
    try:
        started = time.perf_counter()
        with strict.connect() as one_more:
            one_more.sendall(REQUEST)
            raw = closes_within(one_more, 5)
        assert status(raw) == 503
        assert b"retry-after: 1" in raw
        assert time.perf_counter() - started < 1
    finally:
        for connection in held:
            connection.close()
    wait_until(lambda: exchange(strict, REQUEST).startswith(b"HTTP/1.1 200"))


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nX\x00Y: z\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
        b"GET http:// HTTP/1.1\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_no_http_is_a_400(strict: Service, request_bytes: bytes) -> None:
    assert status(exchange(strict, request_bytes)) == 400


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
def test_an_upgrade_is_not_taken(strict: Service, protocol: bytes) -> None:
    head = b"GET /livez HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n"
    assert status(exchange(strict, head)) == 200


def test_an_upgrade_with_a_body_ends(strict: Service) -> None:
    request = REQUEST.replace(b"Host: x", b"Connection: Upgrade\r\nUpgrade: h2c")
    assert status(exchange(strict, request)) in {200, 400, 408}


def test_pipelined_requests_are_answered_in_order(strict: Service) -> None:
    last = b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n"
    with strict.connect() as connection:
        connection.sendall(REQUEST * 5 + last)
        raw = closes_within(connection, 10)
    statuses = [part.split()[0] for part in raw.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200"] * 6
    assert raw.count(b'"model":"fake@1"') == 5


def test_an_answer_arrives_in_one_piece(strict: Service) -> None:
    with strict.connect() as connection:
        for _ in range(20):
            connection.sendall(REQUEST)
            head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
            assert b"content-length: %d\r\n" % len(body) in head + b"\r\n"


def test_expect_continue_is_answered_and_a_large_one_refused_first(strict: Service) -> None:
    expecting = b"Expect: 100-continue\r\n"
    with strict.connect() as connection:
        connection.sendall(HEAD + expecting + b"Content-Length: %d\r\n\r\n" % len(BODY))
        assert connection.recv(1000).startswith(b"HTTP/1.1 100")
        connection.sendall(BODY)
        assert status(read_answer(connection)) == 200
    with strict.connect() as connection:
        connection.sendall(HEAD + expecting + b"Content-Length: 999999\r\n\r\n")
        assert status(read_answer(connection)) == 413


def test_a_client_that_sends_on_after_a_413_can_read_it(strict: Service) -> None:
    with strict.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 5000000\r\n\r\n")
        connection.sendall(b"x" * 5_000_000)
        assert status(read_answer(connection)) == 413


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=b"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_client_that_keeps_no_connection_can_read_a_413_all_the_same(
    strict: Service, kind: str, chunked: bool
) -> None:
    """Such as urllib, which sends all of its body first, and `Connection: close` with it."""
    pieces = [b"x" * 2**20] * 34
    body = iter(pieces) if chunked else b"".join(pieces)
    url = f"http://127.0.0.1:{strict.port}/v1/classify"
    request = urllib.request.Request(url, body, {"Content-Type": kind})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    with refused.value as answer:
        assert answer.code == 413
        assert json.loads(answer.read())["error"]["code"] == "body_too_large"
    assert strict.get("/livez").status == 200


def leaving(length: int) -> bytes:
    """Return the head of a request that is too long, and whose connection is not kept."""
    return HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % length


def test_what_comes_behind_an_answer_is_dropped_and_not_for_ever(strict: Service) -> None:
    """For how long, and how much of it, is in `test_dropping`."""
    with strict.connect() as connection:
        connection.sendall(leaving(10**12))
        assert status(read_answer(connection)) == 413
        assert connection.recv(10) == b""  # nothing more is written
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            flood(connection, megabytes=200)


def flood(connection: socket.socket, *, megabytes: int) -> None:
    for _ in range(megabytes):
        connection.sendall(b"x" * 2**20)


def test_a_request_behind_one_that_ends_the_connection_is_not_answered(strict: Service) -> None:
    with strict.connect() as connection:
        connection.sendall(leaving(200_000))
        assert status(read_answer(connection)) == 413
        connection.sendall(b"x" * 200_000 + REQUEST)
        assert closes_within(connection, 10) == b""


def test_an_answer_that_nobody_reads_is_given_up(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "none", "--fake", log_folder=tmp_path, request_timeout_s=1) as service,
        socket.socket() as connection,
    ):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", service.port))
        text = b'"' + b"a" * 5 + b'",'
        body = b'{"model":"fake","input":[' + (text * 256)[:-1] + b"]}"
        one = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
        stop = threading.Event()

        def send() -> None:
            try:
                while not stop.is_set():
                    connection.sendall(one)
            except OSError:
                stop.set()

        sender = threading.Thread(target=send)
        sender.start()
        try:
            wait_until(stop.is_set, timeout_s=20)
        finally:
            stop.set()
            connection.close()
            sender.join(10)
        assert service.get("/livez").status == 200


def test_a_trickle_does_not_put_off_the_end_of_an_answer() -> None:
    """A debt of 100 bytes: read as fast as more comes, or byte by byte."""
    keeps_up, trickles = _Unread(), _Unread()
    assert max(keeps_up.seconds(now, 100 * now, 100) for now in range(1, 60)) == 0
    assert [trickles.seconds(now, 100, 100 - now) for now in range(1, 60)] == list(range(59))
    assert trickles.seconds(60, 100, 0) == 0


def test_a_client_that_leaves_frees_its_place(tmp_path: Path) -> None:
    with serving(
        tmp_path / "none",
        "0.3",
        "~",
        program=("-m", "tests.service.fake_driver"),
        log_folder=tmp_path,
        max_queue_items=16,
        max_items=16,
    ) as service:
        body = b'{"model":"fake","input":["%s"]}' % b'","'.join([b"a" * 600] * 16)
        with service.connect() as connection:
            connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            wait_until(lambda: _queue(service) > 8)
            assert service.post(body).status == 429
        wait_until(lambda: _queue(service) == 0, timeout_s=3)
        samples = service.metrics()
        labels = (("model", "fake"), ("outcome", "cancelled"), ("version", "1"))
        assert samples["hone_requests_total", labels] == 1


def _queue(service: Service) -> float:
    return service.metrics()["hone_queue_texts", (("model", "fake"), ("version", "1"))]
