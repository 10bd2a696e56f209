"""The benchmark's own parts: its bare loop, its load, its machine description, its verdicts."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks import machine
from benchmarks.bare import BareRate, Layout, Runner, layouts
from benchmarks.load import Load, Requests, run_load
from benchmarks.results import BareResult, Cell, ServerResult, verdicts
from benchmarks.served import write_model
from benchmarks.texts import read_texts
from hone.models.names import parse_reference
from hone.models.registry import Registry
from tests.tiny_bundle import LABELS, publish_tiny

TEXTS = ["where is my card", "please help", "the money i sent", "not here yet when will"] * 20


class _Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one write: two would wait for the client's delayed ACK

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(400 if b"refuse" in body else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        pass


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that leave before their last answer."""


@pytest.fixture
def port() -> Iterator[int]:
    server = _QuietServer(("127.0.0.1", 0), _Server)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield int(server.server_address[1])
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    registry = Registry(tmp_path)
    publish_tiny(registry)
    bundle = registry.open(parse_reference("support"))
    description = write_model(bundle, tmp_path / "build" / "model.json")
    return Runner(json.loads(description.read_text()), "fp32", TEXTS)


def test_bare_loop_runs_every_layout(runner: Runner) -> None:
    done = 0.0
    for layout in layouts(cores=2):
        found = runner.many(layout, 0.02, offset=70)
        assert found["elapsed_s"] >= 0.02
        done += found["texts"]
    assert done > 0


def test_bare_loop_answers_jobs(runner: Runner) -> None:
    alone = runner.run({"threads": 1, "spinning": False, "seconds": 0.01})
    assert 0 < alone["p50_ms"] <= alone["p99_ms"]
    labels = runner.run({"labels": 3})
    assert len(labels) == 3
    assert set(labels) <= set(LABELS)


@pytest.mark.parametrize("connections", [1, 4])
def test_load_counts_answers_and_failures(port: int, connections: int) -> None:
    requests = Requests(port, "/", [b'"ask"', b'"refuse"'])
    load = run_load(requests, connections=connections, seconds=0.2, offset=0, generator="sockets")
    assert load.answers > 10
    assert abs(load.failures - load.answers / 2) <= connections
    assert 0 < load.p50_ms <= load.p99_ms


def test_machine_is_described() -> None:
    described = machine.describe_machine()
    assert described["cpu"]
    assert described["cores"] >= 1
    software = machine.describe_software()
    assert software["onnxruntime"]
    assert software["commit"]


def test_texts_come_in_one_random_order(tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    path.write_text("text,label\n" + "".join(f"text {n},a\n" for n in range(50)))
    assert read_texts(path) == read_texts(path)
    assert read_texts(path) != sorted(read_texts(path))


def test_verdicts_pair_neighbours_and_keep_the_two_kinds_of_peers_apart() -> None:
    def result(name: str, *, rate: float, documented: bool, bare: float | None) -> ServerResult:
        load = Load(texts_per_s=rate, p50_ms=4.0, p99_ms=9.0, answers=100, failures=0)
        cells = [Cell(32, number, load, 1.0, bare) for number in range(3)]
        return ServerResult(name, "int8", as_documented=documented, cells=cells)

    servers = [
        result("hone int8", rate=950, documented=False, bare=1000),
        result("by the book", rate=300, documented=True, bare=1000),
        result("given our session", rate=250, documented=False, bare=500),
    ]
    latency, share, documented, given = verdicts(servers, "int8", None)
    assert latency.met is None
    assert share.met, share.found
    assert documented.met, documented.found
    assert "3.17 times by the book" in documented.found
    assert given.met is False
    assert "1.9 times given our session" in given.found


def test_bare_result_is_written_with_its_best_layout_first() -> None:
    slow = Layout(1, 1, False, 1, False, 1)
    fast = Layout(2, 1, False, 1, False, 80)
    result = BareResult("int8", {slow: 1.0, fast: 2.0}, fast, (2, True), [BareRate(2.0, 1.0)], [])
    written = result.to_json()
    assert list(written["screened"]) == [str(fast), str(slow)]
    assert written["best"] == "2 processes of 1 worker x 1 thread, batches of 80 tokens"
    assert written["one_text"] == "2 threads, spinning"
