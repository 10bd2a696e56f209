"""A follower of a job's events."""

import http.client
import json
import threading
import time
from typing import Any

from tests.service.openai_jobs.conftest import Workbench

TUNES = "/v1/fine-tunes"


class Stream:
    """One follower of a job's events, in a thread of its own."""

    def __init__(self, workbench: Workbench, id_: str, *, last: int | None = None) -> None:
        port = workbench.service.port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        headers = {} if last is None else {"Last-Event-ID": str(last)}
        self._connection.request("GET", f"{TUNES}/{id_}/events?stream=true", headers=headers)
        self._response = self._connection.getresponse()
        assert self._response.status == 200
        self.kind = self._response.getheader("content-type", "")
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._response:
            self.lines.append(line.decode().rstrip("\n"))

    def messages(self) -> list[str]:
        datas = [line.removeprefix("data: ") for line in self.lines if line.startswith("data: ")]
        return [d if d == "[DONE]" else json.loads(d)["message"] for d in datas]

    def pings(self) -> int:
        return sum(line == ": ping" for line in self.lines)

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()
        self._connection.close()

    def finish(self) -> list[str]:
        self.join()
        return self.messages()

    def wait(self, done: Any) -> None:
        deadline = time.monotonic() + 60
        while not done(self):
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.05)
