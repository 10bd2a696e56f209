"""What followers of a job hear when the service stops."""

import json
import signal
from pathlib import Path
from typing import Any

from hone.models.registry import Registry
from tests.service.openai_jobs.conftest import Workbench, opened
from tests.service.openai_jobs.streams import TUNES, Stream
from tests.service.running import serving
from tests.tiny_bundle import publish_tiny


def test_a_stream_ends_with_an_error_and_goes_on_at_the_next_service(tmp_path: Path) -> None:
    store = tmp_path / "store"
    publish_tiny(Registry(store))
    settings: dict[str, Any] = {"run_jobs": "false", "stream_ping_s": 0.3}
    with serving(store, log_folder=tmp_path, **settings) as service, opened(store) as state:
        bench = Workbench(service, state, store)
        id_ = bench.made(TUNES, training_file=bench.upload())["id"]
        stream = Stream(bench, id_)
        stream.wait(lambda s: s.pings() >= 1)
        assert service.stop(signal.SIGTERM) == 0
        stream.join()
        *_, last = [line for line in stream.lines if line]
        error = json.loads(last.removeprefix("data: "))["error"]
        assert list(error) == ["message", "type", "param", "code"]
        assert error["message"] == "The service is stopping; follow again."
    with serving(store, log_folder=tmp_path, **settings) as service, opened(store) as state:
        bench = Workbench(service, state, store)
        bench.succeed(bench.claim(id_), "Fine-tune succeeded")
        assert Stream(bench, id_, last=1).finish() == ["Fine-tune succeeded", "[DONE]"]
