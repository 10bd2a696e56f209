"""Real services in processes of their own, and a plain client for them."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def error(self) -> dict[str, Any]:
        """Return the error's fields, after checking that they are all there and no more."""
        content = self.json()
        assert list(content) == ["error"]
        assert list(content["error"]) == ["message", "type", "param", "code"]
        error: dict[str, Any] = content["error"]
        return error


@dataclass
class Service:
    process: "subprocess.Popen[str]"
    port: int
    banner: str
    log: Path

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def post(self, body: Any, path: str = "/v1/classify") -> Answer:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("POST", path, content, {"content-type": "application/json"})

    def classify(self, texts: Any, model: str = "support", **more: Any) -> Any:
        answer = self.post({"model": model, "input": texts, **more})
        assert answer.status == 200, answer.body
        return answer.json()

    def metrics(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """Return every sample by name and sorted labels."""
        families = text_string_to_metric_families(self.get("/metrics").body.decode())
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
        }

    def logged(self) -> str:
        return self.log.read_text()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self, number: signal.Signals = signal.SIGTERM, *, timeout_s: float = 60) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout_s)


@contextmanager
def serving(
    store: Path,
    *arguments: str,
    log_folder: Path,
    program: Sequence[str] = ("-m", "hone", "serve"),
    **settings: Any,
) -> Iterator[Service]:
    """Run `hone serve` on a free port until the block ends; wait for its line first.

    `settings` go into the environment as HONE_<NAME>.
    """
    layout = {"workers": 2, "threads": 1, "batch_tokens": 256}  # measuring takes a second
    given = {"port": 0, "drain_delay_s": 0, "store": store, **layout, **settings}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HONE")}
    environment |= {f"HONE_{name.upper()}": str(value) for name, value in given.items()}
    environment["PYTHONPATH"] = str(ROOT)
    log = log_folder / f"service-{time.monotonic_ns()}.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, *program, *arguments],
            env=environment,
            cwd=log_folder,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert process.stdout is not None
        banner = process.stdout.readline()
        port = re.search(r"at http://127\.0\.0\.1:(\d+)$", banner.strip())
        assert port is not None, f"no banner but {banner!r}: {log.read_text()}"
        yield Service(process, int(port[1]), banner, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()


def wait_until(condition: Any, *, timeout_s: float = 30, every_s: float = 0.05) -> None:
    """Wait until `condition()` is true; AssertionError if that takes too long."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(every_s)


def exchange(service: Service, request: bytes, *, timeout_s: float = 20) -> bytes:
    """Send raw bytes and return whatever comes back until the server closes or says all."""
    with service.connect() as connection:
        connection.settimeout(timeout_s)
        connection.sendall(request)
        return read_answer(connection)


def read_answer(connection: socket.socket) -> bytes:
    """Read one HTTP answer with a content-length, or what there is until the end."""
    received = b""
    while True:
        head, separator, body = received.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if separator and length and len(body) >= int(length[1]):
            return received
        part = connection.recv(65536)
        if not part:
            return received
        received += part
