"""Starting, draining, stopping, being killed."""

import asyncio
import http.client
import resource
import signal
import socket
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import aiohttp
import pytest

from hone.models.manifest import MANIFEST_FILE
from hone.models.registry import Registry
from tests.service.load import press
from tests.service.running import ROOT, Service, serving, wait_until
from tests.service.starting import answers, loading_slowly
from tests.tiny_bundle import publish_tiny, weights_file


@pytest.fixture
def store(tmp_path: Path) -> Path:
    publish_tiny(Registry(tmp_path / "store"))
    return tmp_path / "store"


def test_sigterm_under_load_fails_no_request_and_exits_0(store: Path, tmp_path: Path) -> None:
    with serving(store, log_folder=tmp_path, drain_delay_s=1) as service:

        async def balanced() -> tuple[int, list[str]]:
            """Send traffic as a balancer does: until `/readyz` says no."""
            ready = True

            async def ask_for_readiness() -> None:
                nonlocal ready
                async with aiohttp.ClientSession() as session:
                    while ready:
                        url = f"http://127.0.0.1:{service.port}/readyz"
                        async with session.get(url) as response:
                            ready = response.status == 200
                        await asyncio.sleep(0.05)

            asking = asyncio.create_task(ask_for_readiness())
            pressing = asyncio.create_task(press(service.port, clients=20, until=lambda: not ready))
            await asyncio.sleep(0.5)
            service.process.send_signal(signal.SIGTERM)
            outcome = await pressing
            await asking
            return outcome.statuses.count(200), outcome.failures + [
                str(status) for status in outcome.statuses if status != 200
            ]

        answered, failed = asyncio.run(balanced())
        assert service.process.wait(30) == 0
        assert failed == []
        assert answered > 50


def test_while_draining_it_answers_and_asks_clients_to_leave(store: Path, tmp_path: Path) -> None:
    with serving(store, log_folder=tmp_path, drain_delay_s=30) as service:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)
        connection.request("GET", "/livez")
        assert connection.getresponse().read()
        service.process.send_signal(signal.SIGTERM)
        wait_until(lambda: service.get("/readyz").status == 503)
        assert service.get("/readyz").error()["code"] == "not_ready"
        assert service.get("/livez").status == 200
        answer = service.post({"model": "support", "input": "card"})
        assert answer.status == 200
        assert answer.headers["connection"] == "close"
        connection.close()
        started = time.monotonic()
        assert service.stop() == 0  # a second signal ends the wait
        assert time.monotonic() - started < 10


def test_ctrl_c_does_not_wait_for_a_balancer(store: Path, tmp_path: Path) -> None:
    with serving(store, log_folder=tmp_path, drain_delay_s=60) as service:
        started = time.monotonic()
        assert service.stop(signal.SIGINT) == 0
        assert time.monotonic() - started < 10


def test_what_is_in_flight_is_finished(tmp_path: Path) -> None:
    with slow_service(tmp_path, 0.05) as service, service.connect() as connection:
        send_slow(service, connection, texts=20)
        assert service.stop() == 0
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_what_takes_too_long_is_given_up(tmp_path: Path) -> None:
    with (
        slow_service(tmp_path, 3.0, shutdown_timeout_s=1) as service,
        service.connect() as connection,
    ):
        send_slow(service, connection, texts=20)
        started = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - started < 15


def test_after_a_kill_it_starts_again(store: Path, tmp_path: Path) -> None:
    with serving(store, log_folder=tmp_path) as first:
        answer = first.classify("where is my card")
        first.stop(signal.SIGKILL)
    with serving(store, log_folder=tmp_path, port=first.port) as second:
        assert second.classify("where is my card")["data"] == answer["data"]


def test_where_nothing_can_be_written_it_serves_all_the_same(store: Path, tmp_path: Path) -> None:
    (store / ".layouts").write_text("a file is in the way of the folder, also for root")
    auto = dict.fromkeys(("workers", "threads", "batch_tokens"), "auto")
    with serving(store, log_folder=tmp_path, **auto) as service:
        service.classify("card")


def test_a_corrupt_only_model_means_not_ready(store: Path, tmp_path: Path) -> None:
    flip_a_byte(weights_file(store / "support" / "1"))
    with serving(store, log_folder=tmp_path) as service:
        assert "NOT LOADED: support" in service.banner
        answer = service.get("/readyz")
        assert answer.status == 503
        assert answer.error()["code"] == "not_ready"
        assert service.get("/livez").json()["missing"] == ["support"]
        assert service.get("/startupz").status == 200
        refused = service.post({"model": "support", "input": "card"})
        assert (refused.status, refused.error()["code"]) == (503, "not_ready")
        assert "retry-after" in refused.headers
        assert str(store) not in refused.body.decode()
        time.sleep(1.5)
        assert service.logged().count("model not loaded") == 1


@pytest.mark.parametrize(("trains", "status"), [("true", 200), ("false", 503)])
def test_an_empty_store_is_ready_where_the_first_model_can_be_trained(
    tmp_path: Path, trains: str, status: int
) -> None:
    with serving(tmp_path / "store", log_folder=tmp_path, run_jobs=trains) as service:
        assert service.get("/readyz").status == status


def test_health_names_no_model_that_is_one_owners(tmp_path: Path) -> None:
    store = tmp_path / "store"
    for name in ("shared", f"ftjob-{'a' * 24}"):
        publish_tiny(Registry(store), name)
    with serving(store, log_folder=tmp_path) as service:
        for path in ("/livez", "/startupz", "/readyz"):
            assert service.get(path).json()["models"] == ["shared@1"]


def test_a_corrupt_model_beside_a_good_one_takes_nothing_away(store: Path, tmp_path: Path) -> None:
    publish_tiny(Registry(store), "good")
    flip_a_byte(weights_file(store / "support" / "1"))
    with serving(store, log_folder=tmp_path) as service:
        ready = service.get("/readyz")
        assert ready.status == 200
        assert ready.json()["missing"] == ["support"]
        service.classify("card", "good")
    with serving(store, "good", "support", log_folder=tmp_path) as service:
        assert service.get("/readyz").status == 503  # support was asked for by name


def test_a_broken_manifest_hides_its_model_alone(store: Path, tmp_path: Path) -> None:
    publish_tiny(Registry(store), "good")
    (store / "support" / "1" / MANIFEST_FILE).write_text("{")
    with serving(store, log_folder=tmp_path) as service:
        listed = service.get("/v1/models")
        assert listed.status == 200, listed.body
        assert [model["id"] for model in listed.json()["data"]] == ["good"]
        assert service.get("/v1/models/support").status == 404


def test_an_empty_store_starts_and_waits_for_a_model(tmp_path: Path) -> None:
    with serving(tmp_path / "store", log_folder=tmp_path, run_jobs="false") as service:
        assert service.get("/readyz").status == 503
        publish_tiny(Registry(tmp_path / "store"))
        wait_until(lambda: service.get("/readyz").status == 200)
        service.classify("card")


def test_it_answers_livez_while_it_loads(tmp_path: Path) -> None:
    publish_tiny(Registry(tmp_path / "store"))
    with loading_slowly(tmp_path / "store", 3) as service:
        wait_until(lambda: answers(service))
        assert service.get("/livez").status == 200
        assert service.get("/startupz").status == 503
        assert service.get("/readyz").status == 503
        wait_until(lambda: service.get("/readyz").status == 200)
        assert service.get("/startupz").status == 200


def test_sigterm_while_loading_ends_it_too(tmp_path: Path) -> None:
    publish_tiny(Registry(tmp_path / "store"))
    with loading_slowly(tmp_path / "store", 4) as service:
        wait_until(lambda: answers(service))
        assert service.stop() == 0


def test_an_idle_service_uses_next_to_no_processor_time(store: Path, tmp_path: Path) -> None:
    with serving(store, log_folder=tmp_path) as service:
        service.classify("card")
        time.sleep(1)
        before = service.cpu_seconds()
        time.sleep(3)
        assert service.cpu_seconds() - before < 0.12


def test_a_taken_port_is_one_clear_sentence(store: Path, tmp_path: Path) -> None:
    with serving(store, log_folder=tmp_path) as service:
        done = subprocess.run(
            [sys.executable, "-m", "hone", "serve", "--store", str(store), "--port",
             str(service.port)],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "cannot listen on" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_limit_on_open_files_is_raised(store: Path, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1200:
        pytest.skip("the hard limit is too low to raise anything")
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with serving(store, log_folder=tmp_path) as service:
            limits = Path(f"/proc/{service.process.pid}/limits").read_text()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
    assert int(line.split()[3]) >= 1200


def slow_service(
    folder: Path, seconds: float, **settings: object
) -> AbstractContextManager[Service]:
    return serving(
        folder / "none",
        str(seconds),
        "~",
        program=("-m", "tests.service.fake_driver"),
        log_folder=folder,
        **settings,
    )


def send_slow(service: Service, connection: socket.socket, *, texts: int) -> None:
    """Send a request of many texts, and wait until some of them run."""
    body = b'{"model":"fake","input":["%s"]}' % b'","'.join([b"a" * 600] * texts)
    head = b"POST /v1/classify HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    connection.sendall(head + body)
    name = ("hone_queue_texts", (("model", "fake"), ("version", "1")))
    wait_until(lambda: 0 < service.metrics()[name] < texts)


def flip_a_byte(path: Path, at: int = -100) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
